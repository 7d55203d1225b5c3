"""Station settlements: what a station is owed for the vouchers that it redeemed in a month."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint

from app.models import shapes
from app.models.finance.funds import FundSource
from app.models.shapes import AreaCode, Day, Fen, Id, Input, Line, Output, Version
from app.models.tables import Code, Long, OptionalInstant, OptionalWords, Record, Words, one_of
from app.paging import AnyOf, Filters


class SettlementStatus(StrEnum):
    """The life of a settlement."""

    SUBMITTED = "submitted"
    APPROVED = "approved"
    PAID = "paid"
    REJECTED = "rejected"


class StationSettlement(Record, table=True):
    """The vouchers that a station redeemed in one civil month and nobody has settled yet."""

    __tablename__ = "station_settlements"
    __table_args__ = (
        one_of("status", SettlementStatus),
        CheckConstraint("extract(day from month_on) = 1", name="month"),
        CheckConstraint("voucher_count > 0 and amount_fen > 0", name="totals"),
        CheckConstraint("approved_by <> created_by", name="maker_is_not_checker"),
        CheckConstraint(
            "(status in ('approved', 'paid')) = (approved_by is not null)"
            " and (approved_by is null) = (approved_at is null)",
            name="approved",
        ),
        CheckConstraint("(status = 'rejected') = (status_reason is not null)", name="rejected"),
        CheckConstraint(
            "(status = 'paid') = (document_no is not null)"
            " and (document_no is null) = (paid_on is null)"
            " and (document_no is null) = (paid_by is null)",
            name="paid",
        ),
        UniqueConstraint("district_code", "id", "station_id", name="station"),
        ForeignKeyConstraint(
            ["district_code", "station_id"],
            ["service_stations.district_code", "service_stations.id"],
            name="station",
        ),
        Index("ix_station_settlements_station", "district_code", "station_id", "id"),
    )

    station_id: UUID
    area_code: Code
    month_on: date
    status: Code
    status_reason: OptionalWords
    voucher_count: int
    amount_fen: Long
    created_by: Words
    approved_by: OptionalWords
    approved_at: OptionalInstant
    document_no: OptionalWords
    paid_on: date | None
    paid_by: OptionalWords


Month = Annotated[
    str,
    Described(
        pattern="^20[0-9]{2}-(0[1-9]|1[0-2])$", description="A civil month.", examples=["2026-10"]
    ),
]


class SettlementCreate(Input):
    """Which station is to be settled with, for which month."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"station_id": "0195d5c1-6f00-7000-8000-00000000000e", "month": "2026-10"}]
        }
    )

    station_id: Id
    month: Month


class SettlementRejection(Input):
    """Why a settlement goes back; its vouchers are free for another."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "与台账不符"}]})

    reason: Line


class SettlementPayment(Input):
    """The document by which the station was paid."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"document_no": "付〔2026〕31号", "paid_on": "2026-11-10"}]}
    )

    document_no: Line
    paid_on: Day


class SettlementFilters(Filters):
    """How a list of settlements may be narrowed."""

    station_id: Id | None = None
    month: Month | None = None
    status: AnyOf[SettlementStatus] | None = None
    area: AreaCode | None = Described(None, description="Stations of this area and all below it.")


class SettlementItem(Output):
    """A settlement."""

    id: UUID
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
    station_id: UUID
    station_name: str
    area_code: AreaCode
    month: str
    status: SettlementStatus
    status_reason: str | None
    voucher_count: int
    amount_fen: Fen
    created_by: str
    approved_by: str | None
    approved_at: shapes.Instant | None
    document_no: str | None
    paid_on: date | None
    paid_by: str | None


class SettledFund(Output):
    """What one fund spent on the vouchers of a settlement."""

    fund_id: UUID
    fund_name: str
    source: FundSource
    amount_fen: Fen


class SettlementRead(SettlementItem):
    """A settlement with what each fund spent on it."""

    by_fund: list[SettledFund] = Described(description="Together the amount; none once rejected.")
