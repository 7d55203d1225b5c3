"""Regulations: charters and rules in numbered editions, fixed once adopted or published."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency
from app.crypto import Keyring
from app.database import Statements, show
from app.identity import Caller
from app.models.organisation.regulations import (
    Regulation,
    RegulationCreate,
    RegulationFilters,
    RegulationKind,
    RegulationRead,
    RegulationUpdate,
)
from app.paging import Key, Listing, Slice, Where
from app.problems import NotFound, Problem
from app.services.organisation import associations

_COLUMNS = (
    "r.id, r.version, r.association_id, r.kind, r.edition, r.title, r.adopted_on, r.published_on"
)
LISTING = Listing(columns=_COLUMNS, source="regulations r", order=(Key("id", "r.id", "uuid"),))
_FIND = (
    f"select {_COLUMNS}, r.body from regulations r where r.district_code = :district_code"
    " and r.association_id = :association_id and r.id = :id"
)
_DAYS = ("adopted_on", "published_on")


class RegulationInForce(Problem):
    """The edition is adopted or published and stays as it is; a change is a new edition."""

    code, status = "regulation_in_force", 409


async def list_regulations(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    association_id: UUID,
    filters: RegulationFilters,
) -> Slice:
    """Give a page of an association's editions, without their texts, in the order of entry."""
    await associations.find(statements, caller, association_id=association_id)
    where = Where({"district_code": caller.district_code})
    where.add("r.district_code = :district_code")
    where.equal("r.association_id", "association_id", association_id)
    where.equal("r.kind", "kind", filters.kind)
    return await LISTING.page(
        statements.showing(association_id), keyring, filters=filters, where=where
    )


async def find(
    statements: Statements, caller: Caller, *, association_id: UUID, regulation_id: UUID
) -> RegulationRead:
    """Give one edition with its text, or refuse with NotFound."""
    await associations.find(statements, caller, association_id=association_id)
    row = await statements.showing(association_id).fetch_row(
        _FIND,
        {
            "district_code": caller.district_code,
            "association_id": association_id,
            "id": regulation_id,
        },
    )
    if row is None:
        raise NotFound
    return RegulationRead(**row)


async def enter(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    body: RegulationCreate,
    now: datetime,
) -> RegulationRead:
    """Store the next edition of a text."""
    await associations.hold(session, caller, association_id=association_id)
    await show(session, association_id)
    last = await _last_edition(session, caller, association_id=association_id, kind=body.kind)
    regulation = Regulation(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        association_id=association_id,
        edition=last + 1,
        **body.model_dump(),
    )
    session.add(regulation)
    await session.flush()
    return RegulationRead.model_validate(regulation)


async def _last_edition(
    session: AsyncSession, caller: Caller, *, association_id: UUID, kind: RegulationKind
) -> int:
    statement = select(func.max(col(Regulation.edition))).where(
        col(Regulation.district_code) == caller.district_code,
        col(Regulation.association_id) == association_id,
        col(Regulation.kind) == kind,
    )
    return (await session.execute(statement)).scalar() or 0


async def edit(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    regulation_id: UUID,
    body: RegulationUpdate,
    expected_version: int,
    now: datetime,
) -> RegulationRead:
    """Change an edition that is not in force, or enter the day on which it was adopted.

    Raises RegulationInForce for a change of what members or the public were given.
    """
    await associations.hold(session, caller, association_id=association_id)
    await show(session, association_id)
    regulation = await session.get(Regulation, (caller.district_code, regulation_id))
    if regulation is None or regulation.association_id != association_id:
        raise NotFound
    concurrency.require_version(regulation.version, expected_version)
    changes = body.changes()
    _refuse_rewriting(regulation, changes)
    regulation.change(now, **changes)
    await session.flush()
    return RegulationRead.model_validate(regulation)


def _refuse_rewriting(regulation: Regulation, changes: dict[str, Any]) -> None:
    present = regulation.model_dump()
    days = {day: present[day] for day in _DAYS if present[day] is not None}
    fixed = {**days, "title": regulation.title, "body": regulation.body} if days else {}
    if any(name in changes and changes[name] != value for name, value in fixed.items()):
        raise RegulationInForce
