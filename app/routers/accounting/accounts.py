"""`/v1/associations/{association_id}/accounts`: what its members received, published by month."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import NeedsIdempotencyKey
from app.crypto import Keys
from app.models.accounting.accounts import AccountsFilters, AccountsPublish, AccountsRead
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadAssociations, MayWriteFunds
from app.services.accounting import accounts
from app.services.accounting.accounts import MonthNotClosed
from app.transactions import OneStatement, Session

router = concurrency.router("/associations/{association_id}/accounts", "associations")
AssociationId = Annotated[Id, Path(description="The association's id.")]


@router.get(
    "", summary="List an association's published accounts", response_model=Page[AccountsRead]
)
async def list_accounts(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAssociations,
    association_id: AssociationId,
    filters: Annotated[AccountsFilters, Query()],
) -> Response:
    """List what the members received, month by month; figures of fewer than ten are withheld."""
    page = await accounts.list_accounts(
        statements, caller, keyring, association_id=association_id, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Publish an association's accounts",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(MonthNotClosed),
)
async def publish_accounts(
    session: Session,
    caller: MayWriteFunds,
    association_id: AssociationId,
    body: AccountsPublish,
    now: Now,
) -> AccountsRead:
    """Publish the accounts of a closed month; published again it is a correction, with a reason."""
    return await accounts.publish(
        session, caller, association_id=association_id, body=body, now=now
    )
