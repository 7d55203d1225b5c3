"""How far a streak has come by now, and which rules come next."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, Statements
from app.identity import Caller
from app.models.incentives.eligibility import Standing
from app.models.self_service.me import StreakRead
from app.problems import NotFound
from app.roles import Role
from app.services.incentives import streak_progress
from app.services.incentives.decisions import Rule
from tests.factories.callers import make_act, make_caller
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import make_cash, make_gift, make_policy
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_DURING_FOURTH = datetime(2024, 11, 24, tzinfo=UTC)
_BEFORE_ANY = datetime(2023, 12, 1, tzinfo=UTC)


async def _member(
    session: AsyncSession, history: str, rules: list[dict[str, Any]] | None = None, **facts: Any
) -> UUID:
    """Store a member and four rounds: `a`ttended, e`x`cused or `-`."""
    policy = facts.pop("policy", {})
    member = await make_member(session, await make_association(session), **facts)
    await make_policy(session, rules or [], **policy)
    for sequence, mark in enumerate(history, 1):
        held = await make_round(session, sequence)
        if mark == "a":
            await make_attendance(session, await make_event(session, held), member)
        if mark == "x":
            await make_excuse(session, held, member_id=member.id)
    await session.commit()
    return member.id


async def _progress(
    database: Database, member_id: UUID, now: datetime = _DURING_FOURTH
) -> StreakRead:
    caller: Caller = make_caller(Role.MEMBER, areas=(), member_id=member_id)
    statements = Statements(database.pool, caller.scope, make_act(caller))
    return await streak_progress.find(statements, caller, now=now)


@pytest.mark.parametrize(
    ("history", "streak", "standing"),
    [
        ("----", 0, None),
        ("aaa-", 3, None),
        ("aaaa", 4, Standing.ATTENDED),
        ("a-aa", 2, Standing.ATTENDED),
        ("aa--", 0, None),
        ("aax-", 2, None),
        ("a-x-", 0, None),
        ("axxx", 1, Standing.EXCUSED),
        ("aaxa", 3, Standing.ATTENDED),
    ],
)
async def test_the_round_under_way_breaks_no_streak(
    session: AsyncSession,
    database: Database,
    history: str,
    streak: int,
    standing: Standing | None,
) -> None:
    progress = await _progress(database, await _member(session, history))
    assert progress.round is not None
    assert (progress.streak, progress.round.sequence) == (streak, 4)
    assert progress.round.standing is standing


async def test_a_round_that_is_over_breaks_it(session: AsyncSession, database: Database) -> None:
    member_id = await _member(session, "aaa-")
    after = datetime(2025, 2, 1, tzinfo=UTC)
    progress = await _progress(database, member_id, after)
    assert progress.round is not None
    assert (progress.streak, progress.round.standing) == (0, Standing.MISSED)


async def test_a_round_closed_early_breaks_it(session: AsyncSession, database: Database) -> None:
    member_id = await _member(session, "aaa-")
    closed = "update exam_rounds set status = 'closed', closed_at = :now where sequence = 4"
    await session.execute(text(closed), {"now": _DURING_FOURTH})
    await session.commit()
    progress = await _progress(database, member_id)
    assert progress.round is not None
    assert (progress.streak, progress.round.standing) == (0, Standing.MISSED)


async def test_before_any_round_there_is_nothing(session: AsyncSession, database: Database) -> None:
    member_id = await _member(session, "aaaa", [make_cash()])
    progress = await _progress(database, member_id, _BEFORE_ANY)
    assert progress == StreakRead(streak=0, round=None, next_steps=[])


async def test_the_next_rules_are_named_with_the_rounds_they_lack(
    session: AsyncSession, database: Database
) -> None:
    rules = [
        make_gift("big", min_streak=6),
        make_cash("subsidy"),
        make_gift("pair", every=2),
        make_cash("film", event_kind="film_screening"),
    ]
    progress = await _progress(database, await _member(session, "aaa-", rules))
    named = [(each.rule_code, each.at_streak, each.rounds_missing) for each in progress.next_steps]
    assert named == [("pair", 4, 1), ("subsidy", 4, 1), ("big", 6, 3)]


@pytest.mark.parametrize(
    ("policy", "member", "codes"),
    [
        ({}, {}, ["subsidy"]),
        ({"consent_required": True}, {}, []),
        ({"consent_required": True}, {"consented_on": clock.civil_date(_BEFORE_ANY)}, ["subsidy"]),
        ({}, {"thanks_withdrawn_on": clock.civil_date(_BEFORE_ANY)}, []),
        ({"ends_on": clock.civil_date(_DURING_FOURTH)}, {}, []),
        ({"area_code": "440605011000"}, {}, []),
        ({}, {"status": "left"}, []),
    ],
)
async def test_only_rules_that_can_reach_her_are_named(
    session: AsyncSession,
    database: Database,
    policy: dict[str, Any],
    member: dict[str, Any],
    codes: list[str],
) -> None:
    member_id = await _member(session, "a---", [make_cash()], policy=policy, **member)
    progress = await _progress(database, member_id)
    assert [each.rule_code for each in progress.next_steps] == codes


async def test_a_rule_that_another_outranks_then_is_not_named(
    session: AsyncSession, database: Database
) -> None:
    rules = [
        make_cash("small", exclusive_group="g", priority=1),
        make_cash("large", exclusive_group="g", priority=2, min_streak=3),
    ]
    first = await _member(session, "aa--", rules)
    progress = await _progress(database, first, datetime(2024, 8, 1, tzinfo=UTC))
    assert [(each.rule_code, each.rounds_missing) for each in progress.next_steps] == [("large", 1)]
    progress = await _progress(database, first, datetime(2024, 5, 1, tzinfo=UTC))
    assert [each.rule_code for each in progress.next_steps] == ["large"]


def _rule(**facts: Any) -> Rule:
    values: dict[str, Any] = {
        "policy_id": clock.new_id(),
        "policy_name": "p",
        "area_code": "440605000000",
        "association_id": None,
        "number": 1,
        "in_force": True,
        "consent_required": False,
        "rule_id": clock.new_id(),
        "code": "r",
        "name": "n",
        "event_kind": "health_exam",
        "min_streak": 1,
        "every": None,
        "reward": "cash",
        "amount_fen": 100,
        "gift_item": None,
        "quantity": None,
        "exclusive_group": None,
        "priority": 0,
        "yearly_cap_fen": None,
    }
    return Rule(**(values | facts))


@pytest.mark.parametrize("min_streak", [1, 2, 5, 7])
@pytest.mark.parametrize("every", [None, 1, 2, 3, 4])
def test_a_step_is_the_lowest_streak_above_that_the_rule_asks_for(
    min_streak: int, every: int | None
) -> None:
    for streak in range(15):
        expected = next(
            at
            for at in range(streak + 1, 100)
            if at >= min_streak and (every is None or at % every == 0)
        )
        (step,) = streak_progress.next_steps(
            [_rule(min_streak=min_streak, every=every)], streak, has_consent=True
        )
        assert (step.at_streak, step.rounds_missing) == (expected, expected - streak)


async def test_an_unknown_member_has_no_streak(database: Database) -> None:
    with pytest.raises(NotFound):
        await _progress(database, clock.new_id())
