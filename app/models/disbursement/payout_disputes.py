"""Payout disputes: a member says "not me" or "wrong amount", and her office answers in time."""

from datetime import date
from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text

from app.models.shapes import AreaCode, Day, Id, Input, Instant, Line, Output, Version
from app.models.tables import Code, OptionalInstant, OptionalWords, Record, one_of
from app.paging import AnyOf, Filters, YesNoParam

RESOLUTION = ("version", "updated_at", "status", "answer", "answered_by", "closed_at")
"""The columns that may change; what was said stays as it was said."""


class DisputeKind(StrEnum):
    """What a member says of a payout."""

    NOT_ME = "not_me"
    WRONG_AMOUNT = "wrong_amount"


class DisputeStatus(StrEnum):
    """What became of a dispute."""

    OPEN = "open"
    UPHELD = "upheld"
    DISMISSED = "dismissed"
    WITHDRAWN = "withdrawn"


class PayoutDispute(Record, table=True):
    """What a member says of one payout, answered once, by `due_on`.

    It holds a payout that was pending; what was paid already stays paid until a person decides.
    """

    __tablename__ = "payout_disputes"
    __table_args__ = (
        one_of("kind", DisputeKind),
        one_of("status", DisputeStatus),
        CheckConstraint("line_no > 0", name="line"),
        CheckConstraint("(status = 'open') = (closed_at is null)", name="closed"),
        CheckConstraint(
            "(status in ('upheld', 'dismissed')) = (answered_by is not null)"
            " and (answered_by is null) = (answer is null)",
            name="answered",
        ),
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
        # One open dispute of a payout: a second click is answered, not stored.
        Index(
            "uq_payout_disputes_open",
            "district_code",
            "run_id",
            "line_no",
            unique=True,
            postgresql_where=text("status = 'open'"),
        ),
        Index("ix_payout_disputes_member", "district_code", "member_id", "id"),
        Index("ix_payout_disputes_due", "district_code", "due_on", "id"),
    )

    run_id: UUID
    line_no: int
    round_sequence: int
    rule_id: UUID
    member_id: UUID
    association_id: UUID
    kind: Code
    holds: bool
    status: Code
    due_on: date
    answer: OptionalWords
    answered_by: OptionalWords
    closed_at: OptionalInstant


class DisputeCreate(Input):
    """What is wrong with the payout."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"kind": "wrong_amount"}]})

    kind: DisputeKind


class DisputeAnswer(Input):
    """Why; the member reads it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "核对签到，金额无误"}]})

    reason: Line


class MyDisputeFilters(Filters):
    """How the list of the member's disputes may be narrowed."""

    status: AnyOf[DisputeStatus] | None = None
    run_id: Id | None = None


class DisputeFilters(MyDisputeFilters):
    """How the list of disputes may be narrowed."""

    kind: AnyOf[DisputeKind] | None = None
    overdue: YesNoParam | None = Described(default=None, description="Open after its due date.")
    due_on_gte: Day | None = None
    due_on_lt: Day | None = None
    member_id: Id | None = None
    association_id: Id | None = Described(default=None, description="Where the payout is paid.")
    area: AreaCode | None = Described(default=None, description="The area and all below it.")


class MyDispute(Output):
    """A dispute as its member sees it."""

    beyond_version = True
    person = ""
    numbered = ("payout_id",)

    id: UUID
    payout_id: UUID
    run_id: UUID
    kind: DisputeKind
    status: DisputeStatus
    holds: bool = Described(
        description="Whether the payout waits, or waited, for it; what was paid is not held."
    )
    due_on: date = Described(description="Until when it is answered.")
    is_overdue: bool
    answer: str | None = Described(description="Why it was upheld or dismissed.")
    closed_at: Instant | None
    created_at: Instant
    version: Version


class DisputeRead(MyDispute):
    """A dispute as the office sees it."""

    person = "member_id"

    member_id: UUID
    association_id: UUID
    answered_by: str | None
