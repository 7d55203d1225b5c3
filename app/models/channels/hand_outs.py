"""Hand-outs: gifts due to a member whose code was scanned, given to her once."""

from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described

from app.models import shapes
from app.models.disbursement.payouts import PayoutStatus
from app.models.shapes import Id, Input, Output


class DueGift(Output):
    """A gift of a run that is being handed out."""

    numbered = ("payout_id",)

    payout_id: UUID
    association_id: UUID | None = Described(description="Null for the staff of an event.")
    rule_code: str | None = Described(description="Null for the staff of an event.")
    gift_code: str
    gift_item: str = Described(
        description="As the rule words it; as the catalogue does for the staff of an event."
    )
    unit: str
    quantity: int
    depot_id: UUID | None = Described(description="Whence it is taken.")
    depot_name: str | None
    status: PayoutStatus = Described(description="Paid when it was handed out already.")
    settled_at: shapes.Instant | None
    statement: str = Described(description="What the member reads; it never names a health check.")


class DueGiftsRead(Output):
    """The gifts of a member in runs that are being handed out, within the caller's reach."""

    person = "member_id"

    member_id: UUID
    items: list[DueGift]


class HandOut(Input):
    """Whose code was scanned."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"member_id": "0195d5c1-6f00-7000-8000-00000000000c"}]}
    )

    member_id: Id = Described(description="As her code says; the gift must be hers.")


class HandOutRead(Output):
    """A gift that was handed out: now, or before, and then when."""

    person = "member_id"
    numbered = ("payout_id",)

    payout_id: UUID
    member_id: UUID
    gift_code: str
    gift_item: str
    unit: str
    quantity: int
    depot_id: UUID | None
    depot_name: str | None
    handed_out_at: shapes.Instant
    handed_out_by: str | None
    repeated: bool = Described(description="Whether it had been handed out before.")
