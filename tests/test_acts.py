"""Entries of the audit: what a statement stores of whom it shows, in its own transaction."""

from typing import Any
from uuid import UUID

import pytest

from app.acts import Shown
from app.clock import new_id
from app.database import Database, Statements
from app.services.audit.audit_seals import UNSEALED
from tests.factories.callers import make_act, make_caller

_PEOPLE = (
    "select cast(id as uuid) as id, n from unnest(cast(:ids as text[])) with ordinality p(id, n)"
)
_FIRST, _SECOND, _THIRD = sorted(new_id() for _ in range(3))


def _looking(database: Database, *named: UUID) -> Statements:
    caller = make_caller()
    act = make_act(caller, request_id=str(new_id()), persons=named)
    return Statements(database.pool, caller.scope, act)


def _ids(*persons: UUID | None) -> dict[str, Any]:
    return {"ids": [None if each is None else str(each) for each in persons]}


async def _noted(owner: Database, statements: Statements) -> list[set[UUID]]:
    """Give whom each entry of an act names."""
    assert statements.act is not None
    rows = await owner.pool.fetch(
        f"select person_ids from ({UNSEALED}) e where request_id = $1 order by id",
        statements.act.request_id,
    )
    assert all(len(row["person_ids"]) == len(set(row["person_ids"])) for row in rows)
    return [set(row["person_ids"]) for row in rows]


@pytest.mark.parametrize(
    ("rows", "named", "told"),
    [
        pytest.param([_FIRST, _SECOND], (), {_FIRST, _SECOND}, id="each"),
        pytest.param([_FIRST, _FIRST], (), {_FIRST}, id="one twice"),
        pytest.param([_FIRST, None], (), {_FIRST}, id="nobody beside her"),
        pytest.param([_FIRST], (_THIRD,), {_FIRST, _THIRD}, id="her whom the path names too"),
        pytest.param([], (), set(), id="nobody"),
    ],
)
async def test_an_entry_names_whom_the_rows_show(
    database: Database,
    owner: Database,
    rows: list[UUID | None],
    named: tuple[UUID, ...],
    told: set[UUID],
) -> None:
    statements = _looking(database, *named)
    answer = await statements.fetch(_PEOPLE, _ids(*rows), about="id")
    assert [row["id"] for row in answer] == rows
    assert await _noted(owner, statements) == [told]
    assert statements.act is not None
    assert statements.act.is_noted


async def test_who_stands_beyond_the_page_is_not_named(database: Database, owner: Database) -> None:
    statements = _looking(database)
    shown = Shown("id", output="n", rows=2)
    answer = await statements.fetch(_PEOPLE, _ids(_FIRST, _SECOND, _THIRD), about=shown)
    assert [row["n"] for row in answer] == [1, 2, 3]
    assert await _noted(owner, statements) == [{_FIRST, _SECOND}]


async def test_who_is_not_found_leaves_no_entry(database: Database, owner: Database) -> None:
    statements = _looking(database)
    assert await statements.fetch_row(_PEOPLE, _ids(), about="id") is None
    assert await _noted(owner, statements) == []
    assert statements.act is not None
    assert not statements.act.is_noted


async def test_what_was_said_before_is_not_said_again(database: Database, owner: Database) -> None:
    statements = _looking(database)
    for _ in range(2):
        await statements.fetch_row(_PEOPLE, _ids(_FIRST), about="id")
    assert await _noted(owner, statements) == [{_FIRST}]


def test_what_was_rolled_back_was_told_of_nobody() -> None:
    act = make_act()
    act.entry([_FIRST])
    act.forget()
    act.entry([_SECOND])
    act.is_noted = True
    assert act.tells_of([_SECOND])
    assert not act.tells_of([_FIRST])


async def test_statements_together_are_one_transaction(database: Database, owner: Database) -> None:
    statements, number = _looking(database), "select txid_current()"
    async with statements.together() as several:
        assert await several.fetch_value(number, {}) == await several.fetch_value(number, {})
        await several.fetch(_PEOPLE, _ids(_FIRST), about="id")
        assert await _noted(owner, statements) == []
    assert await _noted(owner, statements) == [{_FIRST}]


async def _fail_together(statements: Statements) -> None:
    async with statements.together() as several:
        await several.fetch(_PEOPLE, _ids(_FIRST), about="id")
        raise ZeroDivisionError


async def test_statements_together_leave_nothing_when_one_fails(
    database: Database, owner: Database
) -> None:
    statements = _looking(database)
    with pytest.raises(ZeroDivisionError):
        await _fail_together(statements)
    assert await _noted(owner, statements) == []
