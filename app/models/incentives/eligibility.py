"""Eligibility: what each rule decides for a member and a round, and why."""

from enum import StrEnum
from uuid import UUID

from pydantic import Field

from app.models.events.service_events import EventKind
from app.models.incentives.incentive_policies import Reward
from app.models.shapes import Fen, Output


class Standing(StrEnum):
    """What a round is for a member."""

    ATTENDED = "attended"
    EXCUSED = "excused"
    MISSED = "missed"
    NOT_ENROLLED = "not_enrolled"


class RefusalReason(StrEnum):
    """Why a rule grants nothing."""

    POLICY_NOT_IN_FORCE = "policy_not_in_force"
    OUTSIDE_SCOPE = "outside_scope"
    ATTENDANCE_VOIDED = "attendance_voided"
    NOT_ATTENDED = "not_attended"
    MEMBERSHIP_INACTIVE = "membership_inactive"
    CONSENT_MISSING = "consent_missing"
    STREAK_TOO_SHORT = "streak_too_short"
    NOT_A_MULTIPLE = "not_a_multiple"
    YEARLY_CAP_REACHED = "yearly_cap_reached"
    SUPERSEDED = "superseded"
    ALREADY_GRANTED = "already_granted"


class RuleDecision(Output):
    """What one rule decides."""

    policy_id: UUID
    policy_name: str
    policy_number: int
    rule_id: UUID
    code: str
    name: str
    event_kind: EventKind
    granted: bool
    reason: RefusalReason | None
    have: int | None = Field(description="The streak, or the fen given this year under a cap.")
    need: int | None = Field(description="The streak, its multiple, or the cap in fen.")
    superseded_by: str | None = Field(description="The code of the rule that wins.")
    reward: Reward
    amount_fen: Fen | None
    gift_item: str | None
    quantity: int | None


class EligibilityRead(Output):
    """A member's standing and streak at a round, and each rule's decision."""

    person = "member_id"

    member_id: UUID
    round_id: UUID
    round_sequence: int
    standing: Standing
    streak: int
    rules: list[RuleDecision]
