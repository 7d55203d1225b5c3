"""Incentive policies with one version and its rules."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.models.finance.funds import FundSource
from app.models.incentives.incentive_policies import IncentivePolicy, IncentiveRule, PolicyVersion
from tests.factories.callers import DISTRICT
from tests.factories.goods.gifts import make_gift_article


def make_cash(code: str = "subsidy", **facts: Any) -> dict[str, Any]:
    """Give a rule that thanks for each health exam with ten yuan; the facts replace that."""
    rule: dict[str, Any] = {
        "code": code,
        "name": "误工补贴",
        "event_kind": "health_exam",
        "reward": "cash",
        "amount_fen": 1000,
    }
    return rule | facts


def make_gift(code: str = "towel", **facts: Any) -> dict[str, Any]:
    """Give a rule that thanks with a towel; the facts replace that."""
    rule: dict[str, Any] = {
        "code": code,
        "name": "纪念品",
        "event_kind": "health_exam",
        "reward": "gift",
        "gift_code": "towel",
        "gift_item": "毛巾",
        "quantity": 1,
    }
    return rule | facts


def make_ticket(code: str = "ticket", **facts: Any) -> dict[str, Any]:
    """Give a rule that thanks with a chance in the draw; the facts replace that."""
    rule: dict[str, Any] = {
        "code": code,
        "name": "抽奖券",
        "event_kind": "health_exam",
        "reward": "draw_ticket",
        "quantity": 1,
    }
    return rule | facts


def make_voucher(code: str = "service", **facts: Any) -> dict[str, Any]:
    """Give a rule that thanks with a voucher of fifty yuan for thirty days."""
    rule: dict[str, Any] = {
        "code": code,
        "name": "服务券",
        "event_kind": "health_exam",
        "reward": "service_voucher",
        "amount_fen": 5000,
        "valid_days": 30,
    }
    return rule | facts


async def make_policy(
    session: AsyncSession, rules: Sequence[dict[str, Any]] = (), **facts: Any
) -> IncentivePolicy:
    """Store a policy of the district since 2020, of a cash rule unless given; the caller commits.

    `effective_on`, `ends_on` and `consent_required` are facts of its version.
    """
    now = clock.now()
    names = ("effective_on", "ends_on", "consent_required")
    version = {name: facts.pop(name) for name in names if name in facts}
    policy_id = facts.pop("id", None) or clock.new_id()
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "name": f"测试办法{policy_id.hex[-8:]}",
        "area_code": DISTRICT,
        "association_id": None,
        "current_number": 0,
    }
    policy = IncentivePolicy(id=policy_id, **(values | facts))
    session.add(policy)
    await session.flush()
    await make_version(session, policy, rules, **version)
    return policy


async def make_version(
    session: AsyncSession,
    policy: IncentivePolicy,
    rules: Sequence[dict[str, Any]] = (),
    **facts: Any,
) -> PolicyVersion:
    """Store the next version of a policy, since 2020 as if known then; the caller commits.

    A code keeps its rule, as when the service adds a version, which takes none of the past.
    """
    policy.current_number += 1
    place: dict[str, Any] = {
        "district_code": policy.district_code,
        "policy_id": policy.id,
        "number": policy.current_number,
    }
    values: dict[str, Any] = {
        "effective_on": date(2020, 1, 1),
        "ends_on": None,
        "consent_required": False,
        "provenance": "assumed",
        "provenance_note": None,
        "created_by": "officer-1",
        "created_at": clock.now(),
    }
    version = PolicyVersion(**place, **(values | facts))
    session.add(version)
    await session.flush()
    for rule in rules:
        if rule.get("gift_code"):
            await make_gift_article(session, rule["gift_code"])
    earlier = await session.scalars(
        select(IncentiveRule).where(
            col(IncentiveRule.district_code) == policy.district_code,
            col(IncentiveRule.policy_id) == policy.id,
        )
    )
    known = {rule.code: {"rule_id": rule.rule_id} for rule in earlier}
    session.add_all(
        _rule(place, known.get(rule["code"], {}) | rule) for rule in rules or [make_cash()]
    )
    await session.flush()
    return version


def _rule(place: dict[str, Any], facts: dict[str, Any]) -> IncentiveRule:
    is_money = facts["reward"] in {"cash", "service_voucher"}
    values: dict[str, Any] = {
        "rule_id": clock.new_id(),
        "min_streak": 1,
        "every": None,
        "amount_fen": None,
        "gift_code": None,
        "gift_item": None,
        "quantity": None,
        "valid_days": None,
        "exclusive_group": None,
        "priority": 0,
        "yearly_cap_fen": None,
        "district_bp": 10_000
        if is_money and not any(f"{s}_bp" in facts for s in FundSource)
        else 0,
        **{f"{source}_bp": 0 for source in FundSource if source != "district"},
    }
    return IncentiveRule(**place, **(values | facts))
