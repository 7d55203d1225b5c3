"""Excuses: rounds that neither count for a streak nor break it."""

from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models import shapes
from app.models.shapes import AreaCode, Id, Input, Output
from app.models.tables import (
    Code,
    Instant,
    OptionalCode,
    OptionalInstant,
    OptionalWords,
    Tenant,
    Words,
    one_of,
)
from app.paging import AnyOf, Filters


class ExcuseReason(StrEnum):
    """Why a round neither counts nor breaks a streak; none says anything about health."""

    AWAY = "away"
    ATTENDED_ELSEWHERE = "attended_elsewhere"
    NOT_IN_SCOPE = "not_in_scope"
    NONE_OFFERED = "none_offered"


class Excuse(Tenant, table=True):
    """A round excused for one member, or for all members of an area; one taken back is kept."""

    __tablename__ = "excuses"
    __table_args__ = (
        one_of("reason", ExcuseReason),
        CheckConstraint("(member_id is null) <> (area_code is null)", name="member_or_area"),
        CheckConstraint("(withdrawn_at is null) = (withdrawn_by is null)", name="withdrawn"),
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
            postgresql_where=text("member_id is not null and withdrawn_at is null"),
        ),
        Index(
            "uq_excuses_area",
            "district_code",
            "area_code",
            "round_sequence",
            unique=True,
            postgresql_where=text("area_code is not null and withdrawn_at is null"),
        ),
    )

    id: UUID = Field(primary_key=True)
    round_sequence: int
    member_id: UUID | None
    area_code: OptionalCode
    reason: Code
    created_by: Words
    created_at: Instant
    withdrawn_at: OptionalInstant = None
    withdrawn_by: OptionalWords = None


class ExcuseFilters(Filters):
    """How a list of excuses may be narrowed."""

    reason: AnyOf[ExcuseReason] | None = None
    member_id: Id | None = None
    area: AreaCode | None = None


class ExcuseCreate(Input):
    """Whom to excuse: one member, or all members of an area."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"member_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c001", "reason": "away"}]
        }
    )

    member_id: Id | None = None
    area_code: AreaCode | None = None
    reason: ExcuseReason


class ExcuseRead(Output):
    """An excuse for a round."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0e1",
                    "round_sequence": 9,
                    "member_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c001",
                    "area_code": None,
                    "reason": "away",
                    "created_by": "town_officer-1",
                    "created_at": "2026-02-01T02:00:00.000000Z",
                }
            ]
        }
    )
    person = "member_id"

    id: UUID
    round_sequence: int
    member_id: UUID | None
    area_code: AreaCode | None
    reason: ExcuseReason
    created_by: str
    created_at: shapes.Instant
