"""`/v1/associations/{association_id}/regulations`: charters and rules, in numbered editions."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.organisation.regulations import (
    RegulationCreate,
    RegulationFilters,
    RegulationLine,
    RegulationRead,
    RegulationUpdate,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadAssociations, MayWriteAssociations
from app.services.organisation import regulations
from app.services.organisation.associations import AssociationDissolved
from app.services.organisation.regulations import RegulationInForce
from app.transactions import OneStatement, Session

router = concurrency.router("/associations/{association_id}/regulations", "associations")
AssociationId = Annotated[Id, Path(description="The association.")]
RegulationId = Annotated[Id, Path(description="The edition.")]


@router.get("", summary="List an association's regulations", response_model=Page[RegulationLine])
async def list_regulations(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAssociations,
    association_id: AssociationId,
    filters: Annotated[RegulationFilters, Query()],
) -> Response:
    """List the editions of an association's texts, without the texts."""
    page = await regulations.list_regulations(
        statements, caller, keyring, association_id=association_id, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "",
    summary="Enter the next edition of a regulation",
    status_code=201,
    responses=refusals(AssociationDissolved),
)
async def create_regulation(
    session: Session,
    caller: MayWriteAssociations,
    association_id: AssociationId,
    body: RegulationCreate,
    now: Now,
    response: Response,
) -> RegulationRead:
    """Enter the next edition of a charter or rule; its number follows the last one's."""
    regulation = await regulations.enter(
        session, caller, association_id=association_id, body=body, now=now
    )
    response.headers["Location"] = f"/v1/associations/{association_id}/regulations/{regulation.id}"
    return regulation


@router.get("/{regulation_id}", summary="Get a regulation")
async def get_regulation(
    statements: OneStatement,
    caller: MayReadAssociations,
    association_id: AssociationId,
    regulation_id: RegulationId,
) -> RegulationRead:
    """Give one edition with its text."""
    return await regulations.find(
        statements, caller, association_id=association_id, regulation_id=regulation_id
    )


@router.patch(
    "/{regulation_id}",
    summary="Edit a regulation",
    responses=refusals(AssociationDissolved, RegulationInForce),
)
async def update_regulation(
    session: Session,
    caller: MayWriteAssociations,
    association_id: AssociationId,
    regulation_id: RegulationId,
    body: RegulationUpdate,
    if_match: IfMatch,
    now: Now,
) -> RegulationRead:
    """Change an edition; what is adopted or published stays, a change is a new edition."""
    return await regulations.edit(
        session,
        caller,
        association_id=association_id,
        regulation_id=regulation_id,
        body=body,
        expected_version=if_match,
        now=now,
    )
