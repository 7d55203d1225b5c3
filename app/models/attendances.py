"""Attendances: that a member was at an event, and nothing else."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models.tables import CODE, Code, Instant, OptionalInstant, OptionalWords, Tenant, Words, one_of


class Method(StrEnum):
    """How a member was checked in."""

    STAFF = "staff"
    CODE = "code"
    BATCH = "batch"


class Attendance(Tenant, table=True):
    """A member at an event; `association_id` is where she was a member on that day.

    A health exam's attendance also carries its round: in force once per member and round,
    wherever it took place. A wrong one is voided with a reason, never deleted.
    """

    __tablename__ = "attendances"
    __table_args__ = (
        one_of("method", Method),
        CheckConstraint(
            "(voided_at is null) = (void_reason is null)"
            " and (voided_at is null) = (voided_by is null)",
            name="void",
        ),
        ForeignKeyConstraint(
            ["district_code", "event_id"],
            ["service_events.district_code", "service_events.id"],
            name="event",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        # Streaks are read from this index alone, in its order.
        Index(
            "uq_attendances_round",
            "district_code",
            "member_id",
            "round_sequence",
            unique=True,
            postgresql_include=["association_id"],
            postgresql_where=text("round_sequence is not null and voided_at is null"),
        ),
        Index("ix_attendances_member", "district_code", "member_id", "event_id"),
    )

    event_id: UUID = Field(primary_key=True)
    member_id: UUID = Field(primary_key=True)
    association_id: UUID
    round_sequence: int | None
    occurred_at: Instant
    recorded_at: Instant
    recorded_by: Words
    method: Code
    device_id: OptionalWords
    device_ref: OptionalWords
    voided_at: OptionalInstant
    voided_by: OptionalWords
    void_reason: OptionalWords
    version: int = 1
