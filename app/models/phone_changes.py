"""Changes of a member's phone, held for three days and told to the old phone."""

from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models import shapes
from app.models.logins import SixDigits
from app.models.members import Identifier
from app.models.shapes import Input, Output, Version
from app.models.tables import Instant, OptionalInstant, OptionalSealed, Tenant


class PhoneChange(Tenant, table=True):
    """A new phone that its holder has proven; it waits until `in_force_at`.

    It is sealed under the member's key, and erased once it is her phone, or will never be.
    """

    __tablename__ = "phone_changes"
    __table_args__ = (
        CheckConstraint("in_force_at > requested_at", name="hold"),
        CheckConstraint("applied_at is null or cancelled_at is null", name="one_end"),
        CheckConstraint("applied_at is null or noticed_at is not null", name="noticed"),
        CheckConstraint(
            "(applied_at is null and cancelled_at is null) = (phone_sealed is not null)",
            name="erased_at_the_end",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        Index(
            "uq_phone_changes_open",
            "district_code",
            "member_id",
            unique=True,
            postgresql_where=text("applied_at is null and cancelled_at is null"),
        ),
    )

    id: UUID = Field(primary_key=True)
    member_id: UUID
    phone_sealed: OptionalSealed
    requested_at: Instant
    in_force_at: Instant
    noticed_at: OptionalInstant
    applied_at: OptionalInstant
    cancelled_at: OptionalInstant


class PhoneCodeCreate(Input):
    """The new phone, to which a code is sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"phone": "13900000000"}]})

    phone: Identifier


class PhoneCodeRead(Output):
    """A code under way to the new phone."""

    id: UUID
    expires_at: shapes.Instant
    resend_at: shapes.Instant


class PhoneUpdate(Input):
    """The new phone, with the code that was sent to it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "phone": "13900000000",
                    "code_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0c1",
                    "code": "042917",
                }
            ]
        }
    )

    phone: Identifier
    code_id: UUID
    code: SixDigits


class PendingPhone(Output):
    """A new phone that waits to take the old one's place."""

    phone_masked: str
    requested_at: shapes.Instant
    in_force_at: shapes.Instant = Described(description="Later if the notice is sent later.")
    noticed_at: shapes.Instant | None = Described(description="When the old phone was told.")


class MyPhone(Output):
    """The phone in force, and the one that is to follow."""

    beyond_version = True
    person = ""

    phone_masked: str | None
    pending: PendingPhone | None
    version: Version
