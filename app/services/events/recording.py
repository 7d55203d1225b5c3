"""Check-ins at one event: one statement that checks, stores and answers any number of them."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from app.acts import Act, Persons
from app.database import Statements
from app.identity import Caller
from app.models.events.attendances import Method
from app.problems import Busy, NotFound, Problem
from app.services.events import service_events
from app.services.events.check_in_codes import EventNotOpen
from app.services.events.exam_rounds import RoundNotBegun
from app.services.events.told_counts import LATE

AHEAD = timedelta(minutes=5)
"""How far the clock of a device may be ahead."""

_ATTEMPTS = 3
"""How often to look again for the row of a check-in that was committed at the same moment."""

# Who comes now comes to an event in progress, of an open round. What was noted with its time may
# be late: a health exam takes it as long as its round does, another event a week after closing.
# Nobody can have been at an event before the day on which it was planned or entered, or after it
# was closed; what is wrong with such a time has a code of its own. Nor does a check count for a
# round before its first day, whenever its event was begun. Who was erased comes no more.
# Rows are stored in the order of their members, so that two statements cannot deadlock. How many
# lines will come, no plan knows: the limits keep it from reading all members, or all who were at
# the event, for a few of them, the full joins (nothing is on their right that is not a line) from
# comparing each of many with each. What was there before matters where nothing is stored.
_RECORD = """
with event as (
  select e.id, e.round_sequence, r.starts_on as round_starts_on,
    (least(e.starts_at, e.created_at) at time zone 'Asia/Shanghai')::date as first_on,
    case e.status when 'closed' then e.updated_at + :ahead::interval else 'infinity' end as until,
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
  select *, (l.occurred_at at time zone 'Asia/Shanghai')::date as occurred_on
  from unnest(:member_ids::uuid[], :occurred_ats::timestamptz[], :device_ids::text[],
    :device_refs::text[]) with ordinality
    as l(member_id, occurred_at, device_id, device_ref, number)
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
    where m.district_code = :district_code and m.id = line.member_id and m.erased_at is null
    limit 1) m
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
    where event.is_open
      and known.occurred_on >= greatest(event.first_on, event.round_starts_on)
      and known.occurred_at <= event.until
    order by known.member_id, known.number) first
  order by first.member_id
  on conflict do nothing
  returning member_id, association_id
)
select line.number, event.is_open, event.round_sequence, event.round_starts_on,
  line.occurred_on < event.round_starts_on as is_before_round,
  case when line.occurred_on < event.first_on then 'before_the_event'
    when line.occurred_at > event.until then 'after_the_event' end as mistimed,
  known.member_id is not null as is_known,
  stored.association_id as stored_association_id, elsewhere.event_id as elsewhere_id,
  here.association_id, here.occurred_at, here.recorded_at, here.recorded_by, here.method,
  here.device_id, here.device_ref, here.voided_at, here.voided_by, here.void_reason, here.version
from event
left join (line full join known on known.number = line.number
  full join stored on stored.member_id = line.member_id) on true
left join lateral (
  select * from attendances t
  where t.district_code = :district_code and t.event_id = :event_id
    and t.member_id = line.member_id and stored.member_id is null limit 1) here on true
left join lateral (
  select * from attendances t
  where t.district_code = :district_code and t.member_id = line.member_id
    and t.round_sequence = event.round_sequence and t.voided_at is null
    and t.event_id <> :event_id and stored.member_id is null limit 1) elsewhere on true
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


class Line(NamedTuple):
    """A member who came, when, by which device it was noted, and whose act it is to record it."""

    act: Act
    member_id: UUID
    occurred_at: datetime
    device_id: str | None = None
    device_ref: str | None = None


class Recorded(NamedTuple):
    """What became of a line: the attendance that is there now, or why there is none.

    `row` is what the statement found and stored. If it stored an attendance of the member
    (`stored_at`), then from `line`; if a line before this one or another request did, this one
    only `repeated` it. `mistimed` says what is wrong with the time of the line.
    """

    line: Line
    row: Mapping[str, Any]
    stored_at: datetime | None = None
    repeated: bool = False
    refusal: type[Problem] | None = None
    mistimed: str | None = None


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
        reached = partial(_reached, waiting, answers, now)
        rows = await statements.district_wide().fetch(
            sql, params | _columns(waiting.values()), about=reached
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
        "ahead": AHEAD,
        "now": now,
        "recorded_by": desk.caller.subject,
        "method": desk.method.value,
    }


def _columns(lines: Collection[Line]) -> dict[str, Any]:
    return {
        "member_ids": [line.member_id for line in lines],
        "occurred_ats": [line.occurred_at for line in lines],
        "device_ids": [line.device_id for line in lines],
        "device_refs": [line.device_ref for line in lines],
    }


def _reached(
    waiting: Mapping[int, Line],
    answers: dict[int, Recorded],
    now: datetime,
    rows: Sequence[Mapping[str, Any]],
) -> Iterable[tuple[Act, Persons]]:
    """Answer the lines that a statement decided, and give whose acts they were, on whom.

    So the entries are stored with the attendances: one for each request, however many lines.
    """
    decided = dict(_answered(waiting, rows, now=now))
    answers.update(decided)
    members: dict[int, tuple[Act, list[UUID]]] = {}
    for number in decided:
        act, member_id, *_ = waiting[number]
        members.setdefault(id(act), (act, []))[1].append(member_id)
    return members.values()


def _answered(
    lines: Mapping[int, Line], rows: Sequence[Mapping[str, Any]], *, now: datetime
) -> Iterator[tuple[int, Recorded]]:
    """Answer each line but those that another statement is storing at this moment."""
    stored: dict[UUID, Line] = {}
    numbers = list(lines)
    for row in rows:
        if row["number"] is None:
            continue
        number = numbers[row["number"] - 1]
        answer = _outcome(row, lines[number], stored, now=now)
        if answer is not None:
            yield number, answer


def _outcome(
    row: Mapping[str, Any], line: Line, stored: dict[UUID, Line], *, now: datetime
) -> Recorded | None:
    counts = row["mistimed"] is None and not row["is_before_round"]
    if row["stored_association_id"] is not None and counts:
        first = stored.setdefault(line.member_id, line)
        return Recorded(first, row, stored_at=now, repeated=first is not line)
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
    if row["mistimed"] is not None:
        return Recorded(line, row, mistimed=row["mistimed"])
    if row["is_before_round"]:
        return Recorded(line, row, refusal=RoundNotBegun)
    if row["elsewhere_id"] is not None:
        return Recorded(line, row, refusal=AttendedThisRound)
    return None
