"""`/v1/me/corrections`: what a member says is wrong about her, and what she is answered."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.membership.corrections import (
    CorrectionCreate,
    MyCorrectionFilters,
    MyCorrectionItem,
    MyCorrectionRead,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import NotFound, refusals
from app.rights import MayReadOwn, MayWriteOwn
from app.services.membership import my_corrections
from app.services.membership.members import MemberErased
from app.services.membership.my_corrections import CorrectionAlreadyOpen, CorrectionClosed
from app.transactions import OneStatement, Session

router = concurrency.router("/me/corrections", "me")
CorrectionId = Annotated[Id, Path(description="The correction's id.")]


@router.get("", summary="List my corrections", response_model=Page[MyCorrectionItem])
async def list_my_corrections(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MyCorrectionFilters, Query()],
    now: Now,
) -> Response:
    """List what the member said is wrong, the newest first."""
    page = await my_corrections.list_corrections(
        statements, caller, keyring, filters=filters, now=now
    )
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Ask for a correction",
    responses=refusals(NotFound, MemberErased, CorrectionAlreadyOpen),
)
async def create_my_correction(
    session: Session,
    keyring: Keys,
    caller: MayWriteOwn,
    body: CorrectionCreate,
    now: Now,
    response: Response,
) -> MyCorrectionItem:
    """Say which of my data is wrong; it is answered by `due_on` (PIPL, art. 46)."""
    item = await my_corrections.submit(session, caller, keyring, body=body, now=now)
    response.headers["Location"] = f"/v1/me/corrections/{item.id}"
    return item


@router.get("/{correction_id}", summary="Get my correction")
async def get_my_correction(
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    correction_id: CorrectionId,
    now: Now,
) -> MyCorrectionRead:
    """Give one correction, with what I wrote and what I was answered."""
    return await my_corrections.find(
        statements, caller, keyring, correction_id=correction_id, now=now
    )


@router.post(
    "/{correction_id}/withdraw",
    summary="Withdraw my correction",
    responses=refusals(CorrectionClosed),
)
async def withdraw_my_correction(
    session: Session,
    caller: MayWriteOwn,
    correction_id: CorrectionId,
    if_match: IfMatch,
    now: Now,
) -> MyCorrectionItem:
    """Take it back while it waits; what I wrote is erased."""
    return await my_corrections.withdraw(
        session, caller, correction_id=correction_id, version=if_match, now=now
    )
