"""Facilities of associations: the rooms and means kept for their members."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index

from app.models.shapes import Day, Input, Name, Output, Patch, Version
from app.models.tables import Code, Record, Words, one_of
from app.paging import AnyOf, Filters


class FacilityKind(StrEnum):
    """The rooms and means that an association keeps for its members."""

    SERVICE_ROOM = "service_room"
    MEMBERS_CLUB = "members_club"
    BOOK_CORNER = "book_corner"
    CONSULTATION_ROOM = "consultation_room"
    AUDIO_VISUAL_ROOM = "audio_visual_room"
    BROADCAST = "broadcast"


class Facility(Record, table=True):
    """A room or means kept for the members, from `opened_on` until before `closed_on`."""

    __tablename__ = "facilities"
    __table_args__ = (
        one_of("kind", FacilityKind),
        CheckConstraint("closed_on >= opened_on", name="period"),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        Index("ix_facilities_association", "district_code", "association_id"),
    )

    association_id: UUID
    kind: Code
    name: Words
    opened_on: date
    closed_on: date | None


ClosedOn = Annotated[Day, Described(description="The first day on which it is no longer open.")]


class FacilityFilters(Filters):
    """How a list of facilities may be narrowed."""

    kind: AnyOf[FacilityKind] | None = None
    open_on: Day | None = Described(default=None, description="Those that are open on this day.")


class FacilityCreate(Input):
    """A facility to enter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"kind": "service_room", "name": "会员服务室", "opened_on": "2026-01-01"}]
        }
    )

    kind: FacilityKind
    name: Name
    opened_on: Day
    closed_on: ClosedOn | None = None


class FacilityUpdate(Patch):
    """What of a facility to change."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"closed_on": "2027-01-01"}]})
    clearable = frozenset({"closed_on"})

    name: Name | None = None
    opened_on: Day | None = None
    closed_on: ClosedOn | None = None


class FacilityRead(Output):
    """A room or means kept for the members."""

    id: UUID
    version: Version
    association_id: UUID
    kind: FacilityKind
    name: str
    opened_on: date
    closed_on: ClosedOn | None
