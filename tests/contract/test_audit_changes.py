"""Whose row a write changes, she is named by its entry in the audit, whatever the answer shows."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fastapi import FastAPI

from app.database import Database
from app.models.registry import metadata
from app.services.audit.audit_seals import UNSEALED
from app.settings import Settings
from tests.contract.attempts import Attempt
from tests.contract.matrix import Row, World, built, by_name, rows

_BY_MEMBER = [
    name
    for name, table in metadata.tables.items()
    if "member_id" in table.columns and not name.startswith("audit_")
]
_BY_LINE = [
    name
    for name, table in metadata.tables.items()
    if {"run_id", "line_no"} <= set(table.columns.keys()) and name not in _BY_MEMBER
]
_NAME_THE_WHOLE = {
    "calculate_payout_run",
    "submit_payout_run",
    "approve_payout_run",
    "reject_payout_run",
    "cancel_payout_run",
    "disburse_payout_run",
    "settle_payout_run",
    "close_payout_run",
    "create_station_settlement",
    "approve_station_settlement",
    "reject_station_settlement",
    "pay_station_settlement",
}
"""What reaches all of a run or of a station's month names that in their place."""
_SURELY_CHANGE = {
    "enter_payout_run_results",
    "return_payout",
    "resolve_payout",
    "ask_payout_again",
    "hand_out_gift",
    "redeem_voucher",
    "cancel_voucher",
    "delete_excuse",
    "void_attendance",
    "decide_payout_decision",
    "uphold_payout_dispute",
}
"""What answers with little or nothing, and must be seen here to change somebody's row."""
_NOT_OF_HERS = {
    "create_login": "nobody has signed in yet; tests/contract/test_audit_phones.py tries it",
    "import_members": "its worker names whom it touched; tests/contract/test_audit.py tries it",
}


@pytest_asyncio.fixture(scope="module")
async def world(app: FastAPI, config: Settings, owner: Database) -> AsyncIterator[World]:
    """Build the scene once for all writes."""
    async with built(app, config, owner) as world:
        yield world


def _differing(table: str, columns: str) -> str:
    """Select columns of the rows that are new, changed or gone."""
    now, was = (
        f"select {columns}, r::text as whole from {schema}{table} r" for schema in ("", "kept.")
    )
    return f"(({now} except all {was}) union all ({was} except all {now}))"


async def _changed_members(owner: Database) -> set[str]:
    """Give whose rows, and whose lines of runs, are not what they were."""
    of_members = [f"select member_id from {_differing(name, 'member_id')} d" for name in _BY_MEMBER]
    of_lines = [
        f"select p.member_id from payouts p join {_differing(name, 'run_id, line_no')} d"
        " on d.run_id = p.run_id and d.line_no = p.line_no"
        for name in _BY_LINE
    ]
    rows = await owner.pool.fetch(" union ".join([*of_members, *of_lines]))
    return {str(row[0]) for row in rows if row[0] is not None}


def _allowed(world: World, row: Row) -> Attempt | None:
    """Give one caller to whom the table allows the operation."""
    for attempt in world.scene.attempts:
        if attempt.role is not None and row.expected(attempt) == "A":
            return attempt
    return None


_WRITES = [row for row in rows() if by_name()[row.operation].method != "get"]


def test_lines_of_runs_are_looked_for_in_every_book() -> None:
    assert {"transfers", "stock_movements"} <= set(_BY_LINE)
    assert {"payouts", "vouchers", "gateway_payments"} <= set(_BY_MEMBER)


@pytest.mark.parametrize("row", _WRITES, ids=str)
async def test_whose_row_a_write_changes_is_named_by_its_entry(
    world: World, owner: Database, row: Row
) -> None:
    attempt = _allowed(world, row)
    assert attempt is not None
    await world.tables.restore_all()
    answer = await world.ask(row, attempt)
    try:
        changed = await _changed_members(owner)
        assert changed or row.operation not in _SURELY_CHANGE, answer.text
        if not changed or row.operation in _NOT_OF_HERS:
            return
        entries = await owner.pool.fetch(
            f"select * from ({UNSEALED}) e where act = $1", row.operation
        )
        assert entries, answer.text
        named = {str(each) for entry in entries for each in entry["person_ids"]}
        if row.operation in _NAME_THE_WHOLE:
            assert all(entry["object_ids"] for entry in entries)
        else:
            assert changed <= named, f"changed, and not named: {changed - named}"
    finally:
        await world.tables.restore_all()
