"""Locks by name: of those who ask for one, one at a time, until its transaction ends."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_HOLD = text("select pg_advisory_xact_lock(hashtextextended(:name, 0))")
_TRY = text("select pg_try_advisory_xact_lock(hashtextextended(:name, 0))")


async def hold(session: AsyncSession, name: str) -> None:
    """Wait for the lock of a name, as `exam_rounds/440605000000`, and hold it."""
    await session.execute(_HOLD, {"name": name})


async def try_hold(session: AsyncSession, name: str) -> bool:
    """Hold the lock of a name, or tell that somebody else does."""
    return bool(await session.scalar(_TRY, {"name": name}))
