"""Depots: where gifts are kept, and for which associations they may be taken from there."""

from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text

from app.models import shapes
from app.models.shapes import AreaCode, Id, Input, Name, Output, Patch, Version
from app.models.tables import Code, OptionalInstant, OptionalWords, Record, Words, one_of
from app.paging import Filters


class DepotStatus(StrEnum):
    """Whether a depot takes gifts in and gives them to runs."""

    OPEN = "open"
    CLOSED = "closed"


class Depot(Record, table=True):
    """A place with gifts for the associations of an area, or for one of them.

    Of one scope one is open, so that a run knows from which to take.
    """

    __tablename__ = "depots"
    __table_args__ = (
        one_of("status", DepotStatus),
        CheckConstraint("substr(area_code, 1, 6) = substr(district_code, 1, 6)", name="area_range"),
        CheckConstraint(
            "(status = 'closed') = (closed_at is not null)"
            " and (closed_at is null) = (closed_by is null)",
            name="closed",
        ),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        Index(
            "uq_depots_scope",
            "district_code",
            "area_code",
            "association_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("status = 'open'"),
        ),
    )

    name: Words
    area_code: Code
    association_id: UUID | None
    status: Code
    created_by: Words
    closed_at: OptionalInstant
    closed_by: OptionalWords


_EXAMPLE: dict[str, JsonValue] = {"name": "狮山镇计生协会仓库", "area_code": "440605124000"}


class DepotFilters(Filters):
    """How a list of depots may be narrowed."""

    status: DepotStatus | None = None
    area: AreaCode | None = Described(None, description="Depots of this area and all below it.")
    association_id: Id | None = None


class DepotCreate(Input):
    """A depot to keep: empty at first, for an area or for one association in it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Name
    area_code: AreaCode
    association_id: Id | None = Described(None, description="Only for this association's runs.")


class DepotUpdate(Patch):
    """What of a depot may be changed: its name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "狮山镇计生协会仓库"}]})

    name: Name | None = None


class DepotRead(Output):
    """A depot."""

    id: UUID
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
    name: str
    area_code: AreaCode
    association_id: UUID | None
    status: DepotStatus
    created_by: str
    closed_at: shapes.Instant | None
    closed_by: str | None
