"""Changes of a member's phone, held for three days and told to the old phone."""

from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described

from app.models import shapes
from app.models.membership.logins import SixDigits
from app.models.membership.members import Identifier
from app.models.shapes import Id, Input, Output, Version


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
    code_id: Id
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
