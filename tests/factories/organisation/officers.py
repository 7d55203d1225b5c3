"""Officers of associations."""

from datetime import date
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.organisation.associations import Association
from app.models.organisation.officers import Office, Officer


async def make_officer(
    session: AsyncSession, association: Association, office: Office, **facts: Any
) -> Officer:
    """Store an officer in office since 2024 without an end; the caller commits."""
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": association.district_code,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "association_id": association.id,
        "office": office.value,
        "name": "测试理事",
        "starts_on": date(2024, 1, 1),
        "ends_on": None,
    }
    officer = Officer(**(values | facts))
    session.add(officer)
    await session.flush()
    return officer
