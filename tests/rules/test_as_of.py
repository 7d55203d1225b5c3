"""What was known on a date: asked at the end of a random history, it is what was told then."""

from datetime import date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Database, Statements, transaction
from app.models.disbursement.bases import BasisQuery
from app.models.disbursement.payout_runs import RunCreate
from app.models.events.excuses import ExcuseCreate, ExcuseReason
from app.models.incentives.eligibility import EligibilityRead
from app.models.incentives.incentive_policies import PolicyVersionCreate
from app.models.membership.consents import ConsentGive
from app.models.membership.members import MemberCreate, MemberLeave, MemberTransfer
from app.models.privacy.privacy_notices import ConsentPurpose
from app.problems import Problem
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.disbursement import (
    bases,
    calculations,
    payout_runs,
    run_drafts,
    voided_attendances,
)
from app.services.events import exam_rounds, excuses
from app.services.incentives import eligibility, incentive_policies
from app.services.membership import consents, members, memberships
from app.services.privacy import enrolled_elsewhere
from tests.factories.callers import DISTRICT, SHISHAN, VILLAGE, make_act, make_caller
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import make_cash, make_policy
from tests.factories.organisation.associations import make_association

_SCOPE = Scope(Acting.DISTRICT, DISTRICT)
_PLACES = (VILLAGE, "440605124202", "440605011001")
_AREAS = (SHISHAN, VILLAGE)
_ATTEND = text(
    "insert into attendances (district_code, event_id, member_id, association_id, round_sequence,"
    " occurred_at, recorded_at, recorded_by, method, version) select :district_code, :event_id,"
    " m.id, m.association_id, e.round_sequence, coalesce(cast(:came_at as timestamptz),"
    " e.starts_at), :now, 'staff', 'staff', 1"
    " from members m, service_events e where m.id = :member_id and e.id = :event_id"
    " on conflict do nothing"
)
_FAIL = text(
    "update payouts set status = 'failed', failure_reason = 'x', settled_at = :now"
    " where run_id = :run_id and member_id = any(:members)"
)
_PAY = text(
    "update payouts set status = 'paid', settled_at = :now"
    " where run_id = :run_id and status = 'pending'"
)
_SETTLE = text(
    "update payout_runs set status = 'settled', settled_at = :now, submitted_by = 'a',"
    " submitted_at = :now, approved_by = 'b', approved_at = :now where id = :run_id"
)
_RULES = (
    make_cash("each", exclusive_group="exam", priority=0, yearly_cap_fen=2000),
    make_cash("second", min_streak=2, exclusive_group="exam", priority=1),
    make_cash("lecture", event_kind="lecture", amount_fen=500),
)


class Life:
    """A small district to which something happens every minute."""

    def __init__(self, database: Database, keyring: Keyring, seed: int) -> None:
        self.database, self.keyring, self.random = database, keyring, Random(seed)
        self.caller = make_caller()
        self.now = clock.now()
        self.members: list[UUID] = []
        self.moved: dict[UUID, date] = {}
        self.told: list[tuple[datetime, UUID, UUID, EligibilityRead]] = []
        self.runs: list[UUID] = []

    @property
    def statements(self) -> Statements:
        return Statements(self.database.pool, _SCOPE, make_act())

    async def begin(self, session: AsyncSession) -> None:
        """Store places, rounds, events and a policy; people come later."""
        self.associations = [
            (await make_association(session, "community", area_code=area)).id for area in _PLACES
        ]
        later = self.now + timedelta(days=1)
        held = [
            await make_round(session, n, status="closed", closed_at=self.now, accepts_until=later)
            for n in (1, 2)
        ]
        today, month = civil_date(self.now), timedelta(days=30)
        dates = {"starts_on": today - month, "ends_on": today + month}
        held.append(await make_round(session, 3, name="本期", **dates))
        self.rounds = [each.id for each in held]
        self.events = [(await make_event(session, each, status="closed")).id for each in held * 2]
        self.lecture = (
            await make_event(
                session,
                starts_at=datetime.combine(held[1].starts_on, clock.now().time(), clock.CIVIL_ZONE)
                + timedelta(days=3),
                status="closed",
            )
        ).id
        self.days = [day for each in held for day in (each.starts_on, min(each.ends_on, today))]
        self.policy = (await make_policy(session, _RULES)).id
        await session.commit()

    async def happen(self) -> None:
        """Do something at random, refused or not, and keep what is told of everybody then."""
        self.now += timedelta(minutes=1)
        acts = (
            [self.enrol]
            + [self.attend] * 6
            + [self.void, self.restore] * 3
            + [self.move, self.leave, self.excuse, self.unexcuse, self.consent, self.withdraw] * 2
            + [self.version, self.grant, self.settle, self.close]
        )
        act = self.enrol if not self.members else self.random.choice(acts)
        try:
            async with transaction(self.database, _SCOPE, make_act()) as session:
                await act(session)
        except (Problem, IntegrityError):
            pass  # What is refused happens to nobody.
        round_id = self.random.choice(self.rounds)
        for member in self.members:
            self.told.append((self.now, member, round_id, await self.ask(member, round_id)))

    async def ask(
        self, member: UUID, round_id: UUID, as_of: datetime | None = None
    ) -> EligibilityRead:
        """Ask for an explanation."""
        return await eligibility.explain(
            self.statements, self.caller, member_id=member, round_id=round_id, as_of=as_of
        )

    def someone(self) -> UUID:
        return self.random.choice(self.members)

    async def enrol(self, session: AsyncSession) -> None:
        if len(self.members) == 3:
            return
        day = self.random.choice(self.days)
        body = MemberCreate.model_validate(
            {
                "association_id": self.random.choice(self.associations),
                "name": "会员",
                "joined_on": day,
                "consented_on": day,
                "consented_to": self.random.choice([[], ["thanks"]]),
            }
        )
        told = enrolled_elsewhere.allowance(
            self.statements, self.caller, self.keyring, most=1, now=self.now
        )
        made = await members.enrol(
            session, self.caller, self.keyring, body=body, told=told, now=self.now
        )
        self.members.append(made.id)
        self.moved[made.id] = day

    async def attend(self, session: AsyncSession) -> None:
        params = {
            "district_code": DISTRICT,
            "event_id": self.random.choice([*self.events, self.lecture]),
            "member_id": self.someone(),
            "came_at": self.random.choice([None, self.now]),
            "now": self.now,
        }
        await session.execute(_ATTEND, params)

    async def _attended(self, session: AsyncSession, condition: str) -> dict[str, Any] | None:
        rows = await session.execute(
            text(f"select event_id, member_id, version from attendances where {condition}")
        )
        found = sorted(rows.mappings(), key=lambda row: (row["event_id"], row["member_id"]))
        return dict(self.random.choice(found)) if found else None

    async def void(self, session: AsyncSession) -> None:
        if found := await self._attended(session, "voided_at is null"):
            await voided_attendances.void(
                session, self.caller, **found, reason="误签", now=self.now
            )

    async def restore(self, session: AsyncSession) -> None:
        if found := await self._attended(session, "voided_at is not null"):
            await voided_attendances.restore(session, self.caller, **found, now=self.now)

    async def _version(self, session: AsyncSession, member: UUID) -> int:
        found = await session.scalar(
            text("select version from members where id = :m"), {"m": member}
        )
        return int(found or 0)

    def _day(self, member: UUID) -> date:
        """Give a day on which a move may be dated, often that of the last one."""
        later = [day for day in self.days if day >= self.moved[member]]
        return self.random.choice([self.moved[member], *later])

    async def move(self, session: AsyncSession) -> None:
        member = self.someone()
        body = MemberTransfer.model_validate(
            {
                "association_id": self.random.choice(self.associations),
                "moved_on": self._day(member),
            }
        )
        version = await self._version(session, member)
        key: dict[str, Any] = {"member_id": member, "version": version, "now": self.now}
        await memberships.transfer(session, self.caller, self.keyring, body=body, **key)
        self.moved[member] = body.moved_on

    async def leave(self, session: AsyncSession) -> None:
        member = self.someone()
        body = MemberLeave(left_on=self._day(member))
        version = await self._version(session, member)
        key: dict[str, Any] = {"member_id": member, "version": version, "now": self.now}
        await memberships.leave(session, self.caller, self.keyring, body=body, **key)
        self.moved[member] = body.left_on

    async def excuse(self, session: AsyncSession) -> None:
        whom: dict[str, Any] = {"area_code": self.random.choice(_AREAS)}
        if self.random.random() < 0.5:
            whom = {"member_id": self.someone()}
        await excuses.excuse(
            session,
            self.caller,
            round_id=self.random.choice(self.rounds),
            body=ExcuseCreate(reason=ExcuseReason.AWAY, **whom),
            now=self.now,
        )

    async def unexcuse(self, session: AsyncSession) -> None:
        found = await session.execute(
            text(
                "select x.id as excuse_id, r.id as round_id from excuses x join exam_rounds r"
                " on r.sequence = x.round_sequence where x.withdrawn_at is null"
                " order by x.id limit 1"
            )
        )
        if (row := found.mappings().one_or_none()) is not None:
            await excuses.withdraw(session, self.caller, **row, now=self.now)

    async def consent(self, session: AsyncSession) -> None:
        """Give by herself, as no office gives again what was withdrawn on the same day."""
        body = ConsentGive.model_validate(
            {"purpose": "thanks", "notice_number": 1, "language": "zh"}
        )
        her = make_caller(Role.MEMBER, areas=(), member_id=self.someone())
        await consents.give(session, her, body=body, now=self.now)

    async def withdraw(self, session: AsyncSession) -> None:
        await consents.withdraw(
            session,
            self.caller,
            self.keyring,
            member_id=self.someone(),
            purpose=ConsentPurpose.THANKS,
            now=self.now,
        )

    async def version(self, session: AsyncSession) -> None:
        expected = await session.scalar(text("select version from incentive_policies"))
        body = PolicyVersionCreate.model_validate(
            {
                "effective_on": civil_date(self.now) + timedelta(days=self.random.randint(0, 9)),
                "consent_required": self.random.random() < 0.5,
                "provenance": "assumed",
                "rules": self.random.sample(_RULES, self.random.randint(1, 3)),
            }
        )
        await incentive_policies.add_version(
            session,
            self.caller,
            policy_id=self.policy,
            body=body,
            expected=int(expected or 0),
            now=self.now,
        )

    async def close(self, session: AsyncSession) -> None:
        """Close the last round before its last day, once."""
        key: dict[str, Any] = {"round_id": self.rounds[-1], "version": 1, "now": self.now}
        await exam_rounds.close(session, self.caller, **key)

    async def grant(self, session: AsyncSession) -> None:
        body = RunCreate.model_validate(
            {"exam_round_id": self.random.choice(self.rounds), "policy_id": self.policy}
        )
        run = await run_drafts.create(session, self.caller, body=body, now=self.now)
        await payout_runs.calculate(session, self.caller, run_id=run.id, expected=1, now=self.now)
        self.runs.append(run.id)

    async def settle(self, session: AsyncSession) -> None:
        """Settle a run of which some payouts failed, which are then free for another."""
        run_id = await session.scalar(
            text("select id from payout_runs where status = 'calculated' order by id limit 1")
        )
        if run_id is None:
            return
        failed = self.random.sample(self.members, self.random.randint(0, len(self.members)))
        facts = {"now": self.now, "run_id": run_id, "members": failed}
        for statement in (_FAIL, _PAY, _SETTLE):
            await session.execute(statement, facts)
        run, _ = await payout_runs.lock(session, self.caller, run_id=run_id)
        await calculations.release_failed(session, run)


@pytest.mark.parametrize("seed", range(6))
async def test_what_was_told_then_is_told_as_of_then(
    session: AsyncSession, database: Database, keyring: Keyring, seed: int
) -> None:
    life = Life(database, keyring, seed)
    await life.begin(session)
    for _ in range(50):
        await life.happen()
    reasons = set()
    for at, member, round_id, told in life.told:
        again = await life.ask(member, round_id, as_of=at)
        assert again == told, (seed, at - life.now)
        reasons |= {rule.reason for rule in told.rules}
    assert len(reasons) > 3
    for run_id in life.runs:
        await _has_its_basis(life, run_id)


async def _has_its_basis(life: Life, run_id: UUID) -> None:
    """Fail unless what was known when a run was calculated grants exactly what it granted."""
    run = await payout_runs.find(life.statements, life.caller, run_id=run_id)
    basis = await bases.find(
        life.statements, life.caller, run_id=run_id, query=BasisQuery(as_of=None), now=life.now
    )
    assert basis.as_of == run.calculated_at
    assert basis.policy_number == run.policy_number
    granted = (basis.grants.payout_count, basis.grants.amount_fen)
    assert granted == (run.payout_count, run.amount_fen)
