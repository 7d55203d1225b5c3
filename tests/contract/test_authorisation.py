"""Who may do what, by a table written from the roles: every route, every role, every relation.

`authorisation.csv` says at its top how it is read and how a new route gets its row.
"""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI

from app.database import Database
from app.settings import Settings
from tests.contract.attempts import Attempt
from tests.contract.matrix import MEANING, RELATIONS, Row, World, built, by_name, rows
from tests.contract.operations import Operation, operations, resolve

_OF_PERSONS = re.compile(r"^(member|person)|_by$|^subject$|(^|_)(phone|holder)")
# A file that was once fetched counts as at the bank: nobody in it is paid by another.
_WRITTEN_BY_READING = {"get_bank_file_content": {"bank_files"}}
"""What a reading writes besides the audit, and why."""
_NEEDS_A_FRESH_SIGN_IN = {
    # approves, or decides in another's stead
    *("approve_payout_run", "reject_payout_run", "close_payout_run", "decide_payout_decision"),
    *("approve_station_settlement", "reject_station_settlement", "draw_draw", "close_stock_take"),
    "close_month",
    # reveals or destroys
    *("reveal_member", "erase_member"),
    # exports
    *("show_member_export", "hand_out_member_export", "get_rejected_rows"),
    *("get_payout_run_cash_list", "create_bank_file", "get_bank_file_content"),
    # grants
    *("create_grant", "revoke_grant"),
}
"""What an office does only with a strong sign-in of the last minutes."""
_MISSING = (
    "{0} has no row in tests/contract/authorisation.csv. Write one from what api.md says of each"
    " role, not from the code: its name, the right in words, and a letter for each relation; the"
    " file's top explains them. If it needs a body or must show something, say so in"
    " tests/contract/requests.py; if its path names a record, store one in tests/contract/scene.py."
)


@pytest_asyncio.fixture(scope="module")
async def world(app: FastAPI, config: Settings, owner: Database) -> AsyncIterator[World]:
    """Build the scene once for all rows."""
    async with built(app, config, owner) as world:
        yield world


@pytest.mark.parametrize("operation", list(operations()), ids=str)
def test_every_route_has_its_row(operation: Operation) -> None:
    assert any(row.operation == str(operation) for row in rows()), _MISSING.format(operation)


def test_the_table_is_whole() -> None:
    for row in rows():
        assert row.operation in by_name(), f"{row}: no such operation any more"
        for column, relations in RELATIONS.items():
            letters = row.cells[column]
            assert len(letters) == len(relations), f"{row}, {column}: a letter for each {relations}"
            assert set(letters) <= set(MEANING), f"{row}, {column}: {letters}"
    assert len({str(row) for row in rows()}) == len(rows()), "two rows for one thing"


def test_the_cells_are_thousands(world: World) -> None:
    assert len(rows()) * len(world.scene.attempts) >= 5_000


async def _verify(world: World, row: Row) -> None:
    await world.tables.restore_all()
    wrong = []
    for attempt in world.scene.attempts:
        expected, met = row.expected(attempt), await world.call(row, attempt)
        if met != expected:
            said = MEANING.get(met, met)
            wrong.append(f"{attempt}: {said}, and the table says {MEANING[expected]}")
    assert not wrong, f"{row}\n" + "\n".join(wrong)


def _reading(*, reads: bool) -> list[Row]:
    return [row for row in rows() if (by_name()[row.operation].method == "get") == reads]


class TestReads:
    """One half, so that two processes can share the work."""

    @pytest.mark.parametrize("row", _reading(reads=True), ids=str)
    async def test_each_role_meets_what_the_table_says(self, world: World, row: Row) -> None:
        """Call every cell of the row, none of which writes more than that somebody looked."""
        await _verify(world, row)
        wrote = await world.tables.touched() - {"audit_unsealed"}
        assert wrote == _WRITTEN_BY_READING.get(row.operation, set())


class TestWrites:
    """The other half."""

    @pytest.mark.parametrize("row", _reading(reads=False), ids=str)
    async def test_each_role_meets_what_the_table_says(self, world: World, row: Row) -> None:
        """Call every cell of the row, and undo what it has done."""
        await _verify(world, row)
        await world.tables.restore()
        assert not await world.tables.changed(), "what a request has done stayed"


def _of_offices(row: Row, world: World) -> list[Attempt]:
    """Give an office whom the table allows the row's operation, if there is one."""
    apart = {"public", "member"}
    offices = (each for each in world.scene.attempts if each.column not in apart)
    return [each for each in offices if row.expected(each) == "A"][:1]


@pytest.mark.parametrize("row", rows(), ids=str)
async def test_a_fresh_sign_in_is_asked_for_what_the_list_says(world: World, row: Row) -> None:
    for attempt in _of_offices(row, world):
        await world.tables.restore_all()
        for token in world.lesser_tokens(attempt):
            answer = await world.ask(row, attempt, token=token)
            await world.tables.restore()
            is_asked = answer.status_code == 401
            assert is_asked == (row.operation in _NEEDS_A_FRESH_SIGN_IN), answer.text
            if is_asked:
                assert answer.json()["code"] == "insufficient_user_authentication"


def test_what_needs_a_fresh_sign_in_is_in_the_table(world: World) -> None:
    offices = {row.operation for row in rows() if _of_offices(row, world)}
    assert offices >= _NEEDS_A_FRESH_SIGN_IN


def _properties(schema: dict[str, Any]) -> Iterator[str]:
    """Name all that an answer may hold, at any depth."""
    schema = resolve(schema)
    for part in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from _properties(part)
    yield from _properties(schema["items"]) if "items" in schema else ()
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from _properties(inner)


def test_data_platforms_get_no_person_and_no_id_of_one() -> None:
    """Whatever a platform may read of its own area names nobody: by number, subject or name.

    Who set a value of an area is for offices, and null for it.
    """
    read = [
        row.operation
        for row in rows()
        if row.cells["platform"].startswith("A") and row.cells["public"] != "A"
    ]
    assert {"get_draw_verification", "list_accounts"} <= set(read)
    found = {}
    for name in read:
        content = by_name()[name].spec["responses"].get("200", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        told = {each for each in _properties(schema) if _OF_PERSONS.search(each)}
        if told:
            found[name] = told
    assert found == {"list_area_settings": {"set_by"}}
