"""`/v1/associations/{association_id}/officers`: who holds which office, and until when."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.organisation.officers import (
    OfficerCreate,
    OfficerFilters,
    OfficerRead,
    OfficerUpdate,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadAssociations, MayWriteAssociations
from app.services.organisation import officers
from app.services.organisation.associations import AssociationDissolved
from app.services.organisation.officers import TermsOverlap
from app.transactions import OneStatement, Session

router = concurrency.router("/associations/{association_id}/officers", "associations")
AssociationId = Annotated[Id, Path(description="The association.")]
OfficerId = Annotated[Id, Path(description="The term of office.")]


@router.get("", summary="List an association's officers", response_model=Page[OfficerRead])
async def list_officers(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAssociations,
    association_id: AssociationId,
    filters: Annotated[OfficerFilters, Query()],
) -> Response:
    """List an association's officers, all or those in office on a day."""
    page = await officers.list_officers(
        statements, caller, keyring, association_id=association_id, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "",
    summary="Appoint an officer",
    status_code=201,
    responses=refusals(AssociationDissolved, TermsOverlap),
)
async def create_officer(
    session: Session,
    caller: MayWriteAssociations,
    association_id: AssociationId,
    body: OfficerCreate,
    now: Now,
    response: Response,
) -> OfficerRead:
    """Enter a term of office; terms of president or secretary-general never overlap."""
    officer = await officers.appoint(
        session, caller, association_id=association_id, body=body, now=now
    )
    response.headers["Location"] = f"/v1/associations/{association_id}/officers/{officer.id}"
    return officer


@router.get("/{officer_id}", summary="Get an officer")
async def get_officer(
    statements: OneStatement,
    caller: MayReadAssociations,
    association_id: AssociationId,
    officer_id: OfficerId,
) -> OfficerRead:
    """Give one term of office by its id."""
    return await officers.find(
        statements, caller, association_id=association_id, officer_id=officer_id
    )


@router.patch(
    "/{officer_id}",
    summary="Edit an officer",
    responses=refusals(AssociationDissolved, TermsOverlap),
)
async def update_officer(
    session: Session,
    caller: MayWriteAssociations,
    association_id: AssociationId,
    officer_id: OfficerId,
    body: OfficerUpdate,
    if_match: IfMatch,
    now: Now,
) -> OfficerRead:
    """Change what is sent; a null end leaves the term open."""
    return await officers.edit(
        session,
        caller,
        association_id=association_id,
        officer_id=officer_id,
        body=body,
        expected_version=if_match,
        now=now,
    )
