"""Check-in by staff or by the event's code: one statement that checks, stores and answers."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.attendances import (
    AttendanceRead,
    CheckIn,
    CheckInRead,
    CodeCheckIn,
    Method,
)
from app.problems import Busy, Invalid, NotFound, Problem
from app.services import check_in_codes, service_events
from app.services.check_in_codes import EventNotOpen

LATE = timedelta(days=7)
"""How long after an event closed its late lines are taken; a health exam's by its round."""

AHEAD = timedelta(minutes=5)
"""How far the clock of a device may be ahead."""

ATTEMPTS = 3
"""How often to look again for the row of a check-in that was committed at the same moment."""

FIRST_ON = "(least(e.starts_at, e.created_at) at time zone 'Asia/Shanghai')::date as first_on"
"""The first day on which anybody can have been at an event `e`, planned or entered."""

# Who comes now comes to an event in progress, of an open round. What was noted with its time may
# be late: a health exam takes it as long as its round does, another event a week after closing.
EVENT = f"""
event as (
  select e.id, e.kind, e.round_sequence, {FIRST_ON},
    coalesce(e.round_sequence is null or r.status = 'open'
      or :takes_late::boolean and r.accepts_until >= :now, false)
    and (e.status = 'in_progress' or :takes_late::boolean and e.status = 'closed'
         and (e.round_sequence is not null or e.updated_at >= :late_since)) as is_open
  from service_events e
  left join exam_rounds r
    on r.district_code = :district_code and r.sequence = e.round_sequence
  where e.district_code = :district_code and e.id = :event_id and {{reach}}
)"""
ASSOCIATION_ON = """coalesce((
    select s.association_id from memberships s
    where s.district_code = :district_code and s.member_id = m.id
      and s.joined_on <= {on} and (s.left_on is null or s.left_on > {on})
    order by s.joined_on desc limit 1), m.association_id)"""
INSERT = """
insert into attendances (
    district_code, event_id, member_id, association_id, round_sequence,
    occurred_at, recorded_at, recorded_by, method, device_id, device_ref, version)"""

_CHECK_IN = f"""
with {EVENT},
member as (
  select m.id, {ASSOCIATION_ON.format(on=":occurred_on")} as association_id
  from members m where m.district_code = :district_code and m.id = :member_id
),
stored as ({INSERT}
  select :district_code, event.id, member.id, member.association_id, event.round_sequence,
    :occurred_at::timestamptz, :now, :recorded_by::text, :method::text, :device_id::text,
    :device_ref::text, 1
  from event, member where event.is_open and :occurred_on::date >= event.first_on
  on conflict do nothing
  returning association_id
)
select event.is_open, event.round_sequence, :occurred_on::date < event.first_on as is_early,
  member.id is not null as is_known,
  stored.association_id as stored_association_id, elsewhere.event_id as elsewhere_id,
  here.association_id, here.occurred_at as here_at, here.recorded_at, here.recorded_by,
  here.method, here.device_id, here.device_ref, here.voided_at, here.voided_by, here.void_reason,
  here.version
from event
left join member on true
left join stored on true
left join attendances here
  on here.district_code = :district_code and here.event_id = :event_id
  and here.member_id = :member_id
left join attendances elsewhere
  on elsewhere.district_code = :district_code and elsewhere.member_id = :member_id
  and elsewhere.round_sequence = event.round_sequence and elsewhere.voided_at is null
  and elsewhere.event_id <> :event_id
"""
_IN_FORCE = (
    f"select {', '.join(AttendanceRead.model_fields)} from attendances"
    " where district_code = :district_code and event_id = :event_id and member_id = :member_id"
    " and voided_at is null"
)


class AttendedThisRound(Problem):
    """The member was at a health exam of this round; `event_id` names it, if within reach."""

    code, status = "attended_this_round", 409
    constraint = "uq_attendances_round"


class AttendanceVoided(Problem):
    """The attendance was voided; who did that may restore it."""

    code, status = "attendance_voided", 409


class MemberUnknown(Problem):
    """No such member in the district."""

    code, status = "member_unknown", 404


def scope(caller: Caller, *, event_id: UUID, takes_late: bool, now: datetime) -> dict[str, Any]:
    """Give the parameters of the statement's event."""
    return {
        "district_code": caller.district_code,
        "event_id": event_id,
        "takes_late": takes_late,
        "late_since": now - LATE,
        "now": now,
        "recorded_by": caller.subject,
    }


def bounded(caller: Caller, sql: str) -> tuple[str, dict[str, Any]]:
    """Put the caller's reach into a check-in statement."""
    condition, params = service_events.visible(caller)
    return sql.format(reach=condition), params


async def check_in(
    statements: Statements,
    caller: Caller,
    *,
    event_id: UUID,
    member_id: UUID,
    body: CheckIn,
    now: datetime,
) -> CheckInRead:
    """Record that a member was at an event; repeating it changes nothing and says so."""
    occurred_at = body.occurred_at or now
    if occurred_at > now + AHEAD:
        raise Invalid.at("/occurred_at", "in_the_future")
    is_noted = body.occurred_at is not None
    params = scope(caller, event_id=event_id, takes_late=is_noted, now=now) | {
        "member_id": member_id,
        "occurred_at": occurred_at,
        "method": Method.STAFF.value,
        "device_id": body.device_id,
        "device_ref": body.device_ref,
    }
    return await _record(statements, caller, params)


async def check_in_by_code(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    event_id: UUID,
    body: CodeCheckIn,
    now: datetime,
) -> CheckInRead:
    """Record that the calling member is at the event whose code she scanned."""
    district_code = caller.district_code
    if not check_in_codes.is_valid(
        keyring, district_code=district_code, event_id=event_id, code=body.code, now=now
    ):
        return await _known_already(statements, caller, event_id=event_id)
    params = scope(caller, event_id=event_id, takes_late=False, now=now) | {
        "member_id": caller.member_id,
        "occurred_at": now,
        "method": Method.CODE.value,
        "device_id": None,
        "device_ref": None,
    }
    return await _record(statements, caller, params)


async def _known_already(statements: Statements, caller: Caller, *, event_id: UUID) -> CheckInRead:
    """Give the attendance of a member whose first answer was lost; refuse the code of others."""
    params = {
        "district_code": caller.district_code,
        "event_id": event_id,
        "member_id": caller.member_id,
    }
    row = await statements.fetch_row(_IN_FORCE, params)
    if row is None:
        raise Invalid.at("/code", "check_in_code")
    return CheckInRead(**row, repeated=True)


async def _record(statements: Statements, caller: Caller, params: dict[str, Any]) -> CheckInRead:
    if caller.blind_to_health_checks:
        # Refused before anybody is looked up, so that not even the time taken tells.
        await service_events.require_visible(statements, caller, event_id=params["event_id"])
    sql, reach_params = bounded(caller, _CHECK_IN)
    params |= reach_params
    params["occurred_on"] = civil_date(params["occurred_at"])
    for _ in range(ATTEMPTS):
        row = await statements.district_wide().fetch_row(sql, params)
        if row is None:
            raise NotFound
        if row["stored_association_id"] is not None:
            return _created(row, params)
        if row["here_at"] is not None:
            return _repeated(row, params)
        await _refuse(statements, caller, row)
    raise Busy


def _created(row: Mapping[str, Any], params: Mapping[str, Any]) -> CheckInRead:
    return CheckInRead(
        event_id=params["event_id"],
        member_id=params["member_id"],
        association_id=row["stored_association_id"],
        round_sequence=row["round_sequence"],
        occurred_at=params["occurred_at"],
        recorded_at=params["now"],
        recorded_by=params["recorded_by"],
        method=params["method"],
        device_id=params["device_id"],
        device_ref=params["device_ref"],
        voided_at=None,
        voided_by=None,
        void_reason=None,
        version=1,
        repeated=False,
    )


def _repeated(row: Mapping[str, Any], params: Mapping[str, Any]) -> CheckInRead:
    if row["voided_at"] is not None:
        raise AttendanceVoided
    return CheckInRead(
        **{name: row[name] for name in AttendanceRead.model_fields if name in row},
        event_id=params["event_id"],
        member_id=params["member_id"],
        occurred_at=row["here_at"],
        repeated=True,
    )


async def _refuse(statements: Statements, caller: Caller, row: Mapping[str, Any]) -> None:
    """Raise what kept the row from being stored, unless another request is just storing it."""
    if not row["is_known"]:
        raise MemberUnknown
    if not row["is_open"]:
        raise EventNotOpen
    if row["is_early"]:
        raise Invalid.at("/occurred_at", "before_the_event")
    if row["elsewhere_id"] is not None:
        raise AttendedThisRound(extra=await _where(statements, caller, row["elsewhere_id"]))


async def _where(statements: Statements, caller: Caller, event_id: UUID) -> dict[str, Any]:
    try:
        await service_events.require_visible(statements, caller, event_id=event_id)
    except Problem:
        return {}
    return {"event_id": str(event_id)}
