"""Facilities of associations."""

from datetime import date
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.organisation.associations import Association
from app.models.organisation.facilities import Facility, FacilityKind


async def make_facility(
    session: AsyncSession,
    association: Association,
    kind: FacilityKind = FacilityKind.SERVICE_ROOM,
    **facts: Any,
) -> Facility:
    """Store a facility open since 2024; the caller commits."""
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": association.district_code,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "association_id": association.id,
        "kind": kind.value,
        "name": "测试服务室",
        "opened_on": date(2024, 1, 1),
        "closed_on": None,
    }
    facility = Facility(**(values | facts))
    session.add(facility)
    await session.flush()
    return facility
