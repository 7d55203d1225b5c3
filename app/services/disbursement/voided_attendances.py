"""Wrong attendances are voided, not deleted, and restored; what they earned is marked."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import concurrency
from app.database import district_wide, show
from app.identity import Caller
from app.models.events.attendances import Attendance, AttendanceRead
from app.models.events.service_events import EventStatus, ServiceEvent
from app.problems import NotFound, Problem
from app.services.disbursement import payout_marks
from app.services.events import service_events
from app.services.events.recording import AttendanceVoided
from app.services.events.service_events import EventStepRefused
from app.services.privacy import personal_texts

_SPELL = text(
    "update attendances set was_void = was_void || array[voided_at, greatest(voided_at, :now)]"
    " where district_code = :district_code and event_id = :event_id and member_id = :member_id"
)


class AttendanceInForce(Problem):
    """The attendance was not voided, so there is nothing to restore."""

    code, status = "attendance_in_force", 409


class _Held(NamedTuple):
    """What is held while an attendance is voided or restored, when that was, and what is kept."""

    event: ServiceEvent
    attendance: Attendance
    at: datetime
    words: str


async def _locked(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    member_id: UUID,
    version: int,
    now: datetime,
    words: str = "",
) -> _Held:
    """Hold all in the order in which who erases the member does, her attendance last."""
    event = await service_events.locked(session, caller, event_id=event_id)
    await show(session, event_id)
    async with district_wide(session):
        at = await payout_marks.after_calculations(
            session, district_code=caller.district_code, member_id=member_id, now=now
        )
        words = await personal_texts.kept(
            session, words, district_code=caller.district_code, member_id=member_id
        )
    key: tuple[Any, ...] = (caller.district_code, event_id, member_id)
    attendance = await session.get(Attendance, key, with_for_update=True)
    if attendance is None:
        raise NotFound
    concurrency.require_version(attendance.version, version)
    return _Held(event, attendance, at, words)


def _key(attendance: Attendance) -> dict[str, Any]:
    return {name: getattr(attendance, name) for name in ("district_code", "event_id", "member_id")}


async def void(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    member_id: UUID,
    version: int,
    reason: str,
    now: datetime,
) -> AttendanceRead:
    """Take an attendance out of force, with a reason; it stays on record.

    Of what it earned and was approved or paid, somebody decides.
    """
    _, attendance, now, reason = await _locked(
        session,
        caller,
        event_id=event_id,
        member_id=member_id,
        version=version,
        now=now,
        words=reason,
    )
    if attendance.voided_at is not None:
        raise AttendanceVoided
    attendance.voided_at, attendance.voided_by = now, caller.subject
    attendance.void_reason, attendance.version = reason, attendance.version + 1
    await session.flush()
    async with district_wide(session):
        await payout_marks.mark_voided(
            session,
            district_code=caller.district_code,
            member_id=member_id,
            event_id=event_id,
            now=now,
        )
    return AttendanceRead.model_validate(attendance)


async def restore(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    member_id: UUID,
    version: int,
    now: datetime,
) -> AttendanceRead:
    """Put a voided attendance back in force, unless its event was cancelled meanwhile.

    What waits for a decision because of it goes on. A health exam's is refused with
    AttendedThisRound when the round has another one by now.
    """
    event, attendance, now, _ = await _locked(
        session, caller, event_id=event_id, member_id=member_id, version=version, now=now
    )
    if event.status == EventStatus.CANCELLED:
        raise EventStepRefused(event.status)
    if attendance.voided_at is None:
        raise AttendanceInForce
    await session.execute(_SPELL, {**_key(attendance), "now": now})
    attendance.voided_at = attendance.voided_by = attendance.void_reason = None
    attendance.version += 1
    await session.flush()
    async with district_wide(session):
        await payout_marks.lift(
            session,
            district_code=caller.district_code,
            member_id=member_id,
            event_id=event_id,
            now=now,
        )
    return AttendanceRead.model_validate(attendance)
