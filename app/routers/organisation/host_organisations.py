"""`/v1/host-organisations`: where migrants work, trade or live."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.organisation.host_organisations import (
    HostOrganisationCreate,
    HostOrganisationFilters,
    HostOrganisationRead,
    HostOrganisationUpdate,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayGovernAssociations, MayReadAssociations
from app.services.organisation import host_organisations
from app.services.organisation.host_organisations import HostInUse, UsccTaken
from app.transactions import OneStatement, Session

router = concurrency.router("/host-organisations", "host-organisations")
HostId = Annotated[Id, Path(description="The host organisation.")]


@router.get("", summary="List host organisations", response_model=Page[HostOrganisationRead])
async def list_host_organisations(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAssociations,
    filters: Annotated[HostOrganisationFilters, Query()],
) -> Response:
    """List host organisations, all or by kind, area, park, USCC or the name's beginning."""
    page = await host_organisations.list_host_organisations(
        statements, caller, keyring, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "", summary="Enter a host organisation", status_code=201, responses=refusals(UsccTaken)
)
async def create_host_organisation(
    session: Session,
    caller: MayGovernAssociations,
    body: HostOrganisationCreate,
    now: Now,
    response: Response,
) -> HostOrganisationRead:
    """Enter a host organisation; its USCC, area and park are verified."""
    host = await host_organisations.enter(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/host-organisations/{host.id}"
    return host


@router.get("/{host_id}", summary="Get a host organisation")
async def get_host_organisation(
    statements: OneStatement, caller: MayReadAssociations, host_id: HostId
) -> HostOrganisationRead:
    """Give one host organisation by its id."""
    return await host_organisations.find(statements, caller, host_id=host_id)


@router.patch(
    "/{host_id}", summary="Edit a host organisation", responses=refusals(UsccTaken, HostInUse)
)
async def update_host_organisation(
    session: Session,
    caller: MayGovernAssociations,
    host_id: HostId,
    body: HostOrganisationUpdate,
    if_match: IfMatch,
    now: Now,
) -> HostOrganisationRead:
    """Change what is sent, clear what is null; kind and area stay while they are needed."""
    return await host_organisations.edit(
        session, caller, host_id=host_id, body=body, expected_version=if_match, now=now
    )
