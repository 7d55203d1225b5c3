"""Members and their dated ties to associations."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models.privacy.privacy_notices import ConsentPurpose
from app.models.shapes import (
    IMPERSONAL,
    NEUTRAL,
    PLAIN,
    AnyName,
    AreaCode,
    Day,
    Id,
    Input,
    Instant,
    Line,
    Output,
    Version,
)
from app.models.tables import (
    Code,
    OptionalCode,
    OptionalInstant,
    OptionalSealed,
    OptionalWords,
    Record,
    Sealed,
    Spells,
    Table,
    Tenant,
    Words,
    one_of,
)
from app.models.tables import Instant as RecordedAt
from app.paging import AnyOf, Filters, Page

EmployeeNo = Annotated[str, Described(min_length=1, max_length=40), PLAIN, IMPERSONAL, NEUTRAL]
Identifier = Annotated[str, Described(min_length=1, max_length=40), PLAIN]


class MemberStatus(StrEnum):
    """Whether a person is in an association now."""

    ACTIVE = "active"
    LEFT = "left"


class Member(Record, table=True):
    """A person enrolled in a district; `area_code` is that of her association.

    Identity number, phone and payout account are ciphertexts under her own key (see `data_keys`)
    with blind indexes, held only with the consent for each. What holds of her `consents` by now
    is kept beside them, by the transaction that adds the event. A phone that only the employer's
    side entered is `phone_unconfirmed_since` then, and lets nobody in.
    """

    __tablename__ = "members"
    __table_args__ = (
        one_of("status", MemberStatus),
        CheckConstraint(
            "(identity_consented_on is not null or id_number_sealed is null)"
            " and (contact_consented_on is not null or phone_sealed is null)"
            " and (payment_consented_on is not null or payout_account_sealed is null)",
            name="consents",
        ),
        CheckConstraint(
            "thanks_consented_on is null or thanks_withdrawn_on is null", name="thanks"
        ),
        CheckConstraint(
            "(id_number_sealed is null) = (id_number_index is null)"
            " and (phone_sealed is null) = (phone_index is null)"
            " and (payout_account_sealed is null) = (payout_account_index is null)",
            name="sealed_is_indexed",
        ),
        CheckConstraint(
            "erased_at is null or (status = 'left' and employee_no is null"
            " and coalesce(identity_consented_on, contact_consented_on, payment_consented_on,"
            " thanks_consented_on) is null)",
            name="erased",
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
        # A run over all members meets only those whom it must leave out.
        Index("ix_members_left", "district_code", "id", postgresql_where=text("status = 'left'")),
        Index(
            "ix_members_without_thanks_consent",
            "district_code",
            "id",
            postgresql_where=text("thanks_consented_on is null"),
        ),
        Index(
            "ix_members_thanks_withdrawn",
            "district_code",
            "id",
            postgresql_where=text("thanks_withdrawn_on is not null"),
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
    identity_consented_on: date | None = None
    contact_consented_on: date | None = None
    payment_consented_on: date | None = None
    thanks_consented_on: date | None = None
    thanks_withdrawn_on: date | None = None
    id_number_sealed: OptionalSealed
    id_number_index: OptionalSealed
    phone_sealed: OptionalSealed
    phone_index: OptionalSealed
    payout_account_sealed: OptionalSealed = None
    payout_account_index: OptionalSealed = None
    erased_at: OptionalInstant = None
    phone_unconfirmed_since: OptionalInstant = None

    @property
    def key(self) -> dict[str, Any]:
        """Give by what the rows of other tables are hers: district and member."""
        return {"district_code": self.district_code, "member_id": self.id}


class Membership(Tenant, table=True):
    """A tie to one association, from `joined_on` until before `left_on`.

    It is known since `recorded_at`, its end since `left_recorded_at`. Who comes back on the day
    on which she came and left takes up the same tie: `was_left` are the spells between.
    """

    __tablename__ = "memberships"
    __table_args__ = (
        CheckConstraint("left_on >= joined_on", name="period"),
        CheckConstraint("(left_on is null) = (left_recorded_at is null)", name="left"),
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
    recorded_at: RecordedAt
    left_recorded_at: OptionalInstant = None
    was_left: Spells = None


class PersonKey(Table, table=True):
    """Where a person is enrolled, by keyed hash: the one table that spans districts."""

    __tablename__ = "person_keys"

    identity_hash: Sealed = Field(primary_key=True)
    district_code: Code
    member_id: UUID


class MemberFilters(Filters):
    """How a list of members may be narrowed."""

    association_id: Id | None = None
    area: AreaCode | None = Described(None, description="The area and all below it.")
    status: AnyOf[MemberStatus] | None = None
    updated_since: Instant | None = Described(None, description="Changed at or after.")
    name: AnyName | None = Described(None, description="Exactly this name.")


class MemberCreate(Input):
    """A person to enrol; ID number and phone are stored only with her consent to each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "association_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0aa",
                    "name": "张小样",
                    "employee_no": "A1001",
                    "phone": "13800000000",
                    "joined_on": "2026-01-05",
                    "consented_on": "2026-01-05",
                }
            ]
        }
    )

    association_id: Id
    name: AnyName
    employee_no: EmployeeNo | None = None
    id_number: Identifier | None = Described(None, description="18 characters (GB 11643).")
    phone: Identifier | None = Described(None, description="China assumed without a country code.")
    joined_on: Day | None = Described(None, description="Today when left out; never later.")
    consented_on: Day | None = Described(
        None, description="When she signed that she consents; to what, says `consented_to`."
    )
    consented_to: list[ConsentPurpose] | None = Described(
        None,
        max_length=4,
        description="Each item that she signed apart. Left out: those of ID number and phone that"
        " are given.",
    )


class MemberUpdate(Input):
    """What to change; a consent is withdrawn at `/v1/members/{id}/consents/withdraw`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "张小样", "employee_no": "A1002"}]}
    )

    name: AnyName | None = None
    employee_no: EmployeeNo | None = None
    id_number: Identifier | None = None
    phone: Identifier | None = None
    consented_on: Day | None = Described(
        None, description="When she signed that she consents to ID number or phone given here."
    )


class MemberTransfer(Input):
    """A move to another association, or back into one after leaving."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "association_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0bb",
                    "moved_on": "2026-03-01",
                    "reason": "换了工厂",
                }
            ]
        }
    )

    association_id: Id
    moved_on: Day = Described(description="First day in the new association; not in the future.")
    employee_no: EmployeeNo | None = Described(
        None, description="The number there; the old association's is dropped."
    )
    reason: Line | None = None


class MemberLeave(Input):
    """The end of a membership."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"left_on": "2026-03-01", "reason": "返乡"}]}
    )

    left_on: Day = Described(description="First day that no longer counts; not in the future.")
    reason: Line | None = None


class MemberSearch(Input):
    """An exact ID number or an exact phone, one of the two."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"phone": "13800000000"}]})

    id_number: Identifier | None = None
    phone: Identifier | None = None


class MemberRead(Output):
    """A member, without what is encrypted."""

    person = "id"

    id: UUID
    association_id: UUID
    area_code: AreaCode
    status: MemberStatus
    name: str
    employee_no: str | None
    first_joined_on: date
    consents: list[ConsentPurpose] = Described(description="What she consents to by now.")
    has_id_number: bool
    has_phone: bool
    phone_confirmed: bool | None = Described(
        description="Whether an office that is not the employer's vouches for the phone; she logs"
        " in by no other."
    )
    erased_at: Instant | None = Described(description="When her personal data was erased for ever.")
    version: Version
    created_at: Instant
    updated_at: Instant


class MemberDetail(MemberRead):
    """A member, with ID number and phone masked."""

    id_number_masked: str | None
    phone_masked: str | None
    phone_pending_until: Instant | None = Described(
        description="When a new phone of hers that waits is in force, at the earliest; null where"
        " none waits, and to the employer's side."
    )


class MembersFound(Page[MemberDetail]):
    """Who has a number; it was only looked for, so a repeated request looks again."""

    never_kept: ClassVar[bool] = True


class MembershipFilters(Filters):
    """How the list of a member's ties is paged."""


class MembershipRead(Output):
    """A tie to one association, from `joined_on` until before `left_on`."""

    person = ""

    association_id: UUID
    joined_on: date
    left_on: date | None
    reason: str | None


class ErasureRead(Output):
    """A member whose personal data is gone, and when it went."""

    person = "id"

    id: UUID
    erased_at: Instant
    version: Version
