"""Nothing that the employer's side can ask tells whether somebody was at a health check."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import payout_id
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import ServiceEvent
from app.models.lucky_draws.draw_tickets import DrawTicket
from app.models.lucky_draws.draws import DrawStatus
from app.models.membership.members import Member
from app.roles import Role
from app.services.privacy import correction_texts, data_keys
from app.services.privacy.correction_texts import Said
from tests.contract.operations import NOWHERE, Operation, resources
from tests.contract.requests import REQUESTS, Sent
from tests.factories.callers import SHISHAN, VILLAGE, Client
from tests.factories.disbursement.payout_runs import make_run
from tests.factories.disbursement.payouts import make_payout
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import make_policy
from tests.factories.lucky_draws.draws import enter_beacon, first_place, make_draw, make_tickets
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association
from tests.tables import KeptTables

_READS = [operation for operation in resources() if operation.method == "get"]
_PERSONAL = {
    "member_id",
    "event_id",
    "round_id",
    "run_id",
    "payout_id",
    "correction_id",
    "excuse_id",
    "draw_id",
}
"""What a path or a body names when its refusal could tell of somebody."""
_STEPS = [
    (operation, sent)
    for operation in resources()
    if operation.method != "get" and "/logins/" not in operation.path
    for sent in [s for (name, _), s in REQUESTS.items() if name == str(operation)] or [Sent()]
    if sent.file or _PERSONAL & set(re.findall(r"{(\w+)", f"{operation.path} {sent.body}"))
]
"""Every write that names a member, an event or what is kept of them, with each body it takes.

A file that is sent names members too.
"""
_NEW = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z")
"""Ids and instants of what a write has just made."""


def _filled(template: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)[^{}]*}", lambda match: ids.get(match[1], NOWHERE), template)


def _body(value: Any, ids: dict[str, str]) -> Any:
    """Put the scene's ids where a body names records, of whatever kind."""
    if isinstance(value, dict):
        return {name: _body(each, ids) for name, each in value.items()}
    if isinstance(value, list):
        return [_body(each, ids) for each in value]
    return _filled(value, ids) if isinstance(value, str) else value


def _each_draw(operation: Operation, ids: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the ids with which to call an operation: one of a draw on a draw at each step."""
    steps = [name for name in ids if name.startswith("draw_id ")]
    if "{draw_id}" not in operation.path:
        yield str(operation), ids
        return
    for step in steps:
        yield f"{operation} {step}", ids | {"draw_id": ids[step]}


def _content(sent: Sent, ids: dict[str, str]) -> dict[str, Any]:
    if sent.file:
        content = _filled(sent.file, ids).encode()
        return {"files": {"file": content}, "data": _body(sent.form, ids)}
    return {"json": None if sent.body is None else _body(sent.body, ids)}


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
    return {
        name: await _said(caller, operation, named)
        for operation in _READS
        for name, named in _each_draw(operation, ids)
    }


async def _writes(
    caller: Client, ids: dict[str, str], tables: KeptTables
) -> dict[str, tuple[Any, ...]]:
    """Try each write, and undo what it has done."""
    answers = {}
    await tables.keep()
    try:
        steps = [
            (operation, sent, name, named)
            for operation, sent in _STEPS
            for name, named in _each_draw(operation, ids)
        ]
        for number, (operation, sent, name, named) in enumerate(steps):
            headers = operation.headers() | {"Idempotency-Key": f"step-{number}"}
            path, content = _filled(operation.path, named), _content(sent, named)
            answer = await caller.request(operation.method, path, headers=headers, **content)
            told = answer.headers.get("etag"), _said_of_old(answer, ids)
            answers[f"{name} {number}"] = (answer.status_code, *told)
            await tables.restore()
    finally:
        await tables.forget()
    return answers


def _said_of_old(answer: httpx.Response, ids: dict[str, str]) -> Any:
    """Give what an answer says, but for the ids and instants of what is new."""
    known = set(ids.values())
    said = str(_without_request(answer) if answer.content else "")
    return _NEW.sub(lambda match: match[0] if match[0] in known else "new", said)


@dataclass(frozen=True)
class Scene:
    """A health check in an enterprise's association, and a member who comes to it later.

    There are draws at each step: an open one in which nobody has a ticket, and those whose
    tickets a fellow holds, who came in her stead.
    """

    session: AsyncSession
    keyring: Keyring
    event: ServiceEvent
    member: Member
    run: PayoutRun
    held: ExamRound
    ids: dict[str, str]

    async def come(self) -> None:
        """Let the member register, come, be thanked, and say that the time is wrong.

        Thanked she is with a ticket too, and it has won.
        """
        await make_attendance(self.session, self.event, self.member)
        await make_registration(self.session, self.event, self.member)
        rule = await self.session.scalar(text("select rule_id from incentive_rules limit 1"))
        await make_payout(self.session, self.run, self.member, rule)
        await self._say_that_the_time_is_wrong()
        excuse = UUID(self.ids["excuse_id"])
        await make_excuse(self.session, self.held, id=excuse, member_id=self.member.id)
        await self._get_tickets()
        await self.session.commit()

    async def _get_tickets(self) -> None:
        """Give her a ticket of the open draw, and all those of her fellow."""
        await self.session.execute(
            text("update draw_tickets set member_id = :id"), {"id": self.member.id}
        )
        self.session.add(
            DrawTicket(
                district_code=self.member.district_code,
                draw_id=UUID(self.ids["draw_id open"]),
                ticket=make_tickets(1, start=99)[0],
                member_id=self.member.id,
                run_id=self.run.id,
                line_no=1,
                copy_no=1,
                issued_at=clock.now(),
            )
        )
        await self.session.flush()

    async def _say_that_the_time_is_wrong(self) -> None:
        correction_id = UUID(self.ids["correction_id"])
        key = await data_keys.find_or_make(self.session, self.keyring, self.member)
        said = correction_texts.seal_said(key, correction_id, Said("", "nobody reads it"))
        await make_correction(
            self.session,
            self.keyring,
            self.member,
            id=correction_id,
            subject="attendance",
            event_id=self.event.id,
            said_sealed=said,
        )


async def _draws(
    session: AsyncSession, keyring: Keyring, held: ExamRound, fellow: Member
) -> dict[str, str]:
    """Store an open draw without tickets, and a frozen one and a drawn one with some."""
    tickets = [(each, fellow) for each in make_tickets(12)]
    over = clock.now() - timedelta(minutes=1)
    opened = await make_draw(session, held, keyring=keyring, closes_at=over)
    few, closed = tickets[:1], DrawStatus.CLOSED
    frozen = await make_draw(session, held, closed, tickets=few, keyring=keyring)
    enter_beacon(frozen)
    drawn = await make_draw(session, held, DrawStatus.DRAWN, tickets=tickets[1:])
    await session.flush()
    return {
        "draw_id open": str(opened.id),
        "draw_id closed": str(frozen.id),
        "draw_id drawn": str(drawn.id),
        "ticket": first_place(drawn, [ticket for ticket, _ in tickets[1:]]),
        "rank": "1",
    }


@pytest_asyncio.fixture
async def scene(session: AsyncSession, keyring: Keyring) -> Scene:
    """Nobody has come yet."""
    association = await make_association(session, mode="independent", area_code=VILLAGE)
    held = await make_round(session)
    member = await make_member(session, association)
    facts = {"area_code": VILLAGE, "association_id": association.id}
    event = await make_event(session, held, **facts)
    run = await make_run(session, held, await make_policy(session))
    fellow = await make_member(session, association, name="另一会员")
    draws = await _draws(session, keyring, held, fellow)
    await session.commit()
    ids = {
        **draws,
        "association_id": str(association.id),
        "host_id": str(association.host_id),
        "round_id": str(held.id),
        "member_id": str(member.id),
        "event_id": str(event.id),
        "run_id": str(run.id),
        "policy_id": str(run.policy_id),
        "correction_id": str(clock.new_id()),
        "excuse_id": str(clock.new_id()),
        "payout_id": str(payout_id(run.id, 1)),
        "code": SHISHAN,
        "name": "roles",
    }
    return Scene(session, keyring, event, member, run, held, ids)


@pytest.mark.parametrize(
    "role",
    [
        Role.TOWN_OFFICER,
        Role.EVENT_STAFF,
        Role.SECRETARY,
        Role.FINANCE_CLERK,
        Role.AUDITOR,
        Role.DATA_PLATFORM,
        Role.DISTRICT_OFFICER,
        Role.GUIDE,
        Role.MEMBER,
    ],
)
async def test_an_employer_cannot_tell_who_came(
    client: Callable[..., Client], scene: Scene, owner: Database, role: Role
) -> None:
    reach = {name: [scene.ids[f"{name[:-1]}_id"]] for name in ("events", "associations")}
    own = {"member_id": scene.ids["member_id"]} if role is Role.MEMBER else {}
    personnel = client(role, employer_linked=True, **reach, **own)
    tables = KeptTables(owner)
    before = await _reads(personnel, scene.ids)
    before |= await _writes(personnel, scene.ids, tables)
    await scene.come()
    after = await _reads(personnel, scene.ids)
    after |= await _writes(personnel, scene.ids, tables)
    told = {name: (before[name], after[name]) for name in after if after[name] != before[name]}
    assert not told, told
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
    assert "list_draw_winners draw_id drawn" in told, told
