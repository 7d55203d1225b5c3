"""Service events in progress: lectures, and health exams of a round."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import ServiceEvent
from tests.factories.callers import DISTRICT, SHISHAN


async def make_event(
    session: AsyncSession, round_: ExamRound | None = None, **facts: Any
) -> ServiceEvent:
    """Store an event in progress, a health exam when it has a round; the caller commits."""
    now = clock.now()
    starts_at = now - timedelta(hours=1)
    if round_ is not None:
        starts_at = datetime.combine(round_.starts_on, datetime.min.time(), clock.CIVIL_ZONE)
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "kind": "lecture" if round_ is None else "health_exam",
        "title": "便民服务",
        "venue": "服务室",
        "area_code": SHISHAN,
        "association_id": None,
        "round_sequence": None if round_ is None else round_.sequence,
        "starts_at": starts_at,
        "ends_at": starts_at + timedelta(hours=8),
        "registration_opens_at": None,
        "registration_closes_at": None,
        "capacity": None,
        "status": "in_progress",
        "status_reason": None,
    }
    event = ServiceEvent(**(values | facts))
    session.add(event)
    await session.flush()
    return event
