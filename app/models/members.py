"""Members and their dated ties to associations."""

from datetime import date
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models.tables import Code, OptionalCode, OptionalSealed, OptionalWords, Record, Sealed, Table, Tenant, Words, one_of


class MemberStatus(StrEnum):
    """Whether a person is in an association now."""

    ACTIVE = "active"
    LEFT = "left"


class Member(Record, table=True):
    """A person enrolled in a district; `area_code` is that of her association.

    Identity number and phone are ciphertexts with blind indexes, held only with consent.
    """

    __tablename__ = "members"
    __table_args__ = (
        one_of("status", MemberStatus),
        CheckConstraint(
            "consented_on is not null"
            " or (id_number_sealed is null and phone_sealed is null)",
            name="consent",
        ),
        CheckConstraint(
            "(id_number_sealed is null) = (id_number_index is null)"
            " and (phone_sealed is null) = (phone_index is null)",
            name="sealed_is_indexed",
        ),
        ForeignKeyConstraint(
            ["district_code", "association_id", "area_code"],
            ["associations.district_code", "associations.id", "associations.area_code"],
            name="association",
        ),
        Index("ix_members_association", "district_code", "association_id", "id"),
        Index("ix_members_area", "district_code", "area_code", "id"),
        Index(
            "uq_members_id_number",
            "district_code",
            "id_number_index",
            unique=True,
            postgresql_where=text("id_number_index is not null"),
        ),
        Index(
            "ix_members_phone",
            "district_code",
            "phone_index",
            postgresql_where=text("phone_index is not null"),
        ),
        Index(
            "uq_members_employee_no",
            "district_code",
            "association_id",
            "employee_no",
            unique=True,
            postgresql_where=text("employee_no is not null and status = 'active'"),
        ),
    )

    association_id: UUID
    area_code: Code
    status: Code
    name: Words
    employee_no: OptionalCode
    first_joined_on: date
    consented_on: date | None
    id_number_sealed: OptionalSealed
    id_number_index: OptionalSealed
    phone_sealed: OptionalSealed
    phone_index: OptionalSealed


class Membership(Tenant, table=True):
    """A tie to one association, from `joined_on` until before `left_on`."""

    __tablename__ = "memberships"
    __table_args__ = (
        CheckConstraint("left_on >= joined_on", name="period"),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        Index(
            "uq_memberships_open",
            "district_code",
            "member_id",
            unique=True,
            postgresql_where=text("left_on is null"),
        ),
        Index("ix_memberships_association", "district_code", "association_id"),
    )

    member_id: UUID = Field(primary_key=True)
    joined_on: date = Field(primary_key=True)
    association_id: UUID = Field(primary_key=True)
    left_on: date | None
    reason: OptionalWords


class PersonKey(Table, table=True):
    """Where a person is enrolled, by keyed hash: the one table that spans districts."""

    __tablename__ = "person_keys"

    identity_hash: Sealed = Field(primary_key=True)
    district_code: Code
    member_id: UUID
