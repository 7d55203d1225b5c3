"""Registrations: a member's place at an event."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.models.events.registrations import Registration
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Member


async def make_registration(
    session: AsyncSession, event: ServiceEvent, member: Member, **facts: Any
) -> Registration:
    """Store a seat, the next in order; the caller commits."""
    last = await session.scalar(
        select(func.max(col(Registration.position))).where(
            col(Registration.district_code) == event.district_code,
            col(Registration.event_id) == event.id,
        )
    )
    values: dict[str, Any] = {
        "district_code": event.district_code,
        "event_id": event.id,
        "member_id": member.id,
        "position": (last or 0) + 1,
        "status": "registered",
        "registered_at": clock.now(),
        "version": 1,
    }
    registration = Registration(**(values | facts))
    session.add(registration)
    await session.flush()
    return registration
