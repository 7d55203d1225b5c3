"""Check-ins at one event: one statement that checks, stores and answers any number of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app.acts import Act, Persons
from app.clock import civil_date
from app.database import Statements
from app.identity import Caller
from app.models.attendances import Method
from app.problems import Busy, NotFound, Problem
from app.services import service_events
from app.services.check_in_codes import EventNotOpen

LATE = timedelta(days=7)
"""How long after an event closed its late lines are taken; a health exam's by its round."""

AHEAD = timedelta(minutes=5)
"""How far the clock of a device may be ahead."""

BEFORE_THE_EVENT = "before_the_event"
"""What is wrong with the field of a time at which nobody can have been at the event."""

_ATTEMPTS = 3
"""How often to look again for the row of a check-in that was committed at the same moment."""

# Who comes now comes to an event in progress, of an open round. What was noted with its time may
# be late: a health exam takes it as long as its round does, another event a week after closing.
# Nobody can have been at an event before the day on which it was planned or entered.
# Rows are stored in the order of their members, so that two statements cannot deadlock. How many
# lines will come, no plan knows: the limit keeps it from reading all members for a few of them, the
# full joins (nothing is on their right that is not a line) from comparing each of many with each.
_RECORD = """
with event as (
  select e.id, e.round_sequence,
    (least(e.starts_at, e.created_at) at time zone 'Asia/Shanghai')::date as first_on,
    coalesce(e.round_sequence is null or r.status = 'open'
      or :takes_late::boolean and r.accepts_until >= :now, false)
    and (e.status = 'in_progress' or :takes_late::boolean and e.status = 'closed'
         and (e.round_sequence is not null or e.updated_at >= :late_since)) as is_open
  from service_events e
  left join exam_rounds r
    on r.district_code = :district_code and r.sequence = e.round_sequence
  where e.district_code = :district_code and e.id = :event_id and {reach}
),
line as (
  select * from unnest(:numbers::int[], :member_ids::uuid[], :occurred_ats::timestamptz[],
    :occurred_ons::date[], :device_ids::text[], :device_refs::text[])
    as l(number, member_id, occurred_at, occurred_on, device_id, device_ref)
),
known as (
  select line.*, coalesce((
    select s.association_id from memberships s
    where s.district_code = :district_code and s.member_id = m.id
      and s.joined_on <= line.occurred_on
      and (s.left_on is null or s.left_on > line.occurred_on)
    order by s.joined_on desc limit 1), m.association_id) as association_id
  from line, lateral (
    select m.id, m.association_id from members m
    where m.district_code = :district_code and m.id = line.member_id limit 1) m
),
stored as (
  insert into attendances (
    district_code, event_id, member_id, association_id, round_sequence,
    occurred_at, recorded_at, recorded_by, method, device_id, device_ref, version)
  select :district_code, event.id, first.member_id, first.association_id, event.round_sequence,
    first.occurred_at, :now, :recorded_by::text, :method::text, first.device_id,
    first.device_ref, 1
  from event, lateral (
    select distinct on (known.member_id) known.* from known
    where event.is_open and known.occurred_on >= event.first_on
    order by known.member_id, known.number) first
  order by first.member_id
  on conflict do nothing
  returning member_id, association_id
)
select line.number, event.is_open, event.round_sequence, :now::timestamptz as stored_at,
  line.occurred_on < event.first_on as is_early, known.member_id is not null as is_known,
  stored.association_id as stored_association_id, elsewhere.event_id as elsewhere_id,
  here.association_id, here.occurred_at, here.recorded_at, here.recorded_by, here.method,
  here.device_id, here.device_ref, here.voided_at, here.voided_by, here.void_reason, here.version
from event
left join (line full join known on known.number = line.number
  full join stored on stored.member_id = line.member_id) on true
left join attendances here
  on here.district_code = :district_code and here.event_id = :event_id
  and here.member_id = line.member_id
left join attendances elsewhere
  on elsewhere.district_code = :district_code and elsewhere.member_id = line.member_id
  and elsewhere.round_sequence = event.round_sequence and elsewhere.voided_at is null
  and elsewhere.event_id <> :event_id
order by line.number
"""


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


@dataclass(frozen=True)
class Desk:
    """Who records check-ins at which event; `takes_late` if each was noted with its time."""

    caller: Caller
    event_id: UUID
    method: Method
    takes_late: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A member who came, when, by which device it was noted, and whose act it is to record it."""

    act: Act
    member_id: UUID
    occurred_at: datetime
    device_id: str | None = None
    device_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a line: the attendance that is there now, or why there is none.

    `row` is what the statement found and stored. If it `stored` an attendance of the member, then
    from `line`; if a line before this one or another request did, this one only `repeated` it.
    """

    line: Line
    row: Mapping[str, Any]
    stored: bool = False
    repeated: bool = False
    refusal: type[Problem] | None = None
    is_early: bool = False


async def record(
    statements: Statements, desk: Desk, lines: Sequence[Line], *, now: datetime
) -> list[Recorded]:
    """Record who came, each on its own; of several lines of a member the first counts.

    Repeating any of them changes nothing. Raises NotFound for an event out of reach, and
    HealthChecksAreRunByOfficers.
    """
    if desk.caller.blind_to_health_checks:
        # Refused before anybody is looked up, so that not even the time taken tells.
        await service_events.require_visible(statements, desk.caller, event_id=desk.event_id)
    reach, params = service_events.visible(desk.caller)
    sql = _RECORD.format(reach=reach)
    params |= _place(desk, now=now)
    answers: dict[int, Recorded] = {}
    for _ in range(_ATTEMPTS):
        waiting = {number: line for number, line in enumerate(lines) if number not in answers}
        rows = await statements.district_wide().fetch(
            sql, params | _columns(waiting), about=partial(_reached, waiting, answers)
        )
        if not rows:
            raise NotFound
        if len(answers) == len(lines):
            break
    return [
        answers.get(number) or Recorded(line, {}, refusal=Busy) for number, line in enumerate(lines)
    ]


def _place(desk: Desk, *, now: datetime) -> dict[str, Any]:
    return {
        "district_code": desk.caller.district_code,
        "event_id": desk.event_id,
        "takes_late": desk.takes_late,
        "late_since": now - LATE,
        "now": now,
        "recorded_by": desk.caller.subject,
        "method": desk.method.value,
    }


def _columns(lines: Mapping[int, Line]) -> dict[str, Any]:
    return {
        "numbers": list(lines),
        "member_ids": [line.member_id for line in lines.values()],
        "occurred_ats": [line.occurred_at for line in lines.values()],
        "occurred_ons": [civil_date(line.occurred_at) for line in lines.values()],
        "device_ids": [line.device_id for line in lines.values()],
        "device_refs": [line.device_ref for line in lines.values()],
    }


def _reached(
    waiting: Mapping[int, Line], answers: dict[int, Recorded], rows: Sequence[Mapping[str, Any]]
) -> Iterable[tuple[Act, Persons]]:
    """Answer the lines that a statement decided, and give whose acts they were, on whom.

    So the entries are stored with the attendances: one for each request, however many lines.
    """
    members: dict[int, list[UUID]] = {}
    acts: dict[int, Act] = {}
    for number, answer in _answered(waiting, rows):
        answers[number] = answer
        act = waiting[number].act
        acts[id(act)] = act
        members.setdefault(id(act), []).append(waiting[number].member_id)
    return [(act, members[key]) for key, act in acts.items()]


def _answered(
    lines: Mapping[int, Line], rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[int, Recorded]]:
    """Answer each line but those that another statement is storing at this moment."""
    stored: dict[UUID, Line] = {}
    for row in rows:
        line = lines.get(row["number"])
        if line is None:
            continue
        answer = _outcome(row, line, stored)
        if answer is not None:
            yield row["number"], answer


def _outcome(row: Mapping[str, Any], line: Line, stored: dict[UUID, Line]) -> Recorded | None:
    if row["stored_association_id"] is not None and not row["is_early"]:
        first = stored.setdefault(line.member_id, line)
        return Recorded(first, row, stored=True, repeated=first is not line)
    if row["recorded_at"] is not None:
        refusal = None if row["voided_at"] is None else AttendanceVoided
        return Recorded(line, row, repeated=True, refusal=refusal)
    return _refused(row, line)


def _refused(row: Mapping[str, Any], line: Line) -> Recorded | None:
    """Say why a line was not stored; None when another request is just storing it."""
    if not row["is_known"]:
        return Recorded(line, row, refusal=MemberUnknown)
    if not row["is_open"]:
        return Recorded(line, row, refusal=EventNotOpen)
    if row["is_early"]:
        return Recorded(line, row, is_early=True)
    if row["elsewhere_id"] is not None:
        return Recorded(line, row, refusal=AttendedThisRound)
    return None
