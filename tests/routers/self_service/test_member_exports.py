"""Copies of a member's data over HTTP: every table that holds her rows, and nobody else's."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.crypto import Keyring
from app.database import Database, Statements
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import Payout, PayoutOutcome, ResultLine
from app.models.lucky_draws.draws import DrawStatus
from app.models.membership.members import Member
from app.models.privacy.held_changes import HeldField
from app.problems import Forbidden
from app.roles import Role
from app.services.disbursement import payouts
from app.services.privacy import data_keys, held_changes, person_data
from app.services.privacy.person_data import PayoutAccount
from app.services.privacy.reveals import PER_DAY
from app.services.self_service import copied_rows, member_exports
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT, GUICHENG, Client, if_match, make_caller
from tests.factories.channels.gateway import make_gateway_payment
from tests.factories.disbursement.payout_decisions import make_decision
from tests.factories.disbursement.payout_disputes import make_dispute
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.disbursement.vouchers import make_voucher_of
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.registrations import make_registration
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.lucky_draws.draws import make_draw, make_tickets
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.members import make_id_number, make_phone

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
_DECLINED = (
    "update draw_winners w set status = 'declined', ended_at = $2, ended_by = 'finance_clerk-1',"
    " end_reason = '本人放弃' from draw_tickets t where t.ticket = w.ticket and t.member_id = $1"
)
_CLERK = "finance_clerk-1"
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
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
    thanks = await make_thanks(session, (make_cash("exam", amount_fen=1000), make_gift("towel")))
    run = await make_granted_run(session, thanks, calculated_at=clock.now())
    await _pay(session, run)
    later = await make_round(session, 2)
    for member in thanks.members:
        await make_excuse(session, later, member_id=member.id)
        await make_registration(session, thanks.event, member)
        await make_grant(session, subject=str(member.id), role=Role.MEMBER, member_id=member.id)
        await make_correction(session, keyring, member)
    await _of_money(session, keyring, thanks, run)
    await session.commit()
    await owner.pool.execute(_DECLINED, thanks.members[0].id, clock.now())
    for statement in (_CODE, _CHANGE):
        await owner.pool.execute(statement, clock.new_id(), thanks.members[0].id, clock.now())
    await owner.pool.execute(_OPERATION, clock.new_id(), clock.now())
    await owner.pool.execute(_ROW, thanks.members[0].id)
    entry_id, both = clock.new_id(), [each.id for each in thanks.members]
    await owner.pool.execute(_ENTRY, entry_id, clock.now(), both)
    await owner.pool.execute(_SIGHTING, both[0], entry_id)
    return thanks


async def _pay(session: AsyncSession, run: PayoutRun) -> None:
    """Pay all lines of a run, as an officer whose office is on record."""
    await make_grant(session, subject=_CLERK, role=Role.FINANCE_CLERK, starts_at=_LONG_AGO)
    lines = await payouts.lines_of(session, run, range(1, 5))
    results = [ResultLine(line_no=n, outcome=PayoutOutcome.PAID, reason=None) for n in lines]
    caller = make_caller(Role.FINANCE_CLERK)
    await payouts.record(session, caller, run, lines=lines, results=results, now=clock.now())


async def _of_money(
    session: AsyncSession, keyring: Keyring, thanks: Thanks, run: PayoutRun
) -> None:
    """Store what becomes of payouts: sent, disputed, to decide, a voucher, a chance in a draw."""
    tickets = list(zip(make_tickets(2), thanks.members, strict=True))
    await make_draw(session, thanks.round, DrawStatus.DRAWN, tickets=tickets)
    found = await session.scalars(
        select(Payout).where(col(Payout.member_id) == thanks.members[0].id)
    )
    payout = found.first()
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
    led_to = {"members", "draw_winners", "transfers", "stock_movements"}
    expected = {row["table_name"] for row in rows} | led_to
    copy = await officer.ok("GET", _path(member))

    assert set(copy["tables"]) == expected
    empty = [name for name, found in copy["tables"].items() if not found]
    assert not empty, f"let the fixture store a row in {empty}, so that it can be missed"


async def test_the_copy_has_all_columns_but_keys_and_hashes(
    officer: Client, member: dict[str, Any], owner: Database
) -> None:
    copy = await officer.ok("GET", _path(member))
    sources = {table.name: (table, source) for table, source in copied_rows.sources()}
    for name, (row, *_) in copy["tables"].items():
        columns = await owner.pool.fetch(
            "select column_name from information_schema.columns where table_name = $1"
            " and table_schema = current_schema() and data_type <> 'bytea'",
            name,
        )
        beside = {
            each.split(" ")[-1].split(".")[-1] for each in copied_rows.names_beside(*sources[name])
        }
        opened = {
            value
            for (table, _), values in copied_rows.SEALED.items()
            if table == name
            for value in values
        }
        there = {column["column_name"] for column in columns}
        counts = set(copied_rows.COUNTED) & there
        told = {each for column in counts for each in copied_rows.COUNTED[column]}
        assert set(row) == there - counts | told | beside | opened, name
    assert copy["tables"]["members"][0]["created_at"].endswith("Z")


async def test_the_copy_says_what_she_won_was_paid_and_given(
    officer: Client, member: dict[str, Any], thanks: Thanks
) -> None:
    tables = (await officer.ok("GET", _path(member)))["tables"]
    [won] = tables["draw_winners"]
    assert won["prize_name"] == f"奖品{won['unit']}"
    assert (won["status"], won["end_reason"]) == ("declined", "本人放弃")
    assert [(paid["kind"], paid["amount_fen"]) for paid in tables["transfers"]] == [("pay", 1000)]
    [moved] = tables["stock_movements"]
    assert (moved["kind"], moved["gift_name"]) == ("hand_out", "毛巾")
    assert {paid["gift_name"] for paid in tables["payouts"]} == {None, "毛巾"}
    assert all(paid["rule_name"] for paid in tables["payouts"])
    assert tables["attendances"][0]["event_title"] == thanks.event.title


async def test_the_copy_does_not_count_her_among_others(
    officer: Client, client: Callable[..., Client], member: dict[str, Any]
) -> None:
    """Two who compare their copies would learn from the numbers what lies between them."""
    tables = (await officer.ok("GET", _path(member)))["tables"]
    herself = client(Role.MEMBER, member_id=member["id"])
    known = {each["id"] for each in (await herself.ok("GET", "/v1/me/payouts"))["items"]}
    named = {name: {row.get("payout_id") for row in rows} for name, rows in tables.items()}
    assert named["payouts"] == known
    for name in ("transfers", "stock_movements", "payout_disputes", "payout_decisions"):
        assert named[name] <= known, name
    counts = {"line_no", "number", "position"}
    assert not any(counts & set(row) for rows in tables.values() for row in rows)


async def test_the_copy_names_offices_and_no_officer(
    officer: Client, member: dict[str, Any]
) -> None:
    answer = await officer.get(_path(member))
    assert _CLERK not in answer.text
    tables = answer.json()["tables"]
    assert tables["transfers"][0]["recorded_by"] == "finance_clerk"
    assert tables["draw_winners"][0]["ended_by"] == "finance_clerk"
    # Who gave that grant has none on record.
    assert tables["grants"][0]["granted_by"] == "office"
    known = {"office", *Role}
    acts = [
        value
        for rows in tables.values()
        for row in rows
        for column, value in row.items()
        if column.endswith("_by") and value is not None
    ]
    assert set(acts) <= known


async def test_what_waits_to_be_hers_is_in_the_copy_and_counts_as_revealed(
    officer: Client,
    member: dict[str, Any],
    session: AsyncSession,
    keyring: Keyring,
    statements: Statements,
) -> None:
    hers = await session.get_one(Member, (DISTRICT, UUID(member["id"])))
    account = PayoutAccount("bank_card", "6222020200112233", "示例银行", "张三")
    waiting = {
        HeldField.PHONE: make_phone(7).encode(),
        HeldField.PAYOUT_ACCOUNT: person_data.encode_account(account),
        HeldField.CLEARED_PHONE: make_phone(8).encode(),
    }
    for field, value in waiting.items():
        now = clock.now()
        until = now + held_changes.HOLD
        await held_changes.hold(
            session, keyring, member=hers, field=field, value=value, now=now, until=until
        )
    await session.commit()

    def held(copy: dict[str, Any]) -> dict[str, Any]:
        rows = copy["tables"]["held_changes"]
        return {row["field"]: row["value"] for row in rows if row["applied_at"] is None}

    shown = held(await officer.ok("GET", _path(member)))
    whole = held(await officer.ok("POST", _path(member)))
    assert whole["phone"] == make_phone(7)
    assert whole["payout_account"] == "示例银行 6222020200112233 张三"
    assert shown == {
        "phone": f"{make_phone(7)[:3]}****{make_phone(7)[-4:]}",
        "payout_account": str(account.masked),
        "cleared_phone": None,
    }
    assert whole["cleared_phone"] is None, "it may be another's"
    counted = await statements.fetch_value("select shown from reveal_counts", {})
    assert counted == 4, "two on file and two that wait"


async def test_the_code_of_a_voucher_is_in_her_own_copy_alone(
    officer: Client, client: Callable[..., Client], member: dict[str, Any]
) -> None:
    herself = client(Role.MEMBER, member_id=member["id"])
    [voucher] = (await herself.ok("GET", "/v1/me/vouchers"))["items"]
    copy = await herself.ok("POST", _path(member))
    assert voucher["code"] is not None
    assert [row["code"] for row in copy["tables"]["vouchers"]] == [voucher["code"]]
    by_office = await officer.ok("POST", _path(member))
    assert [row["code"] for row in by_office["tables"]["vouchers"]] == [None]


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
