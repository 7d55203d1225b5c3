"""Exam rounds: quarters, numbered from the first of 2024."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.events.exam_rounds import ExamRound
from tests.factories.callers import DISTRICT


async def make_round(session: AsyncSession, sequence: int = 1, **facts: Any) -> ExamRound:
    """Store an open round, a quarter long and still taking late lines; the caller commits."""
    now = clock.now()
    quarters = sequence - 1
    starts_on = date(2024 + quarters // 4, 1 + quarters % 4 * 3, 1)
    after = date(2024 + sequence // 4, 1 + sequence % 4 * 3, 1)
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "sequence": sequence,
        "name": f"第{sequence}期",
        "starts_on": starts_on,
        "ends_on": after - timedelta(days=1),
        "accepts_until": datetime.combine(date(2100, 1, 1), time.min, UTC),
        "status": "open",
        "closed_at": None,
    }
    record = ExamRound(**(values | facts))
    session.add(record)
    await session.flush()
    return record


async def make_round_to_come(session: AsyncSession, **facts: Any) -> ExamRound:
    """Store an open round that begins in forty days; the caller commits."""
    starts_on = clock.civil_date(clock.now()) + timedelta(days=40)
    dates = {"starts_on": starts_on, "ends_on": starts_on + timedelta(days=80)}
    return await make_round(session, **(dates | facts))
