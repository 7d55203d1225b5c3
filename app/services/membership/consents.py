"""Consents: given purpose by purpose, withdrawn at once, listed, and handed out as receipts."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide, named
from app.identity import Caller
from app.models.membership.consents import (
    SCHEMA_VERSION,
    Consent,
    ConsentEnter,
    ConsentFilters,
    ConsentGive,
    ConsentMethod,
    ConsentRead,
    ConsentReceipt,
    ConsentState,
    NoticeLanguage,
    ReceiptEvent,
    ReceiptNotice,
)
from app.models.membership.members import Member
from app.models.privacy.held_changes import HeldField
from app.models.privacy.privacy_notices import (
    DATA_OF,
    JURISDICTION,
    PROCESSING_OF,
    RETENTION,
    ConsentPurpose,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Forbidden, NotFound, Problem
from app.roles import Role
from app.services.membership import members
from app.services.privacy import (
    bank_discards,
    cleared_phones,
    consenting,
    held_changes,
    person_storage,
    privacy_notices,
)
from app.services.privacy.consenting import Act
from app.settings import Settings
from app.sms import Message

LISTING = Listing(
    columns=(
        "c.id, c.purpose, c.state, c.notice_number, c.language, c.method, c.acted_on,"
        f" {instant('c.recorded_at')}, c.withdraws"
    ),
    source="consents c",
    order=(Key("recorded_at", "c.recorded_at", "timestamptz"), Key("id", "c.id", "uuid")),
    about="",
)
_IN_REACH = (
    "select m.id from members m where m.district_code = :district_code and m.id = :id and {}"
)
_RECEIPT = (
    "select c.id, c.purpose, c.member_id, c.notice_number, c.language, c.state, c.method,"
    " c.acted_on, c.recorded_at, w.id as w_id, w.method as w_method, w.acted_on as w_acted_on,"
    " w.recorded_at as w_recorded_at, n.controller, n.text_zh, n.text_en, n.digest,"
    " n.effective_on, n.data_categories, n.processing, n.recipients, n.retention, n.jurisdiction"
    " from consents c"
    " left join consents w on w.district_code = c.district_code and w.member_id = c.member_id"
    " and w.purpose = c.purpose and w.withdraws = c.id"
    " left join privacy_notices n on n.district_code = c.district_code"
    " and n.purpose = c.purpose and n.number = c.notice_number"
    " where c.district_code = :district_code and c.member_id = :member_id and c.state = 'given'"
    " and c.id = (select coalesce(k.withdraws, k.id) from consents k"
    " where k.district_code = :district_code and k.member_id = :member_id and k.id = :id)"
)
_BASIS = "consent"
_STORAGE = "district_database"
_WITHDRAWAL = "POST /v1/me/consents/withdraw"


class ConsentNotGiven(Problem):
    """The member never consented to this, so there is nothing to withdraw."""

    code, status = "consent_not_given", 409


class NoticeNotInForce(Problem):
    """The notice that she was shown does not hold today; `notice_number` says which one does."""

    code, status = "notice_not_in_force", 409


def own(caller: Caller) -> UUID:
    """Give the member whom a caller is; raises NotFound for who is none."""
    if caller.member_id is None:
        raise NotFound
    return caller.member_id


async def list_consents(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    filters: ConsentFilters,
) -> Slice:
    """Give a page of what a member gave and withdrew, the oldest first; raises NotFound."""
    if member_id != caller.member_id:
        await _require_in_reach(statements, caller, member_id)
    where = Where({"district_code": caller.district_code, "member_id": member_id})
    where.add("c.district_code = :district_code and c.member_id = :member_id")
    where.equal("c.purpose", "purpose", filters.purpose)
    shown = statements.showing(member_id)
    return await LISTING.page(shown, keyring, filters=filters, where=where)


async def _require_in_reach(statements: Statements, caller: Caller, member_id: UUID) -> None:
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    params |= {"district_code": caller.district_code, "id": member_id}
    if await statements.fetch_row(_IN_REACH.format(condition), params) is None:
        raise NotFound


async def give(
    session: AsyncSession, caller: Caller, *, body: ConsentGive, now: datetime
) -> tuple[ConsentRead, bool]:
    """Record what the calling member consents to; False when she had said so before.

    Raises NoticeNotInForce when another version holds by now than the one that she was shown.
    """
    async with district_wide(session):
        member = await members.current(session, caller, member_id=own(caller))
        today = civil_date(now)
        numbers = await privacy_notices.numbers_on(
            session, district_code=caller.district_code, on=today
        )
        if numbers.get(body.purpose) != body.notice_number:
            current = numbers.get(body.purpose)
            raise NoticeNotInForce(extra={} if current is None else {"notice_number": current})
        standing = await _standing(session, member, body.purpose)
        if standing is not None and standing.notice_number == body.notice_number:
            return ConsentRead.model_validate(standing), False
        act = Act(ConsentMethod.APP, today, caller.subject, now, body.language)
        return await _given(session, member, body.purpose, act), True


async def enter(
    session: AsyncSession, caller: Caller, *, member_id: UUID, body: ConsentEnter, now: datetime
) -> tuple[ConsentRead, bool]:
    """Record what a member within reach consented to; False when it was entered before.

    Raises Invalid for what goes against a withdrawal of hers, and for what the employer's side
    enters otherwise than from a form that she signed.
    """
    _note_purpose(session, body.purpose)
    on = body.given_on or civil_date(now)
    members.refuse_future(civil_date(now), given_on=on)
    async with district_wide(session):
        member = await members.current(session, caller, member_id=member_id)
        standing = await _standing(session, member, body.purpose)
        if standing is not None and consenting.given_on(member, body.purpose) == on:
            _note_nothing(session)
            return ConsentRead.model_validate(standing), False
        act = replace(said(caller, on=on, now=now), method=ConsentMethod(body.method))
        act = replace(act, language=body.language)
        return await _given(session, member, body.purpose, act), True


def _note_purpose(session: AsyncSession, purpose: ConsentPurpose) -> None:
    """Have the audit tell her which consent an office entered or took back."""
    named(session.info.get("act")).fields = (purpose.value,)


def _note_nothing(session: AsyncSession) -> None:
    """Have the audit tell her that an office read what she had said before."""
    named(session.info.get("act")).fields = ()


async def _given(
    session: AsyncSession, member: Member, purpose: ConsentPurpose, act: Act
) -> ConsentRead:
    """Record one consent, also a renewed one of the same day under another notice."""
    consenting.mark(member, [purpose], act.on)
    person_storage.touch(member, act.at)
    (event,) = await consenting.record(session, member, [purpose], act)
    return ConsentRead.model_validate(event)


async def _standing(
    session: AsyncSession, member: Member, purpose: ConsentPurpose
) -> Consent | None:
    """Give the consent that holds; whether one does, her row says."""
    if consenting.given_on(member, purpose) is None:
        return None
    return await _last(session, member, purpose, ConsentState.GIVEN)


async def _last(
    session: AsyncSession, member: Member, purpose: ConsentPurpose, state: ConsentState
) -> Consent | None:
    found: Consent | None = await session.scalar(
        select(Consent)
        .where(col(Consent.district_code) == member.district_code)
        .where(col(Consent.member_id) == member.id, col(Consent.purpose) == purpose.value)
        .where(col(Consent.state) == state.value)
        .order_by(col(Consent.recorded_at).desc(), col(Consent.id).desc())
        .limit(1)
    )
    return found


async def withdraw(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    purpose: ConsentPurpose,
    now: datetime,
) -> ConsentRead:
    """End a consent and all that it covered at once; raises NotFound or ConsentNotGiven.

    Withdrawn again it changes nothing.
    """
    _note_purpose(session, purpose)
    async with district_wide(session):
        if purpose is ConsentPurpose.PAYMENT:
            district_code = caller.district_code
            await bank_discards.hold_runs(session, district_code=district_code, member_id=member_id)
        member = await members.held(session, caller, member_id=member_id)
        if consenting.given_on(member, purpose) is None:
            last = await _last(session, member, purpose, ConsentState.WITHDRAWN)
            if last is None:
                raise ConsentNotGiven
            _note_nothing(session)
            return ConsentRead.model_validate(last)
        if purpose is ConsentPurpose.CONTACT and caller.role is Role.MEMBER:
            await cleared_phones.leave_gap(session, member, now=now)
        person_storage.touch(member, now)
        act = said(caller, on=civil_date(now), now=now)
        (event,) = await consenting.withdraw(session, keyring, member, [purpose], act)
        return ConsentRead.model_validate(event)


async def withdraw_for(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    settings: Settings,
    *,
    member_id: UUID,
    purpose: ConsentPurpose,
    now: datetime,
) -> tuple[ConsentRead, Message | None]:
    """Do the same in a member's name, with the notice to a phone that goes by it.

    It is kept nowhere, as of the phone nothing may be left. What an office enters in its place
    waits, or taking a consent back would be the way to another phone. Raises Forbidden for the
    employer's side: who takes her consent to be thanked away keeps her out of the next run.
    """
    if caller.employer_linked:
        raise Forbidden
    phone = None
    if purpose is ConsentPurpose.CONTACT:
        async with district_wide(session):
            member = await members.held(session, caller, member_id=member_id)
            phone = await cleared_phones.take_away(session, keyring, member, now=now)
    event = await withdraw(session, caller, keyring, member_id=member_id, purpose=purpose, now=now)
    if phone is None:
        return event, None
    words = held_changes.words_of(HeldField.CLEARED_PHONE, settings, at=now)
    return event, Message(phone, words, f"withdrawal-{event.id}")


def said(caller: Caller, *, on: date, now: datetime) -> Act:
    """Give an act as what a caller does at once: a member in the app, an officer for her."""
    method = ConsentMethod.APP if caller.role is Role.MEMBER else ConsentMethod.OFFICER
    return Act(method, on, caller.subject, now, by_employer=caller.employer_linked)


async def receipt(statements: Statements, caller: Caller, *, consent_id: UUID) -> ConsentReceipt:
    """Give a consent of the calling member with all that was said about it; raises NotFound."""
    params = {
        "district_code": caller.district_code,
        "member_id": own(caller),
        "id": consent_id,
    }
    row = await statements.fetch_row(_RECEIPT, params, about="member_id")
    if row is None:
        raise NotFound
    purpose = ConsentPurpose(row["purpose"])
    known = row["notice_number"] is not None
    return ConsentReceipt(
        record_id=row["id"],
        schema_version=SCHEMA_VERSION,
        jurisdiction=row["jurisdiction"] or JURISDICTION,
        controller=row["controller"],
        subject=row["member_id"],
        purpose=purpose,
        lawful_basis=_BASIS,
        notice=_notice(row) if known else None,
        data_categories=row["data_categories"] if known else [DATA_OF[purpose]],
        sensitive=True,
        processing=row["processing"] if known else list(PROCESSING_OF[purpose]),
        storage=_STORAGE,
        retention=row["retention"] or RETENTION,
        recipients=row["recipients"] or [],
        events=_events(row),
        withdrawal=_WITHDRAWAL,
    )


def _notice(row: Mapping[str, Any]) -> ReceiptNotice:
    return ReceiptNotice(
        number=row["notice_number"],
        language=row["language"],
        text=row[f"text_{row['language'] or NoticeLanguage.ZH}"],
        digest=row["digest"],
        effective_on=row["effective_on"],
    )


def _events(row: Mapping[str, Any]) -> list[ReceiptEvent]:
    names = ("id", "method", "acted_on", "recorded_at")
    given = {name: row[name] for name in names}
    events = [ReceiptEvent(state=ConsentState.GIVEN, **given)]
    if row["w_id"] is not None:
        withdrawn = {name: row[f"w_{name}"] for name in names}
        events.append(ReceiptEvent(state=ConsentState.WITHDRAWN, **withdrawn))
    return events
