"""Changes that wait three days and are told to the phone on file: of a phone, of an account."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models.tables import Code, Instant, OptionalInstant, OptionalSealed, Tenant, one_of


class HeldField(StrEnum):
    """What whoever borrows a member's phone for a minute must not be able to take over."""

    PHONE = "phone"
    PAYOUT_ACCOUNT = "payout_account"
    CLEARED_PHONE = "cleared_phone"


class HeldChange(Tenant, table=True):
    """A new phone or payout account of a member; it waits until `in_force_at`.

    It is sealed under the member's key, and erased once it is in force, or never will be. A phone
    that an office took away is kept until it was told so; another one waits until `in_force_at`.
    """

    __tablename__ = "held_changes"
    __table_args__ = (
        one_of("field", HeldField),
        CheckConstraint("in_force_at > requested_at", name="hold"),
        CheckConstraint("applied_at is null or cancelled_at is null", name="one_end"),
        CheckConstraint("applied_at is null or noticed_at is not null", name="noticed"),
        CheckConstraint(
            "(applied_at is null and cancelled_at is null) = (value_sealed is not null)",
            name="erased_at_the_end",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        Index(
            "uq_held_changes_open",
            "district_code",
            "member_id",
            "field",
            unique=True,
            postgresql_where=text("applied_at is null and cancelled_at is null"),
        ),
        Index(
            "ix_held_changes_cleared",
            "district_code",
            "member_id",
            postgresql_where=text("field = 'cleared_phone'"),
        ),
    )

    id: UUID = Field(primary_key=True)
    member_id: UUID
    field: Code
    value_sealed: OptionalSealed
    requested_at: Instant
    in_force_at: Instant
    noticed_at: OptionalInstant
    applied_at: OptionalInstant
    cancelled_at: OptionalInstant
