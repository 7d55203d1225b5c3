"""Attendances: that a member was at an event."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.models.events.attendances import Attendance, Method
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Member


async def make_attendance(
    session: AsyncSession, event: ServiceEvent, member: Member, **facts: Any
) -> Attendance:
    """Store that a member was at an event, as one of her association; the caller commits."""
    values: dict[str, Any] = {
        "district_code": event.district_code,
        "event_id": event.id,
        "member_id": member.id,
        "association_id": member.association_id,
        "round_sequence": event.round_sequence,
        "occurred_at": event.starts_at,
        "recorded_at": event.starts_at,
        "recorded_by": "event_staff-1",
        "method": Method.STAFF.value,
        "device_id": None,
        "device_ref": None,
        "voided_at": None,
        "voided_by": None,
        "void_reason": None,
        "version": 1,
    }
    attendance = Attendance(**(values | facts))
    session.add(attendance)
    await session.flush()
    return attendance
