"""Check-in of what a device noted while it was offline: up to 1,000 lines in one statement."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app import problems
from app.clock import civil_date
from app.database import Statements
from app.identity import Caller
from app.models.attendances import (
    Batch,
    BatchLine,
    BatchLineRead,
    BatchLineStatus,
    BatchRead,
    LineProblem,
    Method,
)
from app.problems import Busy, Language, NotFound, Problem
from app.services import check_ins, service_events
from app.services.check_in_codes import EventNotOpen
from app.services.check_ins import (
    AHEAD,
    ASSOCIATION_ON,
    ATTEMPTS,
    EVENT,
    FIRST_ON,
    INSERT,
    AttendanceVoided,
    AttendedThisRound,
    MemberUnknown,
)

# Rows are stored in the order of their members, so that two batches cannot deadlock.
_BATCH = f"""
with {EVENT},
line as (
  select * from unnest(:numbers::int[], :member_ids::uuid[], :occurred_ats::timestamptz[],
    :occurred_ons::date[], :refs::text[])
    as l(number, member_id, occurred_at, occurred_on, ref)
),
known as (
  select line.*, {ASSOCIATION_ON.format(on="line.occurred_on")} as association_id
  from line join members m on m.district_code = :district_code and m.id = line.member_id
),
stored as ({INSERT}
  select :district_code, event.id, known.member_id, known.association_id, event.round_sequence,
    known.occurred_at, :now, :recorded_by::text, :method::text, :device_id::text, known.ref, 1
  from event, known where event.is_open
  order by known.member_id
  on conflict do nothing
  returning member_id
)
select line.number, event.is_open, known.member_id is not null as is_known,
  stored.member_id is not null as is_stored, here.member_id is not null as is_here,
  here.voided_at is not null as is_voided, elsewhere.event_id is not null as is_elsewhere
from event
left join line on true
left join known on known.number = line.number
left join stored on stored.member_id = line.member_id
left join attendances here
  on here.district_code = :district_code and here.event_id = :event_id
  and here.member_id = line.member_id
left join attendances elsewhere
  on elsewhere.district_code = :district_code and elsewhere.member_id = line.member_id
  and elsewhere.round_sequence = event.round_sequence and elsewhere.voided_at is null
  and elsewhere.event_id <> :event_id
"""

_FIRST_ON = (
    f"select e.kind, {FIRST_ON} from service_events e"
    " where e.district_code = :district_code and e.id = :event_id and {reach}"
)
Outcome = BatchLineStatus | type[Problem]
"""What became of a line: its status, or the refusal that rejected it."""


async def check_in(
    statements: Statements,
    caller: Caller,
    *,
    event_id: UUID,
    body: Batch,
    language: Language,
    now: datetime,
) -> BatchRead:
    """Record the lines of a batch, each on its own; repeating any of them changes nothing."""
    first_on = await _first_on(statements, caller, event_id=event_id)
    mistimed = {
        number: code
        for number, line in enumerate(body.lines)
        if (code := _wrong_time(line, first_on=first_on, now=now)) is not None
    }
    first_of = {
        line.member_id: number
        for number, line in reversed(list(enumerate(body.lines)))
        if number not in mistimed
    }
    lines = {number: body.lines[number] for number in first_of.values()}
    params = check_ins.scope(caller, event_id=event_id, takes_late=True, now=now)
    params |= {"method": Method.BATCH.value, "device_id": body.device_id}
    outcomes = await _record(statements, caller, params, lines)
    return _answer(body.lines, first_of, outcomes, mistimed, language=language)


async def _first_on(statements: Statements, caller: Caller, *, event_id: UUID) -> date:
    """Give the first day of an event within reach; the blind learn nothing, however long it took.

    Raises NotFound and HealthChecksAreRunByOfficers.
    """
    sql, params = check_ins.bounded(caller, _FIRST_ON)
    params |= {"district_code": caller.district_code, "event_id": event_id}
    row = await statements.fetch_row(sql, params)
    if row is None:
        raise NotFound
    service_events.refuse_the_blind(caller, row["kind"])
    first_on: date = row["first_on"]
    return first_on


def _wrong_time(line: BatchLine, *, first_on: date, now: datetime) -> str | None:
    if line.occurred_at > now + AHEAD:
        return "in_the_future"
    return "before_the_event" if civil_date(line.occurred_at) < first_on else None


async def _record(
    statements: Statements,
    caller: Caller,
    params: dict[str, Any],
    lines: Mapping[int, BatchLine],
) -> dict[int, Outcome]:
    sql, reach_params = check_ins.bounded(caller, _BATCH)
    params |= reach_params
    outcomes: dict[int, Outcome] = dict.fromkeys(lines, Busy)
    waiting = dict(lines)
    for _ in range(ATTEMPTS):
        if not waiting:
            break
        for row in await statements.district_wide().fetch(sql, params | _columns(waiting)):
            outcome = _outcome(row)
            if outcome is not None:
                outcomes[row["number"]] = outcome
                waiting.pop(row["number"])
    return outcomes


def _columns(lines: Mapping[int, BatchLine]) -> dict[str, Any]:
    return {
        "numbers": list(lines),
        "member_ids": [line.member_id for line in lines.values()],
        "occurred_ats": [line.occurred_at for line in lines.values()],
        "occurred_ons": [civil_date(line.occurred_at) for line in lines.values()],
        "refs": [line.ref for line in lines.values()],
    }


def _outcome(row: Mapping[str, Any]) -> Outcome | None:
    """Tell what became of a line; None when another request is storing it at this moment."""
    if row["is_stored"]:
        return BatchLineStatus.CREATED
    if row["is_here"]:
        return AttendanceVoided if row["is_voided"] else BatchLineStatus.REPEATED
    if not row["is_known"]:
        return MemberUnknown
    if not row["is_open"]:
        return EventNotOpen
    return AttendedThisRound if row["is_elsewhere"] else None


def _answer(
    lines: Sequence[BatchLine],
    first_of: Mapping[UUID, int],
    outcomes: Mapping[int, Outcome],
    mistimed: Mapping[int, str],
    *,
    language: Language,
) -> BatchRead:
    answers = []
    for number, line in enumerate(lines):
        if number in mistimed:
            detail = problems.say(language, "fields", mistimed[number])
            answers.append(_rejected(line, mistimed[number], detail))
            continue
        first = first_of[line.member_id]
        outcome = outcomes[first]
        if not isinstance(outcome, BatchLineStatus):
            detail = problems.say(language, "problems", outcome.code)
            answers.append(_rejected(line, outcome.code, detail))
            continue
        status = outcome if number == first else BatchLineStatus.REPEATED
        answers.append(BatchLineRead(ref=line.ref, status=status, problem=None))
    return BatchRead(
        created=_count(answers, BatchLineStatus.CREATED),
        repeated=_count(answers, BatchLineStatus.REPEATED),
        rejected=_count(answers, BatchLineStatus.REJECTED),
        lines=answers,
    )


def _rejected(line: BatchLine, code: str, detail: str) -> BatchLineRead:
    problem = LineProblem(code=code, detail=detail)
    return BatchLineRead(ref=line.ref, status=BatchLineStatus.REJECTED, problem=problem)


def _count(answers: Iterable[BatchLineRead], status: BatchLineStatus) -> int:
    return sum(answer.status is status for answer in answers)
