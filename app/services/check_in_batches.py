"""Check-in of what a device noted while it was offline: up to 1,000 lines in one statement."""

from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID

from app import wording
from app.acts import Act
from app.database import Statements, named
from app.identity import Caller
from app.models.attendances import Batch, BatchLine, BatchLineStatus, BatchRead, Method
from app.services import recording
from app.services.recording import Desk, Line, Recorded
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
        _answer(line, outcomes.get(number), language=language)
        for number, line in enumerate(body.lines)
    ]
    counts = Counter(answer["status"] for answer in answers)
    # Read as a whole, the lines take a fourth of the time that each would by itself.
    return BatchRead.model_validate(
        {status.value: counts[status] for status in BatchLineStatus} | {"lines": answers}
    )


def _line(act: Act, line: BatchLine, *, device_id: str) -> Line:
    return Line(act, line.member_id, line.occurred_at, device_id, line.ref)


def _answer(line: BatchLine, recorded: Recorded | None, *, language: Language) -> dict[str, Any]:
    """Answer a line, as a `BatchLineRead`; None was noted by a clock ahead."""
    if recorded is None or recorded.mistimed is not None:
        code = _IN_THE_FUTURE if recorded is None else str(recorded.mistimed)
        return _rejected(line, code, wording.say(language, "fields", code))
    if recorded.refusal is not None:
        code = recorded.refusal.code
        return _rejected(line, code, wording.say(language, "problems", code))
    status = BatchLineStatus.REPEATED if recorded.repeated else BatchLineStatus.CREATED
    return {"ref": line.ref, "status": status, "problem": None}


def _rejected(line: BatchLine, code: str, detail: str) -> dict[str, Any]:
    problem = {"code": code, "detail": detail}
    return {"ref": line.ref, "status": BatchLineStatus.REJECTED, "problem": problem}
