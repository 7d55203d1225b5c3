"""Regulations of associations: charters and rules, in numbered editions."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint

from app.models.shapes import AnyLine, Day, Input, LongText, Output, Patch, Version
from app.models.tables import Code, Record, Words, one_of
from app.paging import AnyOf, Filters


class RegulationKind(StrEnum):
    """The texts by which an association is run."""

    CHARTER = "charter"
    PARK_REGULATION = "park_regulation"
    MARKET_REVIEW_RULE = "market_review_rule"


class Regulation(Record, table=True):
    """One edition of a text; it counts from the day it is adopted (a charter) or published."""

    __tablename__ = "regulations"
    __table_args__ = (
        one_of("kind", RegulationKind),
        CheckConstraint("edition >= 1", name="edition"),
        UniqueConstraint("district_code", "association_id", "kind", "edition", name="edition"),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
    )

    association_id: UUID
    kind: Code
    edition: int
    title: Words
    body: Words
    adopted_on: date | None
    published_on: date | None


AdoptedOn = Annotated[Day, Described(description="The day on which the members adopted it.")]
PublishedOn = Annotated[Day, Described(description="The day from which everybody can read it.")]


class RegulationFilters(Filters):
    """How a list of regulations may be narrowed."""

    kind: AnyOf[RegulationKind] | None = None


class RegulationCreate(Input):
    """The next edition of a text."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "charter",
                    "title": "计生协会章程",
                    "body": "第一条 本会是会员自愿参加的互助组织。",
                    "adopted_on": "2026-01-01",
                }
            ]
        }
    )

    kind: RegulationKind
    title: AnyLine
    body: LongText
    adopted_on: AdoptedOn | None = None
    published_on: PublishedOn | None = None


class RegulationUpdate(Patch):
    """What of an edition to change; what is adopted or published stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"published_on": "2026-02-01"}]})
    clearable = frozenset({"adopted_on", "published_on"})

    title: AnyLine | None = None
    body: LongText | None = None
    adopted_on: AdoptedOn | None = None
    published_on: PublishedOn | None = None


class RegulationLine(Output):
    """One edition of a text in a list, without the text itself."""

    id: UUID
    version: Version
    association_id: UUID
    kind: RegulationKind
    edition: int
    title: str
    adopted_on: AdoptedOn | None
    published_on: PublishedOn | None


class RegulationRead(RegulationLine):
    """One edition of a text."""

    body: str
