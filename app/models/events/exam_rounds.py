"""Exam rounds: the numbered periods in which a member may attend a health check."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, UniqueConstraint

from app.models import shapes
from app.models.shapes import Day, Input, Name, Output, Patch, Version, Whole
from app.models.tables import Code, Instant, OptionalInstant, Record, Words
from app.paging import DIGITS, AnyOf, Filters


class RoundStatus(StrEnum):
    """The life of a round; a closed round is final once late batches are no longer taken."""

    OPEN = "open"
    CLOSED = "closed"
    FINAL = "final"


class ExamRound(Record, table=True):
    """One numbered period, both days included."""

    __tablename__ = "exam_rounds"
    __table_args__ = (
        CheckConstraint("status in ('open', 'closed')", name="status"),
        CheckConstraint("sequence between 1 and 10000", name="sequence"),
        CheckConstraint("ends_on >= starts_on", name="period"),
        CheckConstraint("(status = 'closed') = (closed_at is not null)", name="closed"),
        UniqueConstraint("district_code", "sequence", name="sequence"),
    )

    sequence: int
    name: Words
    starts_on: date
    ends_on: date
    accepts_until: Instant
    status: Code
    closed_at: OptionalInstant


_ROUND: dict[str, JsonValue] = {
    "sequence": 9,
    "name": "2026年第一季度",
    "starts_on": "2026-01-01",
    "ends_on": "2026-03-31",
    "accepts_until": "2026-04-15T15:59:59.999999Z",
}
_LATE = "Until when late batches are taken after closing; 15 days after `ends_on` unless given."


class RoundFilters(Filters):
    """How a list of rounds may be narrowed."""

    status: AnyOf[RoundStatus] | None = None
    sequence_gte: Annotated[int, Described(ge=1, le=10_000), DIGITS] | None = None
    sequence_lt: Annotated[int, Described(ge=1, le=10_001), DIGITS] | None = None
    starts_on_gte: Day | None = None
    starts_on_lt: Day | None = None
    updated_since: shapes.Instant | None = Described(None, description="Changed at or after.")


class RoundCreate(Input):
    """A round to hold, or one of the past to enter."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ROUND]})

    sequence: Whole | None = Described(
        None, ge=1, le=10_000, description="Its number in the district; the next unless given."
    )
    name: Name
    starts_on: Day
    ends_on: Day = Described(description="Its last day.")
    accepts_until: shapes.Instant | None = Described(None, description=_LATE)


class RoundUpdate(Patch):
    """What to change in an open round."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ends_on": "2026-04-05"}]})
    clearable = frozenset({"accepts_until"})

    name: Name | None = None
    starts_on: Day | None = None
    ends_on: Day | None = None
    accepts_until: shapes.Instant | None = Described(None, description=_LATE)


class RoundRead(Output):
    """A round as it stands now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0d1",
                    **_ROUND,
                    "status": "open",
                    "closed_at": None,
                    "version": 1,
                    "created_at": "2025-12-20T02:00:00.000000Z",
                    "updated_at": "2025-12-20T02:00:00.000000Z",
                }
            ]
        }
    )

    beyond_version = True

    id: UUID
    sequence: int
    name: str
    starts_on: date
    ends_on: date
    accepts_until: shapes.Instant
    status: RoundStatus
    closed_at: shapes.Instant | None
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
