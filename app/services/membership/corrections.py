"""Corrections at the office: what is due, and the one answer, which may make the change itself."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.membership.corrections import (
    PLAIN_SUBJECTS,
    VALUED,
    Correction,
    CorrectionAnswer,
    CorrectionFilters,
    CorrectionItem,
    CorrectionRead,
    CorrectionRefusal,
    CorrectionStatus,
    CorrectionSubject,
)
from app.models.membership.members import Member, MemberUpdate
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound
from app.roles import Right
from app.services.membership import members, my_corrections
from app.services.privacy import correction_texts, data_keys
from app.services.privacy.enrolled_elsewhere import Allowance

_SOURCE = "corrections c join members m on m.district_code = :district_code and m.id = c.member_id"
_PLAIN = f"{my_corrections.PLAIN}, c.member_id, c.answered_by"
LISTING = Listing(
    columns=f"{_PLAIN}, {instant('c.closed_at')}, {instant('c.created_at')}",
    source=_SOURCE,
    order=(Key("due_on", "c.due_on", "date"), Key("id", "c.id", "uuid")),
    about="member_id",
)
_FIND = (
    f"select {_PLAIN}, c.closed_at, c.created_at, {correction_texts.COLUMNS}"
    f" from {_SOURCE} {data_keys.JOIN.format('c.member_id')}"
    " where c.district_code = :district_code and c.id = :id and {reach}"
)
_WHOSE = (
    f"select c.member_id from {_SOURCE}"
    " where c.district_code = :district_code and c.id = :id and {reach}"
)
_OVERDUE = (
    "select count(*) from corrections where district_code = :district_code and status = 'open'"
    " and due_on < :today"
)


def _within(caller: Caller) -> tuple[str, dict[str, Any]]:
    """Keep to the members within reach, and the employer's side to what tells of no check."""
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    params["district_code"] = caller.district_code
    if caller.blind_to_health_checks:
        condition = f"({condition}) and c.subject = any(:plain_subjects)"
        params["plain_subjects"] = sorted(PLAIN_SUBJECTS)
    return condition, params


async def list_corrections(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: CorrectionFilters,
    now: datetime,
) -> Slice:
    """Give a page of the corrections of members within reach, the soonest due first."""
    condition, params = _within(caller)
    where = Where(params | {"today": civil_date(now)})
    where.add(f"c.district_code = :district_code and {condition}")
    where.equal("c.status", "status", filters.status)
    where.equal("c.subject", "subject", filters.subject)
    where.equal("c.member_id", "member_id", filters.member_id)
    where.equal("m.association_id", "association_id", filters.association_id)
    where.equal(
        "(c.status = 'open' and c.due_on < cast(:today as date))", "overdue", filters.overdue
    )
    where.span("c.due_on", "due_on", gte=filters.due_on_gte, lt=filters.due_on_lt)
    where.in_area("m.area_code", filters.area)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, keyring: Keyring, *, correction_id: UUID, now: datetime
) -> CorrectionRead:
    """Give one correction with what was written, or refuse with NotFound."""
    condition, params = _within(caller)
    params |= {"id": correction_id, "today": civil_date(now)}
    row = await statements.district_wide().fetch_row(
        _FIND.format(reach=condition), params, about="member_id"
    )
    if row is None:
        raise NotFound
    texts = correction_texts.written(data_keys.opened_or_none(keyring, row), row)
    return CorrectionRead(**{**row, **texts})


async def accept(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    correction_id: UUID,
    version: int,
    body: CorrectionAnswer,
    told: Allowance,
    now: datetime,
) -> CorrectionItem:
    """Say that the member is right, and put the value that she gave in place.

    What has no such value was changed before, as `answer` says. Raises NotFound, Stale,
    CorrectionClosed, AlreadyEnrolled, TooManyElsewhere or EmployeeNumberTaken.
    """
    member, correction = await _held(session, caller, correction_id=correction_id, version=version)
    applied = CorrectionSubject(correction.subject) in VALUED
    if applied:
        caller.require(Right.WRITE_MEMBERS)
        await _apply(
            session, caller, keyring, member=member, correction=correction, told=told, now=now
        )
    elif body.answer is None:
        raise Invalid.at("/answer", "missing")
    facts = {"status": CorrectionStatus.ACCEPTED.value, "applied": applied}
    return await _answer(
        session, caller, keyring, member, correction, answer=body.answer, now=now, **facts
    )


async def refuse(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    correction_id: UUID,
    version: int,
    body: CorrectionRefusal,
    now: datetime,
) -> CorrectionItem:
    """Say why what is stored stays; raises NotFound, Stale or CorrectionClosed."""
    member, correction = await _held(session, caller, correction_id=correction_id, version=version)
    status = CorrectionStatus.REFUSED.value
    return await _answer(
        session, caller, keyring, member, correction, answer=body.reason, now=now, status=status
    )


async def _held(
    session: AsyncSession, caller: Caller, *, correction_id: UUID, version: int
) -> tuple[Member, Correction]:
    """Lock the member and then her correction, as whoever erases her does."""
    condition, params = _within(caller)
    async with district_wide(session):
        whose = text(_WHOSE.format(reach=condition))
        member_id = await session.scalar(whose, {**params, "id": correction_id})
        if member_id is None:
            raise NotFound
        member = await members.held(session, caller, member_id=member_id)
        correction = await my_corrections.open_one(
            session, caller, correction_id=correction_id, version=version
        )
    return member, correction


async def _apply(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member: Member,
    correction: Correction,
    told: Allowance,
    now: datetime,
) -> None:
    """Change the member as anybody who may change her does, in the office's own scope."""
    async with district_wide(session):
        key = await data_keys.find_or_make(session, keyring, member)
    said = correction_texts.open_said(key, correction.id, correction.said_sealed or b"")
    my_corrections.require_consent(member, correction.subject, at="/answer")
    await members.edit(
        session,
        caller,
        keyring,
        member_id=member.id,
        version=member.version,
        body=MemberUpdate.model_validate({correction.subject: said.value}),
        told=told,
        now=now,
    )


async def _answer(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    member: Member,
    correction: Correction,
    *,
    answer: str | None,
    now: datetime,
    **facts: object,
) -> CorrectionItem:
    async with district_wide(session):
        if answer is not None:
            key = await data_keys.find_or_make(session, keyring, member)
            facts["answer_sealed"] = correction_texts.seal_answer(key, correction.id, answer)
        correction.change(now, answered_by=caller.subject, closed_at=now, **facts)
        await session.flush()
    return CorrectionItem(**my_corrections.facts_of(correction, now=now))


async def count_overdue(statements: Statements, *, district_code: str, now: datetime) -> int:
    """Count the corrections of a district that nobody answered in time."""
    params = {"district_code": district_code, "today": civil_date(now)}
    return int(await statements.fetch_value(_OVERDUE, params))
