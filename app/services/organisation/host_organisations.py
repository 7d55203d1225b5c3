"""Host organisations: entering and editing them, with their codes, homes and parks verified."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, identifiers, reach
from app.crypto import Keyring
from app.database import Statements
from app.identifiers import district_of
from app.identity import Caller
from app.models.organisation.areas import Area, Level
from app.models.organisation.associations import HOSTS_OF_MODE, Mode
from app.models.organisation.host_organisations import (
    HostKind,
    HostOrganisation,
    HostOrganisationCreate,
    HostOrganisationFilters,
    HostOrganisationRead,
    HostOrganisationUpdate,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem

_HOMES = frozenset({Level.TOWN, Level.VILLAGE})
_COLUMNS = (
    "h.id, h.version, h.kind, h.name, h.area_code, h.uscc, h.industry_code, h.staff_count,"
    " h.park_id"
)
LISTING = Listing(
    columns=f"{_COLUMNS}, {instant('h.created_at')}, {instant('h.updated_at')}",
    source="host_organisations h",
    order=(Key("id", "h.id", "uuid"),),
)
# The association through which a secretary reaches the host.
_ASSOCIATION = (
    "(select s.id from associations s where s.district_code = :district_code"
    " and s.host_id = h.id and s.status <> 'dissolved')"
)
_FIND = (
    f"select {_COLUMNS}, h.created_at, h.updated_at from host_organisations h"
    " where h.district_code = :district_code and h.id = :id"
)
_USES = text(
    "select array(select a.mode from associations a where a.district_code = :district_code"
    " and a.host_id = :id and a.status <> 'dissolved') as modes,"
    " exists(select 1 from host_organisations t where t.district_code = :district_code"
    " and t.park_id = :id) as has_tenants"
)


class UsccTaken(Problem):
    """Another host organisation of the district has this USCC."""

    code, status = "uscc_taken", 409
    constraint = "uq_host_organisations_uscc"


class HostInUse(Problem):
    """What lives in the host needs its kind and area to stay as they are."""

    code, status = "host_in_use", 409


async def list_host_organisations(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: HostOrganisationFilters
) -> Slice:
    """Give a page of host organisations in the order of their entry."""
    condition, params = _within(caller)
    where = Where(params | {"district_code": caller.district_code})
    where.add("h.district_code = :district_code")
    where.add(condition)
    where.equal("h.kind", "kind", filters.kind)
    where.equal("h.park_id", "park_id", filters.park_id)
    if filters.uscc is not None:
        where.equal("h.uscc", "uscc", identifiers.normalise(filters.uscc))
    if filters.q is not None:
        where.add("starts_with(h.name, :q)", q=filters.q)
    where.in_area("h.area_code", filters.area)
    if filters.updated_since is not None:
        where.add("h.updated_at >= :updated_since", updated_since=filters.updated_since)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, host_id: UUID) -> HostOrganisationRead:
    """Give one host organisation, or refuse with NotFound."""
    condition, params = _within(caller)
    params |= {"district_code": caller.district_code, "id": host_id}
    row = await statements.fetch_row(f"{_FIND} and {condition}", params)
    if row is None:
        raise NotFound
    return HostOrganisationRead(**row)


def _within(caller: Caller) -> tuple[str, dict[str, object]]:
    return reach.within(caller, area="h.area_code", association=_ASSOCIATION)


async def enter(
    session: AsyncSession, caller: Caller, *, body: HostOrganisationCreate, now: datetime
) -> HostOrganisationRead:
    """Store a host organisation; raises Invalid for a code, area or park that cannot be."""
    host_id = clock.new_id()
    facts = await _verified(session, caller, host_id=host_id, wanted=body)
    host = HostOrganisation(
        district_code=caller.district_code,
        id=host_id,
        version=1,
        created_at=now,
        updated_at=now,
        **facts.model_dump(),
    )
    session.add(host)
    await session.flush()
    return HostOrganisationRead.model_validate(host)


async def edit(
    session: AsyncSession,
    caller: Caller,
    *,
    host_id: UUID,
    body: HostOrganisationUpdate,
    expected_version: int,
    now: datetime,
) -> HostOrganisationRead:
    """Change a host organisation; its kind and area stay while an association needs them."""
    host = await hold(session, caller, host_id=host_id)
    if host is None:
        raise NotFound
    concurrency.require_version(host.version, expected_version)
    present = host.model_dump(include=set(HostOrganisationCreate.model_fields))
    wanted = HostOrganisationCreate.model_construct(**(present | body.changes()))
    facts = await _verified(session, caller, host_id=host_id, wanted=wanted)
    await _refuse_what_its_users_need(session, host, facts)
    host.change(now, **facts.model_dump())
    await session.flush()
    return HostOrganisationRead.model_validate(host)


async def hold(session: AsyncSession, caller: Caller, *, host_id: UUID) -> HostOrganisation | None:
    """Lock a host organisation in the caller's areas until the transaction ends, if it is there."""
    statement = select(HostOrganisation).where(
        col(HostOrganisation.district_code) == caller.district_code,
        col(HostOrganisation.id) == host_id,
        reach.clause(caller, area="host_organisations.area_code"),
    )
    return (await session.execute(statement.with_for_update())).scalar_one_or_none()


async def _verified(
    session: AsyncSession, caller: Caller, *, host_id: UUID, wanted: HostOrganisationCreate
) -> HostOrganisationCreate:
    await _require_home(session, caller, wanted)
    if wanted.park_id is not None:
        await _require_park(session, caller, host_id=host_id, park_id=wanted.park_id)
    return wanted.model_copy(update={"kind": HostKind(wanted.kind), "uscc": _uscc_of(wanted)})


async def _require_home(
    session: AsyncSession, caller: Caller, wanted: HostOrganisationCreate
) -> None:
    area = await session.get(Area, wanted.area_code)
    if area is None:
        raise Invalid.at("/area_code", "unknown_reference")
    is_in_district = district_of(area.code) == caller.district_code
    if not is_in_district or not reach.covers(caller, area.code):
        raise Invalid.at("/area_code", "out_of_reach")
    if area.level not in _HOMES:
        raise Invalid.at("/area_code", "host_area_level")
    if wanted.kind == HostKind.VILLAGE_COMMITTEE and area.level != Level.VILLAGE:
        raise Invalid.at("/area_code", "village_committee_area_level")


async def _require_park(
    session: AsyncSession, caller: Caller, *, host_id: UUID, park_id: UUID
) -> None:
    statement = select(col(HostOrganisation.kind)).where(
        col(HostOrganisation.district_code) == caller.district_code,
        col(HostOrganisation.id) == park_id,
        reach.clause(caller, area="host_organisations.area_code"),
    )
    # A lock that others may share keeps the park a park until this tenant is stored.
    kind = (await session.execute(statement.with_for_update(read=True))).scalar_one_or_none()
    if kind is None:
        raise Invalid.at("/park_id", "unknown_reference")
    if kind != HostKind.INDUSTRIAL_PARK or park_id == host_id:
        raise Invalid.at("/park_id", "not_an_industrial_park")


def _uscc_of(wanted: HostOrganisationCreate) -> str | None:
    if wanted.uscc is None:
        if wanted.kind == HostKind.ENTERPRISE:
            raise Invalid.at("/uscc", "uscc_required")
        return None
    try:
        return identifiers.uscc(wanted.uscc)
    except ValueError as error:
        raise Invalid.at("/uscc", str(error)) from None


async def _refuse_what_its_users_need(
    session: AsyncSession, host: HostOrganisation, wanted: HostOrganisationCreate
) -> None:
    has_moved, is_another_kind = wanted.area_code != host.area_code, wanted.kind != host.kind
    if not has_moved and not is_another_kind:
        return
    params = {"district_code": host.district_code, "id": host.id}
    uses = (await session.execute(_USES, params)).one()
    fits = all(wanted.kind in HOSTS_OF_MODE[Mode(mode)] for mode in uses.modes)
    if (has_moved and uses.modes) or (is_another_kind and (uses.has_tenants or not fits)):
        raise HostInUse
