"""Members: enrolment, changes, moves between associations, and exact search."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.ciphers import Cipher
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide, show
from app.identifiers import area_range
from app.identity import Caller
from app.models.associations import AssociationStatus
from app.models.members import (
    Member,
    MemberCreate,
    MemberDetail,
    MemberFilters,
    MemberSearch,
    Membership,
    MemberStatus,
    MemberUpdate,
)
from app.paging import Key, Listing, Page, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem, field_error
from app.services import correction_texts, data_keys, person_data
from app.services.person_data import PersonData

_COLUMNS = (
    "m.id, m.association_id, m.area_code, m.status, m.name, m.employee_no,"
    " m.first_joined_on, m.consented_on, m.id_number_index is not null as has_id_number,"
    " m.phone_index is not null as has_phone, m.version"
)
LISTING = Listing(
    columns=f"{_COLUMNS}, {instant('m.erased_at')}, {instant('m.created_at')},"
    f" {instant('m.updated_at')}",
    source="members m",
    order=(Key("id", "m.id", "uuid"),),
    about="id",
)
_DETAILS = (
    f"{_COLUMNS}, m.erased_at, m.created_at, m.updated_at, m.id_number_sealed, m.phone_sealed"
)
_FIND = (
    f"select {_DETAILS}, m.id as member_id, {data_keys.COLUMNS} from members m"
    f" {data_keys.JOIN.format('m.id')}"
    " where m.district_code = :district_code and m.id = :id and {reach}"
)
_SEARCH = (
    f"select {_DETAILS} from members m where m.district_code = :district_code"
    " and m.{column}_index = any(:wanted) and {reach} order by m.id limit 200"
)
_OPEN_ASSOCIATION = (
    "select a.area_code, a.status from associations a where a.district_code = :district_code"
    " and a.id = :id and {reach} for share"
)
_IN_REACH = (
    "select m.id from person_keys k"
    " join members m on m.district_code = k.district_code and m.id = k.member_id"
    " where k.identity_hash = any(:identities) and k.district_code = :district_code"
    " and m.district_code = :district_code and {reach}"
)


class AlreadyEnrolled(Problem):
    """The ID number belongs to a member; `member_id` says to whom, if within the caller's reach."""

    code, status = "already_enrolled", 409
    constraint = "uq_members_id_number"


class EmployeeNumberTaken(Problem):
    """An active member of the association has this employee number."""

    code, status = "employee_no_taken", 409
    constraint = "uq_members_employee_no"


class MemberErased(Problem):
    """The member's personal data was erased for ever; nothing is entered for her again."""

    code, status = "member_erased", 409


class AssociationDissolved(Problem):
    """The association is dissolved and takes no members."""

    code, status = "association_takes_no_members", 409


def _within(caller: Caller) -> tuple[str, dict[str, Any]]:
    return reach.within(caller, area="m.area_code", association="m.association_id", member="m.id")


def _detail(row: Any, key: Cipher | None) -> MemberDetail:
    facts = dict(row)
    sealed = facts.pop("id_number_sealed"), facts.pop("phone_sealed")
    data = person_data.opened(key, facts["id"], *sealed)
    return MemberDetail(**facts, **person_data.masked(data))


async def list_members(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: MemberFilters
) -> Slice:
    """Give a page of members in the order of their enrolment."""
    condition, params = _within(caller)
    where = Where(params | {"district_code": caller.district_code})
    where.add("m.district_code = :district_code")
    where.add(condition)
    where.equal("m.association_id", "association_id", filters.association_id)
    where.equal("m.status", "status", filters.status)
    where.equal("m.name", "name", filters.name)
    if filters.area is not None:
        low, high = area_range(filters.area)
        where.add("m.area_code between :area_low and :area_high", area_low=low, area_high=high)
    if filters.updated_since is not None:
        where.add("m.updated_at >= :updated_since", updated_since=filters.updated_since)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, keyring: Keyring, *, member_id: UUID
) -> MemberDetail:
    """Give one member, or refuse with NotFound."""
    condition, params = _within(caller)
    params |= {"district_code": caller.district_code, "id": member_id}
    row = await statements.showing(member_id).fetch_row(
        _FIND.format(reach=condition), params, about="id"
    )
    if row is None:
        raise NotFound
    key = data_keys.opened_or_none(keyring, row)
    facts = dict(row)
    for name in ("member_id", "wrapped", "master_version"):
        del facts[name]
    return _detail(facts, key)


async def search(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, body: MemberSearch, now: datetime
) -> Page[MemberDetail]:
    """Find the members within reach who have an ID number or a phone."""
    if (body.id_number is None) == (body.phone is None):
        raise Invalid.at("/id_number", "one_of_two", other="phone")
    data = person_data.check(id_number=body.id_number, phone=body.phone, today=civil_date(now))
    column, value = (
        (person_data.PHONE, data.phone) if data.phone else (person_data.ID_NUMBER, data.id_number)
    )
    condition, params = _within(caller)
    params |= {"district_code": caller.district_code}
    params["wanted"] = keyring.blind_indexes(value or "", column=column)
    sql = text(_SEARCH.format(column=column, reach=condition))
    rows = (await session.execute(sql, params)).mappings().all()
    ids = [row["id"] for row in rows]
    await show(session, *ids)
    keys = await data_keys.find(session, keyring, district_code=caller.district_code, ids=ids)
    items = [_detail(row, keys.get(row["id"])) for row in rows]
    return Page(items=items, next_cursor=None, total=None)


async def enrol(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, body: MemberCreate, now: datetime
) -> MemberDetail:
    """Enrol a person; raises AlreadyEnrolled, EmployeeNumberTaken or AssociationDissolved."""
    today = civil_date(now)
    refuse_future(today, joined_on=body.joined_on, consented_on=body.consented_on)
    data = person_data.check(id_number=body.id_number, phone=body.phone, today=today)
    person_data.require_consent(data, body.consented_on)
    member = Member(
        district_code=caller.district_code,
        id=clock.new_id(),
        created_at=now,
        updated_at=now,
        association_id=body.association_id,
        area_code=await area_of_open_association(session, caller, body.association_id),
        status=MemberStatus.ACTIVE.value,
        name=body.name,
        employee_no=body.employee_no,
        first_joined_on=body.joined_on or today,
        consented_on=body.consented_on,
        id_number_sealed=None,
        id_number_index=None,
        phone_sealed=None,
        phone_index=None,
    )
    key, wrapped = data_keys.make(keyring, member.id)
    await _keep(session, caller, keyring, key=key, member=member, data=data)
    session.add(member)
    await session.flush()
    await show(session, member.id)
    session.add(_first_membership(member))
    if _is_sealed(member):
        await data_keys.keep(session, member, wrapped)
    await session.flush()
    return answer(member, key)


def _is_sealed(member: Member) -> bool:
    return member.id_number_sealed is not None or member.phone_sealed is not None


def _first_membership(member: Member) -> Membership:
    return Membership(
        district_code=member.district_code,
        member_id=member.id,
        association_id=member.association_id,
        joined_on=member.first_joined_on,
        left_on=None,
        reason=None,
    )


async def edit(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    version: int,
    body: MemberUpdate,
    now: datetime,
) -> MemberDetail:
    """Change a member; withdrawing consent erases ID number and phone with it."""
    member = await locked(session, caller, member_id=member_id, version=version)
    given = body.model_fields_set
    if "name" in given and body.name is None:
        raise Invalid.at("/name", "not_null")
    refuse_future(civil_date(now), consented_on=body.consented_on)
    data = person_data.check(id_number=body.id_number, phone=body.phone, today=civil_date(now))
    before = member.model_dump()
    with session.no_autoflush:
        for field in given & {"name", "employee_no", "consented_on"}:
            setattr(member, field, getattr(body, field))
        person_data.require_consent(data, member.consented_on)
        key = await _key_of(session, keyring, member=member, data=data)
        cleared = {field for field in ("id_number", "phone") if _is_cleared(member, body, field)}
        await _keep(session, caller, keyring, key=key, member=member, data=data, cleared=cleared)
    if member.model_dump() != before:
        touch(member, now)
    await session.flush()
    if key is not None and not _is_sealed(member):
        # What it sealed is then gone from backups too.
        await correction_texts.outlast_key(session, keyring, member, key, now=now)
    return answer(member, key)


async def _key_of(
    session: AsyncSession, keyring: Keyring, *, member: Member, data: PersonData
) -> Cipher | None:
    """Give the member's key, and make one where there is something to seal."""
    if data.id_number is None and data.phone is None:
        return await data_keys.find_of(session, keyring, member)
    return await data_keys.find_or_make(session, keyring, member)


def _is_cleared(member: Member, body: MemberUpdate, field: str) -> bool:
    asked = field in body.model_fields_set and getattr(body, field) is None
    return asked or member.consented_on is None


async def _keep(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    key: Cipher | None,
    member: Member,
    data: PersonData,
    cleared: Collection[str] = (),
) -> None:
    """Store new person data under the member's key, and erase what is cleared."""
    if "phone" in cleared:
        member.phone_sealed = member.phone_index = None
    if key is not None and data.phone is not None:
        indexes = keyring.blind_indexes(data.phone, column=person_data.PHONE)
        if member.phone_index not in indexes:
            member.phone_sealed = person_data.seal_phone(key, member.id, data.phone)
            member.phone_index = indexes[0]
    if data.id_number is not None or "id_number" in cleared:
        await _keep_id_number(
            session, caller, keyring, key=key, member=member, id_number=data.id_number
        )


async def _keep_id_number(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    key: Cipher | None,
    member: Member,
    id_number: str | None,
) -> None:
    """Replace the ID number and, in step with it, the keys that are unique in the nation."""
    indexes = (
        keyring.blind_indexes(id_number, column=person_data.ID_NUMBER) if id_number else [None]
    )
    if member.id_number_index in indexes:
        return
    if key is not None and member.id_number_sealed is not None:
        old = person_data.open_id_number(key, member.id, member.id_number_sealed)
        async with district_wide(session):
            await person_data.release(session, member, person_data.identities(keyring, old))
    member.id_number_sealed, member.id_number_index = None, indexes[0]
    if key is not None and id_number is not None:
        member.id_number_sealed = person_data.seal_id_number(key, member.id, id_number)
        held = person_data.identities(keyring, id_number)
        async with district_wide(session):
            if not await person_data.claim(session, member, held):
                raise await _already_enrolled(session, caller, held)


async def _already_enrolled(
    session: AsyncSession, caller: Caller, held: Sequence[bytes]
) -> AlreadyEnrolled:
    condition, params = _within(caller)
    params |= {"district_code": caller.district_code, "identities": list(held)}
    found = (await session.execute(text(_IN_REACH.format(reach=condition)), params)).scalar()
    return AlreadyEnrolled(extra={} if found is None else {"member_id": str(found)})


async def area_of_open_association(
    session: AsyncSession, caller: Caller, association_id: UUID
) -> str:
    """Give the area of an association that takes members, held until the transaction ends."""
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    params |= {"district_code": caller.district_code, "id": association_id}
    statement = text(_OPEN_ASSOCIATION.format(reach=condition))
    row = (await session.execute(statement, params)).one_or_none()
    if row is None:
        raise Invalid.at("/association_id", "unknown_reference")
    if row.status == AssociationStatus.DISSOLVED:
        raise AssociationDissolved
    return str(row.area_code)


async def locked(session: AsyncSession, caller: Caller, *, member_id: UUID, version: int) -> Member:
    """Give a member within reach for a change; raises NotFound, Stale or MemberErased."""
    member = await held(session, caller, member_id=member_id)
    concurrency.require_version(member.version, version)
    if member.erased_at is not None:
        raise MemberErased
    await show(session, member.id)
    return member


async def held(session: AsyncSession, caller: Caller, *, member_id: UUID) -> Member:
    """Give a member within reach as she is, locked; raises NotFound."""
    statement = (
        select(Member)
        .where(col(Member.district_code) == caller.district_code, col(Member.id) == member_id)
        .where(
            reach.clause(
                caller,
                area="members.area_code",
                association="members.association_id",
                member="members.id",
            )
        )
        .with_for_update()
    )
    member = (await session.execute(statement)).scalar_one_or_none()
    if member is None:
        raise NotFound
    return member


def touch(member: Member, now: datetime) -> None:
    """Count a change."""
    member.version += 1
    member.updated_at = now


def answer(member: Member, key: Cipher | None) -> MemberDetail:
    """Give a member as the API shows one."""
    facts = member.model_dump(exclude={"id_number_index", "phone_index"})
    facts["has_id_number"] = member.id_number_index is not None
    facts["has_phone"] = member.phone_index is not None
    return _detail(facts, key)


def refuse_future(today: date, **dates: date | None) -> None:
    """Raise Invalid at each date that has not come."""
    errors = [
        field_error(f"/{name}", "date_in_future")
        for name, value in dates.items()
        if value is not None and value > today
    ]
    if errors:
        raise Invalid(errors=errors)
