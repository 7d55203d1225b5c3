"""Host organisations: where migrants work, trade or live, and an association has its home."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint

from app.models import shapes
from app.models.shapes import AnyLine, AreaCode, Id, Input, Output, Patch, Version, Whole
from app.models.tables import Code, OptionalCode, Record, Words, one_of
from app.paging import AnyOf, Filters


class HostKind(StrEnum):
    """What kind of place the host is."""

    ENTERPRISE = "enterprise"
    SMALL_BUSINESS = "small_business"
    INDUSTRIAL_PARK = "industrial_park"
    MARKET = "market"
    RESIDENTIAL_COMMUNITY = "residential_community"
    EMPLOYEE_VILLAGE = "employee_village"
    VILLAGE_COMMITTEE = "village_committee"


class HostOrganisation(Record, table=True):
    """An organisation in which an association lives."""

    __tablename__ = "host_organisations"
    __table_args__ = (
        one_of("kind", HostKind),
        CheckConstraint("kind <> 'enterprise' or uscc is not null", name="enterprise_has_uscc"),
        CheckConstraint("staff_count >= 0", name="staff_count"),
        CheckConstraint("park_id <> id", name="park_is_another"),
        UniqueConstraint("district_code", "uscc", name="uscc"),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "park_id"],
            ["host_organisations.district_code", "host_organisations.id"],
            name="park",
        ),
        Index("ix_host_organisations_area", "district_code", "area_code"),
        Index("ix_host_organisations_park", "district_code", "park_id"),
    )

    kind: Code
    name: Words
    area_code: Code
    uscc: OptionalCode
    industry_code: OptionalCode
    staff_count: int | None
    park_id: UUID | None


Uscc = Annotated[
    str,
    Described(
        min_length=1,
        max_length=40,
        description="Unified social credit code (GB 32100); blanks and small letters are mended.",
    ),
    shapes.PLAIN,
]
IndustryCode = Annotated[
    str,
    Described(
        pattern=r"^[A-T]?[0-9]{2,4}$",
        description="GB/T 4754: 2 to 4 digits, the section's letter may stand before them.",
    ),
]
StaffCount = Annotated[
    Whole, Described(ge=0, le=10_000_000, description="Employees, of all kinds.")
]
ParkId = Annotated[Id, Described(description="The industrial park in which the host is a tenant.")]


class HostOrganisationFilters(Filters):
    """How a list of host organisations may be narrowed."""

    kind: AnyOf[HostKind] | None = None
    area: AreaCode | None = Described(default=None, description="This area and all below it.")
    park_id: Id | None = Described(default=None, description="The tenants of this park.")
    uscc: Uscc | None = None
    q: AnyLine | None = Described(default=None, description="How the name begins.")
    updated_since: shapes.Instant | None = None


class HostOrganisationCreate(Input):
    """A host organisation to enter; enterprises need their USCC."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "enterprise",
                    "name": "示例汽车零部件有限公司",
                    "area_code": "440605124201",
                    "uscc": "91440605MA0000001C",
                    "industry_code": "C3670",
                    "staff_count": 1200,
                    "park_id": None,
                }
            ]
        }
    )

    kind: HostKind
    name: AnyLine
    area_code: AreaCode
    uscc: Uscc | None = None
    industry_code: IndustryCode | None = None
    staff_count: StaffCount | None = None
    park_id: ParkId | None = None


class HostOrganisationUpdate(Patch):
    """What of a host organisation to change; null clears what may be empty."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"staff_count": 1350, "industry_code": "C3670"}]}
    )
    clearable = frozenset({"uscc", "industry_code", "staff_count", "park_id"})

    kind: HostKind | None = None
    name: AnyLine | None = None
    area_code: AreaCode | None = None
    uscc: Uscc | None = None
    industry_code: IndustryCode | None = None
    staff_count: StaffCount | None = None
    park_id: ParkId | None = None


class HostOrganisationRead(Output):
    """A host organisation."""

    id: UUID
    version: Version
    kind: HostKind
    name: str
    area_code: AreaCode
    uscc: str | None
    industry_code: str | None
    staff_count: int | None
    park_id: UUID | None
    created_at: shapes.Instant
    updated_at: shapes.Instant
