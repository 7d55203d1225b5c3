"""`/v1/exam-rounds`: the numbered periods in which a member may attend a health check."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.events.exam_rounds import RoundCreate, RoundFilters, RoundRead, RoundUpdate
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadRounds, MayWriteRounds
from app.services.events import exam_rounds
from app.services.events.exam_rounds import (
    EventsOutsideRound,
    EventsToCome,
    RoundClosed,
    RoundNotBegun,
    RoundNumberTaken,
    RoundsOutOfOrder,
    RoundsOverlap,
)
from app.transactions import OneStatement, Session

router = concurrency.router("/exam-rounds", "exam-rounds")
RoundId = Annotated[Id, Path(description="The round's id.")]


@router.get("", summary="List exam rounds", response_model=Page[RoundRead])
async def list_exam_rounds(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadRounds,
    filters: Annotated[RoundFilters, Query()],
    now: Now,
) -> Response:
    """List the rounds of the district, the latest first."""
    page = await exam_rounds.list_rounds(statements, caller, keyring, filters=filters, now=now)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Open an exam round",
    responses=refusals(RoundsOverlap, RoundsOutOfOrder, RoundNumberTaken),
)
async def create_exam_round(
    session: Session, caller: MayWriteRounds, body: RoundCreate, now: Now, response: Response
) -> RoundRead:
    """Open a round of the district; rounds do not overlap and are numbered in order of date."""
    created = await exam_rounds.create(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/exam-rounds/{created.id}"
    return created


@router.get("/{round_id}", summary="Get an exam round")
async def get_exam_round(
    statements: OneStatement, caller: MayReadRounds, round_id: RoundId, now: Now
) -> RoundRead:
    """Give one round as it stands now."""
    return await exam_rounds.find(statements, caller, round_id=round_id, now=now)


@router.patch(
    "/{round_id}",
    summary="Change an exam round",
    responses=refusals(RoundClosed, RoundsOverlap, RoundsOutOfOrder, EventsOutsideRound),
)
async def update_exam_round(
    session: Session,
    caller: MayWriteRounds,
    round_id: RoundId,
    body: RoundUpdate,
    if_match: IfMatch,
    now: Now,
) -> RoundRead:
    """Change name or dates of an open round."""
    return await exam_rounds.update(
        session, caller, round_id=round_id, version=if_match, body=body, now=now
    )


@router.post(
    "/{round_id}/close",
    summary="Close an exam round",
    responses=refusals(RoundClosed, RoundNotBegun, EventsToCome),
)
async def close_exam_round(
    session: Session, caller: MayWriteRounds, round_id: RoundId, if_match: IfMatch, now: Now
) -> RoundRead:
    """Close a round and excuse every town in which no health check was held.

    It may be closed from its first day on, once no published check of it is still to come.
    """
    return await exam_rounds.close(session, caller, round_id=round_id, version=if_match, now=now)
