"""Service events: anything with a time and a place that members come to."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index

from app.models import shapes
from app.models.shapes import AnyLine, AnyName, AreaCode, Id, Input, Output, Patch, Version, Whole
from app.models.tables import Code, OptionalInstant, OptionalWords, Record, Words, one_of
from app.models.tables import Instant as InstantColumn
from app.paging import AnyOf, Filters


class EventKind(StrEnum):
    """What members come to."""

    HEALTH_EXAM = "health_exam"
    HEALTH_GUARD = "health_guard"
    LECTURE = "lecture"
    MOBILE_CLASS = "mobile_class"
    FILM_SCREENING = "film_screening"
    ARTS_AND_SPORTS = "arts_and_sports"
    CONTEST = "contest"
    SKILLS_TRAINING = "skills_training"
    SKILLS_CONTEST = "skills_contest"
    CONSULTATION = "consultation"
    LEGAL_AID = "legal_aid"
    HOME_VISIT = "home_visit"
    PUBLICITY = "publicity"
    MEETING = "meeting"
    LUCKY_DRAW = "lucky_draw"


HEALTH_KINDS = frozenset({EventKind.HEALTH_EXAM, EventKind.HEALTH_GUARD})
"""Events at which having been is itself sensitive."""


class EventStatus(StrEnum):
    """The life of an event."""

    DRAFT = "draft"
    PUBLISHED = "published"
    IN_PROGRESS = "in_progress"
    CLOSED = "closed"
    CANCELLED = "cancelled"


TEN = 10
"""The fewest people of a count for those not entitled to the records, and its step."""


class ServiceEvent(Record, table=True):
    """An event of an association, or of an area when no association holds it."""

    __tablename__ = "service_events"
    __table_args__ = (
        one_of("kind", EventKind),
        one_of("status", EventStatus),
        CheckConstraint("ends_at > starts_at", name="period"),
        CheckConstraint("capacity > 0", name="capacity"),
        CheckConstraint("registration_closes_at > registration_opens_at", name="registration"),
        CheckConstraint(
            "(kind = 'health_exam') = (round_sequence is not null)", name="round_of_health_exam"
        ),
        CheckConstraint("status <> 'cancelled' or status_reason is not null", name="reason"),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        ForeignKeyConstraint(
            ["district_code", "round_sequence"],
            ["exam_rounds.district_code", "exam_rounds.sequence"],
            name="round",
        ),
        Index("ix_service_events_starts_at", "district_code", "starts_at", "id"),
        Index("ix_service_events_round", "district_code", "round_sequence", "area_code"),
    )

    kind: Code
    title: Words
    venue: Words
    area_code: Code
    association_id: UUID | None
    round_sequence: int | None
    starts_at: InstantColumn
    ends_at: InstantColumn
    registration_opens_at: OptionalInstant
    registration_closes_at: OptionalInstant
    capacity: int | None
    status: Code
    status_reason: OptionalWords


_FACTS: dict[str, JsonValue] = {
    "kind": "health_exam",
    "title": "一季度便民服务",
    "venue": "狮山社区服务站",
    "area_code": "440605124000",
    "association_id": None,
    "exam_round_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0d1",
    "starts_at": "2026-02-10T00:30:00.000000Z",
    "ends_at": "2026-02-10T09:00:00.000000Z",
    "registration_opens_at": None,
    "registration_closes_at": None,
    "capacity": 200,
}
EXAMPLE: dict[str, JsonValue] = {
    "id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0f1",
    **_FACTS,
    "round_sequence": 9,
    "status": "published",
    "status_reason": None,
    "version": 2,
    "created_at": "2026-01-20T02:00:00.000000Z",
    "updated_at": "2026-01-21T02:00:00.000000Z",
}
Capacity = Annotated[Whole, Described(ge=1, le=1_000_000)]


class EventFilters(Filters):
    """How a list of events may be narrowed."""

    kind: AnyOf[EventKind] | None = None
    status: AnyOf[EventStatus] | None = None
    area: AreaCode | None = Described(None, description="The area and all below it.")
    association_id: Id | None = None
    exam_round_id: Id | None = None
    starts_at_gte: shapes.Instant | None = None
    starts_at_lt: shapes.Instant | None = None
    updated_since: shapes.Instant | None = Described(None, description="Changed at or after.")


class EventCreate(Input):
    """An event to prepare, of an association or of an area."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FACTS]})

    kind: EventKind
    title: AnyLine = Described(
        description="Others may read it: a health check's names no procedure and no condition."
    )
    venue: AnyLine
    area_code: AreaCode | None = Described(
        None, description="Needed unless an association holds the event; then it is its area."
    )
    association_id: Id | None = None
    exam_round_id: Id | None = Described(
        None, description="An open round; for a `health_exam`, and only for it."
    )
    starts_at: shapes.Instant
    ends_at: shapes.Instant
    registration_opens_at: shapes.Instant | None = Described(
        None, description="From publication unless given."
    )
    registration_closes_at: shapes.Instant | None = Described(
        None, description="Until the event is closed unless given."
    )
    capacity: Capacity | None = Described(None, description="Seats; unlimited unless given.")


class EventUpdate(Patch):
    """What to change in an event; more seats admit the waiting.

    Of one in progress `venue`, `ends_at` and `capacity` may change.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"capacity": 250}]})
    clearable = frozenset({"registration_opens_at", "registration_closes_at", "capacity"})

    title: AnyLine | None = None
    venue: AnyLine | None = None
    starts_at: shapes.Instant | None = None
    ends_at: shapes.Instant | None = None
    registration_opens_at: shapes.Instant | None = None
    registration_closes_at: shapes.Instant | None = None
    capacity: Capacity | None = None


class EventCancel(Input):
    """Why an event does not take place, in words for those who registered."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "因台风取消"}]})

    reason: AnyName


class EventItem(Output):
    """An event in a list."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: UUID
    kind: EventKind
    title: str
    venue: str
    area_code: AreaCode
    association_id: UUID | None
    exam_round_id: UUID | None
    round_sequence: int | None
    starts_at: shapes.Instant
    ends_at: shapes.Instant
    registration_opens_at: shapes.Instant | None
    registration_closes_at: shapes.Instant | None
    capacity: int | None
    status: EventStatus
    status_reason: str | None
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant


class EventRead(EventItem):
    """An event with its counts.

    To those not entitled to the records a health check's are null, but for `attended_count` from
    a week after it is closed if an association holds it: full tens as they stood then, never so
    many that fewer than ten of its members are left over, and null below ten.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**EXAMPLE, "registered_count": 120, "waiting_count": 0, "attended_count": 0}
            ]
        }
    )
    beyond_version = True

    registered_count: int | None
    waiting_count: int | None
    attended_count: int | None
