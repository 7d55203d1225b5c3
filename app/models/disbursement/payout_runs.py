"""Payout runs: one calculation, approved and paid as a whole."""

from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index

from app.models.finance.funds import FundSource
from app.models.shapes import AreaCode, Fen, Id, Input, Line, Output, Version
from app.models.shapes import Instant as InstantShape
from app.models.tables import (
    Code,
    Long,
    OptionalInstant,
    OptionalWords,
    Record,
    Words,
    one_of,
)
from app.numbered_ids import NUMBER_BITS
from app.paging import AnyOf, Filters

_RANDOM_BITS = 62
"""How many of a UUIDv7's last bits are free."""
_CHANCE_BITS = _RANDOM_BITS - NUMBER_BITS


class RunStatus(StrEnum):
    """The life of a run."""

    DRAFT = "draft"
    CALCULATED = "calculated"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    DISBURSING = "disbursing"
    SETTLED = "settled"
    CLOSED = "closed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


PROMISED = (RunStatus.APPROVED, RunStatus.DISBURSING, RunStatus.SETTLED, RunStatus.CLOSED)
"""The states from which on a member knows of her payout."""


class Channel(StrEnum):
    """How a run's payouts reach the members."""

    CASH_LIST = "cash_list"
    BANK_FILE = "bank_file"
    GATEWAY = "gateway"


class PayoutRun(Record, table=True):
    """A run of one policy over one round within an area.

    The last 40 bits of its id are zero: a payout's id is the run's id plus its line number.
    """

    __tablename__ = "payout_runs"
    __table_args__ = (
        one_of("status", RunStatus),
        one_of("channel", Channel),
        CheckConstraint("approved_by <> submitted_by", name="maker_is_not_checker"),
        CheckConstraint("approved_by <> created_by", name="creator_is_not_checker"),
        CheckConstraint(
            "status in ('draft', 'cancelled')"
            " or calculated_at is not null and policy_number is not null",
            name="calculated",
        ),
        CheckConstraint(
            "status in ('draft', 'calculated', 'cancelled')"
            " or submitted_by is not null and submitted_at is not null",
            name="submitted",
        ),
        CheckConstraint(
            "status not in ('approved', 'disbursing', 'settled', 'closed')"
            " or approved_by is not null and approved_at is not null",
            name="approved",
        ),
        CheckConstraint(
            "status not in ('settled', 'closed') or settled_at is not null", name="settled"
        ),
        CheckConstraint(
            "(status = 'closed') = (closed_at is not null)"
            " and (closed_at is null) = (closed_by is null)",
            name="closed",
        ),
        CheckConstraint(
            "closed_by <> submitted_by and closed_by <> created_by", name="maker_is_not_closer"
        ),
        CheckConstraint(
            "failed_of is null or failed_of <> id and policy_number is not null", name="failed_of"
        ),
        CheckConstraint("status <> 'rejected' or status_reason is not null", name="rejected"),
        CheckConstraint("payout_count >= 0 and amount_fen >= 0", name="totals"),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "round_sequence"],
            ["exam_rounds.district_code", "exam_rounds.sequence"],
            name="round",
        ),
        ForeignKeyConstraint(
            ["district_code", "policy_id"],
            ["incentive_policies.district_code", "incentive_policies.id"],
            name="policy",
        ),
        ForeignKeyConstraint(
            ["district_code", "policy_id", "policy_number"],
            [
                "policy_versions.district_code",
                "policy_versions.policy_id",
                "policy_versions.number",
            ],
            name="version",
        ),
        ForeignKeyConstraint(
            ["district_code", "failed_of"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="failed_run",
        ),
        Index("ix_payout_runs_round", "district_code", "round_sequence"),
    )

    area_code: Code
    round_sequence: int
    policy_id: UUID
    policy_number: int | None
    channel: Code
    status: Code
    status_reason: OptionalWords
    payout_count: int
    amount_fen: Long
    created_by: Words
    calculated_at: OptionalInstant
    submitted_by: OptionalWords
    submitted_at: OptionalInstant
    approved_by: OptionalWords
    approved_at: OptionalInstant
    settled_at: OptionalInstant
    closed_by: OptionalWords
    closed_at: OptionalInstant
    failed_of: UUID | None

    @property
    def place(self) -> dict[str, Any]:
        """Give where its payouts are found along their key: district, round and run."""
        return {
            "district_code": self.district_code,
            "sequence": self.round_sequence,
            "run_id": self.id,
        }


def run_id_of(identity: UUID) -> UUID:
    """Make a run's id from a UUIDv7: its last random bits replace those above the line numbers.

    Ids made within a millisecond count up in the bits that are kept for the lines.
    """
    chance = identity.int % (1 << _CHANCE_BITS)
    return UUID(int=identity.int >> _RANDOM_BITS << _RANDOM_BITS | chance << NUMBER_BITS)


class RunCreate(Input):
    """What is to be calculated: a policy over a round within an area, or what another run left."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "exam_round_id": "0195d5c1-6f00-7000-8000-00000000000a",
                    "policy_id": "0195d5c1-6f00-7000-8000-00000000000b",
                }
            ]
        }
    )

    exam_round_id: Id | None = Described(None, description="Required without `failed_of`.")
    policy_id: Id | None = Described(None, description="Required without `failed_of`.")
    area_code: AreaCode | None = Described(
        None, description="Only associations in this area; by default all that the policy covers."
    )
    failed_of: Id | None = Described(
        None,
        description=(
            "A settled run: only what failed or came back in it, by its own round, policy, version"
            " and area, which need not be named and cannot be others."
        ),
    )
    channel: Channel = Described(
        Channel.CASH_LIST, description="How the money of the run reaches the members."
    )


class Rejection(Input):
    """Why a run goes back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "金额与方案不符"}]})

    reason: Line


class RunFilters(Filters):
    """How a list of runs may be narrowed."""

    status: AnyOf[RunStatus] | None = None
    exam_round_id: Id | None = None
    policy_id: Id | None = None
    failed_of: Id | None = None
    area: AreaCode | None = Described(None, description="Runs of this area and all below it.")


class RunRead(Output):
    """A payout run."""

    id: UUID
    version: Version
    created_at: InstantShape
    updated_at: InstantShape
    exam_round_id: UUID
    round_sequence: int
    policy_id: UUID
    policy_number: int | None
    area_code: str
    channel: Channel
    status: RunStatus
    status_reason: str | None
    payout_count: int = Described(
        description="How many payouts it has: none once it is rejected or cancelled."
    )
    amount_fen: Fen
    created_by: str
    calculated_at: InstantShape | None
    submitted_by: str | None
    submitted_at: InstantShape | None
    approved_by: str | None
    approved_at: InstantShape | None
    settled_at: InstantShape | None
    closed_by: str | None
    closed_at: InstantShape | None
    failed_of: UUID | None = Described(description="The run of whose failed payouts this is one.")


class Totals(Output):
    """How many payouts, how much money and how many gifts and tickets."""

    payout_count: int
    amount_fen: Fen
    gift_quantity: int
    ticket_quantity: int
    pending_count: int
    paid_count: int
    failed_count: int
    returned_count: int = Described(description="Paid, and come back.")


class RuleTotals(Totals):
    """The totals of one rule."""

    rule_id: UUID
    rule_code: str
    rule_name: str


class TownTotals(Totals):
    """The totals of one town."""

    area_code: str
    area_name: str


class AssociationTotals(Totals):
    """The totals of one association."""

    association_id: UUID
    association_name: str


class FundTotals(Output):
    """What one fund pays of a run, or is to pay once it is approved."""

    source: FundSource
    fund_id: UUID | None = Described(description="Null while no open fund covers the members.")
    fund_name: str | None
    amount_fen: Fen
    available_fen: Fen | None = Described(description="What the fund has left now.")


class GiftTotals(Output):
    """What of a gift one depot gives of a run, or is to give once it is approved."""

    gift_id: UUID
    gift_code: str
    gift_name: str
    unit: str
    depot_id: UUID | None = Described(description="Null while no open depot covers the members.")
    depot_name: str | None
    quantity: int
    available: int | None = Described(description="What the depot has left now.")


class RunSummary(Output):
    """What a run costs and whom it reaches, without names."""

    run_id: UUID
    failed_of: UUID | None = Described(description="The run of whose failed payouts this is one.")
    total: Totals
    by_rule: list[RuleTotals]
    by_town: list[TownTotals]
    by_association: list[AssociationTotals]
    by_fund: list[FundTotals]
    by_gift: list[GiftTotals]
