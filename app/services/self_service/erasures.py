"""Erasures: a member's personal data made unreadable for ever, while every total still adds up."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, concurrency
from app.clock import civil_date
from app.crypto import Keyring
from app.database import district_wide
from app.identity import Caller
from app.models.disbursement.payouts import UNSETTLED
from app.models.membership.members import ErasureRead, Member, MemberStatus
from app.problems import Problem, Reason
from app.roles import Role
from app.services.access import grants
from app.services.disbursement import voucher_endings
from app.services.events import exam_rounds, registrations
from app.services.membership import consents, members
from app.services.privacy import (
    bank_discards,
    cleared_phones,
    consenting,
    correction_texts,
    data_keys,
    person_storage,
    personal_texts,
)
from app.settings import Settings
from app.sms import Message
from app.wording import say

NEUTRAL_NAME = personal_texts.NEUTRAL_WORD
"""What stands for the name of whoever was erased, on lists and cash lists of the past."""

# A round is named, so that the payouts are found along their primary key.
_PENDING = text(
    "select count(*) from payouts where district_code = :district_code and member_id = :member_id"
    f" and status in {UNSETTLED} and round_sequence in"
    " (select sequence from exam_rounds where district_code = :district_code)"
)
_END = text(
    "update memberships set left_on = greatest(joined_on, cast(:today as date)),"
    " left_recorded_at = greatest(recorded_at, :now)"
    " where district_code = :district_code and member_id = :member_id and left_on is null"
)


class ErasureBlocked(Problem):
    """Something of the member's is still under way; `reasons` say what."""

    code, status = "erasure_blocked", 409


async def erase(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    settings: Settings,
    *,
    member_id: UUID,
    version: int,
    now: datetime,
) -> tuple[ErasureRead, Message | None]:
    """Destroy a member's key and what names her; raises NotFound, Stale or ErasureBlocked.

    Her open vouchers end, her places at events that are not over are free, and what was written
    about her is gone. Attendances, payouts and totals stay, under an id that nothing leads to her
    from. Who was erased before is answered as she is. Of an office's erasure there is a notice to
    the phone that she logged in by; it is kept nowhere.
    """
    phone = None
    async with district_wide(session):
        events = await registrations.hold_places(session, caller, member_id=member_id, now=now)
        # Her runs come before the rounds, as a calculation holds its run and then the round.
        await bank_discards.hold_runs(
            session, district_code=caller.district_code, member_id=member_id
        )
        await exam_rounds.hold_all(session, district_code=caller.district_code)
        member = await members.held(session, caller, member_id=member_id)
        if member.erased_at is None:
            concurrency.require_version(member.version, version)
            await registrations.give_up(session, member, events, now=now)
            await voucher_endings.give_up(session, member, now=now)
            await _refuse_while_pending(session, member)
            if caller.role is not Role.MEMBER:
                phone = await cleared_phones.to_be_told(session, keyring, member)
            await _destroy(session, caller, keyring, member=member, now=now)
    return ErasureRead.model_validate(member), _notice(settings, phone)


def _notice(settings: Settings, phone: str | None) -> Message | None:
    """Write what a phone is told, under a reference that leads to nobody."""
    if phone is None:
        return None
    words = say("zh", "messages", "erasure_notice", signature=settings.sms_signature)
    return Message(phone, words, f"erasure-{clock.new_id()}")


async def _destroy(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, member: Member, now: datetime
) -> None:
    await correction_texts.forget(session, member, now=now)
    act = consents.said(caller, on=civil_date(now), now=now)
    await consenting.withdraw(session, keyring, member, consenting.held(member), act)
    # Also what is left over of consents that were withdrawn long ago.
    await bank_discards.discard(session, **member.key, now=now)
    await person_storage.forget_rejected(session, member)
    await data_keys.destroy(session, member, now=now)
    await _end_memberships(session, member, now)
    await grants.end_of_member(session, caller, member_id=member.id, reason=NEUTRAL_NAME, now=now)
    await personal_texts.forget(session, member, now=now)
    _blank(member, now)
    await session.flush()


async def _refuse_while_pending(session: AsyncSession, member: Member) -> None:
    pending = await session.scalar(_PENDING, member.key)
    if pending:
        reasons = [Reason("payout_pending", {"count": pending})]
        raise ErasureBlocked(extra={"reasons": reasons})


async def _end_memberships(session: AsyncSession, member: Member, now: datetime) -> None:
    await session.execute(_END, {**member.key, "today": civil_date(now), "now": now})


def _blank(member: Member, now: datetime) -> None:
    member.name = NEUTRAL_NAME
    member.status = MemberStatus.LEFT.value
    member.employee_no = None
    member.erased_at = now
    person_storage.touch(member, now)
