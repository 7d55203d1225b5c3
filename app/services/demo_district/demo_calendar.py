"""The demo's calendar: rounds, the events held in them, and the policies that thank for coming."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import count, cycle, islice
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.identity import DEMO
from app.models.events.exam_rounds import ExamRound, RoundStatus
from app.models.events.excuses import Excuse, ExcuseReason
from app.models.events.service_events import EventKind, EventStatus, ServiceEvent
from app.models.finance.funds import FULL_BP, FundSource
from app.models.incentives.incentive_policies import (
    IncentivePolicy,
    IncentiveRule,
    PolicyVersion,
    Reward,
)
from app.models.organisation.areas import Provenance
from app.models.organisation.associations import Mode
from app.services.demo_district.demo_facts import (
    CLOSED,
    CURRENT,
    DISTRICT,
    PRESENT,
    Kind,
    Quarter,
    at,
    copy,
    demo_id,
    record,
)
from app.services.demo_district.demo_places import Place
from app.services.events.service_events import LONGEST

TOWNS = {
    "440605011000": "桂城街道",
    "440605121000": "九江镇",
    "440605122000": "西樵镇",
    "440605123000": "丹灶镇",
    "440605124000": "狮山镇",
    "440605125000": "大沥镇",
    "440605126000": "里水镇",
}
_OPEN_EVENT = "第4季度会员服务日（进行中）"
_WITHOUT_CHECK = (3, "440605121000")
"""The round in which a town held none, so that closing the round excused it."""
_HOLDERS = {Mode.VILLAGE, Mode.INDEPENDENT, Mode.PARK, Mode.PROFESSIONAL}
_GRACE = timedelta(days=15)
_GATHERINGS = (
    (EventKind.LECTURE, "健康生活讲座"),
    (EventKind.FILM_SCREENING, "周末电影"),
    (EventKind.ARTS_AND_SPORTS, "职工趣味运动会"),
    (EventKind.SKILLS_TRAINING, "技能培训班"),
    (EventKind.CONTEST, "知识竞赛"),
    (EventKind.CONSULTATION, "法律与生活咨询"),
)
_PER_QUARTER = 6
_SEATS = 40
_DISTRICT_RULES: tuple[dict[str, Any], ...] = (
    {"code": "attendance", "name": "误工补贴", "amount_fen": 1000},
    {
        "code": "small_gift",
        "name": "连续两期小礼品",
        "min_streak": 2,
        "gift_code": "hand_cream",
        "gift_item": "护手霜",
        "exclusive_group": "gift",
        "priority": 1,
    },
    {
        "code": "big_gift",
        "name": "每四期大礼包",
        "min_streak": 4,
        "every": 4,
        "gift_code": "towel_box",
        "gift_item": "毛巾礼盒",
        "exclusive_group": "gift",
        "priority": 2,
    },
)
_TOP_UP_RULES: tuple[dict[str, Any], ...] = (
    {"code": "top_up", "name": "企业补贴", "amount_fen": 3000},
)


async def store(session: AsyncSession, places: Sequence[Place]) -> None:
    """Store the rounds, the events and the policies."""
    await copy(session, ExamRound, map(_round, [*CLOSED, CURRENT]))
    await copy(session, Excuse, [_town_excuse()])
    numbers = count(1)
    await copy(session, ServiceEvent, _health_checks(numbers, places))
    await copy(session, ServiceEvent, _gatherings(numbers, places))
    await _store_policies(session, next(p for p in places if p.mode is Mode.INDEPENDENT))


def _round(quarter: Quarter) -> dict[str, Any]:
    is_closed = quarter is not CURRENT
    closed_at = at(quarter.ends_on + timedelta(days=6), 17)
    return record(
        Kind.ROUND,
        quarter.sequence,
        since=at(quarter.starts_on - timedelta(days=20), 9),
        sequence=quarter.sequence,
        name=quarter.name,
        starts_on=quarter.starts_on,
        ends_on=quarter.ends_on,
        accepts_until=at(quarter.ends_on + _GRACE, 23, 59),
        status=(RoundStatus.CLOSED if is_closed else RoundStatus.OPEN).value,
        closed_at=closed_at if is_closed else None,
    )


def _town_excuse() -> dict[str, Any]:
    sequence, town = _WITHOUT_CHECK
    return {
        "district_code": DISTRICT,
        "id": demo_id(Kind.EXCUSE, sequence),
        "round_sequence": sequence,
        "member_id": None,
        "area_code": town,
        "reason": ExcuseReason.NONE_OFFERED.value,
        "created_by": DEMO,
        "created_at": at(CLOSED[sequence - 1].ends_on + timedelta(days=6), 17),
        "withdrawn_at": None,
        "withdrawn_by": None,
    }


def _event(number: int, day: date, *, days: int = 1, **facts: Any) -> dict[str, Any]:
    starts_at, ends_at = at(day, 9), at(day + timedelta(days=days - 1), 17)
    status = EventStatus.CLOSED if ends_at < PRESENT else EventStatus.PUBLISHED
    values = {
        "association_id": None,
        "round_sequence": None,
        "starts_at": starts_at,
        "ends_at": ends_at,
        "registration_opens_at": None,
        "registration_closes_at": None,
        "capacity": None,
        "status": status.value,
        "status_reason": None,
    }
    since = min(at(day - timedelta(days=30), 9), PRESENT)
    closed = {"updated_at": ends_at} if status is EventStatus.CLOSED else {}
    return record(Kind.EVENT, number, since=since, **(values | closed | facts))


def _health_checks(numbers: Iterator[int], places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    holders = [place for place in places if place.mode in _HOLDERS]
    for quarter in CLOSED:
        stops: list[tuple[str, UUID | None, str]] = [
            (place.area_code, demo_id(Kind.ASSOCIATION, place.number), f"{place.name}服务点")
            for place in holders
        ]
        stops += [(code, None, f"{name}服务中心") for code, name in TOWNS.items()]
        for index, (area_code, association_id, venue) in enumerate(stops):
            if (quarter.sequence, area_code[:9] + "000") == _WITHOUT_CHECK:
                continue
            yield _event(
                next(numbers),
                quarter.starts_on + timedelta(days=10 + index * 7 % 70),
                kind=EventKind.HEALTH_EXAM.value,
                title=f"{quarter.name}会员服务日",
                venue=venue,
                area_code=area_code,
                association_id=association_id,
                round_sequence=quarter.sequence,
            )
    yield _under_way(next(numbers), next(p for p in holders if p.mode is Mode.INDEPENDENT))


def _under_way(number: int, place: Place) -> dict[str, Any]:
    return _event(
        number,
        PRESENT.date() - timedelta(days=8),
        days=LONGEST.days,
        kind=EventKind.HEALTH_EXAM.value,
        title=_OPEN_EVENT,
        venue=f"{place.name}服务点",
        area_code=place.area_code,
        association_id=demo_id(Kind.ASSOCIATION, place.number),
        round_sequence=CURRENT.sequence,
        status=EventStatus.IN_PROGRESS.value,
    )


def _gatherings(numbers: Iterator[int], places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    homes = cycle(place for place in places if place.mode is Mode.INDEPENDENT)
    kinds = cycle(_GATHERINGS)
    for quarter in [*CLOSED, CURRENT]:
        first = quarter.starts_on + timedelta(days=15 if quarter is not CURRENT else 65)
        for index, place in enumerate(islice(homes, _PER_QUARTER)):
            kind, title = next(kinds)
            day = first + timedelta(days=index * 3)
            yield _event(
                next(numbers),
                day,
                kind=kind.value,
                title=title,
                venue=f"{place.name}会员之家",
                area_code=place.area_code,
                association_id=demo_id(Kind.ASSOCIATION, place.number),
                registration_opens_at=at(day - timedelta(days=28), 9),
                registration_closes_at=at(day - timedelta(days=1), 18),
                capacity=_SEATS,
            )


async def _store_policies(session: AsyncSession, enterprise: Place) -> None:
    policies = (
        ("南海区会员感谢办法", DISTRICT, None, _DISTRICT_RULES),
        (
            f"{enterprise.name}补充办法",
            enterprise.area_code,
            demo_id(Kind.ASSOCIATION, enterprise.number),
            _TOP_UP_RULES,
        ),
    )
    numbers = count(1)
    for number, (name, area_code, association_id, rules) in enumerate(policies, 1):
        since = at(CLOSED[0].starts_on - timedelta(days=20), 9)
        policy = record(
            Kind.POLICY,
            number,
            since=since,
            name=name,
            area_code=area_code,
            association_id=association_id,
            current_number=1,
        )
        await copy(session, IncentivePolicy, [policy])
        await copy(session, PolicyVersion, [_policy_version(policy)])
        rows = [_rule(policy, next(numbers), rule) for rule in rules]
        await copy(session, IncentiveRule, rows)


def _policy_version(policy: dict[str, Any]) -> dict[str, Any]:
    return {
        "district_code": DISTRICT,
        "policy_id": policy["id"],
        "number": 1,
        "effective_on": CLOSED[0].starts_on,
        "ends_on": None,
        "consent_required": policy["association_id"] is not None,
        "provenance": Provenance.ASSUMED.value,
        "provenance_note": None,
        "created_by": DEMO,
        "created_at": policy["created_at"],
    }


def _rule(policy: dict[str, Any], number: int, rule: dict[str, Any]) -> dict[str, Any]:
    gift = "gift_item" in rule
    payer = FundSource.DISTRICT if policy["association_id"] is None else FundSource.ENTERPRISE
    values = {
        "district_code": DISTRICT,
        "policy_id": policy["id"],
        "number": 1,
        "rule_id": demo_id(Kind.RULE, number),
        "event_kind": EventKind.HEALTH_EXAM.value,
        "min_streak": 1,
        "every": None,
        "reward": (Reward.GIFT if gift else Reward.CASH).value,
        "amount_fen": None,
        "gift_code": None,
        "gift_item": None,
        "quantity": 1 if gift else None,
        "valid_days": None,
        "exclusive_group": None,
        "priority": 0,
        "yearly_cap_fen": None,
        **{f"{source}_bp": 0 for source in FundSource},
    }
    if not gift:
        values[f"{payer}_bp"] = FULL_BP
    return values | rule
