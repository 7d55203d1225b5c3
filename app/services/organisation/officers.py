"""Officers: who holds which office of an association, and until when."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency
from app.crypto import Keyring
from app.database import Statements, show
from app.identity import Caller
from app.models.organisation.officers import (
    SINGLE_SEATS,
    Officer,
    OfficerCreate,
    OfficerFilters,
    OfficerRead,
    OfficerUpdate,
)
from app.paging import Key, Listing, Slice, Where
from app.problems import Forbidden, Invalid, NotFound, Problem
from app.roles import Role
from app.services.organisation import associations

_COLUMNS = "o.id, o.version, o.association_id, o.office, o.name, o.starts_on, o.ends_on"
LISTING = Listing(
    columns=_COLUMNS, source="officers o", order=(Key("id", "o.id", "uuid"),), about="id"
)
_FIND = (
    f"select {_COLUMNS} from officers o where o.district_code = :district_code"
    " and o.association_id = :association_id and o.id = :id"
)


class TermsOverlap(Problem):
    """Somebody else holds this single-seat office in that time; `officer_id` says which term."""

    code, status = "officer_terms_overlap", 409


async def list_officers(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    association_id: UUID,
    filters: OfficerFilters,
) -> Slice:
    """Give a page of an association's officers in the order of their entry."""
    await _require_readable(statements, caller, association_id)
    where = Where({"district_code": caller.district_code})
    where.add("o.district_code = :district_code")
    where.equal("o.association_id", "association_id", association_id)
    where.equal("o.office", "office", filters.office)
    if filters.in_office_on is not None:
        condition = "o.starts_on <= :on and (o.ends_on is null or o.ends_on > :on)"
        where.add(condition, on=filters.in_office_on)
    return await LISTING.page(
        statements.showing(association_id), keyring, filters=filters, where=where
    )


async def find(
    statements: Statements, caller: Caller, *, association_id: UUID, officer_id: UUID
) -> OfficerRead:
    """Give one officer of an association, or refuse with NotFound."""
    await _require_readable(statements, caller, association_id)
    row = await statements.showing(association_id).fetch_row(
        _FIND,
        {
            "district_code": caller.district_code,
            "association_id": association_id,
            "id": officer_id,
        },
        about="id",
    )
    if row is None:
        raise NotFound
    return OfficerRead(**row)


async def _require_readable(statements: Statements, caller: Caller, association_id: UUID) -> None:
    """Refuse pseudonymous readers: an officer's name is a person's name."""
    await associations.find(statements, caller, association_id=association_id)
    if caller.role is Role.DATA_PLATFORM:
        raise Forbidden


async def appoint(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    body: OfficerCreate,
    now: datetime,
) -> OfficerRead:
    """Store a term of office; raises TermsOverlap for a single seat that is held."""
    await associations.hold(session, caller, association_id=association_id)
    await show(session, association_id)
    officer = Officer(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        association_id=association_id,
        **body.model_dump(),
    )
    await _verify_term(session, officer, starts_on=body.starts_on, ends_on=body.ends_on)
    session.add(officer)
    await session.flush()
    return OfficerRead.model_validate(officer)


async def edit(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    officer_id: UUID,
    body: OfficerUpdate,
    expected_version: int,
    now: datetime,
) -> OfficerRead:
    """Change a term of office; raises TermsOverlap for a single seat that is held."""
    await associations.hold(session, caller, association_id=association_id)
    await show(session, association_id)
    officer = await session.get(Officer, (caller.district_code, officer_id))
    if officer is None or officer.association_id != association_id:
        raise NotFound
    concurrency.require_version(officer.version, expected_version)
    changes = body.changes()
    term = {"starts_on": officer.starts_on, "ends_on": officer.ends_on} | changes
    await _verify_term(session, officer, starts_on=term["starts_on"], ends_on=term["ends_on"])
    officer.change(now, **changes)
    await session.flush()
    return OfficerRead.model_validate(officer)


async def _verify_term(
    session: AsyncSession, officer: Officer, *, starts_on: date, ends_on: date | None
) -> None:
    if ends_on is not None and ends_on <= starts_on:
        raise Invalid.at("/ends_on", "ends_before_it_starts")
    if officer.office not in SINGLE_SEATS:
        return
    others = select(col(Officer.id)).where(
        col(Officer.district_code) == officer.district_code,
        col(Officer.association_id) == officer.association_id,
        col(Officer.office) == officer.office,
        col(Officer.id) != officer.id,
        or_(col(Officer.ends_on).is_(None), col(Officer.ends_on) > starts_on),
    )
    if ends_on is not None:
        others = others.where(col(Officer.starts_on) < ends_on)
    other = (await session.execute(others.order_by(col(Officer.starts_on)).limit(1))).scalar()
    if other is not None:
        raise TermsOverlap(extra={"officer_id": str(other)})
