"""The money of runs: reserved whole or not at all, shared to the fen, paid once, given back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, Statements
from app.models.disbursement.payout_runs import RunStatus
from app.models.finance.funds import BALANCES, FULL_BP, Fund
from app.roles import Role
from tests.factories.callers import DISTRICT, SHISHAN, Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.finance.funds import TODAY, agree, make_fund
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_RUNS = "/v1/payout-runs"
_BALANCES = (
    "select available_fen, reserved_fen, spent_fen from funds"
    " where district_code = :district_code and id = :id"
)
_SPLIT: dict[str, Any] = {"district_bp": 0, "town_bp": 6000, "enterprise_bp": 4000}


@pytest_asyncio.fixture(autouse=True)
async def books(database: Database) -> AsyncIterator[None]:
    """Whatever a test does, the books agree after it."""
    yield
    await agree(database)


class Desk:
    """The clerk and the approver at work on one run."""

    def __init__(self, client: Callable[..., Client]) -> None:
        self.clerk = client(Role.FINANCE_CLERK)
        self.approver = client(Role.FINANCE_APPROVER)

    async def submitted(self, thanks: Thanks) -> dict[str, Any]:
        """Draft, calculate and submit a run."""
        headers = idempotency_key(clock.new_id())
        run: dict[str, Any] = await self.clerk.ok(
            "POST", _RUNS, json=thanks.draft, headers=headers, status=201
        )
        for step in ("calculate", "submit"):
            run = await self.step(run, step)
        return run

    async def step(self, run: dict[str, Any], step: str) -> dict[str, Any]:
        """Take a step with a run."""
        caller = self.approver if step == "approve" else self.clerk
        path = f"{_RUNS}/{run['id']}/{step}"
        moved: dict[str, Any] = await caller.ok("POST", path, headers=if_match(run))
        return moved

    async def by_fund(self, run: dict[str, Any]) -> list[tuple[str, UUID, int]]:
        """Give what each fund pays of a run."""
        summary = await self.clerk.ok("GET", f"{_RUNS}/{run['id']}/summary")
        cells = [
            (each["source"], UUID(each["fund_id"]), each["amount_fen"])
            for each in summary["by_fund"]
        ]
        return sorted(cells)

    async def refused(self, run: dict[str, Any], code: str) -> dict[str, Any]:
        """Have an approval refused."""
        path = f"{_RUNS}/{run['id']}/approve"
        return await self.approver.refused(
            "POST", path, headers=if_match(run), status=409, code=code
        )

    async def enter(self, run: dict[str, Any], **outcomes: str) -> list[dict[str, Any]]:
        """Enter results as `l1="paid"`."""
        results = [
            {"line_no": int(line[1:]), "outcome": outcome}
            | ({"reason": "本人未到"} if outcome == "failed" else {})
            for line, outcome in outcomes.items()
        ]
        path = f"{_RUNS}/{run['id']}/results"
        answer = await self.clerk.ok("POST", path, json={"results": results})
        return list(answer["items"])


@pytest.fixture
def desk(client: Callable[..., Client]) -> Desk:
    return Desk(client)


async def _balances(statements: Statements, fund: Fund) -> tuple[int, ...]:
    row = await statements.fetch_row(_BALANCES, {"district_code": DISTRICT, "id": fund.id})
    assert row is not None
    return tuple(row)


async def test_what_is_approved_is_reserved_then_spent_and_the_rest_given_back(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, [make_cash(), make_gift()], members=3)
    await session.commit()
    full = thanks.fund.available_fen
    run = await desk.step(await desk.submitted(thanks), "approve")
    assert await _balances(statements, thanks.fund) == (full - 3000, 3000, 0)
    run = await desk.step(run, "disburse")
    lines = await desk.clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts")
    cash = [line["line_no"] for line in lines["items"] if line["amount_fen"]]
    gifts = {f"l{line['line_no']}": "paid" for line in lines["items"] if not line["amount_fen"]}
    paid = {f"l{cash[0]}": "paid", f"l{cash[1]}": "paid", f"l{cash[2]}": "failed"}
    await desk.enter(run, **paid, **gifts)
    again = await desk.enter(run, **paid)
    assert {answer["status"] for answer in again} == {"unchanged"}
    assert await _balances(statements, thanks.fund) == (full - 3000, 1000, 2000)
    await desk.step(run, "settle")
    assert await _balances(statements, thanks.fund) == (full - 2000, 0, 2000)


async def test_a_payout_leads_to_its_entries_and_they_to_it(
    desk: Desk, session: AsyncSession
) -> None:
    thanks = await make_thanks(session, members=1)
    await session.commit()
    run = await desk.step(await desk.step(await desk.submitted(thanks), "approve"), "disburse")
    await desk.enter(run, l1="paid")
    [line] = (await desk.clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts"))["items"]
    entries = (await desk.clerk.ok("GET", f"/v1/payouts/{line['id']}/entries"))["items"]
    assert [(each["kind"], each["amount_fen"]) for each in entries] == [
        ("reserve", 1000),
        ("pay", 1000),
    ]
    assert entries[1]["payout_id"] == line["id"]
    assert [each["recorded_by"] for each in entries] == ["finance_approver-1", "finance_clerk-1"]
    path = f"/v1/funds/{thanks.fund.id}/entries"
    books = (await desk.clerk.ok("GET", path, params={"run_id": run["id"]}))["items"]
    assert books == entries


async def test_short_of_money_a_run_is_not_approved_and_nothing_is_reserved(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    rules = [make_cash("town", district_bp=0, town_bp=FULL_BP), make_cash("rest")]
    thanks = await make_thanks(session, rules, members=2)
    poor = await make_fund(
        session, 1999, name="狮山镇经费", source="town", area_code=SHISHAN, fiscal_year=2024
    )
    await session.commit()
    run = await desk.submitted(thanks)
    problem = await desk.refused(run, "funds_short")
    assert problem["short"] == [
        {
            "name": "狮山镇经费",
            "needed_fen": 2000,
            "available_fen": 1999,
            "fund_id": str(poor.id),
        }
    ]
    assert await _balances(statements, poor) == (1999, 0, 0)
    assert (await _balances(statements, thanks.fund))[1] == 0
    read = await desk.clerk.ok("GET", f"{_RUNS}/{run['id']}")
    assert (read["status"], read["approved_by"]) == ("submitted", None)


async def test_a_missing_fund_is_named_with_whom_it_should_cover(
    desk: Desk, session: AsyncSession
) -> None:
    thanks = await make_thanks(session, [make_cash(**_SPLIT)])
    await make_fund(session, 1, source="town", area_code=SHISHAN, fiscal_year=2025)
    await session.commit()
    problem = await desk.refused(await desk.submitted(thanks), "fund_missing")
    assert problem["missing"] == [
        {"source": "enterprise", "association_name": thanks.association.name},
        {"source": "town", "association_name": thanks.association.name},
    ]


async def test_the_narrowest_fund_pays_and_shares_add_up_to_the_fen(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, [make_cash(amount_fen=999, **_SPLIT)], members=1)
    other = await make_association(session, name="另一协会")
    other_member = await make_member(session, other)
    await make_attendance(session, thanks.event, other_member, association_id=other.id)
    town = await make_fund(session, 9999, source="town", area_code=SHISHAN, fiscal_year=2024)
    facts: dict[str, Any] = {"source": "enterprise", "area_code": SHISHAN, "fiscal_year": 2024}
    wide = await make_fund(session, 9999, **facts)
    own = await make_fund(session, 9999, name="自筹", association_id=thanks.association.id, **facts)
    await session.commit()
    run = await desk.submitted(thanks)
    before = await desk.by_fund(run)
    run = await desk.step(await desk.step(run, "approve"), "disburse")
    shares = [("enterprise", own.id, 400), ("enterprise", wide.id, 400), ("town", town.id, 1198)]
    assert before == sorted(shares)
    assert await desk.by_fund(run) == before
    assert (await _balances(statements, town))[1] == 2 * 599
    assert (await _balances(statements, own))[1] == (await _balances(statements, wide))[1] == 400
    await desk.enter(run, l1="paid", l2="paid")
    assert (await _balances(statements, town))[2] == 2 * 599


async def test_what_comes_back_goes_to_its_fund_and_may_be_granted_again(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, members=1)
    await session.commit()
    full = thanks.fund.available_fen
    run = await desk.step(await desk.step(await desk.submitted(thanks), "approve"), "disburse")
    await desk.enter(run, l1="paid")
    [line] = (await desk.clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts"))["items"]
    await desk.step(run, "settle")
    path, body = f"/v1/payouts/{line['id']}/return", {"reason": "账户已销户"}
    key = idempotency_key("once")
    for _ in range(2):
        await desk.clerk.ok("POST", path, json=body, headers=key, status=204)
    fresh = idempotency_key("twice")
    await desk.clerk.refused(
        "POST", path, json=body, headers=fresh, status=409, code="payout_not_paid"
    )
    assert await _balances(statements, thanks.fund) == (full, 0, 0)
    read = await desk.clerk.ok("GET", f"/v1/payouts/{line['id']}")
    assert (read["status"], read["failure_reason"]) == ("returned", "账户已销户")
    assert (await desk.submitted(thanks))["payout_count"] == 1


async def test_nothing_comes_back_to_a_fund_that_is_closed(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, members=1)
    await session.commit()
    run = await desk.step(await desk.step(await desk.submitted(thanks), "approve"), "disburse")
    await desk.enter(run, l1="paid")
    [line] = (await desk.clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts"))["items"]
    fund = await desk.clerk.ok("GET", f"/v1/funds/{thanks.fund.id}")
    body = {
        "amount_fen": fund["available_fen"],
        "document_no": "退〔2026〕1号",
        "occurred_on": TODAY.isoformat(),
    }
    path = f"/v1/funds/{fund['id']}"
    key = idempotency_key("all")
    await desk.clerk.ok("POST", f"{path}/withdrawals", json=body, headers=key, status=201)
    await desk.clerk.ok("POST", f"{path}/close", headers=if_match(fund))
    await desk.clerk.refused(
        "POST",
        f"/v1/payouts/{line['id']}/return",
        json={"reason": "账户已销户"},
        headers=idempotency_key("back"),
        status=409,
        code="fund_closed",
    )
    assert await _balances(statements, thanks.fund) == (0, 0, 1000)


async def test_what_was_not_paid_does_not_come_back(desk: Desk, session: AsyncSession) -> None:
    thanks = await make_thanks(session, members=1)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING)
    await session.commit()
    [line] = (await desk.clerk.ok("GET", f"{_RUNS}/{run.id}/payouts"))["items"]
    await desk.clerk.refused(
        "POST",
        f"/v1/payouts/{line['id']}/return",
        json={"reason": "退"},
        headers=idempotency_key("k"),
        status=409,
        code="payout_not_paid",
    )


async def test_of_approvals_at_the_same_moment_one_reserves(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, members=2)
    await session.commit()
    run = await desk.submitted(thanks)
    path = f"{_RUNS}/{run['id']}/approve"
    answers = await asyncio.gather(
        *(desk.approver.post(path, headers=if_match(run)) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers)[:2] == [200, 412]
    assert (await _balances(statements, thanks.fund))[1] == 2000


@given(
    amount=st.integers(1, 100_000_000),
    cuts=st.lists(st.integers(0, FULL_BP), min_size=4, max_size=4).map(sorted),
)
def test_shares_are_the_amount_exactly_and_each_within_a_fen(amount: int, cuts: list[int]) -> None:
    points = [0, *cuts, FULL_BP]
    shares = [
        amount * end // FULL_BP - amount * start // FULL_BP for start, end in pairwise(points)
    ]
    assert sum(shares) == amount
    for share, start, end in zip(shares, points[:-1], points[1:], strict=True):
        assert abs(share - amount * (end - start) / FULL_BP) < 1


def test_every_balance_is_counted_again() -> None:
    assert {name for name in Fund.model_fields if name.endswith("_fen")} == set(BALANCES)
