"""Payouts: what one run grants to one member by one rule, and what became of it."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field

from app.models.shapes import Fen, Id, Input, Instant, Line, Output, Whole
from app.models.tables import Code, Long, OptionalInstant, OptionalWords, Tenant
from app.numbered_ids import NUMBER_BITS
from app.paging import AnyOf, Filters
from app.problems import LineProblem

ANCHOR_EVERY = 32
"""Of so many lines of a run the first is indexed; the others are found from it."""


class PayoutStatus(StrEnum):
    """What became of a payout."""

    PENDING = "pending"
    HELD = "held"
    SENDING = "sending"
    UNKNOWN = "unknown"
    PAID = "paid"
    FAILED = "failed"
    RETURNED = "returned"


UNSETTLED = "('pending', 'held', 'sending', 'unknown')"
"""The states of a payout without a result, as a list in SQL.

Held is what waits for a person before it goes on, sending what a bank or a provider was given,
unknown what neither tells about: a person finds out, and nothing sends it again.
"""


class Payout(Tenant, table=True):
    """One grant of a run: the primary key holds that a member gets a rule once per round, ever.

    What a settled run could not pay is counted in `released` from 1 on; the grant itself, 0, is
    then free for another run.

    A run writes over a million rows at once, so there is one index over all of them, written in
    its own order, no foreign key that is checked row by row (the run's row is locked while it
    writes), and one CHECK.
    """

    __tablename__ = "payouts"
    __table_args__ = (
        CheckConstraint(
            f"status in {UNSETTLED} and failure_reason is null and settled_at is null"
            " and released = 0"
            " or status = 'paid' and failure_reason is null and settled_at is not null"
            " and released = 0"
            " or status in ('failed', 'returned') and failure_reason is not null"
            " and settled_at is not null"
            " and released >= 0",
            name="status",
        ),
        CheckConstraint("amount_fen >= 0", name="amount"),
        Index(
            "ix_payouts_anchor",
            "district_code",
            "run_id",
            "line_no",
            postgresql_where=text(f"line_no % {ANCHOR_EVERY} = 1"),
        ),
    )

    round_sequence: int = Field(primary_key=True)
    member_id: UUID = Field(primary_key=True)
    rule_id: UUID = Field(primary_key=True)
    released: int = Field(primary_key=True)
    run_id: UUID
    line_no: int
    association_id: UUID
    streak: int
    amount_fen: Long
    quantity: int
    status: Code
    failure_reason: OptionalWords
    settled_at: OptionalInstant


def payout_id(run_id: UUID, line_no: int) -> UUID:
    """Give the id of a line of a run; `numbered_ids` says how it is known outside."""
    return UUID(int=run_id.int + line_no)


def payout_id_sql(row: str) -> str:
    """Write the same in SQL, of a row that has `run_id` and `line_no`."""
    line = f"lpad(to_hex({row}.line_no), {NUMBER_BITS // 4}, '0')"
    return f"left({row}.run_id::text, {36 - NUMBER_BITS // 4}) || {line}"


def payee_sql(row: str) -> str:
    """Write in SQL whose payout it is, of a row with `run_id` and `line_no`; null if of none.

    As only the first of some lines is indexed, a line is looked for from its member on.
    """
    return (
        "(select line.member_id from payouts anchor cross join lateral (select p.member_id"
        " from payouts p where p.district_code = :district_code"
        " and p.round_sequence = anchor.round_sequence and p.run_id = anchor.run_id"
        f" and p.member_id >= anchor.member_id and p.line_no = {row}.line_no"
        " order by p.member_id, p.rule_id limit 1) line"
        f" where anchor.district_code = :district_code and anchor.run_id = {row}.run_id"
        f" and anchor.line_no % {ANCHOR_EVERY} = 1"
        f" and anchor.line_no = ({row}.line_no - 1) / {ANCHOR_EVERY} * {ANCHOR_EVERY} + 1)"
    )


def run_and_line(identity: UUID) -> tuple[UUID, int]:
    """Give the run and the line number that a payout's id is made of."""
    line_no = identity.int & ((1 << NUMBER_BITS) - 1)
    return UUID(int=identity.int - line_no), line_no


class PayoutFilters(Filters):
    """How a list of payouts may be narrowed."""

    run_id: Id | None = None
    status: AnyOf[PayoutStatus] | None = None
    association_id: Id | None = None
    member_id: Id | None = None


class RunPayoutFilters(Filters):
    """How the list of a run's payouts may be narrowed."""

    status: AnyOf[PayoutStatus] | None = None
    association_id: Id | None = None
    member_id: Id | None = None


class PayoutRead(Output):
    """One payout."""

    person = "member_id"
    numbered = ("id",)

    id: UUID
    run_id: UUID
    line_no: int
    round_sequence: int
    member_id: UUID
    association_id: UUID
    rule_id: UUID
    rule_code: str
    streak: int
    amount_fen: Fen
    gift_item: str | None
    quantity: int
    status: PayoutStatus
    failure_reason: str | None
    settled_at: Instant | None
    statement: str = Described(description="What the member reads; it never names a health check.")


class PayoutReturn(Input):
    """Why money that was paid came back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "账户已销户，银行退回"}]})

    reason: Line


class PayoutOutcome(StrEnum):
    """What a signed list says of a line."""

    PAID = "paid"
    FAILED = "failed"


class ResultLine(Input):
    """What became of one line."""

    line_no: Whole = Described(ge=1, lt=2**31)
    outcome: PayoutOutcome
    reason: Line | None = Described(None, description="Why it was not paid; required then.")


class ResultsWrite(Input):
    """What became of up to 500 lines of a run."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {"line_no": 1, "outcome": "paid"},
                        {"line_no": 2, "outcome": "failed", "reason": "本人未到"},
                    ]
                }
            ]
        }
    )

    results: Annotated[list[ResultLine], Described(min_length=1, max_length=500)]


class ResultStatus(StrEnum):
    """How an entered result was taken."""

    RECORDED = "recorded"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


class SettledPayout(Output):
    """The payout that a result is of, with what is noted of it now."""

    numbered = ("id",)

    id: UUID
    line_no: int
    status: PayoutStatus
    failure_reason: str | None


class ResultRead(Output):
    """The answer to one entered result, in the order given."""

    ref: int = Described(description="The line number.")
    status: ResultStatus
    resource: SettledPayout | None = Described(
        description="The payout; null for a result that was rejected."
    )
    problem: LineProblem | None


class ResultsRead(Output):
    """The answers to a batch of entered results."""

    items: list[ResultRead]
