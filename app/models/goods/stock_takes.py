"""Stock-takes: what was counted in a depot, and how it differs from the books."""

from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models import shapes
from app.models.goods.stock_movements import MAX_MOVED, Pieces
from app.models.shapes import Id, Input, Line, Output, Version, Whole
from app.models.tables import (
    Code,
    Instant,
    Long,
    OptionalInstant,
    OptionalLong,
    OptionalWords,
    Record,
    Tenant,
    Words,
    one_of,
)
from app.paging import AnyOf, Filters


class StockTakeStatus(StrEnum):
    """The life of a stock-take."""

    OPEN = "open"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class StockTake(Record, table=True):
    """A count of a depot; closing it brings the books to what was counted.

    Who closes it has neither opened it nor counted.
    """

    __tablename__ = "stock_takes"
    __table_args__ = (
        one_of("status", StockTakeStatus),
        CheckConstraint(
            "(status = 'open') = (ended_at is null) and (ended_at is null) = (ended_by is null)"
            " and (ended_at is null) = (reason is null)",
            name="ended",
        ),
        CheckConstraint(
            "status <> 'closed' or ended_by <> opened_by", name="counter_is_not_confirmer"
        ),
        ForeignKeyConstraint(
            ["district_code", "depot_id"], ["depots.district_code", "depots.id"], name="depot"
        ),
        Index(
            "uq_stock_takes_open",
            "district_code",
            "depot_id",
            unique=True,
            postgresql_where=text("status = 'open'"),
        ),
    )

    depot_id: UUID
    status: Code
    opened_by: Words
    ended_at: OptionalInstant
    ended_by: OptionalWords
    reason: OptionalWords


class StockCount(Tenant, table=True):
    """How many pieces of a gift were counted; closing notes beside it what the books said."""

    __tablename__ = "stock_counts"
    __table_args__ = (
        CheckConstraint("quantity >= 0", name="quantity"),
        CheckConstraint("book_quantity >= 0", name="book_quantity"),
        ForeignKeyConstraint(
            ["district_code", "stock_take_id"],
            ["stock_takes.district_code", "stock_takes.id"],
            name="stock_take",
        ),
        ForeignKeyConstraint(
            ["district_code", "gift_id"], ["gifts.district_code", "gifts.id"], name="gift"
        ),
    )

    stock_take_id: UUID = Field(primary_key=True)
    gift_id: UUID = Field(primary_key=True)
    quantity: Long
    book_quantity: OptionalLong
    counted_by: Words
    counted_at: Instant


class StockTakeFilters(Filters):
    """How a list of stock-takes may be narrowed."""

    depot_id: Id | None = None
    status: AnyOf[StockTakeStatus] | None = None


class StockTakeCreate(Input):
    """Which depot is counted."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"depot_id": "0195d5c1-6f00-7000-8000-00000000000d"}]}
    )

    depot_id: Id


class StockCountWrite(Input):
    """How many pieces lie there, those reserved for members among them."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"quantity": 498}]})

    quantity: Whole = Described(ge=0, le=MAX_MOVED)


class StockTakeEnd(Input):
    """Why the books are brought to what was counted, or why the count is given up."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "年度盘点，搬运破损"}]})

    reason: Line


class StockTakeRead(Output):
    """A stock-take."""

    id: UUID
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
    depot_id: UUID
    status: StockTakeStatus
    opened_by: str
    ended_at: shapes.Instant | None
    ended_by: str | None
    reason: str | None


class DifferenceRead(Output):
    """What of a gift was counted, and what the books say: now, or when the take was closed."""

    gift_id: UUID
    gift_code: str
    gift_name: str
    unit: str
    counted: Pieces | None = Described(description="Null for what nobody has counted.")
    book: Pieces = Described(description="Available and reserved.")
    difference: int | None = Described(description="Counted less book.")
    counted_by: str | None
    counted_at: shapes.Instant | None


class DifferencesRead(Output):
    """A stock-take's report: each gift that was counted, or that the books know there."""

    items: list[DifferenceRead]
