"""Service stations: entered, edited and listed, for all to know where vouchers are redeemed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.channels.service_stations import (
    ServiceStation,
    StationCreate,
    StationFilters,
    StationRead,
    StationStatus,
    StationUpdate,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.services.organisation import areas

_COLUMNS = "s.id, s.version, s.name, s.area_code, s.status"
LISTING = Listing(
    columns=f"{_COLUMNS}, {instant('s.created_at')}, {instant('s.updated_at')}",
    source="service_stations s",
    order=(Key("id", "s.id", "uuid"),),
)
_FIND = (
    f"select {_COLUMNS}, s.created_at, s.updated_at from service_stations s"
    " where s.district_code = :district_code and s.id = :id"
)


class StationNameTaken(Problem):
    """The area has a station of this name."""

    code, status = "station_name_taken", 409
    constraint = "uq_service_stations_name"


async def list_stations(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: StationFilters
) -> Slice:
    """Give a page of the district's stations in the order of their entry."""
    where = Where({"district_code": caller.district_code})
    where.add("s.district_code = :district_code")
    where.equal("s.status", "status", filters.status)
    where.in_area("s.area_code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, station_id: UUID) -> StationRead:
    """Give one station of the district, or refuse with NotFound."""
    params = {"district_code": caller.district_code, "id": station_id}
    row = await statements.fetch_row(_FIND, params)
    if row is None:
        raise NotFound
    return StationRead(**row)


async def enter(
    session: AsyncSession, caller: Caller, *, body: StationCreate, now: datetime
) -> StationRead:
    """Store a station of an area within reach, open; raises StationNameTaken."""
    await areas.require_known(session, body.area_code)
    if not reach.covers(caller, body.area_code):
        raise Invalid.at("/area_code", "out_of_reach")
    station = ServiceStation(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        name=body.name,
        area_code=body.area_code,
        status=StationStatus.OPEN,
    )
    session.add(station)
    await session.flush()
    return StationRead.model_validate(station)


async def edit(
    session: AsyncSession,
    caller: Caller,
    *,
    station_id: UUID,
    body: StationUpdate,
    expected: int,
    now: datetime,
) -> StationRead:
    """Rename a station within reach, close it, or open it again."""
    changes = body.changes()
    station = await session.scalar(
        select(ServiceStation)
        .where(
            col(ServiceStation.district_code) == caller.district_code,
            col(ServiceStation.id) == station_id,
            reach.clause(caller, area="service_stations.area_code"),
        )
        .with_for_update()
    )
    if station is None:
        raise NotFound
    concurrency.require_version(station.version, expected)
    station.change(now, **changes)
    await session.flush()
    return StationRead.model_validate(station)
