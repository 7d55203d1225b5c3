"""Reconciliation of runs: each payout three ways, by attendance, entitlement and proof."""

from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described

from app.models.disbursement.payouts import PayoutStatus
from app.models.incentives.eligibility import RefusalReason
from app.models.shapes import Fen, Id, Instant, Output
from app.paging import AnyOf, Filters


class Outcome(StrEnum):
    """How a payout stands when it is looked at three ways."""

    MATCHED = "matched"
    """Earned, paid and proved."""
    WAITING = "waiting"
    """Earned, and without a result so far."""
    GRANTED_BUT_NOT_IN_RUN = "granted_but_not_in_run"
    PAID_WITHOUT_ENTRY = "paid_without_entry"
    ENTRY_WITHOUT_PAYMENT = "entry_without_payment"
    UNKNOWN = "unknown"
    FAILED = "failed"
    RETURNED = "returned"
    ATTENDANCE_VOIDED = "attendance_voided"
    NO_LONGER_GRANTED = "no_longer_granted"
    AMOUNT_DIFFERS = "amount_differs"
    NO_SIGNATURE_LINE = "no_signature_line"
    PROOF_DIFFERS = "proof_differs"


AGREED = (Outcome.MATCHED, Outcome.WAITING)
"""What is no mismatch."""


class OutcomeTotals(Output):
    """How many payouts came to one outcome, and their money."""

    outcome: Outcome
    payout_count: int
    amount_fen: Fen


class ReconciliationRead(Output):
    """A run's payouts by outcome, in numbers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "run_id": "0195d5c1-6f00-7000-8000-000000000000",
                    "payout_count": 2,
                    "amount_fen": 2000,
                    "outcomes": [
                        {"outcome": "matched", "payout_count": 1, "amount_fen": 1000},
                        {"outcome": "attendance_voided", "payout_count": 1, "amount_fen": 1000},
                    ],
                }
            ]
        }
    )

    run_id: UUID
    payout_count: int = Described(description="All payouts of the run.")
    amount_fen: Fen
    outcomes: list[OutcomeTotals] = Described(
        description="Each outcome that occurs. What is granted but not in the run is beside it."
    )


class MismatchFilters(Filters):
    """How the list of a run's mismatches may be narrowed."""

    reason: AnyOf[Outcome] | None = None
    association_id: Id | None = None


class MismatchRead(Output):
    """A payout of which the three sides do not tell the same, and the first reason why."""

    person = "member_id"
    numbered = ("payout_id",)

    payout_id: UUID | None = Described(description="Null for what is granted but not in the run.")
    line_no: int | None
    member_id: UUID
    association_id: UUID
    rule_id: UUID
    rule_code: str
    reason: Outcome
    attended: bool = Described(description="Whether an attendance that earns it counts now.")
    refusal: RefusalReason | None = Described(
        description="Why the rule would not grant it now; null while it would."
    )
    entitled_fen: Fen = Described(description="What the rule grants now.")
    entitled_quantity: int
    amount_fen: Fen | None = Described(description="What the run granted.")
    quantity: int | None
    status: PayoutStatus | None
    failure_reason: str | None
    entries_fen: Fen = Described(description="What the books say was paid, less what came back.")
    proof: PayoutStatus | None = Described(
        description="What the channel knows of it: the line that was signed, the bank's answer."
    )
    proved_at: Instant | None
    proved_by: str | None = Described(description="Who entered it, where the books name somebody.")
