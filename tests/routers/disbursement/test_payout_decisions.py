"""Payout decisions over HTTP: an attendance is voided, and a person decides on what it earned."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Member
from app.models.organisation.associations import Association
from app.roles import Role
from tests.factories.callers import GUICHENG, SHISHAN, Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.service_events import make_event
from tests.factories.finance.funds import agree, district_fund
from tests.factories.incentives.incentive_policies import make_cash, make_policy
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_DECISIONS = "/v1/payout-decisions"
_WRONG = {"reason": "误扫"}
_EARLIER = datetime(2026, 4, 1, tzinfo=UTC)


@dataclass
class Life:
    """A member who came to three rounds' checks, each thanked by a run of its own."""

    member: Member
    events: list[ServiceEvent]
    runs: list[PayoutRun]
    clerk: Client
    approver: Client
    officer: Client

    async def lines(self, n: int) -> dict[str, str]:
        """Give the state of each of her payouts in a round, by rule."""
        page = await self.clerk.ok("GET", f"/v1/payout-runs/{self.runs[n].id}/payouts")
        return {each["rule_code"]: each["status"] for each in page["items"]}

    async def void(self, n: int) -> None:
        """Void her attendance of a round."""
        path = f"/v1/service-events/{self.events[n].id}/attendances/{self.member.id}"
        read = await self.officer.ok("GET", path)
        await self.officer.ok("POST", f"{path}/void", headers=if_match(read), json=_WRONG)

    async def restore(self, n: int) -> None:
        """Put it back."""
        path = f"/v1/service-events/{self.events[n].id}/attendances/{self.member.id}"
        read = await self.officer.ok("GET", path)
        await self.officer.ok("POST", f"{path}/restore", headers=if_match(read))

    async def pay(self, n: int) -> None:
        """Enter that all of a run was paid."""
        path = f"/v1/payout-runs/{self.runs[n].id}"
        lines = (await self.clerk.ok("GET", f"{path}/payouts"))["items"]
        results = [{"line_no": each["line_no"], "outcome": "paid"} for each in lines]
        await self.clerk.ok("POST", f"{path}/results", json={"results": results})

    async def decisions(self, **params: str) -> list[dict[str, Any]]:
        """Give the decisions that the approver sees."""
        return list((await self.approver.ok("GET", _DECISIONS, params=params))["items"])

    async def decide(self, decision: dict[str, Any], choice: str) -> dict[str, Any]:
        """Decide as the approver."""
        decided: dict[str, Any] = await self.approver.ok(
            "POST",
            f"{_DECISIONS}/{decision['id']}/decide",
            headers=if_match(decision),
            json={"choice": choice, "reason": "已核实"},
        )
        return decided


@pytest_asyncio.fixture
async def life(client: Callable[..., Client], session: AsyncSession, officer: Client) -> Life:
    association = await make_association(session)
    member = await make_member(session, association)
    rules = [
        make_cash(code="each"),
        make_cash(code="second", min_streak=2, amount_fen=500),
        make_cash(code="third", min_streak=3, amount_fen=700),
    ]
    policy = await make_policy(session, rules)
    rounds, events = [], []
    for n in (1, 2, 3):
        held = await make_round(session, n, status="closed", closed_at=_EARLIER)
        event = await make_event(session, held, status="closed")
        await make_attendance(session, event, member, recorded_at=_EARLIER)
        rounds.append(held)
        events.append(event)
    runs = []
    for held, event in zip(rounds, events, strict=True):
        fund = await district_fund(session, held.ends_on.year)
        thanks = Thanks(association, held, event, [member], policy, fund)
        runs.append(await make_granted_run(session, thanks))
    await session.commit()
    clerk, approver = client(Role.FINANCE_CLERK), client(Role.FINANCE_APPROVER)
    return Life(member, events, runs, clerk, approver, officer)


async def test_a_paid_payout_is_for_a_person_to_decide(life: Life, database: Database) -> None:
    await life.pay(2)
    await life.void(2)
    found = await life.decisions()
    assert {each["payout_status"] for each in found} == {"paid"}
    assert await life.lines(2) == dict.fromkeys(("each", "second", "third"), "paid")
    assert len(found) == 3
    assert {(each["cause"], each["event_id"]) for each in found} == {
        ("attendance_voided", str(life.events[2].id))
    }
    assert {(each["caused_by"], each["holds"]) for each in found} == {("district_officer-1", False)}
    assert await life.lines(1) == {"each": "pending", "second": "pending"}
    await agree(database)


async def test_a_pending_one_waits_and_later_thanks_that_counted_it_do_too(
    life: Life, database: Database
) -> None:
    await life.void(0)
    assert await life.lines(0) == {"each": "held"}
    # Of the second round the streak is 1 without it, of the third 2.
    assert await life.lines(1) == {"each": "pending", "second": "held"}
    assert await life.lines(2) == {"each": "pending", "second": "pending", "third": "held"}
    assert all(each["holds"] for each in await life.decisions())
    await agree(database)


async def test_an_excused_round_does_not_break_the_streak(
    life: Life, session: AsyncSession
) -> None:
    second = await session.scalars(select(ExamRound).where(col(ExamRound.sequence) == 2))
    await make_excuse(session, second.one(), member_id=life.member.id)
    await session.commit()
    await life.void(1)
    assert await life.lines(1) == {"each": "held", "second": "held"}
    assert await life.lines(2) == {"each": "pending", "second": "pending", "third": "held"}


async def test_recovering_waits_for_the_money(life: Life, database: Database) -> None:
    await life.pay(0)
    await life.void(0)
    (decision,) = await life.decisions(run_id=str(life.runs[0].id))
    decided = await life.decide(decision, "recover")
    assert (decided["status"], decided["decided_by"]) == ("recovering", "finance_approver-1")
    assert decided["closed_at"] is None
    await life.clerk.ok(
        "POST",
        f"/v1/payouts/{decision['payout_id']}/return",
        json={"reason": "本人退回"},
        headers=idempotency_key("r"),
        status=204,
    )
    (back,) = await life.decisions(status="recovered")
    assert (back["id"], back["payout_status"]) == (decision["id"], "returned")
    await agree(database)


async def test_what_does_not_come_back_may_be_written_off(life: Life, database: Database) -> None:
    await life.pay(0)
    await life.void(0)
    (decision,) = await life.decisions(run_id=str(life.runs[0].id))
    recovering = await life.decide(decision, "recover")
    path = f"{_DECISIONS}/{decision['id']}/decide"
    again = {"headers": if_match(recovering), "json": {"choice": "recover", "reason": "再试"}}
    await life.approver.refused("POST", path, status=409, code="choice_unavailable", **again)
    written_off = await life.decide(recovering, "write_off")
    assert (written_off["status"], written_off["payout_status"]) == ("written_off", "paid")
    body = {"headers": if_match(written_off), "json": {"choice": "recover", "reason": "再试"}}
    await life.approver.refused("POST", path, status=409, code="decision_closed", **body)
    await agree(database)


async def test_what_waits_is_cancelled_or_paid(life: Life, database: Database) -> None:
    await life.void(0)
    by_run = {each["run_id"]: each for each in await life.decisions()}
    first, second, third = (by_run[str(run.id)] for run in life.runs)
    problem = await life.approver.refused(
        "POST",
        f"{_DECISIONS}/{first['id']}/decide",
        headers=if_match(first),
        json={"choice": "recover", "reason": "x"},
        status=409,
        code="choice_unavailable",
    )
    assert problem["allowed"] == ["cancel", "pay"]
    assert (await life.decide(first, "cancel"))["status"] == "cancelled"
    assert (await life.decide(second, "pay"))["status"] == "confirmed"
    assert await life.lines(0) == {"each": "failed"}
    assert await life.lines(1) == {"each": "pending", "second": "pending"}
    assert (await life.lines(2))["third"] == "held"
    assert third["holds"] is True
    await agree(database)


async def test_putting_the_attendance_back_lifts_what_waits(life: Life, database: Database) -> None:
    await life.pay(0)
    await life.void(0)
    (paid,) = await life.decisions(run_id=str(life.runs[0].id))
    await life.decide(paid, "recover")
    await life.restore(0)
    assert {each["status"] for each in await life.decisions()} == {"lifted"}
    assert await life.lines(0) == {"each": "paid"}
    assert await life.lines(1) == {"each": "pending", "second": "pending"}
    assert (await life.lines(2))["third"] == "pending"
    await agree(database)
    await life.void(0)
    assert (await life.lines(2))["third"] == "held"
    await agree(database)


async def test_of_two_voided_the_other_still_holds(life: Life, database: Database) -> None:
    await life.void(0)
    await life.void(1)
    assert (await life.lines(2)) == {"each": "pending", "second": "held", "third": "held"}
    await life.restore(0)
    assert (await life.lines(2)) == {"each": "pending", "second": "held", "third": "held"}
    assert await life.lines(0) == {"each": "pending"}
    await agree(database)


async def test_whoever_voided_does_not_decide(life: Life, client: Callable[..., Client]) -> None:
    await life.void(0)
    decision, *_ = await life.decisions()
    both = client(Role.FINANCE_APPROVER, subject="district_officer-1")
    body: dict[str, Any] = {
        "headers": if_match(decision),
        "json": {"choice": "pay", "reason": "x"},
    }
    path = f"{_DECISIONS}/{decision['id']}/decide"
    await both.refused("POST", path, status=403, code="causer_is_decider", **body)
    far = client(Role.FINANCE_APPROVER, areas=[GUICHENG])
    await far.refused("POST", path, status=404, code="not_found", **body)
    near = client(Role.FINANCE_APPROVER, subject="near", areas=[SHISHAN])
    assert (await near.ok("POST", path, **body))["decided_by"] == "near"


async def test_what_is_on_its_way_is_decided_once_it_has_arrived(
    life: Life, owner: Database
) -> None:
    await owner.pool.execute("update payouts set status = 'sending' where round_sequence = 1")
    await life.void(0)
    (decision,) = await life.decisions(run_id=str(life.runs[0].id))
    assert (decision["holds"], decision["payout_status"]) == (False, "sending")
    body = {"headers": if_match(decision), "json": {"choice": "cancel", "reason": "x"}}
    path = f"{_DECISIONS}/{decision['id']}/decide"
    problem = await life.approver.refused(
        "POST", path, status=409, code="choice_unavailable", **body
    )
    assert problem["allowed"] == []
    failed = "status = 'failed', failure_reason = 'x', settled_at = now()"
    await owner.pool.execute(f"update payouts set {failed} where round_sequence = 1")
    assert (await life.decide(decision, "cancel"))["status"] == "cancelled"


async def test_a_disputed_payout_that_is_cancelled_answers_its_member(
    life: Life, client: Callable[..., Client], database: Database
) -> None:
    await life.void(0)
    await life.restore(0)
    me = client(Role.MEMBER, member_id=str(life.member.id))
    (mine,) = [
        each
        for each in (await me.ok("GET", "/v1/me/payouts"))["items"]
        if each["round_sequence"] == 1
    ]
    said: dict[str, Any] = {"json": {"kind": "wrong_amount"}, "status": 201}
    dispute = await me.ok("POST", f"/v1/me/payouts/{mine['id']}/dispute", **said)
    await life.void(0)
    (decision,) = await life.decisions(run_id=str(life.runs[0].id), status="open")
    assert decision["holds"] is True
    withdraw = f"/v1/me/payout-disputes/{dispute['id']}/withdraw"
    await me.ok("POST", withdraw, headers=if_match(dispute))
    assert await life.lines(0) == {"each": "held"}
    await agree(database)


async def test_cancelling_answers_a_dispute_of_the_same_payout(
    life: Life, client: Callable[..., Client], database: Database
) -> None:
    me = client(Role.MEMBER, member_id=str(life.member.id))
    items = (await me.ok("GET", "/v1/me/payouts"))["items"]
    (mine,) = [each for each in items if each["round_sequence"] == 1]
    said: dict[str, Any] = {"json": {"kind": "wrong_amount"}, "status": 201}
    dispute = await me.ok("POST", f"/v1/me/payouts/{mine['id']}/dispute", **said)
    await life.void(0)
    (decision,) = await life.decisions(run_id=str(life.runs[0].id))
    await life.decide(decision, "cancel")
    read = await me.ok("GET", f"/v1/me/payout-disputes/{dispute['id']}")
    assert (read["status"], read["answer"]) == ("upheld", "已核实")
    await agree(database)


async def test_thanks_for_another_kind_are_kept_by_another_attendance_of_it(
    session: AsyncSession, client: Callable[..., Client], officer: Client
) -> None:
    association: Association = await make_association(session)
    member = await make_member(session, association)
    held = await make_round(session, status="closed", closed_at=_EARLIER)
    day: dict[str, Any] = {"starts_at": held_day(held), "ends_at": held_day(held, 10)}
    lectures = [await make_event(session, status="closed", **day) for _ in range(2)]
    for lecture in lectures:
        await make_attendance(session, lecture, member, recorded_at=_EARLIER)
    policy = await make_policy(session, [make_cash(event_kind="lecture")])
    fund = await district_fund(session, held.ends_on.year)
    thanks = Thanks(association, held, lectures[0], [member], policy, fund)
    run = await make_granted_run(session, thanks)
    await session.commit()
    clerk, approver = client(Role.FINANCE_CLERK), client(Role.FINANCE_APPROVER)
    life = Life(member, lectures, [run], clerk, approver, officer)
    await life.void(0)
    assert await life.decisions() == []
    await life.void(1)
    (decision,) = await life.decisions()
    assert decision["event_id"] == str(lectures[1].id)


def held_day(held: ExamRound, hour: int = 8) -> datetime:
    """Give an hour of a round's first day."""
    return datetime.combine(held.starts_on, datetime.min.time(), UTC).replace(hour=hour)


@pytest.mark.parametrize("status", [RunStatus.CALCULATED, RunStatus.SUBMITTED, RunStatus.CLOSED])
async def test_before_approval_and_after_closing_nothing_is_marked(
    life: Life, owner: Database, status: RunStatus
) -> None:
    closed = ", settled_at = now(), closed_at = now(), closed_by = 'approver-1'"
    await owner.pool.execute(
        f"update payout_runs set status = '{status}'{closed if status is RunStatus.CLOSED else ''}"
    )
    await life.void(0)
    assert await life.decisions() == []


async def test_an_attendance_that_came_after_the_calculation_earned_nothing_of_it(
    life: Life, owner: Database
) -> None:
    await owner.pool.execute("update attendances set recorded_at = $1", clock.now())
    await life.void(0)
    assert await life.decisions() == []


async def test_of_voiding_and_approving_at_the_same_moment_the_second_sees_the_first(
    session: AsyncSession,
    client: Callable[..., Client],
    officer: Client,
    database: Database,
) -> None:
    thanks = await make_thanks(session)
    runs = [await make_granted_run(session, thanks, RunStatus.SUBMITTED)]
    await session.execute(text("update attendances set recorded_at = '2026-04-01'"))
    await session.commit()
    clerk, approver = client(Role.FINANCE_CLERK), client(Role.FINANCE_APPROVER)
    life = Life(thanks.members[0], [thanks.event], runs, clerk, approver, officer)
    path = f"/v1/payout-runs/{runs[0].id}"
    read = await approver.ok("GET", path)
    answer, _ = await asyncio.gather(
        approver.post(f"{path}/approve", headers=if_match(read)), life.void(0)
    )
    found = [each["member_id"] for each in await life.decisions()]
    lines = (await clerk.ok("GET", f"{path}/payouts"))["items"]
    held = [each["member_id"] for each in lines if each["status"] == "held"]
    if answer.status_code == 200:
        assert found == held == [str(life.member.id)]
    else:
        assert answer.json()["code"] == "calculation_outdated"
        assert found == held == []
    await agree(database)
