"""`/v1/associations/{association_id}/facilities`: rooms and means for the members."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.organisation.facilities import (
    FacilityCreate,
    FacilityFilters,
    FacilityRead,
    FacilityUpdate,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadAssociations, MayWriteAssociations
from app.services.organisation import facilities
from app.services.organisation.associations import AssociationDissolved
from app.transactions import OneStatement, Session

router = concurrency.router("/associations/{association_id}/facilities", "associations")
AssociationId = Annotated[Id, Path(description="The association.")]
FacilityId = Annotated[Id, Path(description="The facility.")]


@router.get("", summary="List an association's facilities", response_model=Page[FacilityRead])
async def list_facilities(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAssociations,
    association_id: AssociationId,
    filters: Annotated[FacilityFilters, Query()],
) -> Response:
    """List an association's facilities, all or those open on a day."""
    page = await facilities.list_facilities(
        statements, caller, keyring, association_id=association_id, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "",
    summary="Enter a facility",
    status_code=201,
    responses=refusals(AssociationDissolved),
)
async def create_facility(
    session: Session,
    caller: MayWriteAssociations,
    association_id: AssociationId,
    body: FacilityCreate,
    now: Now,
    response: Response,
) -> FacilityRead:
    """Enter a room or means that the association keeps for its members."""
    facility = await facilities.enter(
        session, caller, association_id=association_id, body=body, now=now
    )
    response.headers["Location"] = f"/v1/associations/{association_id}/facilities/{facility.id}"
    return facility


@router.get("/{facility_id}", summary="Get a facility")
async def get_facility(
    statements: OneStatement,
    caller: MayReadAssociations,
    association_id: AssociationId,
    facility_id: FacilityId,
) -> FacilityRead:
    """Give one facility by its id."""
    return await facilities.find(
        statements, caller, association_id=association_id, facility_id=facility_id
    )


@router.patch(
    "/{facility_id}",
    summary="Edit a facility",
    responses=refusals(AssociationDissolved),
)
async def update_facility(
    session: Session,
    caller: MayWriteAssociations,
    association_id: AssociationId,
    facility_id: FacilityId,
    body: FacilityUpdate,
    if_match: IfMatch,
    now: Now,
) -> FacilityRead:
    """Change what is sent; a closing date closes it, null opens it again."""
    return await facilities.edit(
        session,
        caller,
        association_id=association_id,
        facility_id=facility_id,
        body=body,
        expected_version=if_match,
        now=now,
    )
