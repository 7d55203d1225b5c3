"""Who may do what, by a table written from the roles: every route, every role, every relation.

`authorisation.csv` says at its top how it is read and how a new route gets its row.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fastapi import FastAPI

from app.database import Database
from app.settings import Settings
from tests.contract.matrix import MEANING, RELATIONS, Row, World, built, by_name, rows
from tests.contract.operations import Operation, operations

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
        """Call every cell of the row."""
        await _verify(world, row)


class TestWrites:
    """The other half."""

    @pytest.mark.parametrize("row", _reading(reads=False), ids=str)
    async def test_each_role_meets_what_the_table_says(self, world: World, row: Row) -> None:
        """Call every cell of the row, and undo what it has done."""
        await _verify(world, row)
        await world.tables.restore()
        assert not await world.tables.changed(), "what a request has done stayed"
