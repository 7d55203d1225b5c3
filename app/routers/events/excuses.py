"""`/v1/exam-rounds/{id}/excuses`: rounds that neither count nor break a streak."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.crypto import Keys
from app.models.events.excuses import ExcuseCreate, ExcuseFilters, ExcuseRead
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadEligibility, MayWriteRounds
from app.services.events import excuses
from app.services.events.excuses import AlreadyExcused, RoundFinal
from app.transactions import OneStatement, Session

router = concurrency.router("/exam-rounds/{round_id}/excuses", "exam-rounds")
RoundId = Annotated[Id, Path(description="The round's id.")]


@router.get("", summary="List a round's excuses", response_model=Page[ExcuseRead])
async def list_excuses(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadEligibility,
    round_id: RoundId,
    filters: Annotated[ExcuseFilters, Query()],
    now: Now,
) -> Response:
    """List the excuses within reach; a member sees none but her own."""
    page = await excuses.list_excuses(
        statements, caller, keyring, round_id=round_id, filters=filters, now=now
    )
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Excuse a member or an area",
    responses={
        200: {"description": "The same excuse was there before.", "model": ExcuseRead},
        **refusals(AlreadyExcused, RoundFinal),
    },
)
async def create_excuse(
    session: Session,
    caller: MayWriteRounds,
    round_id: RoundId,
    body: ExcuseCreate,
    now: Now,
    response: Response,
) -> ExcuseRead:
    """Excuse one member, or all members of an area; repeating it changes nothing."""
    excuse, is_new = await excuses.excuse(session, caller, round_id=round_id, body=body, now=now)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/exam-rounds/{round_id}/excuses/{excuse.id}"
    return excuse


@router.get("/{excuse_id}", summary="Get an excuse")
async def get_excuse(
    statements: OneStatement, caller: MayReadEligibility, round_id: RoundId, excuse_id: Id
) -> ExcuseRead:
    """Give one excuse."""
    return await excuses.find(statements, caller, round_id=round_id, excuse_id=excuse_id)


@router.delete(
    "/{excuse_id}",
    status_code=204,
    summary="Take an excuse back",
    responses=refusals(RoundFinal),
)
async def delete_excuse(
    session: Session, caller: MayWriteRounds, round_id: RoundId, excuse_id: Id, now: Now
) -> None:
    """Take an excuse back while the round is not final, so that the round counts again."""
    await excuses.withdraw(session, caller, round_id=round_id, excuse_id=excuse_id, now=now)
