"""Check-in of one member, by staff or by the event's code."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from app.crypto import Keyring
from app.database import Database, Statements, named
from app.gathering import Gathering
from app.identity import Caller
from app.models.events.attendances import AttendanceRead, CheckIn, CheckInRead, CodeCheckIn, Method
from app.problems import Invalid, Problem
from app.services.events import check_in_codes, recording, service_events
from app.services.events.exam_rounds import RoundNotBegun
from app.services.events.recording import AttendedThisRound, Desk, Line, Recorded

_MOST_AT_ONCE = 100
_IN_FORCE = (
    f"select {', '.join(AttendanceRead.model_fields)} from attendances"
    " where district_code = :district_code and event_id = :event_id and member_id = :member_id"
    " and voided_at is null"
)


CheckIns: TypeAlias = Gathering[Desk, tuple[Line, datetime], Recorded]
"""What records the check-ins of one desk that arrive together by one statement and one commit."""


def gathering(database: Database) -> CheckIns:
    """Gather the check-ins of a process."""

    async def work(desk: Desk, asked: Sequence[tuple[Line, datetime]]) -> list[Recorded]:
        now = max(at for _, at in asked)
        statements = Statements(database.pool, desk.caller.scope)
        lines = [line for line, _ in asked]
        return await recording.record(statements, desk, lines, now=now)

    return Gathering(work, most=_MOST_AT_ONCE)


async def check_in(
    statements: Statements,
    check_ins: CheckIns,
    caller: Caller,
    *,
    event_id: UUID,
    member_id: UUID,
    body: CheckIn,
    now: datetime,
) -> CheckInRead:
    """Record that a member was at an event; repeating it changes nothing and says so."""
    occurred_at = body.occurred_at or now
    if occurred_at > now + recording.AHEAD:
        raise Invalid.at("/occurred_at", "in_the_future")
    desk = Desk(caller, event_id, Method.STAFF, takes_late=body.occurred_at is not None)
    line = Line(named(statements.act), member_id, occurred_at, body.device_id, body.device_ref)
    return await _record(statements, desk, line, check_ins=check_ins, now=now)


async def check_in_by_code(
    statements: Statements,
    check_ins: CheckIns,
    caller: Caller,
    keyring: Keyring,
    *,
    event_id: UUID,
    body: CodeCheckIn,
    now: datetime,
) -> CheckInRead:
    """Record that the calling member is at the event whose code she scanned."""
    is_valid = check_in_codes.is_valid(
        keyring, district_code=caller.district_code, event_id=event_id, code=body.code, now=now
    )
    if caller.member_id is None or not is_valid:
        return await _known_already(statements, caller, event_id=event_id)
    desk = Desk(caller, event_id, Method.CODE, takes_late=False)
    line = Line(named(statements.act), caller.member_id, now)
    return await _record(statements, desk, line, check_ins=check_ins, now=now)


async def _known_already(statements: Statements, caller: Caller, *, event_id: UUID) -> CheckInRead:
    """Give the attendance of a member whose first answer was lost; refuse the code of others."""
    params = {
        "district_code": caller.district_code,
        "event_id": event_id,
        "member_id": caller.member_id,
    }
    row = await statements.fetch_row(_IN_FORCE, params, about="member_id")
    if row is None:
        raise Invalid.at("/code", "check_in_code")
    return CheckInRead(**row, repeated=True)


async def _record(
    statements: Statements, desk: Desk, line: Line, *, check_ins: CheckIns, now: datetime
) -> CheckInRead:
    recorded = await check_ins.ask(desk, (line, now))
    if recorded.mistimed is not None:
        raise Invalid.at("/occurred_at", recorded.mistimed)
    if recorded.refusal is AttendedThisRound:
        where = await _where(statements, desk.caller, recorded.row["elsewhere_id"])
        raise AttendedThisRound(extra=where)
    if recorded.refusal is RoundNotBegun:
        raise RoundNotBegun(recorded.row["round_starts_on"])
    if recorded.refusal is not None:
        raise recorded.refusal
    return _read(desk, recorded)


def _read(desk: Desk, recorded: Recorded) -> CheckInRead:
    line = recorded.line
    if recorded.stored_at is None:
        facts = {
            name: recorded.row[name] for name in AttendanceRead.model_fields if name in recorded.row
        }
        return CheckInRead(**facts, event_id=desk.event_id, member_id=line.member_id, repeated=True)
    return CheckInRead(
        event_id=desk.event_id,
        member_id=line.member_id,
        association_id=recorded.row["stored_association_id"],
        round_sequence=recorded.row["round_sequence"],
        occurred_at=line.occurred_at,
        recorded_at=recorded.stored_at,
        recorded_by=desk.caller.subject,
        method=desk.method,
        device_id=line.device_id,
        device_ref=line.device_ref,
        voided_at=None,
        voided_by=None,
        void_reason=None,
        version=1,
        repeated=recorded.repeated,
    )


async def _where(statements: Statements, caller: Caller, event_id: UUID) -> dict[str, Any]:
    try:
        await service_events.require_visible(statements, caller, event_id=event_id)
    except Problem:
        return {}
    return {"event_id": str(event_id)}
