"""Service events, anything with a time and a place that members come to, and registrations."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

from app.models.tables import Code, Instant, OptionalInstant, OptionalWords, Record, Tenant, Words, one_of


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


class RegistrationStatus(StrEnum):
    """Whether a registered member has a seat."""

    REGISTERED = "registered"
    WAITING = "waiting"
    CANCELLED = "cancelled"


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
        UniqueConstraint("district_code", "id", "round_sequence", name="round"),
        Index("ix_service_events_starts_at", "district_code", "starts_at", "id"),
        Index("ix_service_events_round", "district_code", "round_sequence", "area_code"),
    )

    kind: Code
    title: Words
    venue: Words
    area_code: Code
    association_id: UUID | None
    round_sequence: int | None
    starts_at: Instant
    ends_at: Instant
    registration_opens_at: OptionalInstant
    registration_closes_at: OptionalInstant
    capacity: int | None
    status: Code
    status_reason: OptionalWords


class Registration(Tenant, table=True):
    """A member's place at an event, or on its waiting list, in order of `position`."""

    __tablename__ = "registrations"
    __table_args__ = (
        one_of("status", RegistrationStatus),
        ForeignKeyConstraint(
            ["district_code", "event_id"],
            ["service_events.district_code", "service_events.id"],
            name="event",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        UniqueConstraint("district_code", "event_id", "position", name="position"),
        Index("ix_registrations_member", "district_code", "member_id"),
    )

    event_id: UUID = Field(primary_key=True)
    member_id: UUID = Field(primary_key=True)
    position: int
    status: Code
    registered_at: Instant
    version: int = 1
