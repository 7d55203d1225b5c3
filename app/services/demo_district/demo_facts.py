"""What the parts of the demo share: its calendar, its ids, its invented names, its way to store."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import database
from app.clock import CIVIL_ZONE
from app.models.tables import Table
from app.scopes import Acting

Progress = Callable[[str, int, int], None]
"""Takes what is being stored, how many of it are, and of how many."""

DISTRICT = "440605000000"
_SEED = "jixie-demo-1"
_FIRST_MILLISECOND = 1_725_148_800_000
_SURNAMES = "王李张刘陈杨黄赵周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕"
_MIDDLE = "春夏秋冬晓小雅静文明志建丽美海江山云月星雨雪梅兰竹菊玉金银红青安平和顺"
# No given name ends so: each of these people says that she is an example.
_ENDINGS = "例样"


class Kind(IntEnum):
    """What an id of the demo is for, so that no two are equal."""

    HOST = 1
    ASSOCIATION = 2
    OFFICER = 3
    FACILITY = 4
    REGULATION = 5
    MEMBER = 6
    ROUND = 7
    EVENT = 8
    POLICY = 9
    RULE = 10
    EXCUSE = 11
    RUN = 12
    CONSENT = 13
    GIFT = 14


@dataclass(frozen=True)
class Quarter:
    """An exam round of the demo."""

    sequence: int
    starts_on: date
    ends_on: date

    @property
    def name(self) -> str:
        """Give its name, as 2026年第3季度."""
        return f"{self.starts_on.year}年第{(self.starts_on.month + 2) // 3}季度"


def _quarter(sequence: int) -> Quarter:
    first = 2024 * 4 + 3 + sequence - 1
    starts_on = date(first // 4, first % 4 * 3 + 1, 1)
    following = first + 1
    ends_on = date(following // 4, following % 4 * 3 + 1, 1) - timedelta(days=1)
    return Quarter(sequence, starts_on, ends_on)


CLOSED = [_quarter(sequence) for sequence in range(1, 9)]
"""Eight quarters, 2024-10-01 to 2026-09-30."""
CURRENT = _quarter(9)
FOUNDED_ON = date(2019, 3, 8)


def at(day: date, hour: int, minute: int = 0) -> datetime:
    """Give an instant by what a clock in China shows."""
    return datetime.combine(day, time(hour, minute), CIVIL_ZONE).astimezone(UTC)


PRESENT = at(date(2026, 11, 24), 9)
"""When the demo was drawn up; it is the same district on every day."""


def generator(part: str) -> Random:
    """Give the random numbers of one part, the same on every machine."""
    return Random(f"{_SEED}:{part}")  # noqa: S311  (an invented district needs no secrets)


def demo_id(kind: Kind, number: int) -> UUID:
    """Make a UUIDv7 of a kind and a number alone, in order of the number."""
    milliseconds = _FIRST_MILLISECOND + number
    return UUID(int=milliseconds << 80 | 7 << 76 | kind << 64 | 2 << 62 | number)


def person_name(random: Random) -> str:
    """Invent a name that nobody has."""
    return random.choice(_SURNAMES) + random.choice(_MIDDLE) + random.choice(_ENDINGS)


def record(kind: Kind, number: int, /, *, since: datetime, **facts: Any) -> dict[str, Any]:
    """Make a row of a table whose rows have an id, a version and a history."""
    return {
        "district_code": DISTRICT,
        "id": demo_id(kind, number),
        "version": 1,
        "created_at": since,
        "updated_at": since,
        **facts,
    }


async def copy(
    session: AsyncSession, table: type[Table], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Store rows by COPY; each names every column of the table."""
    columns = [column.name for column in table.metadata.tables[str(table.__tablename__)].columns]
    await database.copy(
        await database.driver_connection(session),
        str(table.__tablename__),
        columns=columns,
        records=[tuple(row[name] for name in columns) for row in rows],
    )


async def analyse(session: AsyncSession, *tables: str) -> None:
    """Let the planner know what the same transaction loaded; only the tables' owner may."""
    for statement in (
        "set local role none",
        f"analyze {', '.join(tables)}",
        f"set local role {Acting.DISTRICT}",
    ):
        await session.execute(text(statement))
