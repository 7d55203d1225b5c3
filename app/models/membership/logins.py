"""Members' login by a code sent to the phone: what is asked and what is answered."""

from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field

from app import identifiers
from app.models.membership.members import Identifier
from app.models.shapes import PLAIN, AreaCode, Id, Input, Instant, Output

_LONGEST = 20


def _as_typed(code: object) -> object:
    """Fold what a phone's keyboard makes of digits, as ０４２ ９１７."""
    return identifiers.normalise(code) if isinstance(code, str) and len(code) <= _LONGEST else code


SixDigits = Annotated[
    str, Field(pattern=r"^[0-9]{6}$", examples=["042917"]), BeforeValidator(_as_typed)
]
Ticket = Annotated[str, Field(min_length=1, max_length=100), PLAIN]
District = Annotated[
    AreaCode | None, Field(description="Needed only where the service serves several districts.")
]


class LoginCreate(Input):
    """The phone of whoever wants to log in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"phone": "13800000000"}]})

    phone: Identifier
    district_code: District = None


class LoginRead(Output):
    """A login under way, alike for every phone: only a member's is sent a code."""

    id: UUID
    expires_at: Instant
    resend_at: Instant = Field(description="When another code may be asked for.")


class LoginVerify(Input):
    """The code from the message."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "042917"}]})

    code: SixDigits
    district_code: District = None


class LoginChoose(Input):
    """Which of several members on one phone it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"ticket": "3q2-7w", "member_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c001"}]
        }
    )

    ticket: Ticket = Field(description="As the right code was answered.")
    member_id: Id
    district_code: District = None


class AccessToken(Output):
    """A token to send as `Authorization: Bearer`, for `expires_in` seconds."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class LoginChoice(Output):
    """A member on the phone, told apart without a full name."""

    member_id: UUID
    name_masked: str
    association_name: str = Field(description="Where she is a member, or was last.")
    first_joined_on: date


class LoginOutcome(Output):
    """What the right code gives: a token, or a ticket and those among whom to choose."""

    token: AccessToken | None
    ticket: str | None = Field(description="For `/choose`, while the code would be valid.")
    choices: list[LoginChoice] = Field(description="Empty when the phone is one member's.")
