"""What the tables of gifts, depots, stock and stock-takes never hold, whoever writes."""

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.database_errors import constraint_name
from app.models.disbursement.payout_runs import RunStatus
from app.models.goods.stock_movements import Stock
from app.scopes import Acting, Scope
from tests.factories.callers import DISTRICT
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.goods.gifts import (
    make_count,
    make_depot,
    make_gift_article,
    make_movement,
    make_stock,
    make_take,
)
from tests.factories.incentives.incentive_policies import make_gift


async def _breaks(session: AsyncSession, constraint: str, sql: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql))
    assert constraint_name(caught.value) == constraint


@pytest_asyncio.fixture
async def stock(session: AsyncSession) -> Stock:
    """Ten towels in a depot, by one document."""
    return await make_stock(
        session, await make_depot(session), await make_gift_article(session), 10
    )


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("available = -1, received = -1", "ck_stock_available"),
        ("available = -1, reserved = 11", "ck_stock_available"),
        ("reserved = -1, available = 11", "ck_stock_reserved"),
        ("handed_out = -1, available = 11", "ck_stock_handed_out"),
        ("available = 11", "ck_stock_balanced"),
        ("received = 11", "ck_stock_balanced"),
        ("adjusted = 1", "ck_stock_balanced"),
        ("written_off = -1, available = 11", "ck_stock_balanced"),
        ("gift_id = depot_id", "fk_stock_gift"),
    ],
)
async def test_stock_holds_only_what_can_be(
    session: AsyncSession, stock: Stock, change: str, constraint: str
) -> None:
    if constraint.startswith("fk_"):
        await session.execute(text("delete from stock_movements"))
    await _breaks(session, constraint, f"update stock set {change}")
    assert stock.available == 10


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("debit = 'reserved'", "ck_stock_movements_sides"),
        (
            "kind = 'write_off', debit = 'outside', credit = 'reserved', note = 'x'",
            "ck_stock_movements_sides",
        ),
        ("quantity = 0", "ck_stock_movements_quantity"),
        ("document_no = null", "ck_stock_movements_document"),
        ("line_no = 1", "ck_stock_movements_payout"),
        ("kind = 'transfer', credit = 'available'", "ck_stock_movements_depots"),
        (
            "kind = 'write_off', debit = 'outside', credit = 'available'",
            "ck_stock_movements_reason",
        ),
        (
            "kind = 'reserve', debit = 'reserved', credit = 'available', document_no = null",
            "ck_stock_movements_run",
        ),
        (
            "kind = 'adjust', document_no = null, note = 'x'",
            "ck_stock_movements_stock_take",
        ),
    ],
)
async def test_a_movement_holds_only_what_can_be(
    session: AsyncSession, stock: Stock, change: str, constraint: str
) -> None:
    await _breaks(session, constraint, f"update stock_movements set {change}")
    assert stock.available == 10


async def test_the_same_document_is_not_entered_twice(session: AsyncSession, stock: Stock) -> None:
    session.add(make_movement(stock, 5))
    with pytest.raises(IntegrityError) as caught:
        await session.flush()
    assert constraint_name(caught.value) == "uq_stock_movements_document"


@pytest.mark.parametrize("kind", ["hand_out", "reserve"])
async def test_a_payout_is_handed_out_once_and_a_run_reserved_once(
    session: AsyncSession, stock: Stock, kind: str
) -> None:
    thanks = await make_thanks(session, [make_gift()])
    run = await make_granted_run(session, thanks, RunStatus.CALCULATED)
    sides = ("handed_out", "reserved") if kind == "hand_out" else ("reserved", "available")
    line_no = 1 if kind == "hand_out" else None
    facts = {"kind": kind, "debit": sides[0], "credit": sides[1], "document_no": None}
    session.add(make_movement(stock, 1, run_id=run.id, line_no=line_no, **facts))
    await session.flush()
    session.add(make_movement(stock, 1, run_id=run.id, line_no=line_no, **facts))
    with pytest.raises(IntegrityError) as caught:
        await session.flush()
    wanted = "payout" if kind == "hand_out" else "run"
    assert constraint_name(caught.value) == f"uq_stock_movements_{wanted}"


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("code = 'Towel'", "ck_gifts_code_form"),
        ("status = 'lost'", "ck_gifts_status"),
    ],
)
async def test_an_article_holds_only_what_can_be(
    session: AsyncSession, stock: Stock, change: str, constraint: str
) -> None:
    await _breaks(session, constraint, f"update gifts set {change}")
    assert stock.available == 10


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("status = 'lost'", "ck_depots_status"),
        ("status = 'closed'", "ck_depots_closed"),
        ("closed_by = 'x'", "ck_depots_closed"),
        ("area_code = '440606000000'", "ck_depots_area_range"),
        ("association_id = '00000000-0000-0000-0000-000000000007'", "fk_depots_association"),
    ],
)
async def test_a_depot_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_depot(session)
    await _breaks(session, constraint, f"update depots set {change}")


async def test_of_a_scope_one_depot_is_open(session: AsyncSession) -> None:
    await make_depot(session)
    with pytest.raises(IntegrityError) as caught:
        await make_depot(session)
    assert constraint_name(caught.value) == "uq_depots_scope"


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        (
            "status = 'lost', ended_at = now(), ended_by = 'x', reason = 'x'",
            "ck_stock_takes_status",
        ),
        ("status = 'closed'", "ck_stock_takes_ended"),
        ("ended_at = now(), ended_by = 'x', reason = 'x'", "ck_stock_takes_ended"),
        ("status = 'closed', ended_at = now(), ended_by = 'x'", "ck_stock_takes_ended"),
        (
            "status = 'closed', ended_at = now(), ended_by = opened_by, reason = 'x'",
            "ck_stock_takes_counter_is_not_confirmer",
        ),
    ],
)
async def test_a_stock_take_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_take(session, await make_depot(session))
    await _breaks(session, constraint, f"update stock_takes set {change}")


@pytest.mark.parametrize("column", ["quantity", "book_quantity"])
async def test_a_count_is_never_negative(session: AsyncSession, stock: Stock, column: str) -> None:
    take = await make_take(session, await make_depot(session, area_code="440605124000"))
    await make_count(session, take, stock.gift_id)
    sql = f"update stock_counts set {column} = -1"
    await _breaks(session, f"ck_stock_counts_{column}", sql)


async def test_a_depot_is_counted_once_at_a_time(session: AsyncSession) -> None:
    depot = await make_depot(session)
    await make_take(session, depot)
    with pytest.raises(IntegrityError) as caught:
        await make_take(session, depot)
    assert constraint_name(caught.value) == "uq_stock_takes_open"


@pytest.mark.parametrize("acting", list(Acting))
@pytest.mark.parametrize("table", ["stock_movements", "run_gifts"])
@pytest.mark.parametrize("act", ["delete from {}", "update {} set district_code = district_code"])
async def test_nobody_changes_or_deletes_what_is_in_the_books(
    owner: Database, session: AsyncSession, acting: Acting, table: str, act: str
) -> None:
    await make_stock(session, await make_depot(session), await make_gift_article(session), 10)
    await session.commit()
    async with owner.pool.acquire() as connection:
        await connection.execute(f"begin; {Scope(acting, DISTRICT, 'x').entry}")
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute(act.format(table))
        await connection.execute("rollback")
