"""`/v1/payouts`: what has been granted, and what became of it."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import NeedsIdempotencyKey
from app.crypto import Keys
from app.models.payouts import PayoutFilters, PayoutRead, PayoutReturn
from app.models.transfers import EntriesRead
from app.paging import Page
from app.problems import refusals
from app.rights import MayDisbursePayouts, MayReadPayouts
from app.services import payouts
from app.services.payout_runs import RunStateForbids
from app.services.payouts import PayoutNotPaid
from app.transactions import OneStatement, Session

router = concurrency.router("/payouts", "payouts")
PayoutId = Annotated[UUID, Path(description="The payout's id.")]


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
    payout_id: PayoutId,
) -> PayoutRead:
    """Give one payout."""
    return await payouts.find(statements, caller, payout_id=payout_id)


@router.get("/{payout_id}/entries", summary="List a payout's entries")
async def list_payout_entries(
    statements: OneStatement, caller: MayReadPayouts, payout_id: PayoutId
) -> EntriesRead:
    """Give what was reserved for the payout's run, paid for it, and returned."""
    return await payouts.list_entries(statements, caller, payout_id=payout_id)


@router.post(
    "/{payout_id}/return",
    status_code=204,
    summary="Note that a payout came back",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(PayoutNotPaid, RunStateForbids),
)
async def return_payout(
    session: Session, caller: MayDisbursePayouts, payout_id: PayoutId, body: PayoutReturn, now: Now
) -> None:
    """Put the money back into its funds; another run may grant the payout again."""
    await payouts.take_back(session, caller, payout_id=payout_id, reason=body.reason, now=now)
