"""`/v1/stock-takes`: depots counted by some, confirmed by another."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.goods.stock_takes import (
    DifferencesRead,
    StockCountWrite,
    StockTakeCreate,
    StockTakeEnd,
    StockTakeFilters,
    StockTakeRead,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayConfirmStock, MayMoveStock, MayReadGifts
from app.services.goods import stock_takes
from app.services.goods.depots import DepotClosed
from app.services.goods.stock_takes import (
    CountedBelowReserved,
    CounterIsConfirmer,
    NothingCounted,
    StockTakeEnded,
    StockTakeOpen,
)
from app.transactions import OneStatement, Session

router = concurrency.router("/stock-takes", "stock-takes")
TakeId = Annotated[Id, Path(description="The stock-take's id.")]


@router.get("", summary="List stock-takes", response_model=Page[StockTakeRead])
async def list_stock_takes(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadGifts,
    filters: Annotated[StockTakeFilters, Query()],
) -> Response:
    """List the stock-takes of the depots within reach, the newest first."""
    page = await stock_takes.list_takes(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Begin a stock-take",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(DepotClosed, StockTakeOpen),
)
async def create_stock_take(
    session: Session, caller: MayMoveStock, body: StockTakeCreate, now: Now, response: Response
) -> StockTakeRead:
    """Begin to count a depot; hand-outs go on meanwhile."""
    take = await stock_takes.begin(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/stock-takes/{take.id}"
    return take


@router.get("/{take_id}", summary="Get a stock-take")
async def get_stock_take(
    statements: OneStatement, caller: MayReadGifts, take_id: TakeId
) -> StockTakeRead:
    """Give one stock-take."""
    return await stock_takes.find(statements, caller, take_id=take_id)


@router.put(
    "/{take_id}/counts/{gift_id}", summary="Enter a count", responses=refusals(StockTakeEnded)
)
async def put_stock_count(
    session: Session,
    caller: MayMoveStock,
    take_id: TakeId,
    gift_id: Annotated[Id, Path(description="The article's id.")],
    body: StockCountWrite,
    now: Now,
) -> StockTakeRead:
    """Enter how many lie there, those reserved among them; a later count replaces it."""
    return await stock_takes.count(
        session, caller, take_id=take_id, gift_id=gift_id, body=body, now=now
    )


@router.get("/{take_id}/differences", summary="Report a stock-take's differences")
async def list_stock_differences(
    statements: OneStatement, caller: MayReadGifts, take_id: TakeId
) -> DifferencesRead:
    """Give what was counted beside the books: as they are now, or as they were at its close."""
    return await stock_takes.differences(statements, caller, take_id=take_id)


@router.post(
    "/{take_id}/close",
    summary="Confirm a stock-take",
    responses=refusals(StockTakeEnded, CounterIsConfirmer, NothingCounted, CountedBelowReserved),
)
async def close_stock_take(
    session: Session,
    caller: MayConfirmStock,
    take_id: TakeId,
    body: StockTakeEnd,
    if_match: IfMatch,
    now: Now,
) -> StockTakeRead:
    """Bring the books to what others counted, with an entry of each difference."""
    return await stock_takes.close(
        session, caller, take_id=take_id, expected=if_match, reason=body.reason, now=now
    )


@router.post(
    "/{take_id}/cancel", summary="Give up a stock-take", responses=refusals(StockTakeEnded)
)
async def cancel_stock_take(
    session: Session,
    caller: MayMoveStock,
    take_id: TakeId,
    body: StockTakeEnd,
    if_match: IfMatch,
    now: Now,
) -> StockTakeRead:
    """Give the count up; the books stay as they are."""
    return await stock_takes.cancel(
        session, caller, take_id=take_id, expected=if_match, reason=body.reason, now=now
    )
