"""Service stations: where vouchers are redeemed."""

from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint

from app.models import shapes
from app.models.shapes import AreaCode, Input, Name, Output, Patch, Version
from app.models.tables import Code, Record, Words, one_of
from app.paging import AnyOf, Filters


class StationStatus(StrEnum):
    """Whether a station redeems vouchers."""

    OPEN = "open"
    CLOSED = "closed"


class ServiceStation(Record, table=True):
    """A station of an area that gives members free services against their vouchers.

    Where its money goes stands in its contract, not here.
    """

    __tablename__ = "service_stations"
    __table_args__ = (
        one_of("status", StationStatus),
        CheckConstraint("substr(area_code, 1, 6) = substr(district_code, 1, 6)", name="area_range"),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        UniqueConstraint("district_code", "area_code", "name", name="name"),
    )

    name: Words
    area_code: Code
    status: Code


class StationFilters(Filters):
    """How a list of stations may be narrowed."""

    area: AreaCode | None = None
    status: AnyOf[StationStatus] | None = None


class StationCreate(Input):
    """A station to enter, open from now on."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "狮山镇服务站", "area_code": "440605124000"}]}
    )

    name: Name
    area_code: AreaCode


class StationUpdate(Patch):
    """What of a station to change; a closed one redeems nothing, and is still settled with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "closed"}]})

    name: Name | None = None
    status: StationStatus | None = None


class StationRead(Output):
    """A service station."""

    id: UUID
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
    name: str
    area_code: AreaCode
    status: StationStatus
