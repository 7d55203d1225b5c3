"""Associations: members' organisations where migrants live or work."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text

from app.models.organisation.host_organisations import HostKind
from app.models.shapes import (
    AnyLine,
    AreaCode,
    Day,
    Id,
    Input,
    Instant,
    Line,
    Output,
    Patch,
    Version,
)
from app.models.tables import Code, OptionalWords, Record, Words, one_of
from app.paging import AnyOf, Filters


class Mode(StrEnum):
    """How an association lives with its host."""

    INDEPENDENT = "independent"
    AFFILIATED = "affiliated"
    PARK = "park"
    PROFESSIONAL = "professional"
    COMMUNITY = "community"
    VILLAGE = "village"


HOSTS_OF_MODE = {
    Mode.INDEPENDENT: frozenset({HostKind.ENTERPRISE}),
    Mode.AFFILIATED: frozenset({HostKind.SMALL_BUSINESS, HostKind.ENTERPRISE}),
    Mode.PARK: frozenset({HostKind.INDUSTRIAL_PARK}),
    Mode.PROFESSIONAL: frozenset({HostKind.MARKET}),
    Mode.COMMUNITY: frozenset({HostKind.RESIDENTIAL_COMMUNITY, HostKind.EMPLOYEE_VILLAGE}),
    Mode.VILLAGE: frozenset({HostKind.VILLAGE_COMMITTEE}),
}
"""The kinds of host in which an association of each mode lives."""


class AssociationStatus(StrEnum):
    """The life of an association."""

    PREPARING = "preparing"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DISSOLVED = "dissolved"


class Association(Record, table=True):
    """A members' organisation where migrants live or work."""

    __tablename__ = "associations"
    __table_args__ = (
        one_of("mode", Mode),
        one_of("status", AssociationStatus),
        CheckConstraint("mode = 'affiliated' or parent_id is null", name="parent_of_affiliated"),
        CheckConstraint("parent_id <> id", name="parent_is_another"),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "host_id"],
            ["host_organisations.district_code", "host_organisations.id"],
            name="host",
        ),
        ForeignKeyConstraint(
            ["district_code", "parent_id"],
            ["associations.district_code", "associations.id"],
            name="parent",
        ),
        UniqueConstraint("district_code", "id", "area_code", name="area"),
        Index("ix_associations_area", "district_code", "area_code"),
        Index("ix_associations_parent", "district_code", "parent_id"),
        Index(
            "uq_associations_host",
            "district_code",
            "host_id",
            unique=True,
            postgresql_where=text("status <> 'dissolved'"),
        ),
        Index(
            "uq_associations_active_village",
            "district_code",
            "area_code",
            unique=True,
            postgresql_where=text("mode = 'village' and status = 'active'"),
        ),
    )

    name: Words
    mode: Code
    host_id: UUID
    area_code: Code
    parent_id: UUID | None
    status: Code
    status_reason: OptionalWords
    founded_on: date | None


ParentId = Annotated[
    Id, Described(description="Affiliated only: the village association of the same village.")
]


class AssociationFilters(Filters):
    """How a list of associations may be narrowed."""

    mode: AnyOf[Mode] | None = None
    status: AnyOf[AssociationStatus] | None = None
    area: AreaCode | None = Described(default=None, description="This area and all below it.")
    parent_id: Id | None = None
    host_id: Id | None = None
    updated_since: Instant | None = None


class AssociationCreate(Input):
    """An association to prepare, in the area of its host."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "示例企业计生协会",
                    "mode": "independent",
                    "host_id": "019a5c3e-7b1c-7d20-9a54-3f6f0c2b8e11",
                    "founded_on": "2026-01-01",
                }
            ]
        }
    )

    name: AnyLine
    mode: Mode
    host_id: Id
    parent_id: ParentId | None = None
    founded_on: Day | None = None


class AssociationUpdate(Patch):
    """What of an association to change; null clears the parent or the date."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "示例企业计生协会"}]})
    clearable = frozenset({"parent_id", "founded_on"})

    name: AnyLine | None = None
    parent_id: ParentId | None = None
    founded_on: Day | None = None


class StatusReason(Input):
    """Why an association is suspended or dissolved."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "主办单位搬迁"}]})

    reason: Line = Described(description="Why; shown with the association.")


class AssociationRead(Output):
    """A members' organisation where migrants live or work."""

    id: UUID
    version: Version
    name: str
    mode: Mode
    host_id: UUID
    area_code: AreaCode
    parent_id: ParentId | None
    status: AssociationStatus
    status_reason: str | None
    founded_on: date | None
    created_at: Instant
    updated_at: Instant


class ConditionRead(Output):
    """One condition of activation, and whether it is met today."""

    code: str = Described(description="Stable; branch on this.", examples=["president_in_office"])
    met: bool
    detail: str = Described(description="What is needed, in the caller's language.")


class ActivationRead(Output):
    """What an association must have before it is activated."""

    association_id: UUID
    is_ready: bool
    conditions: list[ConditionRead]
