"""Closing a run: for good, by somebody else, and once nothing of it is open."""

from collections.abc import Callable

import pytest_asyncio
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.disbursement.payouts import Payout
from app.roles import Role
from tests.factories.callers import Client, idempotency_key, if_match
from tests.factories.disbursement.payout_decisions import make_decision
from tests.factories.disbursement.payout_disputes import make_dispute
from tests.factories.disbursement.payout_runs import Thanks, make_run, make_thanks
from tests.factories.disbursement.payouts import known_id, make_payout
from tests.factories.finance.funds import agree

_PAID = {"status": "paid"}


@pytest_asyncio.fixture
async def thanks(session: AsyncSession) -> Thanks:
    return await make_thanks(session, members=2)


@pytest_asyncio.fixture
async def run(session: AsyncSession, thanks: Thanks) -> PayoutRun:
    """A settled run of two payouts that were paid."""
    run = await make_run(session, thanks.round, thanks.policy, RunStatus.SETTLED)
    rule = await session.scalar(text("select rule_id from incentive_rules"))
    for number, member in enumerate(thanks.members, 1):
        await make_payout(session, run, member, rule, number, **_PAID, settled_at=run.settled_at)
    run.payout_count, run.amount_fen = 2, 2000
    await session.commit()
    return run


def _path(run: PayoutRun) -> str:
    return f"/v1/payout-runs/{run.id}"


async def test_a_closed_run_is_final(
    client: Callable[..., Client],
    run: PayoutRun,
    thanks: Thanks,
    keyring: Keyring,
    database: Database,
) -> None:
    approver, clerk = client(Role.FINANCE_APPROVER), client(Role.FINANCE_CLERK)
    read = await approver.ok("GET", _path(run))
    closed = await approver.ok("POST", f"{_path(run)}/close", headers=if_match(read))
    assert (closed["status"], closed["closed_by"]) == ("closed", "finance_approver-1")
    assert closed["closed_at"] > closed["settled_at"]
    assert await approver.ok("GET", _path(run)) == closed
    first = known_id(keyring, run.id, 1)
    problem = await clerk.refused(
        "POST",
        f"/v1/payouts/{first}/return",
        json={"reason": "退回"},
        headers=idempotency_key("b"),
        status=409,
        code="run_closed",
    )
    assert "fund" in problem["detail"]
    me = client(Role.MEMBER, member_id=str(thanks.members[0].id))
    said = {"json": {"kind": "not_me"}}
    path = f"/v1/me/payouts/{first}/dispute"
    await me.refused("POST", path, status=409, code="payout_undisputable", **said)
    assert (await me.ok("GET", "/v1/me/payouts"))["items"][0]["status"] == "paid"
    listed = await approver.ok("GET", "/v1/payout-runs", params={"status": "closed"})
    assert [each["id"] for each in listed["items"]] == [str(run.id)]
    await agree(database)


async def test_open_cases_keep_it_open(
    client: Callable[..., Client], session: AsyncSession, run: PayoutRun, thanks: Thanks
) -> None:
    lines = (await session.scalars(select(Payout).order_by(col(Payout.line_no)))).all()
    await make_dispute(session, lines[0])
    await make_decision(session, lines[1], thanks.event)
    await session.commit()
    approver = client(Role.FINANCE_APPROVER)
    read = await approver.ok("GET", _path(run))
    problem = await approver.refused(
        "POST", f"{_path(run)}/close", headers=if_match(read), status=409, code="cases_open"
    )
    names = ("open_disputes", "open_decisions", "open_payouts")
    assert [problem[name] for name in names] == [1, 1, 0]


async def test_whoever_made_or_submitted_it_does_not_close_it(
    client: Callable[..., Client], run: PayoutRun
) -> None:
    maker = client(Role.FINANCE_APPROVER, subject="officer-1")
    read = await maker.ok("GET", _path(run))
    await maker.refused(
        "POST", f"{_path(run)}/close", headers=if_match(read), status=403, code="maker_is_checker"
    )
