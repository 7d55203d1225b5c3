"""Depots: kept by scope, empty at first, closed when they are empty again."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.goods.depots import (
    Depot,
    DepotCreate,
    DepotFilters,
    DepotRead,
    DepotStatus,
    DepotUpdate,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.services.organisation import areas

LISTING = Listing(
    columns=(
        f"d.id, d.version, {instant('d.created_at')}, {instant('d.updated_at')}, d.name,"
        " d.area_code, d.association_id, d.status, d.created_by,"
        f" {instant('d.closed_at')}, d.closed_by"
    ),
    source="depots d",
    order=(Key("id", "d.id", "uuid"),),
)
_FIND = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from depots d"
    " where d.district_code = :district_code and d.id = :id and {}) item"
)
_LEFT = text(
    "select cast(coalesce(sum(available + reserved), 0) as bigint) from stock"
    " where district_code = :district_code and depot_id = :id"
)


class DepotScopeTaken(Problem):
    """An open depot has this scope: a run could not tell from which to take."""

    code, status = "depot_scope_taken", 409
    constraint = "uq_depots_scope"


class DepotClosed(Problem):
    """A closed depot takes nothing in."""

    code, status = "depot_closed", 409


class DepotNotEmpty(Problem):
    """What still lies in a depot is handed out, moved or written off before it closes."""

    code, status = "depot_not_empty", 409


async def list_depots(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: DepotFilters
) -> Slice:
    """Give a page of the depots within reach, the oldest first."""
    where = where_within(caller)
    where.equal("d.status", "status", filters.status)
    where.equal("d.association_id", "association_id", filters.association_id)
    where.in_area("d.area_code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


def where_within(caller: Caller) -> Where:
    """Keep to the depots `d` within reach."""
    condition, params = within(caller, "d")
    where = Where(params | {"district_code": caller.district_code})
    where.add("d.district_code = :district_code")
    where.add(condition)
    return where


def within(caller: Caller, table: str) -> tuple[str, dict[str, Any]]:
    """Give the condition that keeps depots of a table to the caller's reach."""
    return reach.within(caller, area=f"{table}.area_code", association=f"{table}.association_id")


async def find(statements: Statements, caller: Caller, *, depot_id: UUID) -> DepotRead:
    """Give one depot, or refuse with NotFound."""
    condition, params = within(caller, "d")
    params |= {"district_code": caller.district_code, "id": depot_id}
    found = await statements.fetch_value(_FIND.format(condition), params)
    if found is None:
        raise NotFound
    return DepotRead.model_validate_json(found)


async def create(
    session: AsyncSession, caller: Caller, *, body: DepotCreate, now: datetime
) -> DepotRead:
    """Keep a new depot, empty; raises DepotScopeTaken."""
    reach.require_area(caller, body.area_code)
    await areas.require_scope(
        session,
        district_code=caller.district_code,
        area_code=body.area_code,
        association_id=body.association_id,
    )
    depot = Depot(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        **body.model_dump(),
        status=DepotStatus.OPEN,
        created_by=caller.subject,
        closed_at=None,
        closed_by=None,
    )
    session.add(depot)
    await session.flush()
    return _shown(depot)


async def update(
    session: AsyncSession,
    caller: Caller,
    *,
    depot_id: UUID,
    body: DepotUpdate,
    expected: int,
    now: datetime,
) -> DepotRead:
    """Give a depot another name."""
    changes = body.changes()
    depot = await _held(session, caller, depot_id=depot_id, expected=expected)
    depot.change(now, **changes)
    await session.flush()
    return _shown(depot)


async def close(
    session: AsyncSession, caller: Caller, *, depot_id: UUID, expected: int, now: datetime
) -> DepotRead:
    """Close an empty depot for good; raises DepotClosed or DepotNotEmpty."""
    depot = await _held(session, caller, depot_id=depot_id, expected=expected)
    if depot.status == DepotStatus.CLOSED:
        raise DepotClosed
    async with district_wide(session):
        left = await session.scalar(_LEFT, {"district_code": depot.district_code, "id": depot.id})
    if left:
        raise DepotNotEmpty(left=left, extra={"left": left})
    depot.change(now, status=DepotStatus.CLOSED, closed_at=now, closed_by=caller.subject)
    await session.flush()
    return _shown(depot)


async def _held(session: AsyncSession, caller: Caller, *, depot_id: UUID, expected: int) -> Depot:
    depot = await lock(session, caller, depot_id=depot_id)
    if depot is None:
        raise NotFound
    concurrency.require_version(depot.version, expected)
    return depot


async def lock(session: AsyncSession, caller: Caller, *, depot_id: UUID) -> Depot | None:
    """Give a depot within reach, held until the transaction ends, or None."""
    condition, params = within(caller, "depots")
    return await session.scalar(
        select(Depot)
        .where(
            col(Depot.district_code) == caller.district_code,
            col(Depot.id) == depot_id,
            text(condition).bindparams(**params),
        )
        .with_for_update(key_share=True)
    )


def _shown(depot: Depot) -> DepotRead:
    return DepotRead(**depot.model_dump(exclude={"district_code"}))
