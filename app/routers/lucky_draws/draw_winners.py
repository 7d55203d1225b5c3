"""`/v1/draws/{draw_id}/winners`: whose tickets have won, and what became of the prizes."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import NeedsIdempotencyKey
from app.crypto import Keys
from app.models.lucky_draws.draw_winners import Decline, HandOut, WinnerFilters, WinnerRead
from app.models.shapes import Id
from app.paging import DIGITS, Page
from app.problems import refusals
from app.rights import MayDisbursePayouts, MayReadPayouts
from app.services.lucky_draws import draw_winners
from app.services.lucky_draws.draw_winners import ClaimStillOpen, TicketMismatch, WinnerStateForbids
from app.transactions import OneStatement, Session

router = concurrency.router("/draws/{draw_id}/winners", "draws")
DrawId = Annotated[Id, Path(description="The draw's id.")]
Rank = Annotated[int, Path(description="The place in the ranking.", ge=1, lt=2**31), DIGITS]


@router.get("", summary="List a draw's winners", response_model=Page[WinnerRead])
async def list_draw_winners(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    draw_id: DrawId,
    filters: Annotated[WinnerFilters, Query()],
) -> Response:
    """List winners and reserves, the best first, and whose their tickets are."""
    page = await draw_winners.list_winners(
        statements, caller, keyring, draw_id=draw_id, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "/{rank}/hand-out",
    summary="Hand a prize out",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(WinnerStateForbids, TicketMismatch),
)
async def hand_out_draw_prize(
    session: Session,
    caller: MayDisbursePayouts,
    draw_id: DrawId,
    rank: Rank,
    body: HandOut,
    now: Now,
) -> WinnerRead:
    """Note that the winner, who shows her ticket, has her prize."""
    return await draw_winners.hand_out(
        session, caller, draw_id=draw_id, rank=rank, ticket=body.ticket, now=now
    )


@router.post(
    "/{rank}/decline",
    summary="Note that a winner gives her prize up",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(WinnerStateForbids),
)
async def decline_draw_prize(
    session: Session,
    caller: MayDisbursePayouts,
    draw_id: DrawId,
    rank: Rank,
    body: Decline,
    now: Now,
) -> WinnerRead:
    """Note that the winner does not want the prize; the next reserve moves up."""
    return await draw_winners.decline(
        session, caller, draw_id=draw_id, rank=rank, reason=body.reason, now=now
    )


@router.post(
    "/{rank}/lapse",
    summary="Let an unclaimed prize go on",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(WinnerStateForbids, ClaimStillOpen),
)
async def lapse_draw_prize(
    session: Session, caller: MayDisbursePayouts, draw_id: DrawId, rank: Rank, now: Now
) -> WinnerRead:
    """Note that the winner has not come in time; the next reserve moves up, as by the clock."""
    return await draw_winners.lapse(session, caller, draw_id=draw_id, rank=rank, now=now)
