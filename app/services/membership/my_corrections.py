"""A member's corrections: filed with a due date, read with the answer, withdrawn by herself."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, concurrency, identifiers
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.membership.corrections import (
    VALUED,
    Correction,
    CorrectionCreate,
    CorrectionStatus,
    CorrectionSubject,
    MyCorrectionFilters,
    MyCorrectionItem,
    MyCorrectionRead,
)
from app.models.membership.members import Member
from app.models.privacy.privacy_notices import ConsentPurpose
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.services.membership import members
from app.services.membership.members import MemberErased
from app.services.organisation import areas
from app.services.privacy import consenting, correction_texts, data_keys
from app.services.privacy.correction_texts import Said

PLAIN = (
    "c.id, c.subject, c.event_id, c.round_id, c.status, c.due_on, c.applied, c.version,"
    " c.status = 'open' and c.due_on < cast(:today as date) as is_overdue"
)
"""What every reader of a correction `c` sees of it, but for instants."""
LISTING = Listing(
    columns=f"{PLAIN}, {instant('c.closed_at')}, {instant('c.created_at')}",
    source="corrections c",
    order=(Key("id", "c.id", "uuid"),),
    descending=True,
    about="",
)
_FIND = (
    f"select {PLAIN}, c.closed_at, c.created_at, c.member_id, {correction_texts.COLUMNS}"
    f" from corrections c {data_keys.JOIN.format('c.member_id')}"
    " where c.district_code = :district_code and c.id = :id and c.member_id = :member_id"
)
_EVENT = text(
    "select id from service_events where district_code = :district_code and id = :id"
    " and status <> 'draft'"
)
_ROUND = text("select id from exam_rounds where district_code = :district_code and id = :id")
_MOST_EMPLOYEE_NO = 40


class CorrectionAlreadyOpen(Problem):
    """A correction of the same thing waits for its answer."""

    code, status = "correction_already_open", 409
    constraint = "uq_corrections_open"


class CorrectionClosed(Problem):
    """The correction was answered or withdrawn."""

    code, status = "correction_closed", 409


async def list_corrections(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: MyCorrectionFilters,
    now: datetime,
) -> Slice:
    """Give a page of the member's corrections, the newest first."""
    where = Where({"district_code": caller.district_code, "today": civil_date(now)})
    where.add("c.district_code = :district_code")
    where.equal("c.member_id", "member_id", caller.member_id)
    where.equal("c.status", "status", filters.status)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, keyring: Keyring, *, correction_id: UUID, now: datetime
) -> MyCorrectionRead:
    """Give one correction with what was written, or refuse with NotFound."""
    params = {
        "district_code": caller.district_code,
        "id": correction_id,
        "member_id": caller.member_id,
        "today": civil_date(now),
    }
    row = await statements.fetch_row(_FIND, params, about=())
    if row is None:
        raise NotFound
    texts = correction_texts.written(data_keys.opened_or_none(keyring, row), row)
    return MyCorrectionRead(**{**row, **texts})


async def submit(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    body: CorrectionCreate,
    now: datetime,
) -> MyCorrectionItem:
    """File a correction, due in as many civil days as the member's area says.

    Raises NotFound, MemberErased or CorrectionAlreadyOpen.
    """
    if caller.member_id is None:
        raise NotFound
    said = Said(_checked(body, now=now), body.note)
    await _require_about(session, caller, body)
    async with district_wide(session):
        member = await members.held(session, caller, member_id=caller.member_id)
        if member.erased_at is not None:
            raise MemberErased
        require_consent(member, body.subject, at="/value")
        correction = await _filed(session, keyring, member, body=body, said=said, now=now)
    return shown(correction, now=now)


def require_consent(member: Member, subject: str, *, at: str) -> None:
    """Raise Invalid at a field when an ID number is to be right that she lets nobody hold."""
    is_held = ConsentPurpose.IDENTITY in consenting.held(member)
    if subject == CorrectionSubject.ID_NUMBER and not is_held:
        raise Invalid.at(at, "identity_consent_needed")


def _checked(body: CorrectionCreate, *, now: datetime) -> str | None:
    """Give the value in its normal form; raises Invalid."""
    if body.subject not in VALUED:
        if body.value is not None:
            raise Invalid.at("/value", "correction_without_value")
        if body.note is None:
            raise Invalid.at("/note", "missing")
        return None
    if body.value is None:
        raise Invalid.at("/value", "missing")
    if body.subject is not CorrectionSubject.ID_NUMBER:
        return _checked_words(body.subject, body.value)
    try:
        return identifiers.resident_id(body.value, today=civil_date(now))
    except ValueError as error:
        raise Invalid.at("/value", str(error)) from None


def _checked_words(subject: CorrectionSubject, value: str) -> str:
    """Give a name or an employee number, which will stand in clear once it is accepted."""
    if subject is CorrectionSubject.EMPLOYEE_NO and len(value) > _MOST_EMPLOYEE_NO:
        raise Invalid.at("/value", "string_too_long", max_length=_MOST_EMPLOYEE_NO)
    if identifiers.holds_personal_number(value):
        raise Invalid.at("/value", "personal_number")
    return value


async def _require_about(session: AsyncSession, caller: Caller, body: CorrectionCreate) -> None:
    """Raise Invalid at an event or a round that is none, or does not go with the subject."""
    for name, given, subject, statement in (
        ("event_id", body.event_id, CorrectionSubject.ATTENDANCE, _EVENT),
        ("round_id", body.round_id, CorrectionSubject.EXCUSE, _ROUND),
    ):
        if given is None:
            continue
        if body.subject is not subject:
            raise Invalid.at(f"/{name}", "correction_of_another", subject=subject.value)
        params = {"district_code": caller.district_code, "id": given}
        if await session.scalar(statement, params) is None:
            raise Invalid.at(f"/{name}", "unknown_reference")


async def _filed(
    session: AsyncSession,
    keyring: Keyring,
    member: Member,
    *,
    body: CorrectionCreate,
    said: Said,
    now: datetime,
) -> Correction:
    key, correction_id = await data_keys.find_or_make(session, keyring, member), clock.new_id()
    correction = Correction(
        district_code=member.district_code,
        id=correction_id,
        created_at=now,
        updated_at=now,
        member_id=member.id,
        subject=body.subject.value,
        event_id=body.event_id,
        round_id=body.round_id,
        said_sealed=correction_texts.seal_said(key, correction_id, said),
        status=CorrectionStatus.OPEN.value,
        due_on=await areas.answer_due_on(
            session, district_code=member.district_code, code=member.area_code, now=now
        ),
        answer_sealed=None,
        applied=False,
        answered_by=None,
        closed_at=None,
    )
    session.add(correction)
    await session.flush()
    return correction


def shown(correction: Correction, *, now: datetime) -> MyCorrectionItem:
    """Give a correction as its member sees it in a list."""
    return MyCorrectionItem(**facts_of(correction, now=now))


def facts_of(correction: Correction, *, now: datetime) -> dict[str, Any]:
    """Give what a correction shows of itself, without what was written."""
    is_open = correction.status == CorrectionStatus.OPEN
    overdue = is_open and correction.due_on < civil_date(now)
    return {
        **correction.model_dump(exclude={"said_sealed", "answer_sealed"}),
        "is_overdue": overdue,
    }


async def withdraw(
    session: AsyncSession, caller: Caller, *, correction_id: UUID, version: int, now: datetime
) -> MyCorrectionItem:
    """Take a correction back, and erase what was written; raises Stale or CorrectionClosed."""
    if caller.member_id is None:
        raise NotFound
    async with district_wide(session):
        await members.held(session, caller, member_id=caller.member_id)
        correction = await open_one(session, caller, correction_id=correction_id, version=version)
        if correction.member_id != caller.member_id:
            raise NotFound
        status = CorrectionStatus.WITHDRAWN.value
        correction.change(now, status=status, closed_at=now, said_sealed=None)
        await session.flush()
    return shown(correction, now=now)


async def open_one(
    session: AsyncSession, caller: Caller, *, correction_id: UUID, version: int
) -> Correction:
    """Give a correction that waits, locked, district-wide; whoever asks has her member locked.

    Raises NotFound, Stale or CorrectionClosed.
    """
    key = (caller.district_code, correction_id)
    correction = await session.get(Correction, key, with_for_update=True)
    if correction is None:
        raise NotFound
    concurrency.require_version(correction.version, version)
    if correction.status != CorrectionStatus.OPEN:
        raise CorrectionClosed
    return correction
