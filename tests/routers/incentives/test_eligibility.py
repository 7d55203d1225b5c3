"""Eligibility over HTTP: each decision with its reason, for those who may know it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.clock import CIVIL_ZONE
from app.models.disbursement.payout_runs import RunStatus
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import ServiceEvent
from app.models.incentives.incentive_policies import IncentivePolicy
from app.models.membership.members import Member, Membership
from app.models.organisation.associations import Association
from app.roles import Role
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, Client, if_match, pointers
from tests.factories.disbursement.payout_runs import make_run
from tests.factories.disbursement.payouts import make_payout
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import (
    make_cash,
    make_gift,
    make_policy,
    make_version,
)
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_VOID: dict[str, Any] = {
    "voided_at": datetime(2024, 2, 1, tzinfo=CIVIL_ZONE),
    "voided_by": "officer-1",
    "void_reason": "误签",
}


@dataclass
class Life:
    """A member over the four rounds of 2024, and what is asked about her."""

    session: AsyncSession
    officer: Client
    association: Association
    member: Member
    rounds: Sequence[ExamRound]
    exams: dict[int, ServiceEvent] = field(default_factory=dict)

    async def came(self, *sequences: int, **facts: Any) -> None:
        """Check her in at the health exam of rounds."""
        for sequence in sequences:
            if sequence not in self.exams:
                self.exams[sequence] = await make_event(self.session, self.rounds[sequence - 1])
            await make_attendance(self.session, self.exams[sequence], self.member, **facts)

    async def left(self, at: datetime, **facts: Any) -> None:
        """End her membership as of the day on which it began; that is entered at an instant."""
        tie = await self.session.scalar(
            select(Membership).where(col(Membership.member_id) == self.member.id)
        )
        assert tie is not None
        ended = {"left_on": tie.joined_on, "left_recorded_at": at, "recorded_at": at} | facts
        for name, value in ended.items():
            setattr(tie, name, value)
        self.member.status = "left"

    async def policy(self, *rules: dict[str, Any], **facts: Any) -> IncentivePolicy:
        """Set up a policy of some rules."""
        return await make_policy(self.session, rules, **facts)

    async def explained(self, sequence: int, caller: Client | None = None) -> dict[str, Any]:
        """Ask for her entitlements at a round."""
        await self.session.commit()
        answer: dict[str, Any] = await (caller or self.officer).ok(
            "GET", self.path, params=self.at(sequence)
        )
        return answer

    async def told(self, sequence: int) -> dict[str, tuple[Any, ...]]:
        """Give for each rule its reason with what she has and needs, and which rule wins."""
        names = ("reason", "have", "need", "superseded_by")
        rules = (await self.explained(sequence))["rules"]
        assert all(rule["granted"] == (rule["reason"] is None) for rule in rules)
        return {rule["code"]: tuple(rule[name] for name in names) for rule in rules}

    @property
    def path(self) -> str:
        return f"/v1/members/{self.member.id}/eligibility"

    def at(self, sequence: int) -> dict[str, str]:
        return {"round_id": str(self.rounds[sequence - 1].id)}


_GRANTED = (None, None, None, None)


def _only(reason: str) -> tuple[Any, ...]:
    return (reason, None, None, None)


@pytest_asyncio.fixture
async def life(session: AsyncSession, officer: Client) -> Life:
    association = await make_association(session)
    member = await make_member(session, association, first_joined_on=date(2023, 6, 1))
    rounds = [await make_round(session, sequence) for sequence in (1, 2, 3, 4)]
    return Life(session, officer, association, member, rounds)


async def test_who_came_is_granted_what_the_rule_gives(life: Life) -> None:
    policy = await life.policy(make_gift(quantity=3), name="纪念品办法")
    await life.came(1)
    answer = await life.explained(1)

    assert answer["member_id"] == str(life.member.id)
    assert (answer["round_id"], answer["round_sequence"]) == (str(life.rounds[0].id), 1)
    assert (answer["standing"], answer["streak"]) == ("attended", 1)
    (rule,) = answer["rules"]
    assert (rule["policy_id"], rule["policy_name"]) == (str(policy.id), "纪念品办法")
    assert (rule["policy_number"], rule["event_kind"]) == (1, "health_exam")
    assert (rule["granted"], rule["reason"]) == (True, None)
    assert (rule["reward"], rule["gift_item"], rule["quantity"]) == ("gift", "毛巾", 3)


async def test_who_did_not_come_is_told_so_and_no_more(life: Life) -> None:
    await life.policy(make_cash(min_streak=2))
    assert await life.told(1) == {"subsidy": _only("not_attended")}


async def test_a_voided_attendance_is_named_as_such(life: Life) -> None:
    await life.policy(make_cash(), make_cash("talk", event_kind="lecture"))
    await life.came(1, **_VOID)
    talk = await make_event(life.session, starts_at=_at(2024, 3, 31, 23))
    await make_attendance(life.session, talk, life.member, **_VOID)
    told = await life.told(1)
    assert told == dict.fromkeys(("subsidy", "talk"), _only("attendance_voided"))
    assert (await life.explained(1))["standing"] == "missed"


async def test_who_came_again_after_a_voided_attendance_is_granted(life: Life) -> None:
    await life.policy(make_cash())
    await life.came(1, **_VOID)
    life.exams.clear()
    await life.came(1)
    assert await life.told(1) == {"subsidy": _GRANTED}


async def test_who_left_keeps_what_she_came_to_and_earns_nothing_after(life: Life) -> None:
    await life.policy(make_cash(), make_cash("talk", event_kind="lecture"))
    left_at = _at(2024, 3, 31, 9)
    await life.left(left_at)
    await life.came(1, 2, recorded_at=_at(2024, 7, 9, 9))
    for sequence, moment in ((1, left_at), (2, left_at + timedelta(seconds=1))):
        talk = await make_event(life.session, starts_at=_at(2024, 3 * sequence, 31 - sequence, 9))
        await make_attendance(
            life.session, talk, life.member, occurred_at=moment, recorded_at=_at(2024, 7, 9, 9)
        )
    gone = _only("membership_inactive")
    assert await life.told(1) == {"subsidy": _GRANTED, "talk": _GRANTED}
    assert await life.told(2) == {"subsidy": gone, "talk": gone}


async def test_nobody_came_later_than_it_was_noted(life: Life) -> None:
    await life.policy(make_cash())
    left_at = _at(2024, 2, 1, 9)
    ahead = {"occurred_at": left_at + timedelta(minutes=4), "recorded_at": left_at}
    await life.left(left_at)
    await life.came(1, **ahead)
    assert await life.told(1) == {"subsidy": _GRANTED}


async def test_of_two_events_of_a_kind_one_before_she_left_is_enough(life: Life) -> None:
    await life.policy(make_cash("talk", event_kind="lecture"))
    await life.left(_at(2024, 2, 1, 9))
    for month in (3, 1):
        talk = await make_event(life.session, starts_at=_at(2024, month, 10, 9))
        await make_attendance(life.session, talk, life.member)
        reason = None if month == 1 else "membership_inactive"
        assert (await life.told(1))["talk"][0] == reason


async def test_who_came_before_she_was_enrolled_keeps_it_as_she_leaves(life: Life) -> None:
    await life.policy(make_cash())
    life.member.first_joined_on = date(2024, 4, 1)
    await life.came(1)
    assert await life.told(1) == {"subsidy": _GRANTED}
    await life.left(_at(2024, 5, 1, 9), joined_on=date(2024, 4, 1), left_on=date(2024, 4, 1))
    assert await life.told(1) == {"subsidy": _GRANTED}


async def test_who_was_erased_is_thanked_no_more(life: Life) -> None:
    await life.policy(make_cash())
    await life.came(1)
    await life.left(_at(2024, 5, 1, 9))
    life.member.erased_at = _at(2024, 6, 1, 9)
    assert await life.told(1) == {"subsidy": _only("membership_inactive")}
    before = await life.officer.ok(
        "GET", life.path, params=life.at(1) | {"as_of": clock.now().isoformat()}
    )
    assert [rule["reason"] for rule in before["rules"]] == ["membership_inactive"]


@pytest.mark.parametrize("left_on", ["2023-06-01", None])
async def test_the_employers_side_takes_nothing_away_by_ending_a_membership(
    life: Life, client: Callable[..., Client], left_on: str | None
) -> None:
    await life.policy(make_cash(min_streak=2), make_gift())
    await make_excuse(life.session, life.rounds[1], area_code=DISTRICT, reason="none_offered")
    await life.came(1, 3)
    earned = await life.explained(3)
    assert [rule["granted"] for rule in earned["rules"]] == [True, True]
    secretary = client(Role.SECRETARY, areas=[], associations=[str(life.association.id)])
    path = f"/v1/members/{life.member.id}"
    await secretary.ok(
        "POST",
        f"{path}/leave",
        json={"left_on": left_on or clock.civil_date(clock.now()).isoformat()},
        headers=if_match(await secretary.ok("GET", path)),
    )

    assert await life.explained(3) == earned
    now = life.at(3) | {"as_of": clock.now().isoformat()}
    assert await life.officer.ok("GET", life.path, params=now) == earned


async def test_a_policy_may_ask_for_consent(life: Life) -> None:
    await life.policy(make_cash(), consent_required=True)
    await life.came(1)
    assert await life.told(1) == {"subsidy": _only("consent_missing")}
    life.member.thanks_consented_on = date(2024, 5, 1)
    assert await life.told(1) == {"subsidy": _GRANTED}


async def test_who_took_her_consent_back_is_not_thanked_whatever_the_policy_asks(
    life: Life,
) -> None:
    await life.policy(make_cash())
    await life.came(1)
    life.member.thanks_withdrawn_on = date(2024, 5, 1)
    assert await life.told(1) == {"subsidy": _only("consent_missing")}


async def test_a_short_streak_says_what_she_has_and_needs(life: Life) -> None:
    await life.policy(make_cash("two", min_streak=2), make_cash("four", min_streak=4))
    await life.came(1, 2)
    assert await life.told(2) == {"two": _GRANTED, "four": ("streak_too_short", 2, 4, None)}


async def test_a_streak_that_is_no_multiple_says_of_what(life: Life) -> None:
    await life.policy(make_cash(every=2), make_cash("third", every=3))
    await life.came(1, 2, 3)
    assert await life.told(3) == {"subsidy": ("not_a_multiple", 3, 2, None), "third": _GRANTED}


async def test_the_highest_rule_of_a_group_that_is_met_wins(life: Life) -> None:
    group = {"exclusive_group": "gifts"}
    await life.policy(
        make_gift("small", priority=1, **group),
        make_gift("middle", priority=2, min_streak=2, **group),
        make_gift("big", priority=3, min_streak=3, **group),
        make_cash(),
    )
    await life.came(1, 2)
    assert await life.told(2) == {
        "small": ("superseded", None, None, "middle"),
        "middle": _GRANTED,
        "big": ("streak_too_short", 2, 3, None),
        "subsidy": _GRANTED,
    }


async def test_a_yearly_cap_says_what_is_used_of_it(life: Life) -> None:
    policy = await life.policy(make_cash(yearly_cap_fen=2500), make_gift())
    await life.came(1, 2, 3)
    assert await life.told(3) == {"subsidy": _GRANTED, "towel": _GRANTED}
    rule_id = (await life.explained(3))["rules"][0]["rule_id"]
    for sequence, status in ((1, "paid"), (2, "pending")):
        run = await make_run(life.session, life.rounds[sequence - 1], policy)
        settled_at = clock.now() if status == "paid" else None
        paid: dict[str, Any] = {"status": status, "settled_at": settled_at}
        await make_payout(life.session, run, life.member, rule_id, **paid)
    told = await life.told(3)
    assert told["subsidy"] == ("yearly_cap_reached", 2000, 2500, None)


async def test_what_was_not_paid_or_fell_in_another_year_uses_nothing_of_a_cap(
    life: Life,
) -> None:
    policy = await life.policy(make_cash(yearly_cap_fen=1500))
    life.rounds = [*life.rounds, await make_round(life.session, 5)]
    await life.came(2, 4, 5)
    rule_id = (await life.explained(4))["rules"][0]["rule_id"]
    failed: dict[str, Any] = {
        "status": "failed",
        "failure_reason": "本人未到",
        "settled_at": clock.now(),
    }
    run = await make_run(life.session, life.rounds[1], policy)
    await make_payout(life.session, run, life.member, rule_id, **failed)
    run = await make_run(life.session, life.rounds[4], policy)
    await make_payout(life.session, run, life.member, rule_id)
    assert await life.told(4) == {"subsidy": _GRANTED}


async def test_a_policy_of_where_she_was_not_when_she_came_does_not_reach_her(
    life: Life,
) -> None:
    other = await make_association(life.session, "village", area_code="440605011001")
    await life.policy(make_cash("town"), area_code=GUICHENG)
    await life.policy(make_cash("own"), area_code=SHISHAN, association_id=life.association.id)
    await life.came(1, association_id=other.id)
    assert await life.told(1) == {"town": _GRANTED, "own": _only("outside_scope")}


async def test_a_policy_that_could_not_reach_her_is_not_told(life: Life) -> None:
    await life.policy(area_code=GUICHENG)
    await life.came(1)
    assert await life.told(1) == {}


async def test_a_policy_without_a_version_on_the_last_day_is_not_in_force(life: Life) -> None:
    await life.policy(make_cash("later"), effective_on=date(2024, 4, 1))
    await life.policy(make_cash("ended"), ends_on=date(2024, 3, 31))
    await life.policy(make_cash("last_day"), effective_on=date(2024, 3, 31))
    await life.came(1)
    assert await life.told(1) == {
        "later": _only("policy_not_in_force"),
        "ended": _only("policy_not_in_force"),
        "last_day": _GRANTED,
    }


async def test_what_any_run_granted_is_granted_already_and_its_group_with_it(life: Life) -> None:
    group = {"exclusive_group": "gifts"}
    small = make_gift("small", priority=1, **group)
    big = make_gift("big", priority=2, min_streak=2, **group)
    policy = await life.policy(small, big, make_cash())
    await life.came(2)
    rules = {rule["code"]: rule["rule_id"] for rule in (await life.explained(2))["rules"]}
    run = await make_run(life.session, life.rounds[1], policy, RunStatus.CALCULATED)
    await make_payout(life.session, run, life.member, rules["small"])
    await make_payout(life.session, run, life.member, rules["subsidy"], 2)
    await life.came(1)

    assert await life.told(2) == {
        "small": _only("already_granted"),
        "big": ("superseded", None, None, "small"),
        "subsidy": _only("already_granted"),
    }


async def test_what_a_settled_run_could_not_pay_is_granted_again(life: Life) -> None:
    policy = await life.policy(make_cash())
    await life.came(1)
    rule_id = (await life.explained(1))["rules"][0]["rule_id"]
    run = await make_run(life.session, life.rounds[0], policy, RunStatus.SETTLED)
    failed: dict[str, Any] = {"status": "failed", "failure_reason": "本人未到"}
    payout = await make_payout(
        life.session, run, life.member, rule_id, settled_at=clock.now(), **failed
    )
    assert await life.told(1) == {"subsidy": _only("already_granted")}
    payout.released = 1
    assert await life.told(1) == {"subsidy": _GRANTED}


async def test_the_version_that_holds_on_the_last_day_decides(life: Life) -> None:
    await life.came(1, 2)
    policy = await life.policy(make_cash(amount_fen=500))
    await make_version(
        life.session, policy, [make_cash(amount_fen=1000)], effective_on=date(2024, 4, 1)
    )
    for sequence, number, amount in ((1, 1, 500), (2, 2, 1000)):
        (rule,) = (await life.explained(sequence))["rules"]
        assert (rule["policy_number"], rule["amount_fen"]) == (number, amount)


async def test_of_a_round_closed_early_the_version_of_that_day_decides(life: Life) -> None:
    await life.came(1)
    policy = await life.policy(make_cash(amount_fen=500))
    later = date(2024, 3, 20)
    await make_version(life.session, policy, [make_cash(amount_fen=9900)], effective_on=later)
    (rule,) = (await life.explained(1))["rules"]
    assert rule["amount_fen"] == 9900
    # The calendar in China turns at four in the afternoon of UTC.
    for closed_at, amount in (("2024-03-19T15:59:59Z", 500), ("2024-03-19T16:00:00Z", 9900)):
        life.rounds[0].status = "closed"
        life.rounds[0].closed_at = datetime.fromisoformat(closed_at)
        (rule,) = (await life.explained(1))["rules"]
        assert rule["amount_fen"] == amount


async def test_a_streak_follows_the_person_and_skips_her_excuses(life: Life) -> None:
    other = await make_association(life.session, "village", area_code="440605011001")
    await life.came(1)
    await make_excuse(life.session, life.rounds[1], member_id=life.member.id)
    await make_excuse(life.session, life.rounds[2], area_code=DISTRICT, reason="none_offered")
    life.member.association_id, life.member.area_code = other.id, other.area_code
    await life.came(4, association_id=other.id)

    assert (await life.explained(4))["streak"] == 2
    standings = [(await life.explained(n))["standing"] for n in (1, 2, 3, 4)]
    assert standings == ["attended", "excused", "excused", "attended"]


async def test_a_missed_round_ends_a_streak_and_one_before_enrolment_is_no_miss(
    life: Life,
) -> None:
    life.member.first_joined_on = date(2024, 4, 1)
    await life.came(2, 4)
    answers = [await life.explained(sequence) for sequence in (1, 2, 3, 4)]
    assert [(answer["standing"], answer["streak"]) for answer in answers] == [
        ("not_enrolled", 0),
        ("attended", 1),
        ("missed", 0),
        ("attended", 1),
    ]


def _at(year: int, month: int, day: int, hour: int) -> datetime:
    return datetime(year, month, day, hour, tzinfo=CIVIL_ZONE)


async def test_another_event_counts_for_the_round_in_whose_civil_days_it_begins(
    life: Life,
) -> None:
    await life.policy(make_cash("talk", event_kind="lecture"))
    last_hour = _at(2024, 3, 31, 23)
    for starts_at in (last_hour, last_hour + timedelta(hours=1)):
        talk = await make_event(life.session, starts_at=starts_at)
        await make_attendance(life.session, talk, life.member)
    assert await life.told(1) == {"talk": _GRANTED}
    assert await life.told(2) == {"talk": _GRANTED}
    assert await life.told(3) == {"talk": _only("not_attended")}


async def test_an_unknown_round_is_named(life: Life) -> None:
    await life.session.commit()
    params = {"round_id": str(life.member.id)}
    problem = await life.officer.refused(
        "GET", life.path, params=params, status=422, code="invalid"
    )
    assert pointers(problem) == ["round_id"]
    problem = await life.officer.refused("GET", life.path, status=422, code="invalid")
    assert pointers(problem) == ["round_id"]


async def test_a_member_asks_for_herself_and_officers_for_those_within_reach(
    life: Life, client: Callable[..., Client]
) -> None:
    other = await make_member(life.session, life.association)
    await life.policy(make_cash())
    await life.came(1)
    mine = await life.explained(1)
    for insider in (
        client(Role.MEMBER, areas=[], member_id=str(life.member.id)),
        client(Role.TOWN_OFFICER, areas=[SHISHAN]),
        client(Role.FINANCE_CLERK),
        client(Role.FINANCE_APPROVER),
        client(Role.AUDITOR),
    ):
        assert await life.explained(1, insider) == mine
    for outsider in (
        client(Role.MEMBER, areas=[], member_id=str(other.id)),
        client(Role.TOWN_OFFICER, areas=[GUICHENG]),
        client(Role.DISTRICT_OFFICER, district_code="440604000000"),
    ):
        await outsider.refused("GET", life.path, params=life.at(1), status=404, code="not_found")


@pytest.mark.parametrize(
    "role", [Role.SECRETARY, Role.GUIDE, Role.EVENT_STAFF, Role.DATA_PLATFORM, Role.OPERATIONS]
)
async def test_the_employers_side_learns_nothing_of_anybody(
    life: Life, client: Callable[..., Client], role: Role
) -> None:
    await life.came(1)
    await life.session.commit()
    caller = client(role, associations=[str(life.association.id)], events=[str(life.exams[1].id)])
    texts = set()
    for path in (life.path, f"/v1/members/{life.rounds[0].id}/eligibility"):
        answer = await caller.get(path, params=life.at(1), headers={"X-Request-Id": "same"})
        assert answer.status_code == 403
        texts.add(answer.text)
    assert len(texts) == 1
