"""Stock-takes: pieces counted in a depot, and the books brought to what was counted."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency
from app.crypto import Keyring
from app.database import Statements, district_wide, show
from app.identity import Caller
from app.models.goods.depots import Depot, DepotStatus
from app.models.goods.stock_takes import (
    DifferenceRead,
    DifferencesRead,
    StockCountWrite,
    StockTake,
    StockTakeCreate,
    StockTakeFilters,
    StockTakeRead,
    StockTakeStatus,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.services.goods import depots
from app.services.goods.depots import DepotClosed
from app.services.goods.stock_movements import COLUMNS, PROVIDE

LISTING = Listing(
    columns=(
        f"t.id, t.version, {instant('t.created_at')}, {instant('t.updated_at')}, t.depot_id,"
        f" t.status, t.opened_by, {instant('t.ended_at')}, t.ended_by, t.reason"
    ),
    source="stock_takes t join depots d on d.district_code = t.district_code and d.id = t.depot_id",
    order=(Key("id", "t.id", "uuid"),),
    descending=True,
)
_FIND = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from {LISTING.source}"
    " where t.district_code = :district_code and d.district_code = :district_code"
    " and t.id = :id and {}) item"
)
_DIFFERENCES = (
    "select g.id as gift_id, g.code as gift_code, g.name as gift_name, g.unit,"
    " c.quantity as counted, coalesce(c.book_quantity, k.available + k.reserved) as book,"
    " c.quantity - coalesce(c.book_quantity, k.available + k.reserved) as difference,"
    " c.counted_by, c.counted_at from stock_takes t"
    " join stock k on k.district_code = :district_code and k.depot_id = t.depot_id"
    " join gifts g on g.district_code = :district_code and g.id = k.gift_id"
    " left join stock_counts c on c.district_code = :district_code and c.stock_take_id = t.id"
    " and c.gift_id = k.gift_id where t.district_code = :district_code and t.id = :id"
    " and (t.status = 'open' or c.gift_id is not null) order by g.code"
)
_GIFT = text("select 1 from gifts where district_code = :district_code and id = :gift_id")
_PROVIDE = text(PROVIDE.format("cast(:depot_id as uuid)", "cast(:gift_id as uuid)", ""))
_COUNT = text(
    "insert into stock_counts (district_code, stock_take_id, gift_id, quantity, book_quantity,"
    " counted_by, counted_at) values (:district_code, :id, :gift_id, :quantity, null, :subject,"
    " :now) on conflict (district_code, stock_take_id, gift_id) do update"
    " set quantity = excluded.quantity, counted_by = excluded.counted_by,"
    " counted_at = excluded.counted_at"
)
_COUNTERS = text(
    "select distinct counted_by from stock_counts where district_code = :district_code"
    " and stock_take_id = :id"
)
# What is promised to members cannot be adjusted away: then nothing is, and it is said of what.
_CLOSE = text(
    "with held as materialized (select s.gift_id, s.available, s.reserved from stock s"
    " where s.district_code = :district_code and s.depot_id = :depot_id and s.gift_id in"
    " (select gift_id from stock_counts where district_code = :district_code"
    " and stock_take_id = :id) order by s.depot_id, s.gift_id for no key update),"
    " compared as (select h.gift_id, c.quantity, h.reserved, h.available + h.reserved as book,"
    " c.quantity - h.available - h.reserved as difference from held h join stock_counts c"
    " on c.district_code = :district_code and c.stock_take_id = :id and c.gift_id = h.gift_id),"
    " short as (select gift_id, quantity, reserved from compared where quantity < reserved),"
    " noted as (update stock_counts c set book_quantity = d.book from compared d"
    " where c.district_code = :district_code and c.stock_take_id = :id"
    " and c.gift_id = d.gift_id and not exists (select from short)),"
    " moved as (update stock s set available = s.available + d.difference,"
    " adjusted = s.adjusted + d.difference from compared d"
    " where s.district_code = :district_code and s.depot_id = :depot_id"
    " and s.gift_id = d.gift_id and d.difference <> 0 and not exists (select from short)"
    " returning s.gift_id, d.difference),"
    f" entered as ({COLUMNS} select :district_code, :posting_id, row_number() over (), 'adjust',"
    " gift_id, cast(:depot_id as uuid), cast(:depot_id as uuid),"
    " case when difference > 0 then 'available' else 'outside' end,"
    " case when difference > 0 then 'outside' else 'available' end, abs(difference), null, null,"
    " cast(:id as uuid), null, :reason, cast(:today as date), cast(:now as timestamptz),"
    " :subject from moved)"
    " select g.id as gift_id, g.name as gift_name, s.quantity as counted, s.reserved"
    " from short s join gifts g on g.district_code = :district_code and g.id = s.gift_id"
    " order by g.code"
)


class StockTakeOpen(Problem):
    """The depot is being counted; of two counts at once neither could be trusted."""

    code, status = "stock_take_open", 409
    constraint = "uq_stock_takes_open"


class StockTakeEnded(Problem):
    """The stock-take was closed or given up."""

    code, status = "stock_take_ended", 409


class CounterIsConfirmer(Problem):
    """Whoever opened a stock-take or counted in it does not confirm it."""

    code, status = "counter_is_confirmer", 403
    constraint = "ck_stock_takes_counter_is_not_confirmer"


class NothingCounted(Problem):
    """A stock-take in which nothing was counted is given up, not closed."""

    code, status = "nothing_counted", 409


class CountedBelowReserved(Problem):
    """Fewer pieces were found than approved runs were promised; it is said of what."""

    code, status = "counted_below_reserved", 409


async def list_takes(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: StockTakeFilters
) -> Slice:
    """Give a page of the stock-takes of the depots within reach, the newest first."""
    condition, params = depots.within(caller, "d")
    where = Where(params | {"district_code": caller.district_code})
    where.add("t.district_code = :district_code and d.district_code = :district_code")
    where.add(condition)
    where.equal("t.depot_id", "depot_id", filters.depot_id)
    where.equal("t.status", "status", filters.status)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, take_id: UUID) -> StockTakeRead:
    """Give one stock-take, or refuse with NotFound."""
    condition, params = depots.within(caller, "d")
    params |= {"district_code": caller.district_code, "id": take_id}
    found = await statements.district_wide().fetch_value(_FIND.format(condition), params)
    if found is None:
        raise NotFound
    return StockTakeRead.model_validate_json(found)


async def differences(statements: Statements, caller: Caller, *, take_id: UUID) -> DifferencesRead:
    """Give what was counted beside the books: as they are now, or as they were at its close."""
    await find(statements, caller, take_id=take_id)
    params = {"district_code": caller.district_code, "id": take_id}
    rows = await statements.district_wide().fetch(_DIFFERENCES, params)
    return DifferencesRead(items=[DifferenceRead(**row) for row in rows])


async def begin(
    session: AsyncSession, caller: Caller, *, body: StockTakeCreate, now: datetime
) -> StockTakeRead:
    """Begin to count an open depot; raises DepotClosed or StockTakeOpen."""
    depot = await depots.lock(session, caller, depot_id=body.depot_id)
    if depot is None:
        raise Invalid.at("/depot_id", "unknown_reference")
    if depot.status == DepotStatus.CLOSED:
        raise DepotClosed
    take = StockTake(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        depot_id=depot.id,
        status=StockTakeStatus.OPEN,
        opened_by=caller.subject,
        ended_at=None,
        ended_by=None,
        reason=None,
    )
    session.add(take)
    async with district_wide(session):
        await session.flush()
    return _shown(take)


async def count(
    session: AsyncSession,
    caller: Caller,
    *,
    take_id: UUID,
    gift_id: UUID,
    body: StockCountWrite,
    now: datetime,
) -> StockTakeRead:
    """Note how many of a gift were counted; until it is closed, a later count replaces it."""
    take = await _lock(session, caller, take_id=take_id)
    params = {"district_code": take.district_code, "id": take.id, "depot_id": take.depot_id}
    params |= {"gift_id": gift_id, "quantity": body.quantity}
    params |= {"subject": caller.subject, "now": now}
    if await session.scalar(_GIFT, params) is None:
        raise NotFound
    async with district_wide(session):
        await session.execute(_PROVIDE, params)
        await session.execute(_COUNT, params)
        take.change(now)
        await session.flush()
    return _shown(take)


async def close(
    session: AsyncSession,
    caller: Caller,
    *,
    take_id: UUID,
    expected: int,
    reason: str,
    now: datetime,
) -> StockTakeRead:
    """Confirm what others counted: the books are brought to it, with an entry of each difference.

    Raises CounterIsConfirmer, NothingCounted, or CountedBelowReserved, which changes nothing.
    """
    take = await _lock(session, caller, take_id=take_id)
    concurrency.require_version(take.version, expected)
    params: dict[str, Any] = {"district_code": take.district_code, "id": take.id}
    async with district_wide(session):
        counters = set(await session.scalars(_COUNTERS, params))
        if not counters:
            raise NothingCounted
        if caller.subject in counters | {take.opened_by}:
            raise CounterIsConfirmer
        params |= {"depot_id": take.depot_id, "posting_id": clock.new_id(), "reason": reason}
        params |= {"today": clock.civil_date(now), "now": now, "subject": caller.subject}
        _refuse_short([dict(row) for row in (await session.execute(_CLOSE, params)).mappings()])
        _end(take, caller, to=StockTakeStatus.CLOSED, reason=reason, now=now)
        await session.flush()
    return _shown(take)


def _refuse_short(short: list[dict[str, Any]]) -> None:
    if short:
        names = "、".join(f"{row['gift_name']} {row['counted']}/{row['reserved']}" for row in short)
        for row in short:
            row["gift_id"] = str(row["gift_id"])
        raise CountedBelowReserved(names=names, extra={"short": short})


async def cancel(
    session: AsyncSession,
    caller: Caller,
    *,
    take_id: UUID,
    expected: int,
    reason: str,
    now: datetime,
) -> StockTakeRead:
    """Give a stock-take up; the books stay as they are."""
    take = await _lock(session, caller, take_id=take_id)
    concurrency.require_version(take.version, expected)
    _end(take, caller, to=StockTakeStatus.CANCELLED, reason=reason, now=now)
    async with district_wide(session):
        await session.flush()
    return _shown(take)


def _end(
    take: StockTake, caller: Caller, *, to: StockTakeStatus, reason: str, now: datetime
) -> None:
    take.change(now, status=to, ended_at=now, ended_by=caller.subject, reason=reason)


async def _lock(session: AsyncSession, caller: Caller, *, take_id: UUID) -> StockTake:
    """Give an open stock-take within reach, held; raises NotFound or StockTakeEnded."""
    condition, params = depots.within(caller, "depots")
    async with district_wide(session):
        take = await session.scalar(
            select(StockTake)
            .join(
                Depot,
                (col(Depot.district_code) == col(StockTake.district_code))
                & (col(Depot.id) == col(StockTake.depot_id)),
            )
            .where(
                col(StockTake.district_code) == caller.district_code,
                col(StockTake.id) == take_id,
                text(condition).bindparams(**params),
            )
            .with_for_update(of=StockTake)
        )
    if take is None:
        raise NotFound
    if take.status != StockTakeStatus.OPEN:
        raise StockTakeEnded
    await show(session, take.depot_id)
    return take


def _shown(take: StockTake) -> StockTakeRead:
    return StockTakeRead(**take.model_dump(exclude={"district_code"}))
