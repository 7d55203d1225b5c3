"""Check-in of what a device noted while it was offline: up to 1,000 lines in one statement."""

from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID

from app.acts import Act
from app.database import Statements, named
from app.identity import Caller
from app.models.events.attendances import Batch, BatchLine, BatchLineStatus, BatchRead, Method
from app.problems import Invalid, Problem, render_line
from app.services.events import recording
from app.services.events.recording import Desk, Line, Recorded
from app.wording import Language

_IN_THE_FUTURE = "in_the_future"


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
    desk = Desk(caller, event_id, Method.BATCH, takes_late=True)
    numbers = [
        number
        for number, line in enumerate(body.lines)
        if line.occurred_at <= now + recording.AHEAD
    ]
    act = named(statements.act)
    lines = [_line(act, body.lines[number], device_id=body.device_id) for number in numbers]
    recorded = await recording.record(statements, desk, lines, now=now)
    outcomes = dict(zip(numbers, recorded, strict=True))
    answers = [
        _answer(number, line, outcomes.get(number), desk, language=language)
        for number, line in enumerate(body.lines)
    ]
    counts = Counter(answer["status"] for answer in answers)
    # Read as a whole, the lines take a fourth of the time that each would by itself.
    return BatchRead.model_validate(
        {status.value: counts[status] for status in BatchLineStatus} | {"items": answers}
    )


def _line(act: Act, line: BatchLine, *, device_id: str) -> Line:
    return Line(act, line.member_id, line.occurred_at, device_id, line.ref)


def _answer(
    number: int, line: BatchLine, recorded: Recorded | None, desk: Desk, *, language: Language
) -> dict[str, Any]:
    """Answer a line, as a `BatchLineRead`; None was noted by a clock ahead."""
    problem = _problem(number, recorded)
    if recorded is None or problem is not None:
        said = None if problem is None else render_line(problem, language=language)
        rejected = BatchLineStatus.REJECTED
        return {"ref": line.ref, "status": rejected, "resource": None, "problem": said}
    if not recorded.repeated:
        # It would say what was sent, and take longer to write than all the rest of the answer.
        created = BatchLineStatus.CREATED
        return {"ref": line.ref, "status": created, "resource": None, "problem": None}
    return {
        "ref": line.ref,
        "status": BatchLineStatus.REPEATED,
        "resource": _attendance(recorded, desk),
        "problem": None,
    }


def _problem(number: int, recorded: Recorded | None) -> Problem | None:
    mistimed = _IN_THE_FUTURE if recorded is None else recorded.mistimed
    if mistimed is not None:
        return Invalid.at(f"/lines/{number}/occurred_at", mistimed)
    return None if recorded is None or recorded.refusal is None else recorded.refusal()


def _attendance(recorded: Recorded, desk: Desk) -> dict[str, Any]:
    """Give the attendance that is there, as a `BatchAttendance`."""
    line, row = recorded.line, recorded.row
    is_new = recorded.stored_at is not None
    return {
        "event_id": desk.event_id,
        "member_id": line.member_id,
        "occurred_at": line.occurred_at if is_new else row["occurred_at"],
        "recorded_at": recorded.stored_at or row["recorded_at"],
        "recorded_by": desk.caller.subject if is_new else row["recorded_by"],
    }
