"""The roles may do what a table written by hand says, and any wall that is moved is named."""

import csv
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from app.database import Database
from app.models.registry import metadata
from app.models.walls import NATION, WALLS, Policy, policies
from app.scopes import Acting
from app.services import walls

_TABLE = Path(__file__).parent / "wall_rights.csv"
_ROLES = {
    "staff": Acting.STAFF,
    "member": Acting.MEMBER,
    "platform": Acting.PLATFORM,
    "queue": Acting.QUEUE,
    "district": Acting.DISTRICT,
}
_LETTERS = {"select": "r", "insert": "a", "update": "w", "delete": "d"}
_OF_COLUMNS = {"l": "select", "c": "update"}
_ENTRIES = (
    "select c.relname as name, null as column, x.* from pg_class c, aclexplode(c.relacl) x"
    " where c.relnamespace = current_schema()::regnamespace union all"
    " select c.relname, a.attname, x.* from pg_class c join pg_attribute a on a.attrelid = c.oid,"
    " aclexplode(a.attacl) x where c.relnamespace = current_schema()::regnamespace"
)
_RIGHTS = (
    "select e.name, e.column, lower(e.privilege_type) as act,"
    f" case e.grantee when 0 then 'public' else e.grantee::regrole::text end as role"
    f" from ({_ENTRIES}) e where e.grantee <> current_user::regrole"
)
_WALLED = sorted({*WALLS, *NATION})
_PUT_UP = sorted(policies(), key=lambda each: (each.table, each.name))
Rights = dict[tuple[str, str], set[str]]
"""What a role may do with a table, in letters, and with single columns."""


def _written() -> Rights:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [row["table"] for row in rows] == sorted({*metadata.tables, "alembic_version"})
    rights: Rights = {}
    for row in rows:
        for column, role in _ROLES.items():
            letters = set(row[column].strip("-"))
            named = {
                f"{act} {name}"
                for letter, act in _OF_COLUMNS.items()
                for name in row["columns"].split()
                if letter in letters
            }
            if letters:
                rights[row["table"], role] = letters - _OF_COLUMNS.keys() | named
    return rights


async def test_each_role_may_do_what_is_written_and_nobody_else_anything(owner: Database) -> None:
    found: Rights = defaultdict(set)
    for row in await owner.pool.fetch(_RIGHTS):
        what = _LETTERS.get(row["act"], row["act"])
        if row["column"] is not None:
            what = f"{row['act']} {row['column']}"
        found[row["name"], row["role"]].add(what)
    assert found == _written()


@asynccontextmanager
async def _moved(owner: Database, *moves: tuple[str, str]) -> AsyncIterator[None]:
    """Do what breaks walls, and put them up again."""
    await owner.pool.execute(";".join(broken for broken, _ in moves))
    try:
        yield
    finally:
        await owner.pool.execute(";".join(mended for _, mended in moves))


@pytest.mark.parametrize("broken", ["no force", "disable"])
async def test_every_table_without_forced_policies_is_named(
    owner: Database, database: Database, broken: str
) -> None:
    mended = "force" if broken == "no force" else "enable"
    moves = [
        (
            f"alter table {name} {broken} row level security",
            f"alter table {name} {mended} row level security",
        )
        for name in _WALLED
    ]
    async with _moved(owner, *moves):
        found = await walls.breaches_of(database)
    assert [each for each in _WALLED if f"{each} has no forced policies" not in found] == []


def _unlike(policy: Policy) -> Iterator[Policy]:
    """Give a policy for one more role, of the other kind, and wider in each of its conditions."""
    other = next(role for role in Acting if role not in policy.roles)
    yield replace(policy, roles=(*policy.roles, other))
    yield replace(policy, restrictive=not policy.restrictive)
    if policy.using:
        yield replace(policy, using=f"({policy.using}) or true")
    if policy.check:
        yield replace(policy, check=f"({policy.check}) or true")


@pytest.mark.parametrize("number", range(4))
async def test_every_policy_that_is_another_is_named(
    owner: Database, database: Database, number: int
) -> None:
    """All are changed at once: to one more role, to the other kind, or in a condition."""
    moves, expected = [], set()
    for policy in _PUT_UP:
        others = list(_unlike(policy))
        if number < len(others):
            drop = f"drop policy {policy.name} on {policy.table};"
            moves.append((f"{drop} {others[number]}", f"{drop} {policy}"))
            expected.add(f"policy {policy.name} of {policy.table} is not as declared")
    assert len(expected) > (len(_PUT_UP) if number < 2 else 60) - 1
    async with _moved(owner, *moves):
        found = await walls.breaches_of(database)
    assert expected <= set(found)
    assert await walls.breaches_of(database) == []


async def test_every_right_that_is_more_is_named(owner: Database, database: Database) -> None:
    """Whatever one of the roles does not have of a table, given to it for once."""
    written = _written()
    given = [
        (name, act, role)
        for name in _WALLED
        for role in _ROLES.values()
        for act, letter in _LETTERS.items()
        if not any(
            # Taking a right to a whole table back takes those to its columns with it.
            held == letter or held.startswith(f"{act} ")
            for held in written.get((name, role), set())
        )
    ]
    assert len(given) > 600
    moves = [
        (f"grant {act} on {name} to {role}", f"revoke {act} on {name} from {role}")
        for name, act, role in given
    ]
    async with _moved(owner, *moves):
        found = set(await walls.breaches_of(database))
    named = {f"{role} may {act} {name}, which no wall says" for name, act, role in given}
    assert found == named
    assert await walls.breaches_of(database) == []
