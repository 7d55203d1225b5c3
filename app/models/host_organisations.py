"""Host organisations: where migrants work, trade or live, and an association has its home."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint

from app.models.tables import Code, OptionalCode, Record, Words, one_of


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
