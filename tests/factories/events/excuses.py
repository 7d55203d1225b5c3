"""Excuses of members and of areas."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.events.exam_rounds import ExamRound
from app.models.events.excuses import Excuse, ExcuseReason


async def make_excuse(session: AsyncSession, round_: ExamRound, **facts: Any) -> Excuse:
    """Store an excuse from a round, of the `member_id` or `area_code` given; the caller commits."""
    values: dict[str, Any] = {
        "district_code": round_.district_code,
        "id": clock.new_id(),
        "round_sequence": round_.sequence,
        "member_id": None,
        "area_code": None,
        "reason": ExcuseReason.AWAY.value,
        "created_by": "officer-1",
        "created_at": clock.now(),
    }
    excuse = Excuse(**(values | facts))
    session.add(excuse)
    await session.flush()
    return excuse
