"""`/v1/gifts`: the catalogue, every movement of its pieces, and what a round will need."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.goods.gifts import GiftCreate, GiftFilters, GiftRead, GiftUpdate
from app.models.goods.stock_movements import MovementCreate, MovementFilters, MovementRead
from app.models.incentives.gift_forecasts import ForecastQuery, GiftForecastsRead
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayMoveStock, MayReadForecasts, MayReadGifts, MayWriteGifts
from app.services.goods import gifts, stock_movements
from app.services.goods.depots import DepotClosed
from app.services.goods.gifts import GiftCodeTaken
from app.services.goods.stock_movements import StockDocumentEntered, StockShort
from app.services.incentives import gift_forecasts
from app.transactions import OneStatement, Session

router = concurrency.router("/gifts", "gifts")
GiftId = Annotated[Id, Path(description="The article's id.")]


@router.get("", summary="List gifts", response_model=Page[GiftRead])
async def list_gifts(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadGifts,
    filters: Annotated[GiftFilters, Query()],
) -> Response:
    """List the district's catalogue."""
    page = await gifts.list_gifts(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "", status_code=201, summary="Add a gift to the catalogue", responses=refusals(GiftCodeTaken)
)
async def create_gift(
    session: Session, caller: MayWriteGifts, body: GiftCreate, now: Now, response: Response
) -> GiftRead:
    """Add an article, which rules may then give."""
    gift = await gifts.create(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/gifts/{gift.id}"
    return gift


@router.get("/forecast", summary="Forecast the gifts of a round")
async def get_gift_forecast(
    statements: OneStatement,
    caller: MayReadForecasts,
    query: Annotated[ForecastQuery, Query()],
) -> GiftForecastsRead:
    """Give how many of each gift each town needs at most, beside what its depots have."""
    return await gift_forecasts.forecast(statements, caller, round_id=query.exam_round_id)


@router.get("/{gift_id}", summary="Get a gift")
async def get_gift(statements: OneStatement, caller: MayReadGifts, gift_id: GiftId) -> GiftRead:
    """Give one article of the catalogue."""
    return await gifts.find(statements, caller, gift_id=gift_id)


@router.patch("/{gift_id}", summary="Edit a gift")
async def update_gift(
    session: Session,
    caller: MayWriteGifts,
    gift_id: GiftId,
    body: GiftUpdate,
    if_match: IfMatch,
    now: Now,
) -> GiftRead:
    """Change an article's words, or retire it; its code stays what rules name."""
    return await gifts.update(
        session, caller, gift_id=gift_id, body=body, expected=if_match, now=now
    )


@router.get(
    "/{gift_id}/stock-movements",
    summary="List a gift's movements",
    response_model=Page[MovementRead],
)
async def list_stock_movements(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadGifts,
    gift_id: GiftId,
    filters: Annotated[MovementFilters, Query()],
) -> Response:
    """List every movement in the depots within reach, the oldest first; none is ever changed."""
    page = await stock_movements.list_movements(
        statements, caller, keyring, gift_id=gift_id, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "/{gift_id}/stock-movements",
    status_code=201,
    summary="Move a gift's stock",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(DepotClosed, StockShort, StockDocumentEntered),
)
async def create_stock_movement(
    session: Session, caller: MayMoveStock, gift_id: GiftId, body: MovementCreate, now: Now
) -> MovementRead:
    """Enter pieces that came to a depot, went to another, or were lost."""
    return await stock_movements.enter(session, caller, gift_id=gift_id, body=body, now=now)
