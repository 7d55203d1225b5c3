"""Payout decisions: what a person decides on a payout whose ground is gone."""

from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text

from app.models.disbursement.payouts import PayoutStatus
from app.models.shapes import AreaCode, Fen, Id, Input, Instant, Line, Output, Version
from app.models.tables import (
    Code,
    OptionalCode,
    OptionalInstant,
    OptionalWords,
    Record,
    Words,
    one_of,
)
from app.paging import AnyOf, Filters

RESOLUTION = (
    "version", "updated_at", "status", "choice", "reason", "decided_by", "decided_at", "closed_at",
)  # fmt: skip
"""The columns that may change; why there is a decision stays as it was."""


class DecisionCause(StrEnum):
    """Why somebody must decide."""

    ATTENDANCE_VOIDED = "attendance_voided"
    DISPUTE_UPHELD = "dispute_upheld"


class DecisionChoice(StrEnum):
    """What can be decided: of money that was paid the first two, else the last two."""

    RECOVER = "recover"
    WRITE_OFF = "write_off"
    CANCEL = "cancel"
    PAY = "pay"


class DecisionStatus(StrEnum):
    """What became of it."""

    OPEN = "open"
    RECOVERING = "recovering"
    """The money is asked back, and has not come yet."""
    RECOVERED = "recovered"
    WRITTEN_OFF = "written_off"
    CANCELLED = "cancelled"
    CONFIRMED = "confirmed"
    """The payout goes on as it was."""
    LIFTED = "lifted"
    """Its ground is back: nothing is to be decided any more."""


PENDING = "('open', 'recovering')"
"""The states of a decision that is not closed, as a list in SQL."""


class PayoutDecision(Record, table=True):
    """A payout that was earned by what no longer counts, or paid to somebody else.

    It says nothing of the member but this payout, and has no consequence for her but its choice.
    """

    __tablename__ = "payout_decisions"
    __table_args__ = (
        one_of("cause", DecisionCause),
        one_of("choice", DecisionChoice),
        one_of("status", DecisionStatus),
        CheckConstraint("line_no > 0", name="line"),
        CheckConstraint(
            "(cause = 'attendance_voided') = (event_id is not null)"
            " and (cause = 'dispute_upheld') = (dispute_id is not null)",
            name="caused",
        ),
        CheckConstraint("not holds or cause = 'attendance_voided'", name="held"),
        CheckConstraint(f"(status in {PENDING}) = (closed_at is null)", name="closed"),
        CheckConstraint(
            "(choice is null) = (decided_by is null) and (choice is null) = (decided_at is null)"
            " and (choice is null) = (reason is null)",
            name="decided",
        ),
        CheckConstraint(
            "case status when 'open' then choice is null"
            " when 'recovering' then coalesce(choice, '') = 'recover'"
            " when 'recovered' then coalesce(choice, 'recover') in ('recover', 'write_off')"
            " when 'written_off' then coalesce(choice, '') = 'write_off'"
            " when 'cancelled' then coalesce(choice, '') = 'cancel'"
            " when 'confirmed' then coalesce(choice, '') = 'pay'"
            " else coalesce(choice, 'recover') = 'recover' end",
            name="chosen",
        ),
        CheckConstraint("decided_by <> caused_by", name="causer_is_not_decider"),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        ForeignKeyConstraint(
            ["district_code", "event_id"],
            ["service_events.district_code", "service_events.id"],
            name="event",
        ),
        ForeignKeyConstraint(
            ["district_code", "dispute_id"],
            ["payout_disputes.district_code", "payout_disputes.id"],
            name="dispute",
        ),
        Index(
            "uq_payout_decisions_pending",
            "district_code",
            "run_id",
            "line_no",
            unique=True,
            postgresql_where=text(f"status in {PENDING}"),
        ),
        Index("ix_payout_decisions_member", "district_code", "member_id", "id"),
    )

    run_id: UUID
    line_no: int
    round_sequence: int
    rule_id: UUID
    member_id: UUID
    association_id: UUID
    cause: Code
    event_id: UUID | None
    dispute_id: UUID | None
    caused_by: Words
    holds: bool
    status: Code
    choice: OptionalCode
    reason: OptionalWords
    decided_by: OptionalWords
    decided_at: OptionalInstant
    closed_at: OptionalInstant


class DecisionWrite(Input):
    """What is decided, and why."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"choice": "write_off", "reason": "金额小，不再追回"}]}
    )

    choice: DecisionChoice
    reason: Line


class DecisionFilters(Filters):
    """How the list of decisions may be narrowed."""

    status: AnyOf[DecisionStatus] | None = None
    cause: AnyOf[DecisionCause] | None = None
    run_id: Id | None = None
    member_id: Id | None = None
    association_id: Id | None = Described(default=None, description="Where the payout is paid.")
    area: AreaCode | None = Described(default=None, description="The area and all below it.")


class DecisionRead(Output):
    """A payout that somebody must decide on, or has."""

    beyond_version = True
    person = "member_id"
    numbered = ("payout_id",)

    id: UUID
    payout_id: UUID
    run_id: UUID
    round_sequence: int
    member_id: UUID
    association_id: UUID
    amount_fen: Fen
    payout_status: PayoutStatus
    cause: DecisionCause
    event_id: UUID | None = Described(description="At which event an attendance was voided.")
    dispute_id: UUID | None
    caused_by: str = Described(description="Who voided or upheld; she does not decide.")
    holds: bool = Described(description="Whether the payout waits, or waited, for it.")
    status: DecisionStatus
    choice: DecisionChoice | None
    reason: str | None
    decided_by: str | None
    decided_at: Instant | None
    closed_at: Instant | None
    created_at: Instant
    version: Version
