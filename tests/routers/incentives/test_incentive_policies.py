"""Incentive policies over HTTP: set up, changed by versions, and who may read and change them."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.goods.gifts import Gift
from app.roles import Role
from tests.factories.callers import (
    DISTRICT,
    GUICHENG,
    SHISHAN,
    VILLAGE,
    Client,
    idempotency_key,
    if_match,
    pointers,
)
from tests.factories.events.exam_rounds import make_round
from tests.factories.goods.gifts import make_gift_article
from tests.factories.incentives.incentive_policies import (
    make_cash,
    make_gift,
    make_policy,
    make_voucher,
)
from tests.factories.organisation.associations import make_association

_POLICIES = "/v1/incentive-policies"


@pytest_asyncio.fixture(autouse=True)
async def towel(session: AsyncSession) -> Gift:
    """What the rules of these tests give."""
    gift = await make_gift_article(session)
    await session.commit()
    return gift


def _policy(*rules: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {"name": "南海区误工补贴", "area_code": DISTRICT} | _version(*rules) | facts


def _day(days: int = 0) -> str:
    """Give the date that a calendar in China shows so many days from now."""
    return (clock.civil_date(clock.now()) + timedelta(days=days)).isoformat()


def _version(*rules: dict[str, Any], **facts: Any) -> dict[str, Any]:
    given = {"effective_on": _day(), "provenance": "assumed"}
    return given | {"rules": list(rules) or [make_cash()]} | facts


async def _created(officer: Client, *rules: dict[str, Any], **facts: Any) -> dict[str, Any]:
    policy: dict[str, Any] = await officer.ok(
        "POST", _POLICIES, json=_policy(*rules, **facts), status=201
    )
    return policy


async def test_a_policy_is_read_back_with_its_rules_by_priority(officer: Client) -> None:
    small = make_gift("small", exclusive_group="gifts", priority=1, min_streak=2)
    big = make_gift("big", exclusive_group="gifts", priority=2, min_streak=4, every=4)
    capped = make_cash(yearly_cap_fen=4000)
    body = _policy(small, capped, big, consent_required=True, ends_on="2027-01-01")
    answer = await officer.post(_POLICIES, json=body)
    created = answer.json()

    assert answer.status_code == 201
    assert answer.headers["location"] == f"{_POLICIES}/{created['id']}"
    assert (created["version"], created["current_version"]["number"]) == (1, 1)
    version = created["current_version"]
    assert [rule["code"] for rule in version["rules"]] == ["big", "small", "subsidy"]
    first = version["rules"][0]
    without = {
        "rule_id": first["rule_id"],
        "amount_fen": None,
        "yearly_cap_fen": None,
        "funding": None,
        "valid_days": None,
    }
    assert first == big | without
    assert version["rules"][2]["yearly_cap_fen"] == 4000
    assert (version["consent_required"], version["ends_on"]) == (True, "2027-01-01")
    read = await officer.get(f"{_POLICIES}/{created['id']}")
    assert read.json() == created
    assert read.headers["etag"] == '"1"'


async def test_a_voucher_is_funded_like_cash(officer: Client) -> None:
    split = {"funding": {"town_bp": 6000, "other_bp": 4000}}
    body = _policy(make_voucher() | split, make_voucher("own"))
    made = await officer.ok("POST", _POLICIES, json=body, status=201)
    kept = {rule["code"]: rule for rule in made["current_version"]["rules"]}
    assert [kept["service"]["funding"][name] for name in ("town_bp", "other_bp")] == [6000, 4000]
    assert kept["own"]["funding"]["district_bp"] == 10_000
    assert (kept["own"]["amount_fen"], kept["own"]["valid_days"]) == (5000, 30)
    assert await officer.ok("GET", f"{_POLICIES}/{made['id']}") == made


async def test_a_gift_without_a_quantity_is_one(officer: Client) -> None:
    created = await _created(officer, make_gift(quantity=None))
    assert created["current_version"]["rules"][0]["quantity"] == 1


async def test_a_gift_is_of_the_catalogue_and_called_as_it_is_there_unless_said(
    officer: Client, session: AsyncSession
) -> None:
    created = await _created(
        officer, make_gift(gift_item=None), make_gift("own", gift_item="新毛巾")
    )
    rules = {rule["code"]: rule for rule in created["current_version"]["rules"]}
    assert (rules["towel"]["gift_item"], rules["own"]["gift_item"]) == ("毛巾", "新毛巾")
    await make_gift_article(session, "old", "旧伞", status="retired")
    await session.commit()
    body = _policy(make_gift("a", gift_code="none"), make_gift("b", gift_code="old"), name="另一")
    problem = await officer.refused("POST", _POLICIES, json=body, status=422, code="invalid")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("/rules/0/gift_code", "unknown_reference"),
        ("/rules/1/gift_code", "gift_retired"),
    ]


async def test_a_change_is_a_version_in_which_a_code_keeps_its_rule(officer: Client) -> None:
    first = await _created(officer)
    path = f"{_POLICIES}/{first['id']}"
    body = _version(make_cash(amount_fen=2000), make_gift())
    second = await officer.ok(
        "POST", f"{path}/versions", json=body, headers=if_match(first), status=201
    )

    assert (second["version"], second["current_version"]["number"]) == (2, 2)
    before, after = (
        {rule["code"]: rule for rule in policy["current_version"]["rules"]}
        for policy in (first, second)
    )
    assert after["subsidy"]["rule_id"] == before["subsidy"]["rule_id"]
    assert after["towel"]["rule_id"] != before["subsidy"]["rule_id"]
    assert after["subsidy"]["amount_fen"] == 2000
    page = await officer.ok("GET", f"{path}/versions")
    assert page["items"] == [second["current_version"], first["current_version"]]
    assert await officer.ok("GET", path) == second


async def test_a_change_takes_nothing_back_of_what_was_shown(officer: Client) -> None:
    first = await _created(officer, effective_on="2024-01-01")
    path = f"{_POLICIES}/{first['id']}"
    body = _version(make_cash(amount_fen=1), effective_on=_day(-1))
    problem = await officer.refused(
        "POST", f"{path}/versions", json=body, headers=if_match(first), status=422, code="invalid"
    )
    (error,) = problem["errors"]
    assert (error["pointer"], error["code"]) == ("/effective_on", "version_in_the_past")
    assert _day() in error["detail"]
    assert await officer.ok("GET", path) == first
    body = _version(make_cash(amount_fen=1), effective_on=_day())
    await officer.ok("POST", f"{path}/versions", json=body, headers=if_match(first), status=201)


async def test_a_change_holds_from_tomorrow_where_a_round_was_closed_today(
    officer: Client, session: AsyncSession
) -> None:
    first = await _created(officer, effective_on="2024-01-01")
    today, now = clock.civil_date(clock.now()), clock.now()
    dates = {"starts_on": today - timedelta(days=9), "ends_on": today + timedelta(days=9)}
    await make_round(session, 3, **dates, status="closed", closed_at=now)
    await session.commit()
    path = f"{_POLICIES}/{first['id']}/versions"
    body = _version(make_cash(amount_fen=1), effective_on=_day())
    problem = await officer.refused(
        "POST", path, json=body, headers=if_match(first), status=422, code="invalid"
    )
    (error,) = problem["errors"]
    assert (error["pointer"], error["code"]) == ("/effective_on", "version_in_the_past")
    assert _day(1) in error["detail"]
    body = _version(make_cash(amount_fen=1), effective_on=_day(1))
    await officer.ok("POST", path, json=body, headers=if_match(first), status=201)


async def test_a_round_closed_before_today_lets_a_change_hold_at_once(
    officer: Client, session: AsyncSession
) -> None:
    first = await _created(officer, effective_on="2024-01-01")
    today, now = clock.civil_date(clock.now()), clock.now()
    dates = {"starts_on": today - timedelta(days=9), "ends_on": today + timedelta(days=9)}
    await make_round(session, 3, **dates, status="closed", closed_at=now - timedelta(days=1))
    await session.commit()
    path = f"{_POLICIES}/{first['id']}/versions"
    body = _version(make_cash(amount_fen=1), effective_on=_day())
    await officer.ok("POST", path, json=body, headers=if_match(first), status=201)


async def test_the_current_version_is_the_one_in_force(officer: Client) -> None:
    first = await _created(officer, effective_on=_day(5))
    assert first["current_version"]["number"] == 1, "none is in force, so it is the latest"
    path = f"{_POLICIES}/{first['id']}"
    policy = first
    for number, effective_on, ends_on, current in (
        (2, _day(), _day(9), 2),
        (3, _day(9), None, 2),
        (4, _day(), _day(1), 4),
    ):
        body = _version(effective_on=effective_on, ends_on=ends_on)
        policy = await officer.ok(
            "POST", f"{path}/versions", json=body, headers=if_match(policy), status=201
        )
        assert policy["version"] == number
        assert policy["current_version"]["number"] == current
        assert await officer.ok("GET", path) == policy
        assert (await officer.ok("GET", _POLICIES))["items"] == [policy]


async def test_a_code_that_comes_back_after_a_pause_is_the_same_rule(officer: Client) -> None:
    first = await _created(officer, make_cash())
    path = f"{_POLICIES}/{first['id']}/versions"
    second = await officer.ok(
        "POST", path, json=_version(make_gift()), headers=if_match(first), status=201
    )
    third = await officer.ok(
        "POST", path, json=_version(make_cash()), headers=if_match(second), status=201
    )
    rules = [policy["current_version"]["rules"][0]["rule_id"] for policy in (first, third)]
    assert rules[0] == rules[1]


@pytest.mark.parametrize("after", ["health_guard", "contest"])
async def test_a_code_stays_of_one_kind_of_event(officer: Client, after: str) -> None:
    """By what a rule granted it is told, or kept back, at which events a member was."""
    first = await _created(officer, make_cash(event_kind="lecture"))
    path = f"{_POLICIES}/{first['id']}/versions"
    second = await officer.ok(
        "POST", path, json=_version(make_gift()), headers=if_match(first), status=201
    )
    body = _version(make_cash("other", event_kind=after), make_cash(event_kind=after))
    problem = await officer.refused(
        "POST", path, status=422, code="invalid", json=body, headers=if_match(second)
    )
    assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [
        ("/rules/1/event_kind", "rule_kind_fixed")
    ]


async def test_a_version_goes_beside_the_one_that_was_read(officer: Client) -> None:
    policy = await _created(officer)
    path = f"{_POLICIES}/{policy['id']}/versions"
    body = _version(make_cash(amount_fen=1))
    await officer.refused("POST", path, json=body, status=428, code="precondition_required")
    answers = await asyncio.gather(
        *(officer.post(path, json=body, headers=if_match(policy)) for _ in range(4))
    )

    assert sorted(answer.status_code for answer in answers) == [201, 412, 412, 412]
    page = await officer.ok("GET", path)
    assert [version["number"] for version in page["items"]] == [2, 1]


@pytest.mark.parametrize(
    ("rule", "pointer", "code"),
    [
        (make_cash(amount_fen=None), "amount_fen", "rule_cash_needs_amount"),
        (make_cash(gift_item="毛巾"), "gift_item", "rule_cash_is_no_gift"),
        (make_cash(gift_code="towel"), "gift_code", "rule_cash_is_no_gift"),
        (make_cash(quantity=1), "quantity", "rule_cash_is_no_gift"),
        (make_cash(yearly_cap_fen=999), "yearly_cap_fen", "rule_cap_below_amount"),
        (make_gift(gift_code=None), "gift_code", "rule_gift_needs_item"),
        (make_gift(amount_fen=1), "amount_fen", "rule_gift_is_no_cash"),
        (make_gift(yearly_cap_fen=1), "yearly_cap_fen", "rule_gift_is_no_cash"),
        (make_cash(event_kind="lecture", min_streak=2), "min_streak", "rule_streak_of_other_event"),
        (make_cash(event_kind="lecture", every=2), "every", "rule_streak_of_other_event"),
        (make_cash(amount_fen=0), "amount_fen", "greater_than_equal"),
        (make_cash(amount_fen=100_000_001), "amount_fen", "less_than_equal"),
        (make_cash(amount_fen=9.5), "amount_fen", "int_type"),
        (make_cash(min_streak=0), "min_streak", "greater_than_equal"),
        (make_cash(every=1), "every", "greater_than_equal"),
        (make_gift(quantity=0), "quantity", "greater_than_equal"),
        (make_cash("Subsidy"), "code", "string_pattern_mismatch"),
        (make_cash(reward="voucher"), "reward", "enum"),
        (make_voucher(amount_fen=None), "amount_fen", "rule_cash_needs_amount"),
        (make_voucher(valid_days=None), "valid_days", "rule_voucher_has_valid_days"),
        (make_voucher(valid_days=0), "valid_days", "greater_than_equal"),
        (make_voucher(valid_days=3661), "valid_days", "less_than_equal"),
        (make_voucher(gift_item="毛巾"), "gift_item", "rule_cash_is_no_gift"),
        (make_cash(valid_days=30), "valid_days", "rule_voucher_has_valid_days"),
        (make_gift(valid_days=30), "valid_days", "rule_voucher_has_valid_days"),
    ],
)
async def test_a_rule_that_contradicts_itself_is_named(
    officer: Client, rule: dict[str, Any], pointer: str, code: str
) -> None:
    body = _policy(make_gift("other"), rule)
    problem = await officer.refused("POST", _POLICIES, json=body, status=422, code="invalid")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        (f"/rules/1/{pointer}", code)
    ]


async def test_rules_that_contradict_each_other_are_named(officer: Client) -> None:
    ranked = {"exclusive_group": "thanks", "priority": 1}
    body = _policy(make_cash("a", **ranked), make_cash("a"), make_cash("b", **ranked))
    problem = await officer.refused("POST", _POLICIES, json=body, status=422, code="invalid")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("/rules/1/code", "rule_code_repeated"),
        ("/rules/2/priority", "rule_priority_repeated"),
    ]


@pytest.mark.parametrize("check", ["health_exam", "health_guard"])
async def test_no_group_is_of_health_checks_and_of_other_events(
    officer: Client, check: str
) -> None:
    """The thanks for a lecture that is missing would tell who came to the check."""
    group = {"exclusive_group": "thanks"}
    body = _policy(
        make_gift("heard", event_kind="lecture", priority=1, **group),
        make_gift("came", event_kind=check, priority=2, **group),
        make_gift("seen", event_kind="film_screening", exclusive_group="others"),
        make_gift("also_heard", event_kind="lecture", exclusive_group="others", priority=1),
    )
    problem = await officer.refused("POST", _POLICIES, json=body, status=422, code="invalid")
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("/rules/0/exclusive_group", "rule_group_mixes_checks")
    ]


async def test_an_office_sets_what_an_enterprise_adds_and_its_own_side_does_not(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session, mode="independent", area_code=VILLAGE)
    await session.commit()
    facts = {"area_code": VILLAGE, "association_id": str(association.id), "name": "企业补贴"}
    linked = client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True)
    await linked.refused("POST", _POLICIES, json=_policy(**facts), status=403, code="forbidden")
    set_up = await _created(client(Role.TOWN_OFFICER, areas=[SHISHAN]), **facts)
    rule = set_up["current_version"]["rules"][0]
    assert (rule["amount_fen"], rule["funding"]["enterprise_bp"]) == (1000, 10_000)
    path = f"{_POLICIES}/{set_up['id']}"
    assert await linked.ok("GET", path) == set_up
    await linked.refused(
        "POST",
        f"{path}/versions",
        json=_version(),
        headers=if_match(set_up),
        status=403,
        code="forbidden",
    )


@pytest.mark.parametrize(
    ("facts", "pointer"),
    [
        ({"ends_on": "2026-01-01"}, "/ends_on"),
        ({"effective_on": "0026-01-01"}, "/effective_on"),
        ({"provenance": "approved"}, "/provenance_note"),
        ({"rules": []}, "/rules"),
        ({"rules": [make_cash(f"r{n}") for n in range(31)]}, "/rules"),
        ({"area_code": "440605999000"}, "/area_code"),
    ],
)
async def test_wrong_terms_are_named(officer: Client, facts: dict[str, Any], pointer: str) -> None:
    problem = await officer.refused(
        "POST", _POLICIES, json=_policy(**facts), status=422, code="invalid"
    )
    assert pointers(problem) == [pointer]


async def test_a_version_is_checked_like_a_policy(officer: Client) -> None:
    policy = await _created(officer)
    problem = await officer.refused(
        "POST",
        f"{_POLICIES}/{policy['id']}/versions",
        json=_version(make_cash(amount_fen=None), ends_on="2025-12-31"),
        headers=if_match(policy),
        status=422,
        code="invalid",
    )
    assert pointers(problem) == ["/ends_on", "/rules/0/amount_fen"]
    assert await officer.ok("GET", f"{_POLICIES}/{policy['id']}") == policy


async def test_a_second_click_sets_up_no_twin_that_would_pay_twice(officer: Client) -> None:
    first = await _created(officer)
    await officer.refused("POST", _POLICIES, json=_policy(), status=409, code="policy_name_taken")
    await _created(officer, area_code=SHISHAN)
    headers = idempotency_key("once")
    body = _policy(name="另一办法")
    once = await officer.ok("POST", _POLICIES, json=body, headers=headers, status=201)
    assert await officer.ok("POST", _POLICIES, json=body, headers=headers, status=201) == once
    page = await officer.ok("GET", _POLICIES, params={"area": DISTRICT, "include_total": "true"})
    assert page["total"] == 3
    assert page["items"][0] == first


async def test_a_policy_of_one_association_names_one_in_its_area(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session)
    await session.commit()
    scope = {"area_code": SHISHAN, "association_id": str(association.id)}
    created = await _created(officer, **scope)
    assert created["association_id"] == str(association.id)
    for wrong in (
        {"area_code": GUICHENG, "association_id": str(association.id)},
        {"area_code": SHISHAN, "association_id": created["id"]},
    ):
        problem = await officer.refused(
            "POST", _POLICIES, json=_policy(**wrong), status=422, code="invalid"
        )
        assert pointers(problem) == ["/association_id"]


async def test_a_policy_set_from_above_is_read_and_not_changed(
    client: Callable[..., Client], officer: Client
) -> None:
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    policy = await _created(officer)
    path = f"{_POLICIES}/{policy['id']}"

    assert await town.ok("GET", path) == policy
    assert (await town.ok("GET", f"{path}/versions"))["items"] == [policy["current_version"]]
    await town.refused(
        "POST",
        f"{path}/versions",
        json=_version(),
        headers=if_match(policy),
        status=403,
        code="policy_elsewhere",
    )
    await town.refused("POST", _POLICIES, json=_policy(), status=403, code="forbidden")
    own = await _created(town, name="狮山镇办法", area_code=SHISHAN)
    assert own["current_version"]["created_by"] == "town_officer-1"


async def test_a_policy_beyond_reach_is_not_found(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    hidden = [
        await make_policy(session, area_code=GUICHENG),
        await make_policy(session, area_code=SHISHAN, association_id=association.id),
    ]
    seen = await make_policy(session)
    await session.commit()
    secretary = client(Role.SECRETARY, areas=[], associations=[str(association.id)])
    elsewhere = client(Role.DISTRICT_OFFICER, district_code="440604000000")
    neighbour = client(Role.TOWN_OFFICER, areas=["440605121000"])

    async def listed(caller: Client) -> set[str]:
        return {item["id"] for item in (await caller.ok("GET", _POLICIES))["items"]}

    assert await listed(neighbour) == {str(seen.id)}
    assert await listed(secretary) == {str(hidden[1].id)}
    assert await listed(elsewhere) == set()
    for policy in hidden:
        path = f"{_POLICIES}/{policy.id}"
        await neighbour.refused("GET", path, status=404, code="not_found")
        await neighbour.refused("GET", f"{path}/versions", status=404, code="not_found")
        await neighbour.refused(
            "POST",
            f"{path}/versions",
            json=_version(),
            headers={"If-Match": '"1"'},
            status=404,
            code="not_found",
        )


async def test_a_list_is_narrowed_by_area_and_association(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session)
    district = await make_policy(session)
    town = await make_policy(session, area_code=SHISHAN)
    own = await make_policy(session, area_code=VILLAGE, association_id=association.id)
    await session.commit()

    async def ids(**params: str) -> list[str]:
        page = await officer.ok("GET", _POLICIES, params=params)
        return [item["id"] for item in page["items"]]

    assert await ids() == [str(district.id), str(town.id), str(own.id)]
    assert await ids(area=SHISHAN) == [str(town.id), str(own.id)]
    assert await ids(association_id=str(association.id)) == [str(own.id)]
    assert await ids(area=GUICHENG) == []


@pytest.mark.parametrize(
    "role",
    [Role.FINANCE_CLERK, Role.FINANCE_APPROVER, Role.AUDITOR, Role.SECRETARY],
)
async def test_who_may_only_read_sets_up_nothing(
    client: Callable[..., Client], officer: Client, role: Role
) -> None:
    policy = await _created(officer)
    caller = client(role)
    await caller.refused("POST", _POLICIES, json=_policy(name="x"), status=403, code="forbidden")
    await caller.refused(
        "POST",
        f"{_POLICIES}/{policy['id']}/versions",
        json=_version(),
        headers=if_match(policy),
        status=403,
        code="forbidden",
    )
