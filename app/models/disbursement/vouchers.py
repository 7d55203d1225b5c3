"""Vouchers: a free service at a service station, redeemed once by a random code."""

from datetime import date
from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from app.models import shapes
from app.models.shapes import Fen, Id, Input, Line, Output
from app.models.tables import (
    Code,
    Instant,
    Long,
    OptionalCode,
    OptionalInstant,
    OptionalSealed,
    OptionalWords,
    Tenant,
    one_of,
)
from app.paging import AnyOf, Filters


class VoucherStatus(StrEnum):
    """What became of a voucher."""

    ISSUED = "issued"
    REDEEMED = "redeemed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Voucher(Tenant, table=True):
    """The voucher of a line of a run, whose payout is paid by redeeming it.

    Of its code there is a keyed hash to find it by, and the code itself, sealed under the
    member's key for as long as it is worth anything. No service has a column.
    """

    __tablename__ = "vouchers"
    __table_args__ = (
        one_of("status", VoucherStatus),
        CheckConstraint("amount_fen > 0", name="amount"),
        CheckConstraint(
            "(status = 'issued') = (code_sealed is not null)"
            " and (status <> 'issued' or code_index is not null)",
            name="code",
        ),
        CheckConstraint(
            "(status = 'redeemed') = (redeemed_at is not null)"
            " and (status = 'redeemed') = (station_id is not null)"
            " and (status = 'redeemed') = (redeemed_by is not null)"
            " and (status = 'redeemed') = (code_tail is not null)",
            name="redeemed",
        ),
        CheckConstraint(
            "(status in ('expired', 'cancelled')) = (ended_at is not null)", name="ended"
        ),
        CheckConstraint("settlement_id is null or status = 'redeemed'", name="settled"),
        UniqueConstraint("district_code", "code_index", name="code"),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        ForeignKeyConstraint(
            ["district_code", "station_id"],
            ["service_stations.district_code", "service_stations.id"],
            name="station",
        ),
        # A voucher is in one settlement at most, and in none of another station.
        ForeignKeyConstraint(
            ["district_code", "settlement_id", "station_id"],
            [
                "station_settlements.district_code",
                "station_settlements.id",
                "station_settlements.station_id",
            ],
            name="settlement",
        ),
        Index("ix_vouchers_member", "district_code", "member_id"),
        Index(
            "ix_vouchers_open",
            "district_code",
            "valid_until_on",
            postgresql_where=text("status = 'issued'"),
        ),
        Index(
            "ix_vouchers_station",
            "district_code",
            "station_id",
            "redeemed_at",
            postgresql_where=text("station_id is not null"),
        ),
        Index(
            "ix_vouchers_settlement",
            "district_code",
            "settlement_id",
            postgresql_where=text("settlement_id is not null"),
        ),
    )

    run_id: UUID = Field(primary_key=True)
    line_no: int = Field(primary_key=True)
    round_sequence: int
    member_id: UUID
    rule_id: UUID
    association_id: UUID
    amount_fen: Long
    code_index: OptionalSealed
    code_sealed: OptionalSealed
    code_tail: OptionalCode
    status: Code
    issued_at: Instant
    valid_until_on: date
    redeemed_at: OptionalInstant
    station_id: UUID | None
    redeemed_by: OptionalWords
    settlement_id: UUID | None
    ended_at: OptionalInstant


class Redemption(Input):
    """A code that a member shows at a station."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "7K3M-Q0ZD-41XV-8T5B",
                    "station_id": "0195d5c1-6f00-7000-8000-00000000000e",
                }
            ]
        }
    )

    code: str = Described(
        min_length=1,
        max_length=40,
        description="As it is read out or scanned; spaces are no matter.",
    )
    station_id: Id = Described(description="The station that gave the service.")


class RedemptionRead(Output):
    """What a station is told of a redeemed voucher: its value, and nothing of whose it was."""

    code_masked: str
    amount_fen: Fen
    station_id: UUID
    redeemed_at: shapes.Instant


class VoucherCancel(Input):
    """Why a voucher is cancelled."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "重复发放"}]})

    reason: Line


class MyVoucherFilters(Filters):
    """How the list of the member's vouchers may be narrowed."""

    status: AnyOf[VoucherStatus] | None = None


class MyVoucher(Output):
    """A voucher of the member's; nothing names the service that it is good for."""

    person = ""
    never_kept = True
    numbered = ("id",)

    id: UUID = Described(description="The payout's id.")
    code: str | None = Described(description="To show at a station; null once it is worth nothing.")
    amount_fen: Fen
    status: VoucherStatus
    issued_at: shapes.Instant
    valid_until_on: date = Described(description="The last day on which it is redeemed.")
    redeemed_at: shapes.Instant | None
    statement: str = Described(description="What it is for; it never names a service.")
