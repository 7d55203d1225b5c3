"""Administrative areas (GB/T 2260 and the statistical extension) and their dated settings."""

from datetime import date
from enum import StrEnum

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index
from sqlmodel import Field

from app.models.shapes import AnyName, AreaCode, Day, Input, Output, Whole
from app.models.tables import CODE, Code, Instant, Long, OptionalCode, Table, Tenant, Words, one_of
from app.paging import AnyOf, Filters


class Level(StrEnum):
    """The levels of the tree, from the top."""

    PROVINCE = "province"
    PREFECTURE = "prefecture"
    DISTRICT = "district"
    TOWN = "town"
    VILLAGE = "village"


class SettingKey(StrEnum):
    """The values that an area may set for itself and all below it."""

    INDEPENDENT_MIN_STAFF = "independent_min_staff"
    """Staff that an enterprise needs for an independent association."""
    FLAG_WHOLE_ROSTER = "flag_whole_roster"
    """Members of an association from how many on it is flagged that all of them came."""
    FLAG_RUSH = "flag_rush"
    """Check-ins within ten seconds from how many on they are flagged."""
    FLAG_ONE_DEVICE_AT_ONCE = "flag_one_device_at_once"
    """Check-ins of one device within one second from how many on they are flagged."""
    FLAG_OUT_OF_HOURS = "flag_out_of_hours"
    """Check-ins two hours before or after an event from how many on they are flagged."""
    CORRECTION_DAYS = "correction_days"
    """Civil days within which a member's correction is answered; 15, assumed, where none says."""


class Provenance(StrEnum):
    """Where a value comes from."""

    PRINTED = "printed"
    ASSUMED = "assumed"
    APPROVED = "approved"


class Area(Table, table=True):
    """An area by its 12-digit code; the same for all districts."""

    __tablename__ = "areas"
    __table_args__ = (
        CheckConstraint("code ~ '^[1-9][0-9]{11}$'", name="code"),
        one_of("level", Level),
        CheckConstraint("(level = 'province') = (parent_code is null)", name="parent"),
        ForeignKeyConstraint(["parent_code"], ["areas.code"], name="parent"),
        Index("ix_areas_parent_code", "parent_code"),
    )

    code: Code = Field(primary_key=True, sa_type=CODE)
    name: Words
    level: Code
    parent_code: OptionalCode


class AreaSetting(Tenant, table=True):
    """A value in force in an area from a date on, until a later one replaces it."""

    __tablename__ = "area_settings"
    __table_args__ = (
        one_of("key", SettingKey),
        one_of("provenance", Provenance),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
    )

    area_code: Code = Field(primary_key=True, sa_type=CODE)
    key: Code = Field(primary_key=True, sa_type=CODE)
    effective_on: date = Field(primary_key=True)
    value: Long
    provenance: Code
    set_by: Words
    set_at: Instant


class AreaFilters(Filters):
    """How a list of areas may be narrowed."""

    level: AnyOf[Level] | None = None
    parent_code: AreaCode | None = None
    area: AreaCode | None = Described(default=None, description="This area and all below it.")


class AreaSettingFilters(Filters):
    """How the settings in force in an area may be narrowed."""

    key: AnyOf[SettingKey] | None = None


class AreaRead(Output):
    """An area of the tree."""

    code: AreaCode
    name: str
    level: Level
    parent_code: AreaCode | None


class AreaSettingWrite(Input):
    """A value to put in force."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"value": 500, "effective_on": "2026-01-01", "provenance": "assumed"}]
        }
    )

    value: Whole = Described(ge=0, le=10**9)
    effective_on: Day
    provenance: Provenance


class AreaSettingRead(Output):
    """A value in force in an area."""

    area_code: AreaCode
    key: SettingKey
    value: int
    effective_on: date
    provenance: Provenance
    set_by: AnyName | None = Described(description="Of whom only offices are told.")
