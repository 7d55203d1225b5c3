"""What the tables of policies, their versions and their rules never hold."""

from datetime import date
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database_errors import constraint_name
from tests.factories.callers import SHISHAN
from tests.factories.incentives.incentive_policies import make_cash, make_gift, make_policy


async def _breaks(session: AsyncSession, constraint: str, sql: str, **params: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql), params)
    assert constraint_name(caught.value) == constraint


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("reward = 'voucher', amount_fen = null, district_bp = 0", "ck_incentive_rules_reward"),
        ("event_kind = 'party'", "ck_incentive_rules_event_kind"),
        ("reward = 'service_voucher'", "ck_incentive_rules_voucher"),
        ("valid_days = 30", "ck_incentive_rules_voucher"),
        ("reward = 'service_voucher', valid_days = 0", "ck_incentive_rules_voucher"),
        ("reward = 'service_voucher', valid_days = 3661", "ck_incentive_rules_voucher"),
        (
            "reward = 'service_voucher', valid_days = 1, district_bp = 0",
            "ck_incentive_rules_funding",
        ),
        ("amount_fen = 0", "ck_incentive_rules_amount"),
        ("amount_fen = -1", "ck_incentive_rules_amount"),
        ("amount_fen = null", "ck_incentive_rules_cash"),
        ("gift_item = '毛巾'", "ck_incentive_rules_gift"),
        ("quantity = 1", "ck_incentive_rules_gift"),
        ("min_streak = 0", "ck_incentive_rules_min_streak"),
        ("every = 1", "ck_incentive_rules_every"),
        ("yearly_cap_fen = 0", "ck_incentive_rules_yearly_cap"),
        ("event_kind = 'lecture', min_streak = 2", "ck_incentive_rules_streak"),
        ("event_kind = 'lecture', every = 2", "ck_incentive_rules_streak"),
        ("number = 2", "fk_incentive_rules_version"),
        ("district_bp = 9999", "ck_incentive_rules_funding"),
        ("district_bp = 10001, town_bp = -1", "ck_incentive_rules_funding"),
        ("town_bp = 1", "ck_incentive_rules_funding"),
    ],
)
async def test_a_cash_rule_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_policy(session, [make_cash()])
    await _breaks(session, constraint, f"update incentive_rules set {change}")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("quantity = 0", "ck_incentive_rules_quantity"),
        ("quantity = null", "ck_incentive_rules_gift"),
        ("amount_fen = 1", "ck_incentive_rules_cash"),
        ("yearly_cap_fen = 1", "ck_incentive_rules_yearly_cap"),
    ],
)
async def test_a_gift_rule_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_policy(session, [make_gift()])
    await _breaks(session, constraint, f"update incentive_rules set {change}")


async def test_rules_of_one_group_differ_in_priority(session: AsyncSession) -> None:
    ranked = [make_cash(f"r{n}", exclusive_group="thanks", priority=n) for n in range(2)]
    await make_policy(session, [*ranked, make_cash("free"), make_cash("freer")])
    await _breaks(
        session,
        "uq_incentive_rules_rank",
        "update incentive_rules set priority = 1 where exclusive_group = 'thanks'",
    )


async def test_a_rule_stands_once_in_a_version(session: AsyncSession) -> None:
    await make_policy(session, [make_cash(), make_gift()])
    await session.commit()
    same_id = "update incentive_rules r set rule_id = o.rule_id from incentive_rules o"
    await _breaks(session, "uq_incentive_rules_rule", f"{same_id} where r.code < o.code")
    await session.rollback()
    await _breaks(session, "pk_incentive_rules", "update incentive_rules set code = 'same'")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("ends_on = effective_on", "ck_policy_versions_period"),
        ("number = 0", "ck_policy_versions_number"),
        ("provenance = 'heard'", "ck_policy_versions_provenance"),
        ("policy_id = '00000000-0000-7000-8000-000000000000'", "fk_policy_versions_policy"),
    ],
)
async def test_a_version_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_policy(session)
    await session.execute(text("delete from incentive_rules"))
    await _breaks(session, constraint, f"update policy_versions set {change}")


async def test_two_policies_of_one_scope_differ_in_name(session: AsyncSession) -> None:
    await make_policy(session, name="甲", effective_on=date(2026, 1, 1))
    await make_policy(session, name="乙")
    await make_policy(session, name="甲", area_code=SHISHAN)
    await _breaks(
        session,
        "uq_incentive_policies_name",
        "update incentive_policies set name = '甲' where name = '乙'",
    )


async def test_a_policy_stands_in_an_area_and_an_association_that_exist(
    session: AsyncSession,
) -> None:
    await make_policy(session)
    await session.commit()
    for change, constraint in (
        ("area_code = '999999999999'", "fk_incentive_policies_area"),
        ("association_id = id", "fk_incentive_policies_association"),
    ):
        await _breaks(session, constraint, f"update incentive_policies set {change}")
        await session.rollback()
