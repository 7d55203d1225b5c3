"""What the tables of disputes and decisions never hold, and what nobody may change in them."""

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.database_errors import constraint_name
from app.models.disbursement.payouts import Payout
from app.scopes import Acting, Scope
from tests.factories.callers import DISTRICT
from tests.factories.disbursement.payout_decisions import make_decision
from tests.factories.disbursement.payout_disputes import make_dispute
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks


@pytest_asyncio.fixture
async def payout(session: AsyncSession) -> Payout:
    """A payout that is disputed, and on which somebody must decide."""
    thanks = await make_thanks(session, members=1)
    await make_granted_run(session, thanks)
    found = (await session.scalars(select(Payout))).one()
    await make_dispute(session, found)
    await make_decision(session, found, thanks.event)
    await session.commit()
    return found


_ANSWERED = "answer = 'x', answered_by = 'a'"
_DECIDED = "reason = 'x', decided_by = 'a', decided_at = now()"


@pytest.mark.usefixtures("payout")
@pytest.mark.parametrize(
    ("table", "change", "constraint"),
    [
        ("payout_disputes", "kind = 'x'", "kind"),
        ("payout_disputes", "status = 'x', closed_at = now()", "status"),
        ("payout_disputes", "line_no = 0", "line"),
        ("payout_disputes", "status = 'withdrawn'", "closed"),
        ("payout_disputes", "closed_at = now()", "closed"),
        ("payout_disputes", "status = 'upheld', closed_at = now()", "answered"),
        ("payout_disputes", "answered_by = 'a'", "answered"),
        ("payout_disputes", "answer = 'x'", "answered"),
        ("payout_disputes", f"status = 'withdrawn', closed_at = now(), {_ANSWERED}", "answered"),
        ("payout_decisions", "cause = 'x', event_id = null", "cause"),
        ("payout_decisions", "status = 'x', closed_at = now()", "status"),
        ("payout_decisions", "line_no = 0", "line"),
        ("payout_decisions", "event_id = null", "caused"),
        ("payout_decisions", "dispute_id = id", "caused"),
        ("payout_decisions", "cause = 'dispute_upheld', event_id = null", "caused"),
        ("payout_decisions", "status = 'lifted'", "closed"),
        ("payout_decisions", "closed_at = now()", "closed"),
        ("payout_decisions", "decided_by = 'a'", "decided"),
        ("payout_decisions", f"choice = 'recover', {_DECIDED}", "chosen"),
        ("payout_decisions", "status = 'recovering'", "chosen"),
        ("payout_decisions", f"status = 'recovering', choice = 'pay', {_DECIDED}", "chosen"),
        ("payout_decisions", "status = 'written_off', closed_at = now()", "chosen"),
        ("payout_decisions", "status = 'cancelled', closed_at = now()", "chosen"),
        ("payout_decisions", "status = 'confirmed', closed_at = now()", "chosen"),
        (
            "payout_decisions",
            f"status = 'lifted', closed_at = now(), choice = 'pay', {_DECIDED}",
            "chosen",
        ),
        (
            "payout_decisions",
            (
                "status = 'recovering', choice = 'recover', reason = 'x', decided_by = caused_by,"
                " decided_at = now()"
            ),
            "causer_is_not_decider",
        ),
    ],
)
async def test_it_refuses_what_cannot_be(
    owner: Database, table: str, change: str, constraint: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await owner.pool.execute(f"update {table} set {change}")
    assert caught.value.constraint_name == f"ck_{table}_{constraint}"


async def test_a_decision_after_a_dispute_holds_nothing(payout: Payout, owner: Database) -> None:
    assert payout.status == "held"
    by_dispute = "cause = 'dispute_upheld', event_id = null, dispute_id = d.id"
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await owner.pool.execute(
            f"update payout_decisions c set {by_dispute} from payout_disputes d"
        )
    assert caught.value.constraint_name == "ck_payout_decisions_held"


@pytest.mark.parametrize("table", ["payout_disputes", "payout_decisions"])
async def test_of_a_payout_one_is_open(session: AsyncSession, payout: Payout, table: str) -> None:
    assert payout.line_no == 1
    name = "open" if table == "payout_disputes" else "pending"
    again = (
        f"insert into {table} select (jsonb_populate_record(t, jsonb_build_object('id',"
        f" cast(:id as text)))).* from {table} t"
    )
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(again), {"id": str(clock.new_id())})
    assert constraint_name(caught.value) == f"uq_{table}_{name}"


@pytest.mark.usefixtures("payout")
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("payout_disputes", "run_id"),
        ("payout_disputes", "member_id"),
        ("payout_disputes", "association_id"),
        ("payout_decisions", "run_id"),
        ("payout_decisions", "member_id"),
        ("payout_decisions", "association_id"),
        ("payout_decisions", "event_id"),
    ],
)
async def test_it_points_only_at_what_is_there(owner: Database, table: str, column: str) -> None:
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await owner.pool.execute(f"update {table} set {column} = $1", clock.new_id())


@pytest.mark.usefixtures("payout")
@pytest.mark.parametrize(
    "statement",
    [
        "update payout_disputes set kind = 'wrong_amount'",
        "update payout_disputes set holds = false",
        "update payout_disputes set created_at = now()",
        "delete from payout_disputes",
        "update payout_decisions set caused_by = 'x'",
        "update payout_decisions set member_id = id",
        "delete from payout_decisions",
    ],
)
async def test_what_was_said_and_why_stays_whoever_acts(database: Database, statement: str) -> None:
    scope = Scope(Acting.DISTRICT, DISTRICT)
    async with database.pool.acquire() as connection:
        await connection.execute(f"begin; {scope.entry}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
        await connection.execute("rollback")


@pytest.mark.usefixtures("payout")
@pytest.mark.parametrize(
    "statement",
    [
        f"update payout_disputes set status = 'upheld', closed_at = now(), {_ANSWERED}",
        "update payout_decisions set status = 'lifted', closed_at = now()",
    ],
)
async def test_only_what_became_of_it_may_change(database: Database, statement: str) -> None:
    scope = Scope(Acting.DISTRICT, DISTRICT)
    async with database.pool.acquire() as connection:
        await connection.execute(f"begin; {scope.entry}")
        assert await connection.execute(statement) == "UPDATE 1"
        await connection.execute("rollback")
