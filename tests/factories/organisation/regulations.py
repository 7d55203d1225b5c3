"""Regulations of associations."""

from datetime import date
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.organisation.associations import Association
from app.models.organisation.regulations import Regulation, RegulationKind


async def make_regulation(
    session: AsyncSession,
    association: Association,
    kind: RegulationKind = RegulationKind.CHARTER,
    **facts: Any,
) -> Regulation:
    """Store a first edition, adopted and published in 2024; the caller commits."""
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": association.district_code,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "association_id": association.id,
        "kind": kind.value,
        "edition": 1,
        "title": "测试章程",
        "body": "第一条 会员自愿参加。",
        "adopted_on": date(2024, 1, 1),
        "published_on": date(2024, 1, 1),
    }
    regulation = Regulation(**(values | facts))
    session.add(regulation)
    await session.flush()
    return regulation
