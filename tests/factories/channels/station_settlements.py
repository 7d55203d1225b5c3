"""Settlements with stations."""

from datetime import date
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.channels.service_stations import ServiceStation
from app.models.channels.station_settlements import StationSettlement


async def make_settlement(
    session: AsyncSession, station: ServiceStation, **facts: Any
) -> StationSettlement:
    """Store a submitted settlement of one voucher of ten yuan; the caller commits."""
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": station.district_code,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "station_id": station.id,
        "area_code": station.area_code,
        "month_on": date(2026, 11, 1),
        "status": "submitted",
        "status_reason": None,
        "voucher_count": 1,
        "amount_fen": 1000,
        "created_by": "maker",
        "approved_by": None,
        "approved_at": None,
        "document_no": None,
        "paid_on": None,
        "paid_by": None,
    }
    settlement = StationSettlement(**(values | facts))
    session.add(settlement)
    await session.flush()
    return settlement
