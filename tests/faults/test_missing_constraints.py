"""Without one of its constraints the database takes what is wrong, and the same check tells."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, transaction
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import PayoutOutcome, ResultLine
from app.scopes import Acting, Scope
from app.services.accounting import books
from app.services.disbursement import payouts
from tests.factories.callers import DISTRICT, make_caller
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks

_AGAIN = (
    "insert into transfers select (jsonb_populate_record(t, jsonb_build_object('posting_id',"
    " gen_random_uuid()))).* from transfers t where t.kind = '{}' limit 1"
)


@dataclass(frozen=True)
class Mutant:
    """A constraint that is away, what a faulty program would then write, and what tells of it."""

    without: str
    wrong: str
    question: str

    @property
    def name(self) -> str:
        return self.without.rsplit(maxsplit=1)[-1]


_MUTANTS = [
    Mutant(
        "alter table funds drop constraint ck_funds_available",
        "update funds set available_fen = available_fen - 100000000,"
        " reserved_fen = reserved_fen + 100000000",
        "fund_balances",
    ),
    Mutant(
        "alter table funds drop constraint ck_funds_balanced",
        "update funds set spent_fen = spent_fen + 1000",
        "fund_balances",
    ),
    Mutant("drop index uq_transfers_payout", _AGAIN.format("pay"), "payout_entries"),
    Mutant("drop index uq_transfers_run", _AGAIN.format("reserve"), "run_reservations"),
    Mutant(
        "alter table payouts drop constraint pk_payouts",
        "insert into payouts select * from payouts where line_no = 1",
        "run_totals",
    ),
    Mutant(
        "alter table payouts drop constraint ck_payouts_status",
        "update payouts set status = 'paid' where status = 'pending'",
        "payout_entries",
    ),
]


@pytest_asyncio.fixture
async def run(session: AsyncSession) -> PayoutRun:
    """A run of three payouts, one of which is paid."""
    run = await make_granted_run(session, await make_thanks(session, members=3))
    results = [ResultLine(line_no=1, outcome=PayoutOutcome.PAID, reason=None)]
    lines = await payouts.lines_of(session, run, [1])
    await payouts.record(session, make_caller(), run, lines=lines, results=results, now=clock.now())
    await session.commit()
    return run


async def _found(session: AsyncSession) -> set[str]:
    return {each.question for each in await books.check(session, district_code=DISTRICT)}


@asynccontextmanager
async def _undone(owner: Database) -> AsyncIterator[AsyncSession]:
    """A transaction of the owner that may change the schema, and is rolled back."""
    scope = Scope(Acting.DISTRICT, DISTRICT)
    async with AsyncSession(owner.engine, info={"scope": scope}) as session:
        yield session
        await session.rollback()


@pytest.mark.usefixtures("run")
async def test_the_books_agree_while_every_constraint_is_there(database: Database) -> None:
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as session:
        assert await _found(session) == set()


@pytest.mark.parametrize("mutant", _MUTANTS, ids=lambda mutant: mutant.name)
@pytest.mark.usefixtures("run")
async def test_a_missing_constraint_is_caught_by_the_same_check(
    owner: Database, mutant: Mutant, tell: Callable[[str], None]
) -> None:
    async with _undone(owner) as session:
        connection = await session.connection()
        with pytest.raises(Exception, match=mutant.name):
            async with connection.begin_nested():
                await connection.exec_driver_sql(mutant.wrong)
        await connection.exec_driver_sql(mutant.without)
        await connection.exec_driver_sql(mutant.wrong)
        found = await _found(session)
    tell(f"without {mutant.name}: {', '.join(sorted(found))} disagree")
    assert mutant.question in found
