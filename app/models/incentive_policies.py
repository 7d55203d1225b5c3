"""Incentive policies: who is thanked with what, versioned, dated and scoped."""

from datetime import date
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

from app.models.areas import Provenance
from app.models.service_events import EventKind
from app.models.tables import CODE, Code, Instant, OptionalCode, OptionalLong, OptionalWords, Record, Tenant, Words, one_of


class Reward(StrEnum):
    """What a rule gives."""

    CASH = "cash"
    GIFT = "gift"


class IncentivePolicy(Record, table=True):
    """A policy of a district or town (`area_code`), or of one association in it."""

    __tablename__ = "incentive_policies"
    __table_args__ = (
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        Index("ix_incentive_policies_area", "district_code", "area_code"),
    )

    name: Words
    area_code: Code
    association_id: UUID | None
    current_number: int


class PolicyVersion(Tenant, table=True):
    """One edition of a policy, for rounds that end from `effective_on` until before `ends_on`."""

    __tablename__ = "policy_versions"
    __table_args__ = (
        one_of("provenance", Provenance),
        CheckConstraint("ends_on > effective_on", name="period"),
        CheckConstraint("number >= 1", name="number"),
        ForeignKeyConstraint(
            ["district_code", "policy_id"],
            ["incentive_policies.district_code", "incentive_policies.id"],
            name="policy",
        ),
    )

    policy_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    effective_on: date
    ends_on: date | None
    consent_required: bool
    provenance: Code
    provenance_note: OptionalWords
    created_by: Words
    created_at: Instant


class IncentiveRule(Tenant, table=True):
    """One rule of a version; `rule_id` stays the same for a code through all versions."""

    __tablename__ = "incentive_rules"
    __table_args__ = (
        one_of("reward", Reward),
        one_of("event_kind", EventKind),
        CheckConstraint("min_streak >= 1", name="min_streak"),
        CheckConstraint("every >= 2", name="every"),
        CheckConstraint("(reward = 'cash') = (amount_fen is not null)", name="cash"),
        CheckConstraint(
            "(reward = 'gift') = (gift_item is not null)"
            " and (reward = 'gift') = (quantity is not null)",
            name="gift",
        ),
        CheckConstraint("amount_fen > 0", name="amount"),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("yearly_cap_fen > 0 and reward = 'cash'", name="yearly_cap"),
        CheckConstraint(
            "event_kind = 'health_exam' or (min_streak = 1 and every is null)", name="streak"
        ),
        UniqueConstraint("district_code", "policy_id", "number", "rule_id", name="rule"),
        ForeignKeyConstraint(
            ["district_code", "policy_id", "number"],
            [
                "policy_versions.district_code",
                "policy_versions.policy_id",
                "policy_versions.number",
            ],
            name="version",
        ),
    )

    policy_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    code: Code = Field(primary_key=True, sa_type=CODE)
    rule_id: UUID
    name: Words
    event_kind: Code
    min_streak: int
    every: int | None
    reward: Code
    amount_fen: OptionalLong
    gift_item: OptionalWords
    quantity: int | None
    exclusive_group: OptionalCode
    priority: int
    yearly_cap_fen: OptionalLong
