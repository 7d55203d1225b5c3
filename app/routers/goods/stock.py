"""`/v1/stock`: how many of which gift each depot has."""

from typing import Annotated

from fastapi import Query, Request, Response

from app import concurrency, paging
from app.crypto import Keys
from app.models.goods.stock_movements import StockFilters, StockRead
from app.paging import Page
from app.rights import MayReadGifts
from app.services.goods import stock
from app.transactions import OneStatement

router = concurrency.router("/stock", "depots")


@router.get("", summary="List stock", response_model=Page[StockRead])
async def list_stock(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadGifts,
    filters: Annotated[StockFilters, Query()],
) -> Response:
    """List what the depots within reach have, depot by depot."""
    page = await stock.list_stock(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)
