"""Funds: money of one source for one fiscal year, and how far it may be spent."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint

from app.models import shapes
from app.models.shapes import (
    MAX_FEN,
    AreaCode,
    Day,
    Fen,
    Id,
    Input,
    Line,
    Name,
    Output,
    Patch,
    Version,
    Whole,
)
from app.models.tables import Code, Long, OptionalInstant, OptionalWords, Record, Words, one_of
from app.paging import DIGITS, AnyOf, Filters

FULL_BP = 10_000
"""A whole, in basis points."""


class FundSource(StrEnum):
    """Whose money it is."""

    DISTRICT = "district"
    TOWN = "town"
    VILLAGE = "village"
    ENTERPRISE = "enterprise"
    OTHER = "other"


class FundStatus(StrEnum):
    """Whether a fund may still pay."""

    OPEN = "open"
    CLOSED = "closed"


class Fund(Record, table=True):
    """Money of one source and year, for the associations of an area or for one of them.

    Its balances are what its transfers add up to, kept beside them so that a reservation is one
    conditional update; none is ever below zero, and together they are what came in.
    """

    __tablename__ = "funds"
    __table_args__ = (
        one_of("source", FundSource),
        one_of("status", FundStatus),
        CheckConstraint("fiscal_year between 2000 and 2200", name="fiscal_year"),
        CheckConstraint("substr(area_code, 1, 6) = substr(district_code, 1, 6)", name="area_range"),
        CheckConstraint("available_fen >= 0", name="available"),
        CheckConstraint("reserved_fen >= 0", name="reserved"),
        CheckConstraint("spent_fen >= 0", name="spent"),
        CheckConstraint(
            "received_fen >= 0 and allocated_in_fen >= 0 and allocated_out_fen >= 0"
            " and received_fen + allocated_in_fen - allocated_out_fen"
            " = available_fen + reserved_fen + spent_fen",
            name="balanced",
        ),
        CheckConstraint(
            "(status = 'closed') = (closed_at is not null) and (closed_at is null)"
            " = (closed_by is null) and (status = 'open' or available_fen + reserved_fen = 0)",
            name="closed",
        ),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        UniqueConstraint(
            "district_code",
            "fiscal_year",
            "source",
            "area_code",
            "association_id",
            name="scope",
            postgresql_nulls_not_distinct=True,
        ),
    )

    name: Words
    source: Code
    fiscal_year: int
    area_code: Code
    association_id: UUID | None
    status: Code
    available_fen: Long
    reserved_fen: Long
    spent_fen: Long
    received_fen: Long
    allocated_in_fen: Long
    allocated_out_fen: Long
    created_by: Words
    closed_at: OptionalInstant
    closed_by: OptionalWords


BALANCES = (
    "received_fen",
    "allocated_in_fen",
    "allocated_out_fen",
    "available_fen",
    "reserved_fen",
    "spent_fen",
)
Amount = Annotated[
    Whole, Described(ge=1, le=MAX_FEN, json_schema_extra={"format": "int64"}, examples=[500000])
]
_EXAMPLE: dict[str, JsonValue] = {
    "name": "狮山镇计生协会经费",
    "source": "town",
    "fiscal_year": 2026,
    "area_code": "440605124000",
}


class FundFilters(Filters):
    """How a list of funds may be narrowed."""

    source: AnyOf[FundSource] | None = None
    fiscal_year: Annotated[int, Described(ge=2000, le=2200), DIGITS] | None = None
    status: FundStatus | None = None
    area: AreaCode | None = Described(None, description="Funds of this area and all below it.")
    association_id: Id | None = None


class FundCreate(Input):
    """A fund to keep: empty at first, for an area or for one association in it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Name
    source: FundSource
    fiscal_year: Whole = Described(ge=2000, le=2200)
    area_code: AreaCode
    association_id: Id | None = Described(None, description="Only for this association's runs.")


class FundUpdate(Patch):
    """What of a fund may be changed: its name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "狮山镇计生协会经费"}]})

    name: Name | None = None


class MoneyIn(Input):
    """Money that a source pays into a fund, with the document that proves it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "amount_fen": 500000,
                    "document_no": "南财〔2026〕12号",
                    "occurred_on": "2026-01-15",
                }
            ]
        }
    )

    amount_fen: Amount
    document_no: Line = Described(description="Of a fund, each document is entered once.")
    occurred_on: Day
    note: Line | None = None


class MoneyOut(MoneyIn):
    """Money that goes back from a fund to its source, with the document that proves it."""


class Allocation(MoneyIn):
    """Money passed on from a fund to another, with the document that proves it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "to_fund_id": "0195d5c1-6f00-7000-8000-00000000000f",
                    "amount_fen": 200000,
                    "document_no": "南计协〔2026〕3号",
                    "occurred_on": "2026-02-01",
                }
            ]
        }
    )

    to_fund_id: Id


class Balances(Output):
    """What a fund holds, in fen; available, reserved and spent are all that came in and stayed."""

    received_fen: Fen = Described(description="From its source, less what went back to it.")
    allocated_in_fen: Fen = Described(description="From other funds.")
    allocated_out_fen: Fen = Described(description="To other funds.")
    available_fen: Fen
    reserved_fen: Fen = Described(description="For approved runs, not yet paid.")
    spent_fen: Fen = Described(description="Paid, less what was returned.")


class FundRead(Balances):
    """A fund with its balances now."""

    beyond_version = True

    id: UUID
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
    name: str
    source: FundSource
    fiscal_year: int
    area_code: AreaCode
    association_id: UUID | None
    status: FundStatus
    created_by: str
    closed_at: shapes.Instant | None
    closed_by: str | None


class BalanceQuery(Input):
    """As of when."""

    as_of: shapes.Instant | None = Described(
        None, description="The balances as they were known at this instant; now, if left out."
    )


class BalanceRead(Balances):
    """What a fund held, as it was known at an instant."""

    fund_id: UUID
    as_of: shapes.Instant
