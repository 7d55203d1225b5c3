"""Payout runs: one calculation, approved and paid as a whole, and its payouts."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index
from sqlmodel import Field

from app.models.tables import Code, Long, OptionalInstant, OptionalWords, Record, Tenant, Words, one_of


class RunStatus(StrEnum):
    """The life of a run."""

    DRAFT = "draft"
    CALCULATED = "calculated"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    DISBURSING = "disbursing"
    SETTLED = "settled"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class Channel(StrEnum):
    """How a run's payouts reach the members."""

    CASH_LIST = "cash_list"


class PayoutStatus(StrEnum):
    """What became of a payout."""

    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"


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
            "status not in ('submitted', 'approved', 'disbursing', 'settled')"
            " or submitted_by is not null",
            name="submitted",
        ),
        CheckConstraint(
            "status not in ('approved', 'disbursing', 'settled') or approved_by is not null",
            name="approved",
        ),
        CheckConstraint("status <> 'rejected' or status_reason is not null", name="rejected"),
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


class Payout(Tenant, table=True):
    """One grant of a run: the primary key holds that a member gets a rule once per round, ever."""

    __tablename__ = "payouts"
    __table_args__ = (
        one_of("status", PayoutStatus),
        CheckConstraint("(status = 'failed') = (failure_reason is not null)", name="failed"),
        CheckConstraint("amount_fen >= 0", name="amount"),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="run",
        ),
        Index("uq_payouts_line", "district_code", "run_id", "line_no", unique=True),
    )

    round_sequence: int = Field(primary_key=True)
    member_id: UUID = Field(primary_key=True)
    rule_id: UUID = Field(primary_key=True)
    run_id: UUID
    line_no: int
    association_id: UUID
    streak: int
    amount_fen: Long
    quantity: int
    status: Code
    failure_reason: OptionalWords
    settled_at: OptionalInstant
