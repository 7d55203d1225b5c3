"""Members: enrolment, changes, moves between associations, and exact search."""

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
from app.database import Statements, show
from app.identity import Caller
from app.models.membership.members import (
    Member,
    MemberCreate,
    MemberDetail,
    MemberFilters,
    MemberSearch,
    MembersFound,
    Membership,
    MemberStatus,
    MemberUpdate,
)
from app.models.privacy.privacy_notices import ConsentPurpose
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem, field_error
from app.services.membership import open_associations
from app.services.privacy import consenting, data_keys, office_phones, person_data, person_storage
from app.services.privacy.enrolled_elsewhere import Allowance
from app.services.privacy.person_data import PersonData

_COLUMNS = (
    "m.id, m.association_id, m.area_code, m.status, m.name, m.employee_no,"
    f" m.first_joined_on, {consenting.held_sql('m')} as consents,"
    " m.id_number_index is not null as has_id_number, m.phone_index is not null as has_phone,"
    " case when m.phone_index is not null then m.phone_unconfirmed_since is null end"
    " as phone_confirmed, m.version"
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
_TAKEN_NUMBER = text(
    "select exists (select from members where district_code = :district_code"
    " and association_id = :association_id and employee_no = :employee_no"
    " and status = 'active' and id <> :id)"
)


class EmployeeNumberTaken(Problem):
    """An active member of the association has this employee number."""

    code, status = "employee_no_taken", 409
    constraint = "uq_members_employee_no"


class MemberErased(Problem):
    """The member's personal data was erased for ever; nothing is entered for her again."""

    code, status = "member_erased", 409


def _within(caller: Caller) -> tuple[str, dict[str, Any]]:
    return reach.within(caller, area="m.area_code", association="m.association_id", member="m.id")


def _detail(row: Any, key: Cipher | None, until: datetime | None) -> MemberDetail:
    facts = dict(row)
    sealed = facts.pop("id_number_sealed"), facts.pop("phone_sealed")
    data = person_data.opened(key, facts["id"], *sealed)
    return MemberDetail(**facts, **person_data.masked(data), phone_pending_until=until)


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
    where.in_area("m.area_code", filters.area)
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
    until = await office_phones.waits_until(statements, caller, member_id=member_id)
    return _detail(row, data_keys.opened_or_none(keyring, row), until)


async def search(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, body: MemberSearch, now: datetime
) -> MembersFound:
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
    until = await office_phones.wait_until(session, caller, member_ids=ids)
    items = [_detail(row, keys.get(row["id"]), until.get(row["id"])) for row in rows]
    return MembersFound(items=items, next_cursor=None, total=None)


async def enrol(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    body: MemberCreate,
    told: Allowance,
    now: datetime,
) -> MemberDetail:
    """Enrol a person, by an ID number of which the caller may still be `told`.

    Raises AlreadyEnrolled, TooManyElsewhere, EmployeeNumberTaken, AssociationDissolved, or Invalid
    also where she may be a member who took back what is given.
    """
    today = civil_date(now)
    refuse_future(today, joined_on=body.joined_on, consented_on=body.consented_on)
    data = person_data.check(id_number=body.id_number, phone=body.phone, today=today)
    purposes = consenting.entered(body.consented_on, body.consented_to, data)
    area_code = await open_associations.area_of(session, caller, body.association_id)
    member = _new(caller, body, area_code=area_code, now=now)
    act = consenting.on_paper(caller, body.consented_on or today, now)
    given = consenting.mark(member, purposes, act.on)
    await _refuse_taken_number(session, member)
    await consenting.refuse_of_namesakes(session, member, given, act)
    key, wrapped = data_keys.make(keyring, member.id)
    await person_storage.keep(
        session, caller, keyring, key=key, member=member, data=data, told=told, now=now
    )
    session.add(member)
    await session.flush()
    await show(session, member.id)
    session.add(_first_membership(member))
    if person_storage.is_sealed(member):
        await data_keys.keep(session, member, wrapped)
    await consenting.record(session, member, given, act)
    await session.flush()
    return _answer(member, key, None)


def _new(caller: Caller, body: MemberCreate, *, area_code: str, now: datetime) -> Member:
    return Member(
        district_code=caller.district_code,
        id=clock.new_id(),
        created_at=now,
        updated_at=now,
        association_id=body.association_id,
        area_code=area_code,
        status=MemberStatus.ACTIVE.value,
        name=body.name,
        employee_no=body.employee_no,
        first_joined_on=body.joined_on or civil_date(now),
        id_number_sealed=None,
        id_number_index=None,
        phone_sealed=None,
        phone_index=None,
    )


def _first_membership(member: Member) -> Membership:
    return Membership(
        district_code=member.district_code,
        member_id=member.id,
        association_id=member.association_id,
        joined_on=member.first_joined_on,
        left_on=None,
        reason=None,
        recorded_at=member.created_at,
    )


async def edit(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    version: int,
    body: MemberUpdate,
    told: Allowance,
    now: datetime,
) -> MemberDetail:
    """Change a member; ID number and phone are taken with her consent to each.

    Raises NotFound, Stale, MemberErased, Invalid, or what `enrol` does of numbers.
    """
    member = await locked(session, caller, member_id=member_id, version=version)
    _refuse_empty(body)
    refuse_future(civil_date(now), consented_on=body.consented_on)
    data = person_data.check(id_number=body.id_number, phone=body.phone, today=civil_date(now))
    act = consenting.on_paper(caller, body.consented_on or civil_date(now), now)
    before = member.model_dump()
    with session.no_autoflush:
        for field in body.model_fields_set & {"name", "employee_no"}:
            setattr(member, field, getattr(body, field))
        fresh = _mark(member, data, body.consented_on)
        await consenting.refuse_withdrawn(session, member, fresh, act)
        key = await _keep(
            session, caller, keyring, member=member, body=body, data=data, told=told, now=now
        )
    if member.version == version and member.model_dump() != before:
        person_storage.touch(member, now)
    await session.flush()
    await consenting.record(session, member, fresh, act)
    if key is not None:
        await person_storage.drop_idle_key(session, keyring, member, now=now)
    return await answer(session, caller, member, key)


async def _keep(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member: Member,
    body: MemberUpdate,
    data: PersonData,
    told: Allowance,
    now: datetime,
) -> Cipher | None:
    """Store and clear ID number and phone as a change says; gives her key."""
    person_data.require_consent(data, consenting.held(member))
    if "employee_no" in body.model_fields_set:
        await _refuse_taken_number(session, member)
    key = await _key_of(session, keyring, member=member, data=data)
    given = body.model_fields_set & {"id_number", "phone"}
    cleared = {name for name in given if getattr(body, name) is None}
    at_once = await office_phones.settle(
        session, caller, keyring, member=member, data=data, cleared=cleared, now=now
    )
    await person_storage.keep(
        session,
        caller,
        keyring,
        key=key,
        member=member,
        data=at_once,
        told=told,
        cleared=cleared,
        now=now,
    )
    return key


async def _refuse_taken_number(session: AsyncSession, member: Member) -> None:
    """Raise EmployeeNumberTaken before the nation's keys are asked, so that asking enrols."""
    key = member.model_dump(include={"district_code", "association_id", "employee_no", "id"})
    if member.employee_no is not None and await session.scalar(_TAKEN_NUMBER, key):
        raise EmployeeNumberTaken


def _refuse_empty(body: MemberUpdate) -> None:
    given = body.model_fields_set & {"name", "consented_on"}
    if empty := sorted(name for name in given if getattr(body, name) is None):
        raise Invalid(errors=[field_error(f"/{name}", "not_null") for name in empty])


def _mark(member: Member, data: PersonData, on: date | None) -> list[ConsentPurpose]:
    """Note her consent to what is given; raises Invalid for a date of nothing."""
    if on is None:
        return []
    purposes = consenting.covering(data)
    if not purposes:
        raise Invalid.at("/consented_on", "consent_to_nothing")
    return consenting.mark(member, purposes, on)


async def _key_of(
    session: AsyncSession, keyring: Keyring, *, member: Member, data: PersonData
) -> Cipher | None:
    """Give the member's key, and make one where there is something to seal."""
    if data.id_number is None and data.phone is None:
        return await data_keys.find_of(session, keyring, member)
    return await data_keys.find_or_make(session, keyring, member)


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


async def current(session: AsyncSession, caller: Caller, *, member_id: UUID) -> Member:
    """Give a member within reach as she is, locked; raises NotFound or MemberErased."""
    member = await held(session, caller, member_id=member_id)
    if member.erased_at is not None:
        raise MemberErased
    return member


async def answer(
    session: AsyncSession, caller: Caller, member: Member, key: Cipher | None
) -> MemberDetail:
    """Give a member as the API shows one to a caller."""
    until = await office_phones.wait_until(session, caller, member_ids=[member.id])
    return _answer(member, key, until.get(member.id))


def _answer(member: Member, key: Cipher | None, until: datetime | None) -> MemberDetail:
    facts = member.model_dump(exclude={"id_number_index", "phone_index"})
    facts["consents"] = consenting.held(member)
    facts["has_id_number"] = member.id_number_index is not None
    is_on_file = facts["has_phone"] = member.phone_index is not None
    facts["phone_confirmed"] = member.phone_unconfirmed_since is None if is_on_file else None
    return _detail(facts, key, until)


def refuse_future(today: date, **dates: date | None) -> None:
    """Raise Invalid at each date that has not come."""
    errors = [
        field_error(f"/{name}", "date_in_future")
        for name, value in dates.items()
        if value is not None and value > today
    ]
    if errors:
        raise Invalid(errors=errors)
