"""Payout accounts: to which account a member is paid, and the one that is to follow."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict
from pydantic import Field as Described

from app.models.shapes import PLAIN, AnyName, Input, Instant, Output, Version

Issuer = Annotated[str, Described(min_length=2, max_length=60), PLAIN]
AccountNumber = Annotated[str, Described(min_length=4, max_length=64), PLAIN]


class AccountKind(StrEnum):
    """What kind of account it is."""

    BANK_CARD = "bank_card"
    ELECTRONIC = "electronic"


class PayoutAccountUpdate(Input):
    """The account to which the member wants to be paid."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "bank_card",
                    "number": "6200000000000000000",
                    "issuer": "示例银行",
                    "holder": "张小样",
                }
            ]
        }
    )

    kind: AccountKind
    number: AccountNumber = Described(
        description="A bank card's number with its check digit (ISO/IEC 7812), or the name of"
        " another electronic account."
    )
    issuer: Issuer = Described(description="The bank, or who keeps the electronic account.")
    holder: AnyName = Described(description="In whose name it is.")


class PayoutAccountRead(Output):
    """An account, masked."""

    kind: AccountKind
    number_masked: str
    issuer: str
    holder_masked: str


class PendingAccount(PayoutAccountRead):
    """A new account that waits to take the other one's place."""

    requested_at: Instant
    in_force_at: Instant = Described(description="Later if the notice is sent later.")
    noticed_at: Instant | None = Described(description="When the phone on file was told.")


class MyPayoutAccount(Output):
    """The account in force, and the one that is to follow."""

    beyond_version = True
    person = ""

    account: PayoutAccountRead | None
    pending: PendingAccount | None
    version: Version


class MemberPayoutAccount(Output):
    """The account in force of a member; null where she has none."""

    person = ""

    account: PayoutAccountRead | None
