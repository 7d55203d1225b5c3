"""Incentive policies: who is thanked with what, versioned, dated and scoped."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint
from sqlmodel import Field

from app.models.events.service_events import HEALTH_KINDS, EventKind
from app.models.finance.funds import FULL_BP, FundSource
from app.models.goods.gifts import GiftCode
from app.models.organisation.areas import Provenance
from app.models.shapes import (
    MAX_FEN,
    NEUTRAL,
    AreaCode,
    Day,
    Fen,
    Id,
    Input,
    Line,
    Name,
    Output,
    Version,
    Whole,
    YesNo,
)
from app.models.shapes import Instant as InstantShape
from app.models.tables import (
    CODE,
    Code,
    Instant,
    OptionalCode,
    OptionalLong,
    OptionalWords,
    Record,
    Tenant,
    Words,
    one_of,
)
from app.paging import Filters

RuleCode = Annotated[
    str,
    Described(pattern="^[a-z][a-z0-9_]{0,39}$", examples=["lost_work_subsidy"]),
    NEUTRAL,
]
PositiveFen = Annotated[
    Whole, Described(ge=1, le=MAX_FEN, json_schema_extra={"format": "int64"}, examples=[1000])
]
# A run of thirty rules over a million members still adds up to less than MAX_FEN.
RewardFen = Annotated[
    Whole, Described(ge=1, le=100_000_000, json_schema_extra={"format": "int64"}, examples=[1000])
]


class Reward(StrEnum):
    """What a rule gives."""

    CASH = "cash"
    GIFT = "gift"
    DRAW_TICKET = "draw_ticket"
    SERVICE_VOUCHER = "service_voucher"


WORTH_MONEY = (Reward.CASH, Reward.SERVICE_VOUCHER)
"""What has an amount in fen, which funds pay."""
MONEY = "('cash', 'service_voucher')"
"""The same as a list in SQL."""
MAX_VALID_DAYS = 3660


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
        UniqueConstraint(
            "district_code",
            "area_code",
            "association_id",
            "name",
            name="name",
            postgresql_nulls_not_distinct=True,
        ),
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
        CheckConstraint(f"(reward in {MONEY}) = (amount_fen is not null)", name="cash"),
        CheckConstraint(
            "(reward = 'service_voucher') = (valid_days is not null)"
            f" and (valid_days is null or valid_days between 1 and {MAX_VALID_DAYS})",
            name="voucher",
        ),
        CheckConstraint(
            "(reward = 'gift') = (gift_item is not null)"
            " and (reward = 'gift') = (gift_code is not null)"
            " and (reward in ('gift', 'draw_ticket')) = (quantity is not null)",
            name="gift",
        ),
        CheckConstraint("amount_fen > 0", name="amount"),
        CheckConstraint(
            f"{' and '.join(f'{source}_bp >= 0' for source in FundSource)} and"
            f" {' + '.join(f'{source}_bp' for source in FundSource)}"
            f" = case when reward in {MONEY} then {FULL_BP} else 0 end",
            name="funding",
        ),
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint(
            f"yearly_cap_fen is null or (yearly_cap_fen > 0 and reward in {MONEY})",
            name="yearly_cap",
        ),
        CheckConstraint(
            "event_kind = 'health_exam' or (min_streak = 1 and every is null)", name="streak"
        ),
        UniqueConstraint("district_code", "policy_id", "number", "rule_id", name="rule"),
        ForeignKeyConstraint(
            ["district_code", "gift_code"], ["gifts.district_code", "gifts.code"], name="gift_code"
        ),
        UniqueConstraint(
            "district_code", "policy_id", "number", "exclusive_group", "priority", name="rank"
        ),
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
    gift_code: OptionalCode
    gift_item: OptionalWords
    quantity: int | None
    valid_days: int | None
    exclusive_group: OptionalCode
    priority: int
    yearly_cap_fen: OptionalLong
    district_bp: int
    town_bp: int
    village_bp: int
    enterprise_bp: int
    other_bp: int


_RULE_EXAMPLE: dict[str, JsonValue] = {
    "code": "lost_work_subsidy",
    "name": "误工补贴",
    "event_kind": "health_exam",
    "min_streak": 1,
    "reward": "cash",
    "amount_fen": 1000,
}
_VERSION_EXAMPLE: dict[str, JsonValue] = {
    "effective_on": "2026-01-01",
    "consent_required": False,
    "provenance": "assumed",
    "rules": [_RULE_EXAMPLE],
}


_Share = Annotated[Whole, Described(ge=0, le=FULL_BP)]


class Funding(Input):
    """Each source's share of what a rule pays, in basis points; together 10,000.

    Of each amount a source pays what lies between its points, in this order, each point rounded
    down to the fen: the shares of 999 at 6,000 and 4,000 are 599 and 400.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"town_bp": 6000, "enterprise_bp": 4000}]}
    )

    district_bp: _Share = 0
    town_bp: _Share = 0
    village_bp: _Share = 0
    enterprise_bp: _Share = 0
    other_bp: _Share = 0


class FundingRead(Output):
    """Each source's share of what a rule pays, in basis points."""

    district_bp: int
    town_bp: int
    village_bp: int
    enterprise_bp: int
    other_bp: int


class RuleCreate(Input):
    """One rule: which attendance earns it, after how many rounds, and what it gives."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RULE_EXAMPLE]})

    code: RuleCode
    name: Name
    event_kind: EventKind = EventKind.HEALTH_EXAM
    min_streak: Whole = Described(1, ge=1, le=1000)
    every: Whole | None = Described(
        None, ge=2, le=1000, description="Only multiples of this streak."
    )
    reward: Reward
    amount_fen: RewardFen | None = Described(
        None, description="Of cash; of a voucher, what a station is paid for it."
    )
    gift_code: GiftCode | None = Described(None, description="Of a gift: as in the catalogue.")
    gift_item: Name | None = Described(
        None, description="What members read of a gift; by default its name in the catalogue."
    )
    quantity: Whole | None = Described(
        None, ge=1, le=1000, description="Of a gift, or of tickets in the draw."
    )
    valid_days: Whole | None = Described(
        None,
        ge=1,
        le=MAX_VALID_DAYS,
        description="Of a voucher: how many days after its issue it is redeemed.",
    )
    exclusive_group: RuleCode | None = Described(
        None,
        description="Of the rules of a group that are met, the highest priority wins. A group is"
        " of health checks alone or of none.",
    )
    priority: Whole = Described(0, ge=0, le=1000)
    yearly_cap_fen: PositiveFen | None = None
    funding: Funding | None = Described(
        None, description="Whose funds pay; by default all of it those of the policy's own level."
    )

    @property
    def is_of_health_checks(self) -> bool:
        """Whether a health check earns it, which not everybody may know of a member."""
        return self.event_kind in HEALTH_KINDS


class PolicyVersionCreate(Input):
    """A new edition of a policy; it replaces the one before for rounds that it covers."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VERSION_EXAMPLE]})

    effective_on: Day = Described(
        description="Its first day; of any but a policy's first version, today or later, and"
        " tomorrow or later on a day on which a round was closed before its end."
    )
    ends_on: Day | None = Described(None, description="The first day it no longer holds.")
    consent_required: YesNo = False
    provenance: Provenance
    provenance_note: Line | None = Described(
        None, description="Where it is printed; who approved it, and when."
    )
    rules: list[RuleCreate] = Described(min_length=1, max_length=30)


class PolicyCreate(PolicyVersionCreate):
    """A policy with its first version."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "南海区误工补贴", "area_code": "440605000000", **_VERSION_EXAMPLE}
            ]
        }
    )

    name: Name
    area_code: AreaCode
    association_id: Id | None = Described(None, description="Only this association's members.")


class RuleRead(Output):
    """A rule of a version; `rule_id` stays the same for a code through all versions."""

    rule_id: UUID
    code: str
    name: str
    event_kind: EventKind
    min_streak: int
    every: int | None
    reward: Reward
    amount_fen: Fen | None
    gift_code: str | None
    gift_item: str | None
    quantity: int | None
    valid_days: int | None
    exclusive_group: str | None
    priority: int
    yearly_cap_fen: Fen | None
    funding: FundingRead | None = Described(description="Of cash and vouchers.")


class PolicyVersionRead(Output):
    """One edition of a policy."""

    number: int
    effective_on: date
    ends_on: date | None
    consent_required: bool
    provenance: Provenance
    provenance_note: str | None
    created_by: str
    created_at: InstantShape
    rules: list[RuleRead]


class PolicyRead(Output):
    """A policy with its current version."""

    beyond_version = True

    id: UUID
    name: str
    area_code: str
    association_id: UUID | None
    version: Version
    created_at: InstantShape
    updated_at: InstantShape
    current_version: PolicyVersionRead = Described(
        description="The one in force today (of several the latest), or the latest if none is."
    )


class PolicyFilters(Filters):
    """How a list of policies may be narrowed."""

    area: AreaCode | None = Described(None, description="Policies of this area and all below it.")
    association_id: Id | None = None


class VersionFilters(Filters):
    """How a list of a policy's versions is paged."""
