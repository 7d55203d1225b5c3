"""Exam rounds: the numbered periods in which a member may attend a health check, and excuses."""

from datetime import date
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from app.models.tables import Code, Instant, OptionalCode, OptionalInstant, Record, Tenant, Words, one_of


class RoundStatus(StrEnum):
    """The life of a round; a closed round is final once late batches are no longer taken."""

    OPEN = "open"
    CLOSED = "closed"
    FINAL = "final"


class ExcuseReason(StrEnum):
    """Why a round neither counts nor breaks a streak; none says anything about health."""

    AWAY = "away"
    ATTENDED_ELSEWHERE = "attended_elsewhere"
    NOT_IN_SCOPE = "not_in_scope"
    NONE_OFFERED = "none_offered"


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


class Excuse(Tenant, table=True):
    """A round excused for one member, or for all members of an area."""

    __tablename__ = "excuses"
    __table_args__ = (
        one_of("reason", ExcuseReason),
        CheckConstraint("(member_id is null) <> (area_code is null)", name="member_or_area"),
        ForeignKeyConstraint(
            ["district_code", "round_sequence"],
            ["exam_rounds.district_code", "exam_rounds.sequence"],
            name="round",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        Index(
            "uq_excuses_member",
            "district_code",
            "member_id",
            "round_sequence",
            unique=True,
            postgresql_where=text("member_id is not null"),
        ),
        Index(
            "uq_excuses_area",
            "district_code",
            "area_code",
            "round_sequence",
            unique=True,
            postgresql_where=text("area_code is not null"),
        ),
    )

    id: UUID = Field(primary_key=True)
    round_sequence: int
    member_id: UUID | None
    area_code: OptionalCode
    reason: Code
    created_by: Words
    created_at: Instant
