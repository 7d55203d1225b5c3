"""Officers of associations: offices held for a term."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index

from app.models.shapes import AnyName, Day, Input, Output, Patch, Version
from app.models.tables import Code, Record, Words, one_of
from app.paging import AnyOf, Filters


class Office(StrEnum):
    """The offices of an association."""

    PRESIDENT = "president"
    VICE_PRESIDENT = "vice_president"
    SECRETARY_GENERAL = "secretary_general"
    DIRECTOR = "director"
    SUPERVISOR = "supervisor"


SINGLE_SEATS = frozenset({Office.PRESIDENT, Office.SECRETARY_GENERAL})
"""Offices that one person holds at a time."""


class Officer(Record, table=True):
    """An office held for a term: from `starts_on`, until before `ends_on`."""

    __tablename__ = "officers"
    __table_args__ = (
        one_of("office", Office),
        CheckConstraint("ends_on > starts_on", name="term"),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        Index("ix_officers_association", "district_code", "association_id"),
    )

    association_id: UUID
    office: Code
    name: Words
    starts_on: date
    ends_on: date | None


EndsOn = Annotated[Day, Described(description="The first day on which it is no longer held.")]


class OfficerFilters(Filters):
    """How a list of officers may be narrowed."""

    office: AnyOf[Office] | None = None
    in_office_on: Day | None = Described(
        default=None, description="Those whose term holds on this day."
    )


class OfficerCreate(Input):
    """A term of office to enter."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"office": "president", "name": "示例会长", "starts_on": "2026-01-01"},
            ]
        }
    )

    office: Office
    name: AnyName
    starts_on: Day
    ends_on: EndsOn | None = None


class OfficerUpdate(Patch):
    """What of a term of office to change."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ends_on": "2029-01-01"}]})
    clearable = frozenset({"ends_on"})

    name: AnyName | None = None
    starts_on: Day | None = None
    ends_on: EndsOn | None = None


class OfficerRead(Output):
    """An office held for a term."""

    person = "id"

    id: UUID
    version: Version
    association_id: UUID
    office: Office
    name: str
    starts_on: date
    ends_on: EndsOn | None
