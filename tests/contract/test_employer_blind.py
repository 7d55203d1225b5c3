"""Nothing that the employer's side can ask tells whether somebody was at a health check."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.members import Member
from app.models.payout_runs import PayoutRun
from app.models.service_events import ServiceEvent
from app.roles import Role
from tests.contract.operations import NOWHERE, Operation, resources
from tests.factories.associations import make_association
from tests.factories.attendances import make_attendance
from tests.factories.callers import SHISHAN, VILLAGE, Client
from tests.factories.corrections import make_correction
from tests.factories.exam_rounds import make_round
from tests.factories.incentive_policies import make_policy
from tests.factories.members import make_member
from tests.factories.payout_runs import make_run
from tests.factories.payouts import make_payout
from tests.factories.registrations import make_registration
from tests.factories.service_events import make_event

_READS = [operation for operation in resources() if operation.method == "get"]
_STEPS = [
    ("PUT", "/v1/service-events/{event_id}/attendances/{member_id}", {}),
    ("POST", "/v1/service-events/{event_id}/attendances/{member_id}/void", {"reason": "误"}),
    ("POST", "/v1/service-events/{event_id}/attendances/{member_id}/restore", {"reason": "误"}),
    ("POST", "/v1/service-events/{event_id}/registrations", {"member_id": "{member_id}"}),
    ("POST", "/v1/service-events/{event_id}/registrations/{member_id}/cancel", None),
    ("POST", "/v1/corrections/{correction_id}/accept", {"answer": "已补"}),
    ("POST", "/v1/corrections/{correction_id}/refuse", {"reason": "误"}),
    ("POST", "/v1/payout-runs/{run_id}/calculate", None),
    ("POST", "/v1/payout-runs/{run_id}/submit", None),
    ("POST", "/v1/payout-runs/{run_id}/approve", None),
    ("POST", "/v1/payout-runs/{run_id}/reject", {"reason": "误"}),
]
"""Writes whose refusals could tell, each with its body."""


def _filled(template: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda match: ids.get(match[1], NOWHERE), template)


async def _said(caller: Client, operation: Operation, ids: dict[str, str]) -> tuple[Any, ...]:
    """Give all of an answer that could tell: status, ETag and body, but for the request's id."""
    query = {name: ids.get(name, NOWHERE) for name in operation.required_query}
    answer = await caller.get(_filled(operation.path, ids), params=query)
    return answer.status_code, answer.headers.get("etag"), _without_request(answer)


def _without_request(answer: httpx.Response) -> Any:
    if not answer.headers["content-type"].endswith("json"):
        return answer.content
    document = answer.json()
    if isinstance(document, dict):
        return {k: v for k, v in document.items() if k not in {"instance", "request_id"}}
    return document


async def _reads(caller: Client, ids: dict[str, str]) -> dict[str, tuple[Any, ...]]:
    return {str(operation): await _said(caller, operation, ids) for operation in _READS}


async def _writes(caller: Client, ids: dict[str, str]) -> dict[str, tuple[Any, ...]]:
    answers = {}
    for method, template, body in _STEPS:
        headers = {"If-Match": '"1"'}
        sent = body and {name: _filled(value, ids) for name, value in body.items()}
        answer = await caller.request(method, _filled(template, ids), json=sent, headers=headers)
        told = answer.headers.get("etag"), _without_request(answer)
        answers[template] = (answer.status_code, *told)
    return answers


@dataclass(frozen=True)
class Scene:
    """A health check in an enterprise's association, and a member who comes to it later."""

    session: AsyncSession
    keyring: Keyring
    event: ServiceEvent
    member: Member
    run: PayoutRun
    ids: dict[str, str]

    async def come(self) -> None:
        """Let the member register, come, be thanked, and say that the time is wrong."""
        await make_attendance(self.session, self.event, self.member)
        await make_registration(self.session, self.event, self.member)
        rule = await self.session.scalar(text("select rule_id from incentive_rules limit 1"))
        await make_payout(self.session, self.run, self.member, rule)
        await make_correction(
            self.session,
            self.keyring,
            self.member,
            id=UUID(self.ids["correction_id"]),
            subject="attendance",
            event_id=self.event.id,
            said_sealed=b"nobody reads it",
        )
        await self.session.commit()


@pytest_asyncio.fixture
async def scene(session: AsyncSession, keyring: Keyring) -> Scene:
    """Nobody has come yet."""
    association = await make_association(session, mode="independent", area_code=VILLAGE)
    held = await make_round(session)
    member = await make_member(session, association)
    facts = {"area_code": VILLAGE, "association_id": association.id}
    event = await make_event(session, held, **facts)
    run = await make_run(session, held, await make_policy(session))
    await session.commit()
    ids = {
        "association_id": str(association.id),
        "host_id": str(association.host_id),
        "round_id": str(held.id),
        "member_id": str(member.id),
        "event_id": str(event.id),
        "run_id": str(run.id),
        "policy_id": str(run.policy_id),
        "correction_id": str(clock.new_id()),
        "code": SHISHAN,
        "name": "roles",
    }
    return Scene(session, keyring, event, member, run, ids)


@pytest.mark.parametrize(
    "role",
    [
        Role.TOWN_OFFICER,
        Role.EVENT_STAFF,
        Role.SECRETARY,
        Role.FINANCE_CLERK,
        Role.AUDITOR,
        Role.DATA_PLATFORM,
    ],
)
async def test_an_employer_cannot_tell_who_came(
    client: Callable[..., Client], scene: Scene, role: Role
) -> None:
    reach = {name: [scene.ids[f"{name[:-1]}_id"]] for name in ("events", "associations")}
    personnel = client(role, employer_linked=True, **reach)
    before = await _reads(personnel, scene.ids) | await _writes(personnel, scene.ids)
    await scene.come()
    assert await _reads(personnel, scene.ids) | await _writes(personnel, scene.ids) == before
    assert sum(status == 200 for status, *_ in before.values()) >= 10


@pytest.mark.parametrize("role", [Role.TOWN_OFFICER, Role.FINANCE_CLERK, Role.AUDITOR])
async def test_those_entitled_can_tell_who_came(
    client: Callable[..., Client], scene: Scene, role: Role
) -> None:
    officer = client(role)
    before = await _reads(officer, scene.ids)
    await scene.come()
    after = await _reads(officer, scene.ids)
    told = {name for name in after if after[name] != before[name]}
    assert {"list_attendances", "list_member_attendances", "get_eligibility"} <= told, told
    assert role is Role.FINANCE_CLERK or "list_corrections" in told, told
    assert "list_payouts" in told, told
