"""What was written about a member in free texts: found by the register, gone with her."""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from itertools import groupby
from uuid import UUID

from sqlalchemy import CheckConstraint, Table, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.columns import Sensitivity, read
from app.models.membership.members import Member
from app.models.registry import metadata

# Payouts are found along their primary key, won places by her tickets.
_WHOSE = {
    "draw_winners": "(draw_id, ticket) in (select draw_id, ticket from draw_tickets"
    " where district_code = :district_code and member_id = :member_id)",
    "payouts": "member_id = :member_id and round_sequence in"
    " (select sequence from exam_rounds where district_code = :district_code)",
}
_HERS = "member_id = :member_id"
# Who is being erased is waited for, or what is written would miss what the erasure empties.
_IS_ERASED = text(
    "select erased_at is not null from members where district_code = :district_code"
    " and id = :member_id for key share"
)
NEUTRAL_WORD = "已删除"
"""What stands for what was written about whoever was erased, where something must stand."""


def written() -> Iterator[tuple[str, list[str]]]:
    """Give the tables that hold such texts, each with their columns."""
    found = (entry for entry in read() if entry.sensitivity is Sensitivity.WRITTEN)
    for table, entries in groupby(found, key=lambda entry: entry.table):
        yield table, [entry.column for entry in entries]


def _asks_for(table: Table, column: str) -> bool:
    """Tell whether a constraint speaks of a column, as one that a step must fill."""
    checks = (each for each in table.constraints if isinstance(each, CheckConstraint))
    return any(column in str(each.sqltext) for each in checks)


@cache
def _statements() -> tuple[TextClause, ...]:
    return tuple(_forget(metadata.tables[name], columns) for name, columns in written())


def _forget(table: Table, columns: list[str]) -> TextClause:
    facts = {
        column: f"case when {column} is not null then cast(:word as text) end"
        if _asks_for(table, column)
        else "null"
        for column in columns
    }
    beside = {"version": "version + 1", "updated_at": ":now"}
    facts |= {name: value for name, value in beside.items() if name in table.columns}
    said = " or ".join(f"{column} <> cast(:word as text)" for column in columns)
    return text(
        f"update {table.name} set {', '.join(f'{name} = {value}' for name, value in facts.items())}"
        f" where district_code = :district_code and {_WHOSE.get(table.name, _HERS)} and ({said})"
    )


async def forget(session: AsyncSession, member: Member, *, now: datetime) -> None:
    """Empty what was written about a member, district-wide; where something must stand, a word."""
    params = member.key | {"word": NEUTRAL_WORD}
    for statement in _statements():
        dated = {"now": now} if ":now" in statement.text else {}
        await session.execute(statement, params | dated)


async def kept(
    session: AsyncSession, words: str, *, district_code: str, member_id: UUID | None
) -> str:
    """Give what is kept of words about a member, district-wide: of who was erased, none of them."""
    params = {"district_code": district_code, "member_id": member_id}
    return NEUTRAL_WORD if await session.scalar(_IS_ERASED, params) else words
