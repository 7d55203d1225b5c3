"""Codes sent to phones, and how many may be asked for and tried."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index
from sqlmodel import Field

from app.models.tables import (
    CODE,
    Code,
    Instant,
    OptionalInstant,
    OptionalSealed,
    Sealed,
    Tenant,
    one_of,
)

MAX_TRIES = 5


class CodePurpose(StrEnum):
    """What a code lets its holder do."""

    LOGIN = "login"
    NEW_PHONE = "new_phone"


class LimitKind(StrEnum):
    """What is counted, for a phone, an address, a member, an office, or a whole district.

    What is wrong is counted for whoever tried it, and under no key for the whole district.
    """

    PHONE = "phone"
    ADDRESS = "address"
    MEMBER = "member"
    SENT = "sent"
    WRONG = "wrong"
    VOUCHER = "voucher"
    ENROLLED = "enrolled"
    NOTED = "noted"


class PhoneCode(Tenant, table=True):
    """A code of six digits for one phone, kept as keyed hashes; used once, tried five times.

    Those for phones of nobody are kept alike, and sent to nobody. While an index key is being
    replaced, the phone's owner may be found by either of its hashes.
    """

    __tablename__ = "phone_codes"
    __table_args__ = (
        one_of("purpose", CodePurpose),
        CheckConstraint(f"tries between 0 and {MAX_TRIES}", name="tries"),
        CheckConstraint("(purpose = 'new_phone') = (member_id is not null)", name="member"),
        CheckConstraint("used_at is not null or chosen_at is null", name="chosen"),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        Index("ix_phone_codes_created_at", "district_code", "created_at"),
    )

    id: UUID = Field(primary_key=True)
    purpose: Code
    member_id: UUID | None
    phone_index: Sealed
    former_index: OptionalSealed
    digest: Sealed
    tries: int
    created_at: Instant
    expires_at: Instant
    used_at: OptionalInstant
    chosen_at: OptionalInstant


class CodeLimit(Tenant, table=True):
    """How often something was done since `window_started_at`, and when last."""

    __tablename__ = "code_limits"
    __table_args__ = (
        one_of("kind", LimitKind),
        CheckConstraint("taken >= 0", name="taken"),
        Index("ix_code_limits_last_at", "district_code", "last_at"),
    )

    kind: str = Field(primary_key=True, sa_type=CODE)
    key: Sealed = Field(primary_key=True)
    window_started_at: Instant
    last_at: Instant
    taken: int
