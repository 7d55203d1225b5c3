"""`/v1/depots`: where gifts lie, for which associations."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.goods.depots import DepotCreate, DepotFilters, DepotRead, DepotUpdate
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayMoveStock, MayReadGifts
from app.services.goods import depots
from app.services.goods.depots import DepotClosed, DepotNotEmpty, DepotScopeTaken
from app.transactions import OneStatement, Session

router = concurrency.router("/depots", "depots")
DepotId = Annotated[Id, Path(description="The depot's id.")]


@router.get("", summary="List depots", response_model=Page[DepotRead])
async def list_depots(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadGifts,
    filters: Annotated[DepotFilters, Query()],
) -> Response:
    """List the depots within reach."""
    page = await depots.list_depots(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post("", status_code=201, summary="Keep a new depot", responses=refusals(DepotScopeTaken))
async def create_depot(
    session: Session, caller: MayMoveStock, body: DepotCreate, now: Now, response: Response
) -> DepotRead:
    """Keep a depot for an area or an association, empty at first."""
    depot = await depots.create(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/depots/{depot.id}"
    return depot


@router.get("/{depot_id}", summary="Get a depot")
async def get_depot(statements: OneStatement, caller: MayReadGifts, depot_id: DepotId) -> DepotRead:
    """Give one depot."""
    return await depots.find(statements, caller, depot_id=depot_id)


@router.patch("/{depot_id}", summary="Rename a depot")
async def update_depot(
    session: Session,
    caller: MayMoveStock,
    depot_id: DepotId,
    body: DepotUpdate,
    if_match: IfMatch,
    now: Now,
) -> DepotRead:
    """Give a depot another name; its scope stays what runs took gifts by."""
    return await depots.update(
        session, caller, depot_id=depot_id, body=body, expected=if_match, now=now
    )


@router.post(
    "/{depot_id}/close", summary="Close a depot", responses=refusals(DepotClosed, DepotNotEmpty)
)
async def close_depot(
    session: Session, caller: MayMoveStock, depot_id: DepotId, if_match: IfMatch, now: Now
) -> DepotRead:
    """Close an empty depot for good."""
    return await depots.close(session, caller, depot_id=depot_id, expected=if_match, now=now)
