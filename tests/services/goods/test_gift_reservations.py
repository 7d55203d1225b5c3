"""The gifts of runs: reserved whole or not at all beside the money, handed out once, given back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, Statements
from app.models.goods.depots import Depot
from app.models.goods.stock_movements import Stock
from app.roles import Role
from tests.factories.callers import DISTRICT, SHISHAN, Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import Thanks, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.finance.funds import agree
from tests.factories.goods.gifts import make_depot, make_gift_article, make_stock
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_RUNS = "/v1/payout-runs"
_COUNTS = (
    "select available, reserved, handed_out from stock where district_code = :district_code"
    " and depot_id = :depot_id and gift_id = :gift_id"
)
_MONEY = "select coalesce(sum(reserved_fen), 0) from funds where district_code = :district_code"


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

    async def refused(self, run: dict[str, Any], code: str) -> dict[str, Any]:
        """Have an approval refused."""
        path = f"{_RUNS}/{run['id']}/approve"
        return await self.approver.refused(
            "POST", path, headers=if_match(run), status=409, code=code
        )

    async def by_gift(self, run: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Give what each depot gives of a run."""
        summary = await self.clerk.ok("GET", f"{_RUNS}/{run['id']}/summary")
        names = ("gift_code", "depot_name", "quantity", "available")
        return sorted(tuple(each[name] for name in names) for each in summary["by_gift"])

    async def enter(self, run: dict[str, Any], outcomes: dict[int, str]) -> list[str]:
        """Enter results and give how each was taken."""
        results = [
            {"line_no": line, "outcome": outcome}
            | ({"reason": "本人未到"} if outcome == "failed" else {})
            for line, outcome in outcomes.items()
        ]
        path = f"{_RUNS}/{run['id']}/results"
        answer = await self.clerk.ok("POST", path, json={"results": results})
        return [each["status"] for each in answer["items"]]


@pytest.fixture
def desk(client: Callable[..., Client]) -> Desk:
    return Desk(client)


async def _counts(statements: Statements, stock: Stock) -> tuple[int, ...]:
    params = {"district_code": DISTRICT, "depot_id": stock.depot_id, "gift_id": stock.gift_id}
    row = await statements.fetch_row(_COUNTS, params)
    assert row is not None
    return tuple(row)


async def _thanks(
    session: AsyncSession, *rules: dict[str, Any], pieces: int, members: int = 3
) -> tuple[Thanks, Stock]:
    """Store what a run is calculated from, and the district's depot with so many towels."""
    depot = await make_depot(session)
    stock = await make_stock(session, depot, await make_gift_article(session), pieces)
    thanks = await make_thanks(session, rules, members=members)
    await session.commit()
    return thanks, stock


async def test_what_is_approved_is_reserved_then_handed_out_and_the_rest_given_back(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    thanks, stock = await _thanks(session, make_cash(), make_gift(quantity=2), pieces=10)
    run = await desk.submitted(thanks)
    assert await desk.by_gift(run) == [("towel", "测试仓库", 6, 10)]
    run = await desk.step(run, "approve")
    assert await _counts(statements, stock) == (4, 6, 0)
    run = await desk.step(run, "disburse")
    lines = (await desk.clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts"))["items"]
    gifts = [line["line_no"] for line in lines if line["quantity"]]
    paid = {line["line_no"]: "paid" for line in lines} | {gifts[0]: "failed"}
    assert set(await desk.enter(run, paid)) == {"recorded"}
    assert set(await desk.enter(run, paid)) == {"unchanged"}
    assert await _counts(statements, stock) == (4, 2, 4)
    assert await desk.by_gift(run) == [("towel", "测试仓库", 6, 4)]
    await desk.step(run, "settle")
    assert await _counts(statements, stock) == (6, 0, 4)


async def test_short_of_gifts_a_run_is_not_approved_and_no_money_is_reserved(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    thanks, stock = await _thanks(session, make_cash(), make_gift(quantity=2), pieces=5)
    problem = await desk.refused(await desk.submitted(thanks), "gifts_short")
    assert problem["short"] == [
        {
            "gift_name": "毛巾",
            "depot_name": "测试仓库",
            "needed": 6,
            "available": 5,
            "gift_id": str(stock.gift_id),
            "depot_id": str(stock.depot_id),
        }
    ]
    assert await _counts(statements, stock) == (5, 0, 0)
    assert await statements.fetch_value(_MONEY, {"district_code": DISTRICT}) == 0


async def test_short_of_money_no_gift_is_reserved(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    town: dict[str, Any] = {"district_bp": 0, "town_bp": 10_000}
    thanks, stock = await _thanks(session, make_cash(**town), make_gift(), pieces=5)
    await desk.refused(await desk.submitted(thanks), "fund_missing")
    assert await _counts(statements, stock) == (5, 0, 0)


async def test_a_gift_that_no_open_depot_keeps_is_named_with_whom_it_is_for(
    desk: Desk, session: AsyncSession
) -> None:
    thanks, stock = await _thanks(session, make_gift(), pieces=0)
    depot = await session.get(Depot, (DISTRICT, stock.depot_id))
    assert depot is not None
    depot.change(clock.now(), status="closed", closed_at=clock.now(), closed_by="clerk-1")
    await session.commit()
    run = await desk.submitted(thanks)
    assert await desk.by_gift(run) == [("towel", None, 3, None)]
    problem = await desk.refused(run, "depot_missing")
    assert problem["missing"] == [
        {"gift_name": "毛巾", "association_name": thanks.association.name}
    ]


async def test_the_narrowest_depot_that_keeps_the_gift_gives(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    """Of a village's own, the town's and the district's; another town's serves nobody here."""
    thanks, wide = await _thanks(session, make_gift(), pieces=9, members=2)
    other = await make_association(session, name="另一协会")
    visitor = await make_member(session, other)
    await make_attendance(session, thanks.event, visitor, association_id=other.id)
    towel = await make_gift_article(session)
    town = await make_depot(session, name="镇仓库", area_code=SHISHAN)
    own = await make_depot(
        session, name="自有", area_code=SHISHAN, association_id=thanks.association.id
    )
    empty = await make_depot(session, name="别的", area_code=SHISHAN, association_id=other.id)
    of_town = await make_stock(session, town, towel, 9)
    of_own = await make_stock(session, own, towel, 9)
    await session.commit()
    run = await desk.step(await desk.submitted(thanks), "approve")
    assert await desk.by_gift(run) == [("towel", "自有", 2, 7), ("towel", "镇仓库", 1, 8)]
    assert await _counts(statements, of_own) == (7, 2, 0)
    assert await _counts(statements, of_town) == (8, 1, 0)
    assert await _counts(statements, wide) == (9, 0, 0)
    assert empty.status == "open"


async def test_of_approvals_at_the_same_moment_one_reserves(
    desk: Desk, session: AsyncSession, statements: Statements
) -> None:
    thanks, stock = await _thanks(session, make_gift(), pieces=9)
    run = await desk.submitted(thanks)
    path = f"{_RUNS}/{run['id']}/approve"
    answers = await asyncio.gather(
        *(desk.approver.post(path, headers=if_match(run)) for _ in range(6))
    )
    assert sorted(answer.status_code for answer in answers)[:2] == [200, 412]
    assert await _counts(statements, stock) == (6, 3, 0)
