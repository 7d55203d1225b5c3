"""`/v1/me/draw-tickets`: the calling member's chances, and whether one has won."""

from typing import Annotated

from fastapi import Query, Request, Response

from app import concurrency, paging
from app.crypto import Keys
from app.models.lucky_draws.draw_tickets import MyTicket, MyTicketFilters
from app.paging import Page
from app.rights import MayReadOwn
from app.services.lucky_draws import draw_tickets
from app.transactions import OneStatement

router = concurrency.router("/me/draw-tickets", "me")


@router.get("", summary="List my draw tickets", response_model=Page[MyTicket])
async def list_my_draw_tickets(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MyTicketFilters, Query()],
) -> Response:
    """List the member's tickets, the newest first; what she came to is not said."""
    page = await draw_tickets.list_mine(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)
