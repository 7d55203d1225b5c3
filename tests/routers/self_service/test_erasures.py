"""Erasures over HTTP: what names a member is gone for ever, and every total still adds up."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.ciphers import Unreadable
from app.crypto import Keyring
from app.database import Database, Statements
from app.roles import Role
from app.services.audit.audit_seals import UNSEALED
from app.services.privacy import data_keys, person_data
from app.services.self_service.erasures import NEUTRAL_NAME
from app.telling import tells
from tests.factories.callers import DISTRICT, GUICHENG, Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.membership.logins import Inbox
from tests.factories.membership.members import make_id_number, make_phone

_A_MOMENT = 0.3
_ID, _PHONE, _NAME = make_id_number(1), make_phone(1), "陈可辨认"
_PAID = "update payouts set status = 'paid', settled_at = :now where district_code = :district_code"
_TOTALS = (
    "select (select count(*) from attendances), (select count(*) from payouts),"
    " (select sum(amount_fen) from payouts), (select count(*) from members),"
    " (select count(*) from memberships)"
)


@pytest_asyncio.fixture
async def thanks(session: AsyncSession) -> Thanks:
    """Two members who came to a health check, and a run that grants them something."""
    thanks = await make_thanks(session)
    await make_granted_run(session, thanks)
    await session.commit()
    return thanks


@pytest_asyncio.fixture
async def member(officer: Client, thanks: Thanks) -> dict[str, Any]:
    path = f"/v1/members/{thanks.members[0].id}"
    body = {"name": _NAME, "id_number": _ID, "phone": _PHONE, "consented_on": "2026-01-02"}
    read = await officer.ok("GET", path)
    changed: dict[str, Any] = await officer.ok("PATCH", path, json=body, headers=if_match(read))
    return changed


@pytest_asyncio.fixture
async def paid(member: dict[str, Any], statements: Statements) -> dict[str, Any]:
    await statements.fetch(_PAID, {"now": clock.now(), "district_code": DISTRICT})
    return member


def _path(member: dict[str, Any], step: str = "/erase") -> str:
    return f"/v1/members/{member['id']}{step}"


async def _erase(officer: Client, member: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await officer.ok("POST", _path(member), headers=if_match(member))
    return answer


async def test_what_names_her_is_gone(
    officer: Client, paid: dict[str, Any], owner: Database
) -> None:
    erased = await _erase(officer, paid)
    read = await officer.ok("GET", _path(paid, ""))

    assert read["erased_at"] == erased["erased_at"]
    assert (read["name"], read["status"], read["employee_no"]) == (NEUTRAL_NAME, "left", None)
    assert (read["id_number_masked"], read["phone_masked"], read["consents"]) == (None, None, [])
    for wanted in ({"id_number": _ID}, {"phone": _PHONE}):
        page = await officer.ok("POST", "/v1/members/search", json=wanted)
        assert page["items"] == []
    for table in ("data_keys", "person_keys"):
        assert await owner.pool.fetchval(f"select count(*) from {table}") == 0
    ties = (await officer.ok("GET", _path(paid, "/memberships")))["items"]
    assert all(tie["left_on"] is not None and tie["reason"] is None for tie in ties)


async def test_every_total_stays(officer: Client, paid: dict[str, Any], owner: Database) -> None:
    before = tuple(await owner.pool.fetchrow(_TOTALS))
    await _erase(officer, paid)
    assert tuple(await owner.pool.fetchrow(_TOTALS)) == before
    assert before[:2] == (2, 2)
    payouts = await officer.ok("GET", "/v1/payouts", params={"member_id": paid["id"]})
    assert len(payouts["items"]) == 1


async def test_a_restored_table_says_nothing(
    officer: Client, paid: dict[str, Any], owner: Database, keyring: Keyring
) -> None:
    """A dump of the members, taken before and loaded after, is not worth a word of hers."""
    await owner.pool.execute("create table dumped as select * from members")
    try:
        await _erase(officer, paid)
        await owner.pool.execute(
            "update members m set id_number_sealed = d.id_number_sealed,"
            " id_number_index = d.id_number_index, phone_sealed = d.phone_sealed,"
            " phone_index = d.phone_index, identity_consented_on = d.identity_consented_on,"
            " contact_consented_on = d.contact_consented_on, erased_at = null"
            " from dumped d where d.id = m.id"
        )
    finally:
        await owner.pool.execute("drop table dumped")
    member_id = UUID(paid["id"])
    row = await owner.pool.fetchrow(
        "select id_number_sealed, phone_sealed from members where id = $1", member_id
    )
    assert row["phone_sealed"] is not None
    read = await officer.ok("GET", _path(paid, ""))
    assert (read["id_number_masked"], read["phone_masked"]) == (None, None)
    await officer.refused(
        "POST",
        _path(paid, "/reveal"),
        json={"field": "phone", "purpose": "contact"},
        status=409,
        code="nothing_to_reveal",
    )
    fresh, _ = data_keys.make(keyring, member_id)
    with pytest.raises(Unreadable):
        person_data.open_phone(fresh, member_id, row["phone_sealed"])
    with pytest.raises(Unreadable):
        person_data.open_id_number(fresh, member_id, row["id_number_sealed"])
    with pytest.raises(Unreadable):
        keyring.decrypt_bytes(row["phone_sealed"], place=f"members.phone:{member_id}")


async def test_again_it_changes_nothing(officer: Client, paid: dict[str, Any]) -> None:
    first = await _erase(officer, paid)
    assert await _erase(officer, paid) == first
    assert (await officer.ok("GET", _path(paid, "")))["version"] == first["version"]


async def test_while_a_payout_is_pending_it_is_refused_by_name(
    officer: Client, member: dict[str, Any], owner: Database
) -> None:
    problem = await officer.refused(
        "POST", _path(member), headers=if_match(member), status=409, code="erasure_blocked"
    )
    assert [reason["code"] for reason in problem["reasons"]] == ["payout_pending"]
    assert "1 payouts" in problem["reasons"][0]["detail"]
    (noted,) = await owner.pool.fetch(
        f"select person_ids from ({UNSEALED}) e where act = 'erase_member'"
    )
    assert noted["person_ids"] == [UUID(member["id"])], "that she is to be paid was shown"
    assert (await officer.ok("GET", _path(member, "")))["name"] == _NAME


async def test_it_waits_for_a_run_that_is_being_calculated(
    officer: Client, paid: dict[str, Any], owner: Database
) -> None:
    async with owner.pool.acquire() as connection, connection.transaction():
        await connection.execute("select from exam_rounds for no key update")
        await officer.refused("POST", _path(paid), headers=if_match(paid), status=409, code="busy")
    await _erase(officer, paid)


async def test_it_holds_no_round_while_it_waits_for_a_run_that_may_want_one(
    officer: Client, paid: dict[str, Any], owner: Database
) -> None:
    await owner.pool.execute("update payout_runs set channel = 'bank_file'")
    async with owner.pool.acquire() as connection, connection.transaction():
        await connection.execute("select from payout_runs for update")
        erasing = asyncio.create_task(officer.post(_path(paid), headers=if_match(paid)))
        await asyncio.wait([erasing], timeout=_A_MOMENT)
        assert not erasing.done(), "it waits for her run"
        await connection.execute("select from exam_rounds for no key update nowait")
    assert (await erasing).status_code == 200


async def test_it_needs_the_version_that_was_read(officer: Client, paid: dict[str, Any]) -> None:
    await officer.refused("POST", _path(paid), status=428, code="precondition_required")
    stale = {"If-Match": '"99"'}
    await officer.refused("POST", _path(paid), headers=stale, status=412, code="stale")


async def test_nothing_is_entered_for_her_again(
    officer: Client, paid: dict[str, Any], thanks: Thanks
) -> None:
    erased = await _erase(officer, paid)
    back = {"association_id": str(thanks.association.id), "moved_on": "2026-10-01"}
    for method, step, body in (
        ("PATCH", "", {"name": _NAME}),
        ("POST", "/transfer", back),
        ("POST", "/leave", {"left_on": "2026-10-01"}),
    ):
        await officer.refused(
            method,
            _path(paid, step),
            json=body,
            headers=if_match(erased),
            status=409,
            code="member_erased",
        )


async def test_she_may_enrol_again_as_somebody_new(
    officer: Client, paid: dict[str, Any], thanks: Thanks
) -> None:
    await _erase(officer, paid)
    body = {
        "association_id": str(thanks.association.id),
        "name": _NAME,
        "id_number": _ID,
        "consented_on": "2026-01-02",
    }
    again = await officer.ok("POST", "/v1/members", json=body, status=201)
    assert again["id"] != paid["id"]


async def test_answers_kept_for_repeats_name_her_no_more(
    officer: Client, thanks: Thanks, owner: Database
) -> None:
    body = {"association_id": str(thanks.association.id), "name": _NAME}
    headers = idempotency_key("enrol-1")
    member = await officer.ok("POST", "/v1/members", json=body, headers=headers, status=201)
    other = idempotency_key("enrol-2")
    await officer.ok("POST", "/v1/members", json=body | {"name": "别人"}, headers=other, status=201)
    await _erase(officer, member)
    kept = [
        row["body"].decode() for row in await owner.pool.fetch("select body from idempotency_keys")
    ]
    assert sorted(map(bool, kept)) == [False, True]
    assert "别人" in "".join(kept)


async def test_a_repeated_enrolment_brings_nobody_back(
    client: Callable[..., Client], officer: Client, thanks: Thanks, owner: Database
) -> None:
    body = {"association_id": str(thanks.association.id), "name": _NAME}
    headers = idempotency_key("enrol-1")
    member = await officer.ok("POST", "/v1/members", json=body, headers=headers, status=201)
    herself = client(Role.MEMBER, member_id=member["id"], subject="herself")
    await _erase(herself, member)
    count = await owner.pool.fetchval("select count(*) from members")
    problem = await officer.refused(
        "POST", "/v1/members", json=body, headers=headers, status=409, code="answer_forgotten"
    )
    assert member["id"] not in str(problem)
    assert await owner.pool.fetchval("select count(*) from members") == count


async def test_an_office_erases_after_a_fresh_sign_in_and_she_is_told(
    *,
    app: FastAPI,
    client: Callable[..., Client],
    officer: Client,
    paid: dict[str, Any],
    inbox: Inbox,
) -> None:
    refused: dict[str, Any] = {"status": 401, "code": "insufficient_user_authentication"}
    stale = client(Role.DISTRICT_OFFICER, step_up=False)
    await stale.refused("POST", _path(paid), headers=if_match(paid), **refused)
    assert await inbox.texts(_PHONE) == []
    for _ in range(2):
        await _erase(officer, paid)
    await app.state.messenger.idle()
    (notice,) = await inbox.texts(_PHONE)
    assert "删除" in notice
    assert not tells(notice)
    assert _NAME not in notice


async def test_she_erases_herself_as_before_and_is_sent_nothing(
    app: FastAPI, client: Callable[..., Client], paid: dict[str, Any], inbox: Inbox
) -> None:
    await _erase(client(Role.MEMBER, member_id=paid["id"], subject="her", step_up=False), paid)
    await app.state.messenger.idle()
    assert await inbox.texts(_PHONE) == []


async def test_her_name_stands_in_no_table(
    officer: Client, paid: dict[str, Any], owner: Database
) -> None:
    await _erase(officer, paid)
    for row in await owner.pool.fetch(
        "select tablename from pg_tables where schemaname = current_schema()"
    ):
        table = row["tablename"]
        stored = await owner.pool.fetchval(f"select string_agg(t::text, ' ') from {table} t") or ""
        assert _NAME not in stored, table
        assert _NAME.encode().hex() not in stored, table


async def test_who_may(client: Callable[..., Client], paid: dict[str, Any], thanks: Thanks) -> None:
    headers = if_match(paid)
    for role in (Role.SECRETARY, Role.FINANCE_CLERK, Role.AUDITOR, Role.EVENT_STAFF):
        caller = client(role, associations=[str(thanks.association.id)])
        await caller.refused("POST", _path(paid), headers=headers, status=403, code="forbidden")
    other = client(Role.MEMBER, member_id=str(thanks.members[1].id))
    await other.refused("POST", _path(paid), headers=headers, status=404, code="not_found")
    town = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    await town.refused("POST", _path(paid), headers=headers, status=404, code="not_found")
    herself = client(Role.MEMBER, member_id=paid["id"])
    await herself.ok("POST", _path(paid), headers=headers)
