"""The streak rule and the reasons, as SQL for one and for all, against plain Python."""

from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, Statements, transaction
from app.identity import Caller
from app.models.disbursement.payout_runs import RunCreate
from app.models.events.exam_rounds import ExamRound
from app.models.events.excuses import Excuse
from app.models.events.service_events import ServiceEvent
from app.models.incentives.incentive_policies import PolicyCreate
from app.models.membership.members import Member, Membership
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.disbursement import payout_runs, run_drafts
from app.services.incentives import eligibility, incentive_policies
from tests.factories.callers import DISTRICT, make_act
from tests.factories.organisation.associations import make_association
from tests.rules import histories
from tests.rules.histories import AREAS, History, World, worlds

_ATTEND = text(
    "insert into attendances (district_code, event_id, member_id, association_id, round_sequence,"
    " occurred_at, recorded_at, recorded_by, method, voided_at, voided_by, void_reason, version)"
    " values (:district_code, :event_id, :member_id, :association_id, :round_sequence, :at, :at,"
    " 'staff', 'staff', cast(:voided_at as timestamptz), :voided_by, :void_reason, 1)"
)


class Stored:
    """A world in the database, in a district of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = clock.now()
        self.district = f"9{clock.new_id().int % 10**11:011}"
        self.caller = Caller(
            subject="officer-1",
            role=Role.DISTRICT_OFFICER,
            district_code=self.district,
            areas=(DISTRICT,),
        )
        self.scope = Scope(Acting.DISTRICT, self.district)
        self.members = [clock.new_id() for _ in world.members]
        self.rounds = [clock.new_id() for _ in world.sequences]
        self.associations: list[UUID] = []
        self.policy: UUID | None = None

    def record(self, **facts: Any) -> dict[str, Any]:
        stamp = {"version": 1, "created_at": self.now, "updated_at": self.now}
        return {"district_code": self.district, "id": clock.new_id()} | stamp | facts

    async def write(self, session: AsyncSession) -> None:
        for area in AREAS:
            made = await make_association(
                session, "community", area_code=area, district_code=self.district
            )
            self.associations.append(made.id)
        for place in range(len(self.rounds)):
            session.add(self._round(place))
        for number, member in enumerate(self.world.members):
            session.add(self._member(number, member))
        await session.flush()
        for area, place in self.world.area_excuses:
            session.add(self._excuse(place, area_code=area))
        for number, member in enumerate(self.world.members):
            await self._write_history(session, number, member)
        await self._write_policy(session)

    def _round(self, place: int) -> ExamRound:
        world = self.world
        return ExamRound(
            **self.record(id=self.rounds[place]),
            sequence=world.sequences[place],
            name=f"第{place}期",
            starts_on=world.starts_on(place),
            ends_on=world.ends_on(place),
            accepts_until=self.now,
            status="closed",
            closed_at=self.now,
        )

    def _member(self, number: int, member: History) -> Member:
        return Member(
            **self.record(id=self.members[number]),
            association_id=self.associations[member.current],
            area_code=AREAS[member.current],
            status="left" if member.left else "active",
            name=f"会员{number}",
            first_joined_on=member.first_joined_on,
            thanks_consented_on=member.first_joined_on if member.consented else None,
        )

    def _excuse(self, place: int, **whom: Any) -> Excuse:
        facts = {"member_id": None, "area_code": None} | whom
        return Excuse(
            district_code=self.district,
            id=clock.new_id(),
            round_sequence=self.world.sequences[place],
            reason="away",
            created_by="officer-1",
            created_at=self.now,
            **facts,
        )

    async def _write_history(self, session: AsyncSession, number: int, member: History) -> None:
        # An end before the last one was entered before anything was attended.
        gone = self.world.starts_on(member.gone_from)
        for association, joined, left in member.memberships:
            known_on = gone if joined == member.memberships[-1][1] else histories.FIRST_DAY
            known_at = datetime.combine(known_on, time(), clock.CIVIL_ZONE)
            session.add(
                Membership(
                    district_code=self.district,
                    member_id=self.members[number],
                    joined_on=joined,
                    association_id=self.associations[association],
                    left_on=left,
                    reason=None,
                    recorded_at=self.now,
                    left_recorded_at=None if left is None else known_at,
                )
            )
        for place in member.excused:
            session.add(self._excuse(place, member_id=self.members[number]))
        await session.flush()
        for kind, visits in (("health_exam", member.exams), ("lecture", member.lectures)):
            for place, visit in visits.items():
                await self._attend(session, number, kind, place, visit)

    async def _attend(
        self, session: AsyncSession, number: int, kind: str, place: int, visit: tuple[str, int]
    ) -> None:
        came, where = visit
        begins = datetime.combine(self.world.ends_on(place), time(23, 30), clock.CIVIL_ZONE)
        sequence = self.world.sequences[place] if kind == "health_exam" else None
        event = ServiceEvent(
            **self.record(),
            kind=kind,
            title="便民服务",
            venue="服务室",
            area_code=DISTRICT,
            round_sequence=sequence,
            starts_at=begins,
            ends_at=begins + timedelta(hours=1),
            status="closed",
        )
        session.add(event)
        await session.flush()
        voided = came == "voided"
        await session.execute(
            _ATTEND,
            {
                "district_code": self.district,
                "event_id": event.id,
                "member_id": self.members[number],
                "association_id": self.associations[where],
                "round_sequence": sequence,
                "at": begins,
                "voided_at": begins if voided else None,
                "voided_by": "officer-1" if voided else None,
                "void_reason": "误签" if voided else None,
            },
        )

    async def _write_policy(self, session: AsyncSession) -> None:
        world = self.world
        held = world.policy_association
        if held is not None and not histories.covers(world.policy_area, AREAS[held]):
            world.policy_association = held = None
        body = PolicyCreate.model_validate(
            {
                "name": "政策",
                "area_code": world.policy_area,
                "association_id": None if held is None else self.associations[held],
                "effective_on": "2020-01-01",
                "consent_required": world.consent_required,
                "provenance": "assumed",
                "rules": world.rules,
            }
        )
        policy = await incentive_policies.create(session, self.caller, body=body, now=self.now)
        self.policy = policy.id
        self.rules = {rule.rule_id: rule.code for rule in policy.current_version.rules}

    async def explained(
        self, statements: Statements, place: int
    ) -> list[tuple[str, int, dict[str, str | None]]]:
        answers = []
        for member_id in self.members:
            read = await eligibility.explain(
                statements, self.caller, member_id=member_id, round_id=self.rounds[place]
            )
            told = {rule.code: rule.reason and rule.reason.value for rule in read.rules}
            answers.append((read.standing.value, read.streak, told))
        return answers

    async def run(self, database: Database, place: int) -> set[tuple[int, str, int]]:
        assert self.policy is not None
        async with transaction(database, self.scope) as session:
            body = RunCreate.model_validate(
                {"exam_round_id": self.rounds[place], "policy_id": self.policy}
            )
            run = await run_drafts.create(session, self.caller, body=body, now=self.now)
            await payout_runs.calculate(
                session, self.caller, run_id=run.id, expected=1, now=self.now
            )
            rows = await session.execute(
                text("select * from payouts where district_code = :d and run_id = :r"),
                {"d": self.district, "r": run.id},
            )
            lines = list(rows.mappings())
        assert sorted(row["line_no"] for row in lines) == list(range(1, len(lines) + 1))
        return {
            (self.members.index(row["member_id"]), self.rules[row["rule_id"]], row["streak"])
            for row in lines
        }


def _told(world: World, number: int, place: int) -> tuple[str, int, dict[str, str | None]]:
    member = world.members[number]
    reasons = histories.reasons(world, number, place)
    here = {member.current}
    day_from, day_to = world.starts_on(place), world.ends_on(place)
    here |= {
        association
        for association, joined, left in member.memberships
        if joined <= day_to and (left is None or left >= day_from)
    }
    if member.exams.get(place, ("", 0))[0]:
        here.add(member.exams[place][1])
    reached = any(
        world.policy_association == where
        if world.policy_association is not None
        else histories.covers(world.policy_area, AREAS[where])
        for where in here
    )
    return (
        histories.standing(world, member, place),
        histories.streak(world, member, place),
        reasons if reached else {},
    )


async def _compare(database: Database, world: World) -> None:
    stored = Stored(world)
    async with transaction(database, stored.scope) as session:
        await stored.write(session)
    statements = Statements(database.pool, stored.scope, make_act(district_code=stored.district))
    for place in range(len(world.sequences)):
        everyone = range(len(world.members))
        expected = [_told(world, number, place) for number in everyone]
        assert await stored.explained(statements, place) == expected
        due = {
            (number, code, histories.streak_thanked(world, number, code, place))
            for number in everyone
            for code, reason in histories.reasons(world, number, place).items()
            if reason is None
        }
        assert await stored.run(database, place) == due
        amounts = {rule["code"]: rule["amount_fen"] for rule in world.rules}
        world.granted |= {(number, place, code): amounts[code] for number, code, _ in due}
        assert await stored.run(database, place) == set(), "a second run grants nothing"


@given(world=worlds())
@settings(
    max_examples=60,
    deadline=None,
    # Each example writes a district: shrinking one would take minutes.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_explanation_and_run_agree_with_the_rule(database: Database, world: World) -> None:
    await _compare(database, world)


@pytest.mark.parametrize("rounds", [62, 63, 125])
async def test_a_streak_of_decades_is_counted_whole(database: Database, rounds: int) -> None:
    exams = dict.fromkeys(range(rounds), ("came", 0))
    faithful = History([(0, histories.FIRST_DAY, None)], exams, {}, set(), consented=True)
    pauses = {1, min(62, rounds - 2)}
    paused = {place: visit for place, visit in exams.items() if place not in pauses}
    excused = History([(0, histories.FIRST_DAY, None)], paused, {}, pauses, consented=True)
    rule = {
        "code": "rule_0", "name": "规则", "reward": "cash", "amount_fen": 1, "priority": 0,
        "event_kind": "health_exam", "min_streak": rounds, "every": None,
        "exclusive_group": None, "yearly_cap_fen": None,
    }  # fmt: skip
    world = World(
        list(range(3, rounds + 3)), [faithful, excused], set(), DISTRICT, None, False, [rule]
    )
    stored = Stored(world)
    async with transaction(database, stored.scope) as session:
        await stored.write(session)
    last = rounds - 1

    answers = await stored.explained(
        Statements(database.pool, stored.scope, make_act(district_code=stored.district)), last
    )
    expected = [_told(world, number, last) for number in range(2)]

    assert answers == expected
    assert answers[0][1] == rounds
    assert await stored.run(database, last) == {(0, "rule_0", rounds)}
