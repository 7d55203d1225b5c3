"""Reveals over HTTP: one value in full, for a purpose, to few, and a few times a day."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from app import clock
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Database, Statements
from app.models.membership.members import Member
from app.models.organisation.associations import Association
from app.models.privacy.reveals import RevealField
from app.models.registry import metadata
from app.roles import Role
from app.services.privacy.reveals import PER_DAY
from tests.contract.operations import NOWHERE
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, Client, idempotency_key
from tests.factories.channels.bank_files import give_account
from tests.factories.membership.members import make_id_number, make_phone
from tests.factories.organisation.associations import make_association

_ID, _PHONE = make_id_number(1), make_phone(1)
_SHOWN_PHONE = f"+86{_PHONE}"
_WANTED = {"field": "phone", "purpose": "contact"}


@pytest_asyncio.fixture
async def association(session: AsyncSession) -> Association:
    association = await make_association(session)
    await session.commit()
    return association


@pytest_asyncio.fixture
async def member(officer: Client, association: Association) -> dict[str, Any]:
    body = {
        "association_id": str(association.id),
        "name": "张小样",
        "id_number": _ID,
        "phone": _PHONE,
        "consented_on": "2026-01-02",
    }
    enrolled: dict[str, Any] = await officer.ok("POST", "/v1/members", json=body, status=201)
    return enrolled


def _path(member: dict[str, Any]) -> str:
    return f"/v1/members/{member['id']}/reveal"


@pytest.mark.parametrize(("field", "value"), [("id_number", _ID), ("phone", _SHOWN_PHONE)])
async def test_a_value_is_shown_in_full(
    officer: Client, member: dict[str, Any], field: str, value: str
) -> None:
    body = {"field": field, "purpose": "identity_check"}
    answer = await officer.post(_path(member), json=body)
    assert answer.json() == {"field": field, "value": value}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("role", "status"),
    [
        (Role.TOWN_OFFICER, 200),
        (Role.DISTRICT_OFFICER, 200),
        (Role.FINANCE_CLERK, 200),
        (Role.SECRETARY, 403),
        (Role.GUIDE, 403),
        (Role.EVENT_STAFF, 403),
        (Role.FINANCE_APPROVER, 403),
        (Role.AUDITOR, 403),
        (Role.DATA_PLATFORM, 403),
        (Role.OPERATIONS, 403),
        (Role.MEMBER, 403),
    ],
)
async def test_only_offices_that_need_it_may(
    client: Callable[..., Client],
    association: Association,
    member: dict[str, Any],
    role: Role,
    status: int,
) -> None:
    hers = {"member_id": member["id"]} if role is Role.MEMBER else {}
    bound = {"associations": [str(association.id)]} if role is Role.SECRETARY else {}
    answer = await client(role, **hers, **bound).post(_path(member), json=_WANTED)
    assert answer.status_code == status
    assert (_PHONE in answer.text) is (status == 200)


@pytest.mark.parametrize("field", list(RevealField))
@pytest.mark.parametrize("role", [Role.TOWN_OFFICER, Role.DISTRICT_OFFICER, Role.FINANCE_CLERK])
async def test_the_employers_side_is_shown_nothing_in_full(
    *,
    client: Callable[..., Client],
    session: AsyncSession,
    keyring: Keyring,
    member: dict[str, Any],
    role: Role,
    field: RevealField,
) -> None:
    stored = await session.get_one(Member, (DISTRICT, UUID(member["id"])))
    account = await give_account(session, keyring, stored)
    await session.commit()
    body = {"field": field, "purpose": "payout"}
    linked = client(role, employer_linked=True)
    for asked in (member, {"id": NOWHERE}):
        problem = await linked.refused(
            "POST", _path(asked), json=body, status=403, code="forbidden"
        )
        assert account.number not in str(problem)
    assert (await client(role).ok("POST", _path(member), json=body))["field"] == field


async def test_who_is_out_of_reach_is_not_there(
    client: Callable[..., Client], officer: Client, member: dict[str, Any]
) -> None:
    other = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    await other.refused("POST", _path(member), json=_WANTED, status=404, code="not_found")
    abroad = client(Role.DISTRICT_OFFICER, areas=["440604000000"], district_code="440604000000")
    await abroad.refused("POST", _path(member), json=_WANTED, status=404, code="not_found")
    nobody = {"id": NOWHERE}
    await officer.refused("POST", _path(nobody), json=_WANTED, status=404, code="not_found")


@pytest.mark.parametrize("wrong", [{"field": "name"}, {"purpose": "curiosity"}, {"purpose": None}])
async def test_field_and_purpose_are_of_closed_lists(
    officer: Client, member: dict[str, Any], wrong: dict[str, Any]
) -> None:
    await officer.refused("POST", _path(member), json=_WANTED | wrong, status=422, code="invalid")


async def test_what_she_has_not_is_not_shown(officer: Client, association: Association) -> None:
    body = {"association_id": str(association.id), "name": "李四"}
    bare = await officer.ok("POST", "/v1/members", json=body, status=201)
    await officer.refused("POST", _path(bare), json=_WANTED, status=409, code="nothing_to_reveal")


async def test_after_withdrawn_consent_nothing_is_shown_and_the_key_is_gone(
    officer: Client, member: dict[str, Any], statements: Statements
) -> None:
    assert await statements.fetch_value("select count(*) from data_keys", {}) == 1
    for purpose in ("identity", "contact"):
        path = f"/v1/members/{member['id']}/consents/withdraw"
        await officer.ok("POST", path, json={"purpose": purpose})
    await officer.refused("POST", _path(member), json=_WANTED, status=409, code="nothing_to_reveal")
    assert await statements.fetch_value("select count(*) from data_keys", {}) == 0


async def test_a_caller_is_shown_so_many_a_day_and_others_their_own(
    client: Callable[..., Client], officer: Client, member: dict[str, Any], statements: Statements
) -> None:
    for _ in range(PER_DAY):
        await officer.ok("POST", _path(member), json=_WANTED)
    answer = await officer.post(_path(member), json=_WANTED)
    assert (answer.status_code, answer.json()["code"]) == (429, "reveal_limit_reached")
    assert 0 < int(answer.headers["retry-after"]) <= 24 * 3600
    assert _PHONE not in answer.text

    colleague = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    await colleague.ok("POST", _path(member), json=_WANTED)
    yesterday = civil_date(clock.now()) - timedelta(days=1)
    await statements.fetch(
        "update reveal_counts set on_day = :day where district_code = :district_code",
        {"day": yesterday, "district_code": DISTRICT},
    )
    await officer.ok("POST", _path(member), json=_WANTED)


async def test_the_cap_holds_for_simultaneous_requests(
    officer: Client, member: dict[str, Any]
) -> None:
    for _ in range(PER_DAY - 3):
        await officer.ok("POST", _path(member), json=_WANTED)
    answers = await asyncio.gather(*(officer.post(_path(member), json=_WANTED) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5


async def test_what_is_refused_does_not_count(
    officer: Client, member: dict[str, Any], association: Association, statements: Statements
) -> None:
    body = {"association_id": str(association.id), "name": "李四"}
    bare = await officer.ok("POST", "/v1/members", json=body, status=201)
    await officer.refused("POST", _path(bare), json=_WANTED, status=409, code="nothing_to_reveal")
    await officer.ok("POST", _path(member), json=_WANTED)
    assert await statements.fetch_value("select shown from reveal_counts", {}) == 1


async def test_a_repeat_with_a_key_shows_again_and_keeps_nothing(
    officer: Client, member: dict[str, Any], statements: Statements
) -> None:
    for _ in range(2):
        answer = await officer.post(
            _path(member), json=_WANTED, headers=idempotency_key("reveal-1")
        )
        assert answer.json()["value"] == _SHOWN_PHONE
        assert "idempotency-replayed" not in answer.headers
    assert await statements.fetch_value("select count(*) from idempotency_keys", {}) == 0


async def test_values_stand_in_no_table_and_no_log(
    officer: Client,
    member: dict[str, Any],
    owner: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with capture_logs() as events, caplog.at_level(logging.DEBUG):
        for field in (RevealField.ID_NUMBER, RevealField.PHONE):
            body = {"field": field, "purpose": "payout"}
            await officer.ok("POST", _path(member), json=body)
        await officer.ok("POST", f"/v1/members/{member['id']}/export")
    assert {event["event"] for event in events} == {"request"}
    for value in (_ID, _PHONE):
        assert value not in f"{caplog.text}{events}"
        for table in metadata.tables:
            stored = await owner.pool.fetchval(f"select string_agg(t::text, ' ') from {table} t")
            assert value not in (stored or ""), table
            assert value.encode().hex() not in (stored or ""), table


async def test_revealing_and_exporting_need_a_fresh_sign_in(
    client: Callable[..., Client], member: dict[str, Any], owner: Database
) -> None:
    tired = client(Role.DISTRICT_OFFICER, step_up=False)
    body = {"field": "phone", "purpose": "payout"}
    code, export = "insufficient_user_authentication", f"/v1/members/{member['id']}/export"
    await tired.refused("POST", _path(member), status=401, code=code, json=body)
    await tired.refused("POST", export, status=401, code=code)
    await tired.refused("GET", export, status=401, code=code)
    assert await owner.pool.fetchval("select count(*) from reveal_counts") == 0


async def test_a_member_has_her_masked_copy_as_she_signed_in_and_the_full_one_freshly(
    client: Callable[..., Client], member: dict[str, Any]
) -> None:
    path = f"/v1/members/{member['id']}/export"
    tired = client(Role.MEMBER, member_id=member["id"], areas=[], step_up=False)
    assert _SHOWN_PHONE not in str(await tired.ok("GET", path))
    await tired.refused("POST", path, status=401, code="insufficient_user_authentication")
    herself = client(Role.MEMBER, member_id=member["id"], areas=[])
    assert (await herself.ok("POST", path))["phone"] == _SHOWN_PHONE
