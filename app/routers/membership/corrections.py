"""`/v1/corrections`: what members say is wrong about them, answered by their office."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.answers import Configured
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.membership.corrections import (
    CorrectionAnswer,
    CorrectionFilters,
    CorrectionItem,
    CorrectionRead,
    CorrectionRefusal,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayAnswerCorrections, MayReadCorrections
from app.services.membership import corrections
from app.services.membership.members import EmployeeNumberTaken
from app.services.membership.my_corrections import CorrectionClosed
from app.services.privacy import enrolled_elsewhere
from app.services.privacy.enrolled_elsewhere import TooManyElsewhere
from app.services.privacy.person_storage import AlreadyEnrolled
from app.transactions import OneStatement, Session

router = concurrency.router("/corrections", "corrections")
CorrectionId = Annotated[Id, Path(description="The correction's id.")]


@router.get("", summary="List corrections", response_model=Page[CorrectionItem])
async def list_corrections(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadCorrections,
    filters: Annotated[CorrectionFilters, Query()],
    now: Now,
) -> Response:
    """List the corrections of members within reach, the soonest due first."""
    page = await corrections.list_corrections(statements, caller, keyring, filters=filters, now=now)
    return paging.answer(request, page)


@router.get("/{correction_id}", summary="Get a correction")
async def get_correction(
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadCorrections,
    correction_id: CorrectionId,
    now: Now,
) -> CorrectionRead:
    """Give one correction, with what the member wrote and what she was answered."""
    return await corrections.find(statements, caller, keyring, correction_id=correction_id, now=now)


@router.post(
    "/{correction_id}/accept",
    summary="Accept a correction",
    responses=refusals(CorrectionClosed, AlreadyEnrolled, TooManyElsewhere, EmployeeNumberTaken),
)
async def accept_correction(
    session: Session,
    statements: OneStatement,
    keyring: Keys,
    settings: Configured,
    caller: MayAnswerCorrections,
    correction_id: CorrectionId,
    body: CorrectionAnswer,
    if_match: IfMatch,
    now: Now,
) -> CorrectionItem:
    """Put a name, employee number or ID number right; of all else say what was changed."""
    told = enrolled_elsewhere.allowance(
        statements, caller, keyring, most=settings.enrolled_elsewhere_daily_limit, now=now
    )
    return await corrections.accept(
        session,
        caller,
        keyring,
        correction_id=correction_id,
        version=if_match,
        body=body,
        told=told,
        now=now,
    )


@router.post(
    "/{correction_id}/refuse",
    summary="Refuse a correction",
    responses=refusals(CorrectionClosed),
)
async def refuse_correction(
    session: Session,
    keyring: Keys,
    caller: MayAnswerCorrections,
    correction_id: CorrectionId,
    body: CorrectionRefusal,
    if_match: IfMatch,
    now: Now,
) -> CorrectionItem:
    """Say why what is stored stays as it is; the member reads it."""
    return await corrections.refuse(
        session, caller, keyring, correction_id=correction_id, version=if_match, body=body, now=now
    )
