"""Gifts of the catalogue, depots that keep them, and movements that say where they came from."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.models.disbursement.payout_runs import PayoutRun
from app.models.goods.depots import Depot
from app.models.goods.gifts import Gift
from app.models.goods.stock_movements import COUNTS, RunGift, Stock, StockMovement
from app.models.goods.stock_takes import StockCount, StockTake
from app.models.organisation.associations import Association
from tests.factories.callers import DISTRICT

TODAY = clock.civil_date(clock.now())
_PLENTY = 100_000


async def make_gift_article(
    session: AsyncSession, code: str = "towel", name: str = "毛巾", **facts: Any
) -> Gift:
    """Give the article of this code, stored where it is missing; the caller commits."""
    found = await session.scalar(
        select(Gift).where(col(Gift.district_code) == DISTRICT, col(Gift.code) == code)
    )
    if found is not None:
        return found
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "code": code,
        "name": name,
        "unit": "条",
        "status": "active",
        "created_by": "officer-1",
    }
    gift = Gift(**(values | facts))
    session.add(gift)
    await session.flush()
    return gift


async def make_depot(session: AsyncSession, **facts: Any) -> Depot:
    """Store an open depot of the district; the caller commits."""
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "name": "测试仓库",
        "area_code": DISTRICT,
        "association_id": None,
        "status": "open",
        "created_by": "finance_clerk-1",
        "closed_at": None,
        "closed_by": None,
    }
    depot = Depot(**(values | facts))
    session.add(depot)
    await session.flush()
    return depot


async def make_stock(session: AsyncSession, depot: Depot, gift: Gift, quantity: int = 0) -> Stock:
    """Store what a depot has of a gift, by one document; the caller commits."""
    counts = dict.fromkeys(COUNTS, 0) | {"received": quantity, "available": quantity}
    stock = Stock(district_code=depot.district_code, depot_id=depot.id, gift_id=gift.id, **counts)
    session.add(stock)
    await session.flush()
    if quantity:
        session.add(make_movement(stock, quantity))
        await session.flush()
    return stock


async def district_depot(session: AsyncSession, codes: Iterable[str]) -> Depot:
    """Give the district's own depot, made where it is missing, with plenty of these gifts."""
    found = await session.scalar(
        select(Depot).where(
            col(Depot.area_code) == DISTRICT,
            col(Depot.association_id).is_(None),
            col(Depot.status) == "open",
        )
    )
    depot = found or await make_depot(session)
    for code in codes:
        gift = await make_gift_article(session, code)
        if await session.get(Stock, (DISTRICT, depot.id, gift.id)) is None:
            await make_stock(session, depot, gift, _PLENTY)
    return depot


def make_movement(stock: Stock, quantity: int, **facts: Any) -> StockMovement:
    """Make the entry of pieces that came to a depot."""
    values: dict[str, Any] = {
        "district_code": stock.district_code,
        "posting_id": clock.new_id(),
        "number": 1,
        "kind": "receive",
        "gift_id": stock.gift_id,
        "depot_id": stock.depot_id,
        "credit_depot_id": stock.depot_id,
        "debit": "available",
        "credit": "outside",
        "quantity": quantity,
        "run_id": None,
        "line_no": None,
        "stock_take_id": None,
        "document_no": "送货单1号",
        "note": None,
        "occurred_on": TODAY,
        "recorded_at": clock.now(),
        "recorded_by": "finance_clerk-1",
    }
    return StockMovement(**(values | facts))


def make_run_gift(run: PayoutRun, association: Association, stock: Stock) -> RunGift:
    """Make what fixes from where some rule's gifts come in a run."""
    return RunGift(
        district_code=run.district_code,
        run_id=run.id,
        rule_id=clock.new_id(),
        association_id=association.id,
        gift_id=stock.gift_id,
        depot_id=stock.depot_id,
    )


async def make_take(session: AsyncSession, depot: Depot, **facts: Any) -> StockTake:
    """Store an open stock-take of a depot; the caller commits."""
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": depot.district_code,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "depot_id": depot.id,
        "status": "open",
        "opened_by": "finance_clerk-1",
        "ended_at": None,
        "ended_by": None,
        "reason": None,
    }
    take = StockTake(**(values | facts))
    session.add(take)
    await session.flush()
    return take


async def make_count(
    session: AsyncSession, take: StockTake, gift_id: UUID, quantity: int = 1
) -> StockCount:
    """Store what was counted of a gift; the caller commits."""
    count = StockCount(
        district_code=take.district_code,
        stock_take_id=take.id,
        gift_id=gift_id,
        quantity=quantity,
        book_quantity=None,
        counted_by="finance_clerk-1",
        counted_at=clock.now(),
    )
    session.add(count)
    await session.flush()
    return count
