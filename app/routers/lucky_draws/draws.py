"""`/v1/draws`: lucky draws, from what is promised to what anyone can repeat."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.lucky_draws.draw_winners import DrawVerification
from app.models.lucky_draws.draws import (
    BeaconConfirmation,
    BeaconEntry,
    DrawCancellation,
    DrawCreate,
    DrawFilters,
    DrawRead,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayConfirmDraws, MayReadDraws, MayWriteDraws
from app.services.lucky_draws import draw_drafts, draw_winners, draws
from app.services.lucky_draws.draw_drafts import DrawReplaced
from app.services.lucky_draws.draw_winners import (
    BeaconCheckerIsMaker,
    BeaconMismatch,
    BeaconNotEntered,
)
from app.services.lucky_draws.draws import (
    DrawAlreadyOpen,
    DrawStateForbids,
    FewDrawTickets,
    TooEarlyForDraw,
    TooLateForDraw,
)
from app.transactions import OneStatement, Session

router = concurrency.router("/draws", "draws")
DrawId = Annotated[Id, Path(description="The draw's id.")]


@router.get("", summary="List draws", response_model=Page[DrawRead])
async def list_draws(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadDraws,
    filters: Annotated[DrawFilters, Query()],
) -> Response:
    """List the district's draws, the newest first."""
    page = await draws.list_draws(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Prepare a draw",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(DrawReplaced),
)
async def create_draw(
    session: Session, caller: MayWriteDraws, body: DrawCreate, now: Now, response: Response
) -> DrawRead:
    """Enter a draft; its terms never change: what is wrong in it is cancelled and entered anew."""
    draw = await draw_drafts.create(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/draws/{draw.id}"
    return draw


@router.get("/{draw_id}", summary="Get a draw")
async def get_draw(statements: OneStatement, caller: MayReadDraws, draw_id: DrawId) -> DrawRead:
    """Give one draw, and what has been published of it."""
    return await draws.find(statements, caller, draw_id=draw_id)


@router.get(
    "/{draw_id}/verification",
    summary="Get what a draw is verified by",
    responses=refusals(FewDrawTickets),
)
async def get_draw_verification(
    statements: OneStatement, caller: MayReadDraws, draw_id: DrawId
) -> DrawVerification:
    """Give all that is needed to repeat the draw, by tickets; `examples/` has two checkers."""
    return await draw_winners.verification(statements, caller, draw_id=draw_id)


@router.post(
    "/{draw_id}/commit",
    summary="Open a draw",
    responses=refusals(DrawStateForbids, TooLateForDraw, DrawAlreadyOpen),
)
async def commit_draw(
    session: Session,
    keyring: Keys,
    caller: MayWriteDraws,
    draw_id: DrawId,
    if_match: IfMatch,
    now: Now,
) -> DrawRead:
    """Fix the seed and publish its hash; from now on runs put their tickets in."""
    return await draws.commit(session, caller, keyring, draw_id=draw_id, expected=if_match, now=now)


@router.post(
    "/{draw_id}/close",
    summary="Freeze a draw's tickets",
    responses=refusals(DrawStateForbids, TooEarlyForDraw, TooLateForDraw),
)
async def close_draw(
    session: Session, caller: MayWriteDraws, draw_id: DrawId, if_match: IfMatch, now: Now
) -> DrawRead:
    """Freeze the tickets and publish their digest; the clock does so too, once they close."""
    return await draws.close(session, caller, draw_id=draw_id, expected=if_match, now=now)


@router.post(
    "/{draw_id}/beacon",
    summary="Enter a draw's beacon",
    responses=refusals(DrawStateForbids, TooEarlyForDraw),
)
async def enter_draw_beacon(
    session: Session,
    caller: MayWriteDraws,
    draw_id: DrawId,
    body: BeaconEntry,
    if_match: IfMatch,
    now: Now,
) -> DrawRead:
    """Enter the public value that was named beforehand; another person confirms it."""
    return await draws.enter_beacon(
        session, caller, draw_id=draw_id, body=body, expected=if_match, now=now
    )


@router.post(
    "/{draw_id}/draw",
    summary="Draw",
    responses=refusals(DrawStateForbids, BeaconNotEntered, BeaconMismatch, BeaconCheckerIsMaker),
)
async def draw_draw(
    session: Session,
    keyring: Keys,
    caller: MayConfirmDraws,
    draw_id: DrawId,
    body: BeaconConfirmation,
    if_match: IfMatch,
    now: Now,
) -> DrawRead:
    """Confirm the beacon, reveal the seed and rank the tickets."""
    return await draw_winners.draw(
        session,
        caller,
        keyring,
        draw_id=draw_id,
        beacon_value=body.beacon_value,
        expected=if_match,
        now=now,
    )


@router.post("/{draw_id}/cancel", summary="Give a draw up", responses=refusals(DrawStateForbids))
async def cancel_draw(
    session: Session,
    keyring: Keys,
    caller: MayWriteDraws,
    draw_id: DrawId,
    body: DrawCancellation,
    if_match: IfMatch,
    now: Now,
) -> DrawRead:
    """Give a draw up before it is drawn; its seed is revealed, another may take its tickets."""
    return await draws.cancel(
        session,
        caller,
        keyring,
        draw_id=draw_id,
        reason=body.reason,
        expected=if_match,
        now=now,
    )
