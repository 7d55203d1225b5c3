"""Month closes: the books of an area for one month, summed, signed and closed for good."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import (
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    UniqueConstraint,
    text,
)
from sqlmodel import Field

from app.models import shapes
from app.models.events.service_events import EventKind
from app.models.finance.funds import FundSource
from app.models.shapes import AreaCode, Fen, Input, Output, Version
from app.models.tables import (
    Code,
    Instant,
    Long,
    OptionalCode,
    OptionalInstant,
    OptionalLong,
    OptionalWords,
    Record,
    Tenant,
    Words,
    one_of,
)
from app.paging import AnyOf, Filters


class MonthStatus(StrEnum):
    """Whether a month's books may still change."""

    DRAFT = "draft"
    CLOSED = "closed"


class MonthClose(Record, table=True):
    """The close of one month of an area's funds, made by one person and closed by another.

    Each follows the close of the month before, whose digest its file names; one is the first.
    """

    __tablename__ = "month_closes"
    __table_args__ = (
        one_of("status", MonthStatus),
        CheckConstraint("extract(day from month) = 1", name="month"),
        CheckConstraint("substr(area_code, 1, 6) = substr(district_code, 1, 6)", name="area_range"),
        CheckConstraint("closed_by <> created_by", name="maker_is_not_checker"),
        CheckConstraint("closed_by <> calculated_by", name="calculator_is_not_checker"),
        CheckConstraint(
            "(status = 'closed') = (closed_at is not null)"
            " and (closed_at is null) = (closed_by is null)"
            " and (closed_at is null) = (sha256 is null)"
            " and (closed_at is null) = (signature is null)"
            " and (closed_at is null) = (key_id is null)",
            name="closed",
        ),
        CheckConstraint(
            "previous_month is null"
            " or status = 'closed' and previous_month = month - interval '1 month'",
            name="previous",
        ),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "area_code", "previous_month"],
            ["month_closes.district_code", "month_closes.area_code", "month_closes.month"],
            name="previous",
        ),
        UniqueConstraint("district_code", "area_code", "month", name="month"),
        Index(
            "uq_month_closes_first",
            "district_code",
            "area_code",
            unique=True,
            postgresql_where=text("status = 'closed' and previous_month is null"),
        ),
    )

    area_code: Code
    month: date
    status: Code
    created_by: Words
    calculated_at: Instant
    calculated_by: Words
    content: Annotated[bytes, Field(sa_type=LargeBinary)]
    previous_month: date | None
    closed_at: OptionalInstant
    closed_by: OptionalWords
    sha256: OptionalCode
    signature: Annotated[bytes | None, Field(sa_type=LargeBinary)]
    key_id: OptionalCode


_MOVED = (
    "received_fen", "withdrawn_fen", "allocated_in_fen", "allocated_out_fen", "reserved_fen",
    "spent_fen", "released_fen", "returned_fen",
)  # fmt: skip
_HELD = (
    "opening_available_fen", "opening_reserved_fen", "closing_available_fen",
    "closing_reserved_fen",
)  # fmt: skip
TOTALS = (*_HELD, *_MOVED)
"""The columns of a fund's month that its transfers add up to."""


class MonthFundTotal(Tenant, table=True):
    """What one fund held and moved in a month, by the days on the documents."""

    __tablename__ = "month_fund_totals"
    __table_args__ = (
        CheckConstraint(
            " and ".join(f"{name} >= 0" for name in TOTALS) + " and planned_fen >= 0",
            name="not_negative",
        ),
        CheckConstraint(
            "closing_available_fen = opening_available_fen + received_fen - withdrawn_fen"
            " + allocated_in_fen - allocated_out_fen - reserved_fen + released_fen + returned_fen"
            " and closing_reserved_fen"
            " = opening_reserved_fen + reserved_fen - spent_fen - released_fen",
            name="balanced",
        ),
        ForeignKeyConstraint(
            ["district_code", "close_id"],
            ["month_closes.district_code", "month_closes.id"],
            name="close",
        ),
        ForeignKeyConstraint(
            ["district_code", "fund_id"], ["funds.district_code", "funds.id"], name="fund"
        ),
    )

    close_id: UUID = Field(primary_key=True)
    fund_id: UUID = Field(primary_key=True)
    opening_available_fen: Long
    opening_reserved_fen: Long
    received_fen: Long
    withdrawn_fen: Long
    allocated_in_fen: Long
    allocated_out_fen: Long
    reserved_fen: Long
    spent_fen: Long
    released_fen: Long
    returned_fen: Long
    closing_available_fen: Long
    closing_reserved_fen: Long
    planned_fen: OptionalLong


Month = Annotated[str, Described(pattern="^2[01][0-9]{2}-(0[1-9]|1[0-2])$", examples=["2026-03"])]


class MonthFilters(Filters):
    """How a list of month closes may be narrowed."""

    status: AnyOf[MonthStatus] | None = None
    area: AreaCode | None = Described(None, description="Closes of this area and all below it.")


class MonthCreate(Input):
    """The month to sum, for the funds of an area and all below it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"area_code": "440605000000", "month": "2026-03"}]}
    )

    area_code: AreaCode
    month: Month


class FundMonth(Output):
    """A fund's month, in fen; what it holds is available or reserved."""

    fund_id: UUID
    name: str
    source: FundSource
    fiscal_year: int
    area_code: AreaCode
    association_id: UUID | None
    opening_available_fen: Fen
    opening_reserved_fen: Fen
    received_fen: Fen
    withdrawn_fen: Fen
    allocated_in_fen: Fen
    allocated_out_fen: Fen
    reserved_fen: Fen
    spent_fen: Fen
    released_fen: Fen
    returned_fen: Fen
    closing_available_fen: Fen
    closing_reserved_fen: Fen
    planned_fen: Fen | None = Described(description="Null without a budget for the month.")
    variance_fen: int | None = Described(
        description="What was planned, less what was spent and did not come back.",
        json_schema_extra={"format": "int64"},
    )


class PayoutMonth(Output):
    """What one rule paid to the members of one association in the month, and what came back."""

    rule_code: str
    rule_name: str
    event_kind: EventKind
    association_id: UUID
    association_name: str
    town_code: AreaCode
    paid_count: int
    paid_fen: Fen
    returned_count: int
    returned_fen: Fen


class MonthExceptionKind(StrEnum):
    """What somebody should look at."""

    BOOKS_DISAGREE = "books_disagree"
    RUN_MISMATCH = "run_mismatch"
    RETURNED_PAYOUTS = "returned_payouts"
    RESERVED_AT_THE_END = "reserved_at_the_end"
    OVER_BUDGET = "over_budget"
    ENTERED_LATE = "entered_late"


class MonthException(Output):
    """Something of the month to look at: what, of which record, how often, how many fen."""

    kind: MonthExceptionKind
    subject: str = Described(description="A run, a fund, or what the books were asked.")
    reason: str | None
    count: int
    amount_fen: Fen


class MonthControl(Output):
    """The control totals of a month's file."""

    fund_count: int
    transfer_count: int
    opening_fen: Fen
    received_fen: Fen
    withdrawn_fen: Fen
    spent_fen: Fen
    returned_fen: Fen
    closing_fen: Fen
    payout_count: int
    payout_fen: Fen


class PreviousMonth(Output):
    """The month before, by the digest of its file."""

    month: Month
    sha256: str


class MonthFile(Output):
    """What is signed: a month of an area's funds, without a person."""

    district_code: AreaCode
    area_code: AreaCode
    month: Month
    previous: PreviousMonth | None
    control: MonthControl
    funds: list[FundMonth]
    payouts: list[PayoutMonth]
    exceptions: list[MonthException]


class MonthRead(Output):
    """A month close."""

    id: UUID
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
    area_code: AreaCode
    month: Month
    status: MonthStatus
    created_by: str
    calculated_at: shapes.Instant
    calculated_by: str
    closed_at: shapes.Instant | None
    closed_by: str | None
    sha256: str | None = Described(description="Of `month.json` in the file.")
    signature: str | None = Described(description="Of the same, by Ed25519, in base64.")
    key_id: str | None = Described(description="Which of `/v1/signing-keys` verifies it.")


class MonthDetail(MonthRead):
    """A month close with all that its file says."""

    totals: MonthFile


class SigningKeyRead(Output):
    """A public key of the service."""

    key_id: str
    algorithm: str
    purpose: str
    public_key_pem: str


class SigningKeysRead(Output):
    """The public keys of the service."""

    items: list[SigningKeyRead]
