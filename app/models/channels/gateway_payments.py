"""Gateway payments: which payouts a payment gateway was given, and what it says of each."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, StringConstraints
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from app.models.disbursement.payouts import PayoutOutcome
from app.models.shapes import Input, Line
from app.models.tables import (
    Code,
    Instant,
    Long,
    OptionalInstant,
    OptionalWords,
    Tenant,
    one_of,
)

Receipt = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,64}$")]


class GatewayState(StrEnum):
    """How far a payment is; the payout has the same state."""

    SENDING = "sending"
    UNKNOWN = "unknown"
    PAID = "paid"
    FAILED = "failed"


class GatewayPayment(Tenant, table=True):
    """One payout given to the gateway: its key there is the payout's id, however often it is sent.

    Whoever sends holds it by a lease, and what was begun under a lease that is over is asked about.
    `attempts` counts how often in a row there was no answer. A person who has an unknown one
    asked about again sets `ask_only`: it is not sent by that.
    """

    __tablename__ = "gateway_payments"
    __table_args__ = (
        one_of("state", GatewayState),
        CheckConstraint("amount_fen > 0", name="amount"),
        CheckConstraint("attempts >= 0", name="attempts"),
        CheckConstraint("(state = 'sending') = (lease_until is not null)", name="lease"),
        CheckConstraint(
            "(state = 'paid') = (receipt is not null) and (state = 'paid') = (paid_on is not null)",
            name="receipt",
        ),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
        UniqueConstraint("district_code", "receipt", name="receipt"),
        Index(
            "ix_gateway_payments_open",
            "district_code",
            "run_id",
            "state",
            "lease_until",
            postgresql_where=text("state in ('sending', 'unknown')"),
        ),
    )

    run_id: UUID = Field(primary_key=True)
    line_no: int = Field(primary_key=True)
    round_sequence: int
    member_id: UUID
    rule_id: UUID
    amount_fen: Long
    state: Code
    sent_at: Instant
    lease_until: OptionalInstant
    attempts: int
    ask_only: bool
    last_answer: OptionalWords
    receipt: OptionalWords
    paid_on: date | None


class PayoutResolve(Input):
    """What a person found out about a payout of which the gateway did not tell."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"outcome": "paid", "receipt": "R-20260412-000017"},
                {"outcome": "failed", "reason": "支付平台查无此笔"},
            ]
        }
    )

    outcome: PayoutOutcome
    receipt: Receipt | None = Described(
        None, description="The gateway's number of the payment; required if it was paid."
    )
    reason: Line | None = Described(
        None, description="Why it was not paid; required if it failed, and not given else."
    )
