"""One fund under sixty-four clients: never overspent, and who reads before writing is caught."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, transaction
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.finance.funds import Fund
from app.scopes import Acting, Scope
from app.services.finance import reservations
from app.services.finance.reservations import FundsShort
from tests.factories.callers import DISTRICT
from tests.factories.disbursement.payout_runs import make_granted_run, make_run, make_thanks
from tests.factories.events.exam_rounds import make_round
from tests.factories.finance.funds import agree, make_fund

_CLIENTS = 64
_ENOUGH_FOR = 40
_SCOPE = Scope(Acting.DISTRICT, DISTRICT, "clerk")
_PAYOUTS = (
    "insert into payouts (district_code, round_sequence, member_id, rule_id, released, run_id,"
    " line_no, association_id, streak, amount_fen, quantity, status)"
    " select district_code, round_sequence, gen_random_uuid(), rule_id, 0, $1, 1, association_id,"
    " 1, 1000, 0, 'pending' from payouts limit 1"
)
_NAIVE_READ = "select available_fen from funds"
_NAIVE_WRITE = (
    "update funds set reserved_fen = received_fen - $1, available_fen = $1 where district_code = $2"
)


async def _runs(session: AsyncSession, owner: Database) -> tuple[Fund, list[PayoutRun]]:
    """Store sixty-four submitted runs of ten yuan each, and a fund that can pay for forty."""
    thanks = await make_thanks(session, members=1, sequence=1)
    await make_granted_run(session, thanks, RunStatus.CALCULATED)
    held = await make_round(session, 9, status="closed", closed_at=clock.now())
    fund = await make_fund(session, _ENOUGH_FOR * 1000, fiscal_year=held.ends_on.year)
    runs = [
        await make_run(
            session, thanks.round, thanks.policy, RunStatus.SUBMITTED, payout_count=1,
            amount_fen=1000,
        )
        for _ in range(_CLIENTS)
    ]  # fmt: skip
    await session.commit()
    for run in runs:
        await owner.pool.execute(_PAYOUTS, run.id)
    await owner.pool.execute("update funds set fiscal_year = 2030 where id = $1", thanks.fund.id)
    await owner.pool.execute("update funds set fiscal_year = 2024 where id = $1", fund.id)
    return fund, runs


async def _reserve(database: Database, run: PayoutRun) -> str:
    try:
        async with transaction(database, _SCOPE) as session:
            await reservations.reserve(session, run, subject="clerk", now=clock.now())
    except FundsShort:
        return "short"
    return "reserved"


async def test_a_fund_reserves_what_it_has_and_not_a_fen_more(
    database: Database,
    owner: Database,
    session: AsyncSession,
    tell: Callable[[str], None],
) -> None:
    fund, runs = await _runs(session, owner)
    met = Counter(await asyncio.gather(*(_reserve(database, run) for run in runs)))
    tell(f"{_CLIENTS} clients on one fund: {dict(met)}")
    assert met == {"reserved": _ENOUGH_FOR, "short": _CLIENTS - _ENOUGH_FOR}
    row = await owner.pool.fetchrow("select * from funds where id = $1", fund.id)
    assert (row["available_fen"], row["reserved_fen"]) == (0, _ENOUGH_FOR * 1000)
    entries = "select count(*) from transfers where kind = 'reserve'"
    assert await owner.pool.fetchval(entries) == _ENOUGH_FOR
    refused = [run.id for run in runs]
    await owner.pool.execute(
        "update payout_runs set status = 'approved', approved_by = 'x', approved_at = now()"
        " where id = any($1) and id in (select run_id from transfers)",
        refused,
    )
    await agree(database)


async def test_who_reads_before_writing_is_caught_by_the_same_check(
    owner: Database, session: AsyncSession, database: Database, tell: Callable[[str], None]
) -> None:
    await make_fund(session, _ENOUGH_FOR * 1000)
    await session.commit()
    reserved = 0

    async def naive() -> None:
        nonlocal reserved
        known = await owner.pool.fetchval(_NAIVE_READ)
        await asyncio.sleep(0.001)
        if known >= 1000:
            await owner.pool.execute(_NAIVE_WRITE, known - 1000, DISTRICT)
            reserved += 1

    await asyncio.gather(*(naive() for _ in range(_CLIENTS)))
    tell(f"read then write: {reserved} of {_ENOUGH_FOR} reserved")
    with pytest.raises(AssertionError, match="fund_balances"):
        await agree(database)
