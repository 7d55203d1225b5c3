"""Copies of a member's data over HTTP: every table that holds her rows, and nobody else's."""

from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.crypto import Keyring
from app.database import Database, Statements
from app.models.payout_runs import PayoutRun
from app.models.payouts import Payout
from app.problems import Forbidden
from app.roles import Role
from app.services import data_keys, member_exports
from app.services.reveals import PER_DAY
from tests.factories.callers import GUICHENG, Client, if_match, make_caller
from tests.factories.corrections import make_correction
from tests.factories.draws import make_draw, make_tickets
from tests.factories.exam_rounds import make_round
from tests.factories.excuses import make_excuse
from tests.factories.gateway import make_gateway_payment
from tests.factories.grants import make_grant
from tests.factories.members import make_id_number, make_phone
from tests.factories.payout_decisions import make_decision
from tests.factories.payout_disputes import make_dispute
from tests.factories.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.registrations import make_registration
from tests.factories.vouchers import make_voucher_of

_ID, _PHONE = make_id_number(1), make_phone(1)
_ROW = (
    "insert into import_rows (district_code, operation_id, row_no, outcome, member_id, notes)"
    " select district_code, id, 1, 'created', $1, '[]' from operations"
)
_CODE = (
    "insert into phone_codes (district_code, id, purpose, member_id, phone_index, digest, tries,"
    " created_at, expires_at) values ('440605000000', $1, 'new_phone', $2, '', '', 0, $3, $3)"
)
_CHANGE = (
    "insert into held_changes (district_code, id, member_id, field, value_sealed, requested_at,"
    " in_force_at, noticed_at, applied_at)"
    " values ('440605000000', $1, $2, 'phone', null, cast($3 as timestamptz) - interval '1 day',"
    " $3, $3, $3)"
)
_SAID_OF_ENTRIES = {"at", "role", "act", "object_kind", "fields", "purpose", "refusal"}
_ENTRY = (
    "insert into audit_entries (district_code, id, at, subject, role, act, object_kind, object_ids,"
    " person_ids, fields, area_code, request_id) values ('440605000000', $1, $2, 'o', 'r', 'a',"
    " 'k', '{}', $3, '{}', '440605000000', 'q')"
)
_SIGHTING = "insert into audit_sightings values ('440605000000', $1, $2)"
_OPERATION = (
    "insert into operations (district_code, id, version, created_at, updated_at, kind, status,"
    " requested_by, arguments, done, attempts, cancel_requested)"
    " values ('440605000000', $1, 1, $2, $2, 'import_members', 'succeeded', 'o', '{}', 0, 1, false)"
)


@pytest_asyncio.fixture
async def thanks(session: AsyncSession, owner: Database, keyring: Keyring) -> Thanks:
    """Two members of whom every table that can holds rows."""
    thanks = await make_thanks(session)
    run = await make_granted_run(session, thanks)
    later = await make_round(session, 2)
    for member in thanks.members:
        await make_excuse(session, later, member_id=member.id)
        await make_registration(session, thanks.event, member)
        await make_grant(session, subject=str(member.id), role=Role.MEMBER, member_id=member.id)
        await make_correction(session, keyring, member)
    await _of_money(session, keyring, thanks, run)
    await session.commit()
    for statement in (_CODE, _CHANGE):
        await owner.pool.execute(statement, clock.new_id(), thanks.members[0].id, clock.now())
    await owner.pool.execute(_OPERATION, clock.new_id(), clock.now())
    await owner.pool.execute(_ROW, thanks.members[0].id)
    entry_id, both = clock.new_id(), [each.id for each in thanks.members]
    await owner.pool.execute(_ENTRY, entry_id, clock.now(), both)
    await owner.pool.execute(_SIGHTING, both[0], entry_id)
    return thanks


async def _of_money(
    session: AsyncSession, keyring: Keyring, thanks: Thanks, run: PayoutRun
) -> None:
    """Store what becomes of payouts: sent, disputed, to decide, a voucher, a chance in a draw."""
    await make_draw(session, thanks.round, tickets=[(make_tickets(1)[0], thanks.members[0])])
    payouts = await session.scalars(
        select(Payout).where(col(Payout.member_id) == thanks.members[0].id)
    )
    payout = payouts.first()
    assert payout is not None
    await make_dispute(session, payout)
    await make_decision(session, payout, thanks.event)
    session.add(make_gateway_payment(run, thanks.members[0]))
    await data_keys.find_or_make(session, keyring, thanks.members[0])
    await make_voucher_of(session, keyring, run, thanks.members[0], rule_id=payout.rule_id)


@pytest_asyncio.fixture
async def member(officer: Client, thanks: Thanks) -> dict[str, Any]:
    path = f"/v1/members/{thanks.members[0].id}"
    body = {"id_number": _ID, "phone": _PHONE, "consented_on": "2026-01-02"}
    read = await officer.ok("GET", path)
    changed: dict[str, Any] = await officer.ok("PATCH", path, json=body, headers=if_match(read))
    return changed


def _path(member: dict[str, Any]) -> str:
    return f"/v1/members/{member['id']}/export"


async def test_the_copy_has_rows_of_every_table_that_the_database_has_of_her(
    officer: Client, member: dict[str, Any], owner: Database
) -> None:
    rows = await owner.pool.fetch(
        "select table_name from information_schema.columns"
        " where table_schema = current_schema() and column_name in ('member_id', 'person_id')"
    )
    expected = {row["table_name"] for row in rows} | {"members"}
    copy = await officer.ok("GET", _path(member))

    assert set(copy["tables"]) == expected
    empty = [name for name, found in copy["tables"].items() if not found]
    assert not empty, f"let the fixture store a row in {empty}, so that it can be missed"


async def test_the_copy_has_all_columns_but_keys_and_ciphertexts(
    officer: Client, member: dict[str, Any], owner: Database
) -> None:
    copy = await officer.ok("GET", _path(member))
    for table, (row, *_) in copy["tables"].items():
        columns = await owner.pool.fetch(
            "select column_name from information_schema.columns where table_name = $1"
            " and table_schema = current_schema() and data_type <> 'bytea'",
            table,
        )
        beside = _SAID_OF_ENTRIES if table == "audit_sightings" else set()
        if table == "corrections":
            beside = {"value", "note", "answer"}
        assert set(row) == {column["column_name"] for column in columns} | beside, table
    assert copy["tables"]["members"][0]["created_at"].endswith("Z")


async def test_the_copy_holds_nobody_elses_rows(
    officer: Client, member: dict[str, Any], thanks: Thanks
) -> None:
    answer = await officer.get(_path(member))
    assert str(thanks.members[1].id) not in answer.text
    assert len(answer.json()["tables"]["attendances"]) == 1


async def test_shown_it_is_masked_and_handed_out_it_is_whole(
    officer: Client, member: dict[str, Any], statements: Statements
) -> None:
    shown = await officer.get(_path(member))
    assert shown.json()["phone"] == member["phone_masked"]
    assert shown.json()["id_number"] == member["id_number_masked"]
    assert _ID not in shown.text
    assert await statements.fetch_value("select count(*) from reveal_counts", {}) == 0

    whole = await officer.ok("POST", _path(member))
    assert (whole["id_number"], whole["phone"]) == (_ID, f"+86{_PHONE}")
    assert whole["tables"] == shown.json()["tables"]
    assert await statements.fetch_value("select shown from reveal_counts", {}) == 2


async def test_handing_out_counts_as_revealing(officer: Client, member: dict[str, Any]) -> None:
    for _ in range(PER_DAY // 2):
        await officer.ok("POST", _path(member))
    await officer.refused("POST", _path(member), status=429, code="reveal_limit_reached")
    await officer.ok("GET", _path(member))


async def test_a_member_has_her_own_copy_and_no_other(
    client: Callable[..., Client], member: dict[str, Any], thanks: Thanks
) -> None:
    herself = client(Role.MEMBER, member_id=member["id"])
    assert (await herself.ok("POST", _path(member)))["id_number"] == _ID
    other = client(Role.MEMBER, member_id=str(thanks.members[1].id))
    for method in ("GET", "POST"):
        await other.refused(method, _path(member), status=404, code="not_found")


async def test_the_employers_side_has_no_copy_whatever_its_rights(
    session: AsyncSession, keyring: Keyring, member: dict[str, Any]
) -> None:
    secretary = make_caller(Role.SECRETARY)
    for act in (member_exports.show, member_exports.hand_out):
        with pytest.raises(Forbidden):
            await act(session, secretary, keyring, member_id=member["id"], now=clock.now())


async def test_who_may(
    client: Callable[..., Client], member: dict[str, Any], thanks: Thanks
) -> None:
    for method in ("GET", "POST"):
        for role in (Role.SECRETARY, Role.GUIDE, Role.AUDITOR, Role.DATA_PLATFORM):
            caller = client(role, associations=[str(thanks.association.id)])
            await caller.refused(method, _path(member), status=403, code="forbidden")
        town = client(Role.TOWN_OFFICER, areas=[GUICHENG])
        await town.refused(method, _path(member), status=404, code="not_found")
