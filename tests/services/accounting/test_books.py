"""The books check: silent while the books agree, and every kind of tampering is told."""

from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.database import Database, transaction
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.disbursement.payouts import Payout, PayoutOutcome, ResultLine
from app.models.events.service_events import ServiceEvent
from app.models.goods.depots import Depot
from app.models.goods.stock_movements import Stock
from app.scopes import Acting, Scope
from app.services.accounting import books
from app.services.disbursement import payouts
from app.services.goods import stock_takes
from tests.factories.callers import DISTRICT, SHISHAN, make_caller
from tests.factories.channels.gateway import Till, make_gateway_run, work
from tests.factories.disbursement.payout_decisions import make_decision
from tests.factories.disbursement.payout_disputes import make_dispute
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.finance.funds import agree, make_fund
from tests.factories.goods.gifts import make_count, make_take
from tests.factories.incentives.incentive_policies import make_cash, make_gift

_SPLIT: dict[str, Any] = {"district_bp": 3333, "town_bp": 6667}


@pytest_asyncio.fixture
async def run(session: AsyncSession, database: Database) -> PayoutRun:
    """A run under way: three of its six payouts are paid, one failed; its books agree.

    A towel was found to be missing when the depot was counted.
    """
    rules = [make_cash(amount_fen=999, **_SPLIT), make_gift()]
    thanks = await make_thanks(session, rules, members=3)
    await make_fund(session, 5000, source="town", area_code=SHISHAN, fiscal_year=2024)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING)
    lines = await payouts.lines_of(session, run, range(1, 7))
    cash = [number for number, line in lines.items() if line.amount_fen]
    gifts = [number for number, line in lines.items() if line.quantity]
    paid = PayoutOutcome.PAID
    results = [ResultLine(line_no=number, outcome=paid, reason=None) for number in cash[:2]]
    results.append(ResultLine(line_no=gifts[0], outcome=paid, reason=None))
    results.append(ResultLine(line_no=cash[2], outcome=PayoutOutcome.FAILED, reason="本人未到"))
    await payouts.record(session, make_caller(), run, lines=lines, results=results, now=clock.now())
    await _miss_a_towel(session)
    await session.commit()
    await agree(database)
    return run


async def _miss_a_towel(session: AsyncSession) -> None:
    [stock] = await session.scalars(select(Stock))
    depot = await session.get(Depot, (DISTRICT, stock.depot_id))
    assert depot is not None
    await session.refresh(stock)
    take = await make_take(session, depot)
    await make_count(session, take, stock.gift_id, stock.available + stock.reserved - 1)
    await stock_takes.close(
        session, make_caller(), take_id=take.id, expected=1, reason="破损", now=clock.now()
    )


_TAMPERED = {
    "spent more than paid": (
        "fund_balances",
        (
            "update funds set available_fen = available_fen - 1, spent_fen = spent_fen + 1"
            " where source = 'town'"
        ),
    ),
    "money from nowhere": (
        "fund_balances",
        "update funds set received_fen = received_fen + 5, available_fen = available_fen + 5",
    ),
    "an entry gone": (
        "payout_entries",
        (
            "delete from transfers where kind = 'pay'"
            " and line_no = (select min(line_no) from transfers)"
        ),
    ),
    "an entry changed": (
        "payout_entries",
        "update transfers set amount_fen = amount_fen + 1 where kind = 'pay'",
    ),
    "said to be paid": (
        "payout_entries",
        "update payouts set status = 'paid', failure_reason = null where status = 'failed'",
    ),
    "said to have failed": (
        "payout_entries",
        "update payouts set status = 'failed', failure_reason = 'x' where status = 'paid'",
    ),
    "another total": ("run_totals", "update payout_runs set amount_fen = amount_fen + 1"),
    "lines gone": ("run_totals", "delete from payouts where amount_fen = 0"),
    "more reserved": (
        "run_reservations",
        "update transfers set amount_fen = amount_fen + 1 where kind = 'reserve'",
    ),
    "held for nothing": (
        "held_payouts",
        "update payouts set status = 'held' where amount_fen = 0 and status = 'pending'",
    ),
    "more towels than came": (
        "stock_counts",
        "update stock set available = available + 1, received = received + 1",
    ),
    "towels handed out to nobody": (
        "stock_counts",
        "update stock set reserved = reserved - 1, handed_out = handed_out + 1",
    ),
    "a delivery gone": ("stock_counts", "delete from stock_movements where kind = 'receive'"),
    "a hand-out gone": ("gift_movements", "delete from stock_movements where kind = 'hand_out'"),
    "a gift said to be given": (
        "gift_movements",
        (
            "update payouts set status = 'paid', settled_at = now()"
            " where status = 'pending' and quantity > 0"
        ),
    ),
    "a gift said not to be given": (
        "gift_movements",
        (
            "update payouts set status = 'pending', settled_at = null"
            " where status = 'paid' and quantity > 0"
        ),
    ),
    "more towels reserved": (
        "gift_reservations",
        "update stock_movements set quantity = quantity + 1 where kind = 'reserve'",
    ),
    "towels kept after the end": (
        "gift_reservations",
        "update payout_runs set status = 'settled', settled_at = now()",
    ),
    "towels from nowhere": (
        "gift_depots",
        (
            "insert into run_gifts select district_code, run_id, gen_random_uuid(),"
            " association_id, gift_id, depot_id from run_gifts;"
            " delete from run_gifts where rule_id in (select rule_id from payouts)"
        ),
    ),
    "an adjustment gone": (
        "stock_take_adjustments",
        "delete from stock_movements where kind = 'adjust'",
    ),
    "another count": ("stock_take_adjustments", "update stock_counts set quantity = quantity + 5"),
    "less than the whole": (
        "run_shares",
        "update run_shares set to_bp = to_bp - 1 where from_bp = 0",
    ),
}


@pytest.mark.parametrize(("question", "tampering"), _TAMPERED.values(), ids=_TAMPERED)
async def test_tampering_is_told(
    run: PayoutRun, session: AsyncSession, database: Database, question: str, tampering: str
) -> None:
    for statement in tampering.split(";"):
        await session.execute(text(statement))
    await session.commit()
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as checking:
        found = await books.check(checking, district_code=DISTRICT)
    assert question in {each.question for each in found}
    assert all(each.expected != each.found for each in found)
    assert run.status == RunStatus.DISBURSING


_TAMPERED_PAYMENTS = {
    "another state": "update gateway_payments set state = 'failed', receipt = null, paid_on = null",
    "another amount": "update gateway_payments set amount_fen = 999 where line_no = 1",
    "a payment gone": "delete from gateway_payments where state = 'paid'",
    "sent by nobody": (
        "update payouts set status = 'sending', settled_at = null, failure_reason = null"
        " where status = 'failed'"
    ),
    "a payout gone": "delete from payouts where line_no = 1",
}


@pytest.mark.parametrize("tampering", _TAMPERED_PAYMENTS.values(), ids=_TAMPERED_PAYMENTS)
async def test_tampering_with_what_the_gateway_was_given_is_told(
    app: FastAPI, session: AsyncSession, database: Database, till: Till, tampering: str
) -> None:
    await till.behave(reject_next=1)
    await make_gateway_run(session, app.state.keyring)
    await session.commit()
    await work(app)
    await agree(database)
    await session.execute(text(tampering))
    await session.commit()
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as checking:
        found = await books.check(checking, district_code=DISTRICT)
    assert "gateway_payments" in {each.question for each in found}
    assert all(each.expected != each.found for each in found)


@pytest_asyncio.fixture
async def cases(session: AsyncSession, database: Database, run: PayoutRun) -> PayoutRun:
    """The same run, with a disputed payout that is held and a decision on a paid one."""
    found = await session.scalars(select(Payout).order_by(col(Payout.line_no)))
    by_status = {payout.status: payout for payout in found}
    await make_dispute(session, by_status["pending"])
    event = (await session.scalars(select(ServiceEvent))).first()
    assert event is not None
    await make_decision(session, by_status["paid"], event)
    await session.commit()
    await agree(database)
    return run


_DECIDED = "reason = 'x', decided_by = 'a', decided_at = now()"
_TAMPERED_CASES = {
    "a dispute gone": ("held_payouts", "delete from payout_disputes"),
    "a held payout let go": (
        "holding_cases",
        "update payouts set status = 'pending' where status = 'held'",
    ),
    "a paid one said to be held for": (
        "holding_cases",
        "update payout_decisions set holds = true",
    ),
    "recovered without the money": (
        "decided_payouts",
        "update payout_decisions set status = 'recovered', closed_at = now()",
    ),
    "cancelled though paid": (
        "decided_payouts",
        (
            "update payout_decisions set status = 'cancelled', choice = 'cancel',"
            f" closed_at = now(), {_DECIDED}"
        ),
    ),
    "written off what was not paid": (
        "decided_payouts",
        (
            "with o as (update payouts set status = 'returned', failure_reason = 'x'"
            " where status = 'paid') update payout_decisions set status = 'written_off',"
            f" choice = 'write_off', closed_at = now(), {_DECIDED}"
        ),
    ),
    "closed with open cases": (
        "closed_runs",
        (
            "update payout_runs set status = 'closed', settled_at = now(), closed_at = now(),"
            " closed_by = 'approver-1'"
        ),
    ),
}


@pytest.mark.parametrize(("question", "tampering"), _TAMPERED_CASES.values(), ids=_TAMPERED_CASES)
async def test_tampering_with_disputes_and_decisions_is_told(
    cases: PayoutRun, session: AsyncSession, database: Database, question: str, tampering: str
) -> None:
    await session.execute(text(tampering))
    await session.commit()
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as checking:
        found = await books.check(checking, district_code=DISTRICT)
    assert question in {each.question for each in found}
    assert cases.status == RunStatus.DISBURSING
