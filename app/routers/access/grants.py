"""`/v1/grants`: who holds which role, how far, from when until when."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.access.grants import GrantCreate, GrantFilters, GrantRead, Revocation
from app.models.shapes import Id
from app.paging import Page
from app.problems import InsufficientAuthentication, refusals
from app.rights import MayReadGrants, MayWriteGrants
from app.services.access import grants
from app.services.access.grant_extents import RoleNotBelow
from app.services.access.grant_history import GrantLinked, GrantsBeyondYours, LoginStands
from app.services.access.grants import GrantRevoked, GrantToOneself
from app.transactions import OneStatement, Session

router = concurrency.router("/grants", "grants")
GrantId = Annotated[Id, Path(description="The grant's id.")]


@router.get("", summary="List grants", response_model=Page[GrantRead])
async def list_grants(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadGrants,
    filters: Annotated[GrantFilters, Query()],
    now: Now,
) -> Response:
    """List the grants whose reach lies within yours, those of the past too."""
    page = await grants.list_grants(statements, caller, keyring, filters=filters, now=now)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Grant a role",
    dependencies=[NeedsIdempotencyKey],
    responses={
        200: {"description": "It was given before, and is in force.", "model": GrantRead},
        **refusals(
            InsufficientAuthentication, GrantToOneself, RoleNotBelow, GrantsBeyondYours, LoginStands
        ),
    },
)
async def create_grant(
    session: Session, caller: MayWriteGrants, body: GrantCreate, now: Now, response: Response
) -> GrantRead:
    """Give somebody else a role below yours, with a reach within yours, for a time or for good.

    It bears on all that she holds in the district, so you must be able to take all of it back; who
    only staffs events may be given more of them. Of several grants she names one in `Jixie-Grant`.
    """
    grant, is_new = await grants.give(session, caller, body=body, now=now)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/grants/{grant.id}"
    return grant


@router.get("/{grant_id}", summary="Get a grant")
async def get_grant(
    statements: OneStatement, caller: MayReadGrants, grant_id: GrantId
) -> GrantRead:
    """Give one grant."""
    return await grants.find(statements, caller, grant_id=grant_id)


@router.post(
    "/{grant_id}/revoke",
    summary="Revoke a grant",
    responses=refusals(
        InsufficientAuthentication, RoleNotBelow, GrantToOneself, GrantLinked, GrantRevoked
    ),
)
async def revoke_grant(
    session: Session,
    caller: MayWriteGrants,
    grant_id: GrantId,
    body: Revocation,
    if_match: IfMatch,
    now: Now,
) -> GrantRead:
    """Take a grant back; within 5 seconds no call is served under it any more."""
    return await grants.revoke(
        session, caller, grant_id=grant_id, reason=body.reason, expected_version=if_match, now=now
    )
