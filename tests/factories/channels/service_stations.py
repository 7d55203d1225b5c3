"""Service stations that redeem vouchers."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.channels.service_stations import ServiceStation
from tests.factories.callers import DISTRICT, SHISHAN


async def make_station(session: AsyncSession, **facts: Any) -> ServiceStation:
    """Store an open station of a town; the caller commits."""
    now = clock.now()
    station_id = clock.new_id()
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": station_id,
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "name": f"服务站{station_id.hex[-8:]}",
        "area_code": SHISHAN,
        "status": "open",
    }
    station = ServiceStation(**(values | facts))
    session.add(station)
    await session.flush()
    return station
