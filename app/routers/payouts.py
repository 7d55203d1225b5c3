"""`/v1/payouts`: what has been granted, and what became of it."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.crypto import Keys
from app.models.payouts import PayoutFilters, PayoutRead
from app.paging import Page
from app.rights import MayReadPayouts
from app.services import payouts
from app.transactions import OneStatement

router = concurrency.router("/payouts", "payouts")


@router.get("", summary="List payouts", response_model=Page[PayoutRead])
async def list_payouts(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    filters: Annotated[PayoutFilters, Query()],
) -> Response:
    """List the payouts within reach, by round and member."""
    page = await payouts.list_payouts(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get("/{payout_id}", summary="Get a payout")
async def get_payout(
    statements: OneStatement,
    caller: MayReadPayouts,
    payout_id: Annotated[UUID, Path(description="The payout's id.")],
) -> PayoutRead:
    """Give one payout."""
    return await payouts.find(statements, caller, payout_id=payout_id)
