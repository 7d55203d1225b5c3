"""Stock: how many of a gift a depot has, beside the movements that it is the sum of."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models import shapes
from app.models.shapes import MAX_FEN, AreaCode, Day, Id, Input, Line, Output, Whole
from app.models.tables import Code, Instant, Long, OptionalWords, Tenant, Words, one_of
from app.paging import AnyOf, Filters


class StockAccount(StrEnum):
    """Where pieces are; `outside` is beyond the books."""

    OUTSIDE = "outside"
    AVAILABLE = "available"
    RESERVED = "reserved"
    HANDED_OUT = "handed_out"


class MovementKind(StrEnum):
    """Why pieces move."""

    RECEIVE = "receive"
    TRANSFER = "transfer"
    WRITE_OFF = "write_off"
    RESERVE = "reserve"
    HAND_OUT = "hand_out"
    RELEASE = "release"
    RETURN = "return"
    ADJUST = "adjust"


class EnteredKind(StrEnum):
    """Those of the movements that are entered by a document."""

    RECEIVE = "receive"
    TRANSFER = "transfer"
    WRITE_OFF = "write_off"


SIDES = {
    MovementKind.RECEIVE: (StockAccount.AVAILABLE, StockAccount.OUTSIDE),
    MovementKind.TRANSFER: (StockAccount.AVAILABLE, StockAccount.AVAILABLE),
    MovementKind.WRITE_OFF: (StockAccount.OUTSIDE, StockAccount.AVAILABLE),
    MovementKind.RESERVE: (StockAccount.RESERVED, StockAccount.AVAILABLE),
    MovementKind.HAND_OUT: (StockAccount.HANDED_OUT, StockAccount.RESERVED),
    MovementKind.RELEASE: (StockAccount.AVAILABLE, StockAccount.RESERVED),
    MovementKind.RETURN: (StockAccount.AVAILABLE, StockAccount.HANDED_OUT),
}
"""Where each kind takes pieces to and from; an adjustment goes either way, to or from outside."""

_BY_DOCUMENT = "('receive', 'transfer', 'write_off')"
_OF_A_RUN = "('reserve', 'hand_out', 'release', 'return')"
_OF_A_PAYOUT = "('hand_out', 'return')"
_ADJUSTED = (
    "kind = 'adjust' and (debit = 'available' and credit = 'outside'"
    " or debit = 'outside' and credit = 'available')"
)
COUNTS = (
    "received",
    "transferred_in",
    "transferred_out",
    "written_off",
    "adjusted",
    "available",
    "reserved",
    "handed_out",
)


class Stock(Tenant, table=True):
    """How many pieces of a gift a depot has, never below zero, and what they came from."""

    __tablename__ = "stock"
    __table_args__ = (
        CheckConstraint("available >= 0", name="available"),
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint("handed_out >= 0", name="handed_out"),
        CheckConstraint(
            "received >= 0 and transferred_in >= 0 and transferred_out >= 0 and written_off >= 0"
            " and received + transferred_in - transferred_out - written_off + adjusted"
            " = available + reserved + handed_out",
            name="balanced",
        ),
        ForeignKeyConstraint(
            ["district_code", "depot_id"], ["depots.district_code", "depots.id"], name="depot"
        ),
        ForeignKeyConstraint(
            ["district_code", "gift_id"], ["gifts.district_code", "gifts.id"], name="gift"
        ),
    )

    depot_id: UUID = Field(primary_key=True)
    gift_id: UUID = Field(primary_key=True)
    received: Long
    transferred_in: Long
    transferred_out: Long
    written_off: Long
    adjusted: Long
    available: Long
    reserved: Long
    handed_out: Long


class StockMovement(Tenant, table=True):
    """One movement of pieces, never changed nor deleted; those of one act share a posting.

    `depot_id` is debited. The credited depot is the same, but for a transfer's.
    """

    __tablename__ = "stock_movements"
    __table_args__ = (
        one_of("kind", MovementKind),
        CheckConstraint(
            " or ".join(
                f"kind = '{kind}' and debit = '{debit}' and credit = '{credit}'"
                for kind, (debit, credit) in SIDES.items()
            )
            + f" or {_ADJUSTED}",
            name="sides",
        ),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("(kind = 'transfer') = (depot_id <> credit_depot_id)", name="depots"),
        CheckConstraint(f"(kind in {_BY_DOCUMENT}) = (document_no is not null)", name="document"),
        CheckConstraint(f"(kind in {_OF_A_RUN}) = (run_id is not null)", name="run"),
        CheckConstraint(f"(kind in {_OF_A_PAYOUT}) = (line_no is not null)", name="payout"),
        CheckConstraint("(kind = 'adjust') = (stock_take_id is not null)", name="stock_take"),
        CheckConstraint("kind not in ('write_off', 'adjust') or note is not null", name="reason"),
        ForeignKeyConstraint(
            ["district_code", "depot_id", "gift_id"],
            ["stock.district_code", "stock.depot_id", "stock.gift_id"],
            name="stock",
        ),
        ForeignKeyConstraint(
            ["district_code", "credit_depot_id", "gift_id"],
            ["stock.district_code", "stock.depot_id", "stock.gift_id"],
            name="credit_stock",
        ),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
        ForeignKeyConstraint(
            ["district_code", "stock_take_id"],
            ["stock_takes.district_code", "stock_takes.id"],
            name="stock_take",
        ),
        # What a payout takes it takes once, and gives back once.
        Index(
            "uq_stock_movements_payout",
            "district_code",
            "run_id",
            "line_no",
            "kind",
            unique=True,
            postgresql_where=text("line_no is not null"),
        ),
        Index(
            "uq_stock_movements_run",
            "district_code",
            "run_id",
            "depot_id",
            "gift_id",
            "kind",
            unique=True,
            postgresql_where=text("run_id is not null and line_no is null"),
        ),
        Index(
            "uq_stock_movements_document",
            "district_code",
            "gift_id",
            "credit_depot_id",
            "kind",
            "document_no",
            "depot_id",
            unique=True,
            postgresql_where=text("document_no is not null"),
        ),
        Index(
            "uq_stock_movements_stock_take",
            "district_code",
            "stock_take_id",
            "gift_id",
            unique=True,
            postgresql_where=text("stock_take_id is not null"),
        ),
        Index("ix_stock_movements_gift", "district_code", "gift_id", "posting_id", "number"),
    )

    posting_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    kind: Code
    gift_id: UUID
    depot_id: UUID
    credit_depot_id: UUID
    debit: Code
    credit: Code
    quantity: Long
    run_id: UUID | None
    line_no: int | None
    stock_take_id: UUID | None
    document_no: OptionalWords
    note: OptionalWords
    occurred_on: date
    recorded_at: Instant
    recorded_by: Words


class RunGift(Tenant, table=True):
    """From which depot a rule's gifts come for an association's members, in one run.

    It is fixed when the run is approved.
    """

    __tablename__ = "run_gifts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["district_code", "depot_id", "gift_id"],
            ["stock.district_code", "stock.depot_id", "stock.gift_id"],
            name="stock",
        ),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
    )

    run_id: UUID = Field(primary_key=True)
    rule_id: UUID = Field(primary_key=True)
    association_id: UUID = Field(primary_key=True)
    gift_id: UUID
    depot_id: UUID


Pieces = Annotated[int, Described(ge=0, le=MAX_FEN, json_schema_extra={"format": "int64"})]
MAX_MOVED = 100_000_000
"""How many pieces one movement may move; a slip of the finger moves more."""


class MovementCreate(Input):
    """What a document says of pieces that came, went to another depot, or were lost."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "receive",
                    "depot_id": "0195d5c1-6f00-7000-8000-00000000000d",
                    "quantity": 500,
                    "document_no": "送货单 2026-118",
                    "occurred_on": "2026-01-15",
                }
            ]
        }
    )

    kind: EnteredKind
    depot_id: Id = Described(description="Where they come to, or leave from.")
    to_depot_id: Id | None = Described(None, description="Of a transfer: where they go.")
    quantity: Whole = Described(ge=1, le=MAX_MOVED)
    document_no: Line = Described(description="Of a gift in a depot, each is entered once.")
    occurred_on: Day
    note: Line | None = Described(None, description="Of a write-off: why; required then.")


class MovementFilters(Filters):
    """How the list of a gift's movements is narrowed."""

    kind: AnyOf[MovementKind] | None = None
    depot_id: Id | None = None
    run_id: Id | None = None


class MovementRead(Output):
    """A movement as the books show it: where the pieces went, and from where."""

    person = "member_id"
    numbered = ("payout_id",)

    posting_id: UUID
    number: int
    kind: MovementKind
    gift_id: UUID
    depot_id: UUID = Described(description="The depot that is debited.")
    debit: StockAccount
    credit_depot_id: UUID
    credit: StockAccount
    quantity: Pieces
    run_id: UUID | None
    payout_id: UUID | None
    member_id: UUID | None = Described(description="Whose payout it is.")
    stock_take_id: UUID | None
    document_no: str | None
    note: str | None
    occurred_on: date
    recorded_at: shapes.Instant
    recorded_by: str


class StockFilters(Filters):
    """How the list of what depots have may be narrowed."""

    gift_id: Id | None = None
    depot_id: Id | None = None
    area: AreaCode | None = Described(None, description="Depots of this area and all below it.")


class StockRead(Output):
    """How many of a gift a depot has: what is available and reserved lies on its shelves."""

    depot_id: UUID
    depot_name: str
    gift_id: UUID
    gift_code: str
    gift_name: str
    unit: str
    available: Pieces
    reserved: Pieces = Described(description="For approved runs, not yet handed out.")
    handed_out: Pieces = Described(description="To members, less what came back.")
    received: Pieces
    transferred_in: Pieces
    transferred_out: Pieces
    written_off: Pieces
    adjusted: int = Described(description="By stock-takes; below zero when less was found.")
