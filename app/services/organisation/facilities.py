"""Facilities: the rooms and means that an association opens and closes."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, concurrency
from app.crypto import Keyring
from app.database import Statements, show
from app.identity import Caller
from app.models.organisation.facilities import (
    Facility,
    FacilityCreate,
    FacilityFilters,
    FacilityRead,
    FacilityUpdate,
)
from app.paging import Key, Listing, Slice, Where
from app.problems import Invalid, NotFound
from app.services.organisation import associations

_COLUMNS = "f.id, f.version, f.association_id, f.kind, f.name, f.opened_on, f.closed_on"
LISTING = Listing(columns=_COLUMNS, source="facilities f", order=(Key("id", "f.id", "uuid"),))
_FIND = (
    f"select {_COLUMNS} from facilities f where f.district_code = :district_code"
    " and f.association_id = :association_id and f.id = :id"
)


async def list_facilities(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    association_id: UUID,
    filters: FacilityFilters,
) -> Slice:
    """Give a page of an association's facilities in the order of their entry."""
    await associations.find(statements, caller, association_id=association_id)
    where = Where({"district_code": caller.district_code})
    where.add("f.district_code = :district_code")
    where.equal("f.association_id", "association_id", association_id)
    where.equal("f.kind", "kind", filters.kind)
    if filters.open_on is not None:
        condition = "f.opened_on <= :on and (f.closed_on is null or f.closed_on > :on)"
        where.add(condition, on=filters.open_on)
    return await LISTING.page(
        statements.showing(association_id), keyring, filters=filters, where=where
    )


async def find(
    statements: Statements, caller: Caller, *, association_id: UUID, facility_id: UUID
) -> FacilityRead:
    """Give one facility of an association, or refuse with NotFound."""
    await associations.find(statements, caller, association_id=association_id)
    row = await statements.showing(association_id).fetch_row(
        _FIND,
        {
            "district_code": caller.district_code,
            "association_id": association_id,
            "id": facility_id,
        },
    )
    if row is None:
        raise NotFound
    return FacilityRead(**row)


async def enter(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    body: FacilityCreate,
    now: datetime,
) -> FacilityRead:
    """Store a facility."""
    await associations.hold(session, caller, association_id=association_id)
    await show(session, association_id)
    _verify_period(body.opened_on, body.closed_on)
    facility = Facility(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        association_id=association_id,
        **body.model_dump(),
    )
    session.add(facility)
    await session.flush()
    return FacilityRead.model_validate(facility)


async def edit(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    facility_id: UUID,
    body: FacilityUpdate,
    expected_version: int,
    now: datetime,
) -> FacilityRead:
    """Change a facility, or close it by its date."""
    await associations.hold(session, caller, association_id=association_id)
    await show(session, association_id)
    facility = await session.get(Facility, (caller.district_code, facility_id))
    if facility is None or facility.association_id != association_id:
        raise NotFound
    concurrency.require_version(facility.version, expected_version)
    changes = body.changes()
    period = {"opened_on": facility.opened_on, "closed_on": facility.closed_on} | changes
    _verify_period(period["opened_on"], period["closed_on"])
    facility.change(now, **changes)
    await session.flush()
    return FacilityRead.model_validate(facility)


def _verify_period(opened_on: date, closed_on: date | None) -> None:
    if closed_on is not None and closed_on < opened_on:
        raise Invalid.at("/closed_on", "ends_before_it_starts")
