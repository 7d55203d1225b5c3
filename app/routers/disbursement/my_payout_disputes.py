"""`/v1/me/payout-disputes`: what a member says of a payout of hers, and what she is answered."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, numbered_ids, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.disbursement.payout_disputes import DisputeCreate, MyDispute, MyDisputeFilters
from app.models.shapes import Id
from app.paging import Page
from app.problems import NotFound, refusals
from app.rights import MayReadOwn, MayWriteOwn
from app.services.disbursement import my_payout_disputes
from app.services.disbursement.my_payout_disputes import (
    DisputeAlreadyOpen,
    DisputeAnswered,
    DisputeClosed,
    PayoutUndisputable,
)
from app.transactions import OneStatement, Session

router = concurrency.router("/me", "me")
PayoutId = Annotated[Id, Path(description="The payout's id.")]
DisputeId = Annotated[Id, Path(description="The dispute's id.")]


@router.post(
    "/payouts/{payout_id}/dispute",
    status_code=201,
    summary="Dispute my payout",
    responses={
        200: {"description": "The member had said so before.", "model": MyDispute},
        **refusals(NotFound, DisputeAlreadyOpen, DisputeAnswered, PayoutUndisputable),
    },
)
async def create_my_payout_dispute(
    session: Session,
    keyring: Keys,
    caller: MayWriteOwn,
    payout_id: PayoutId,
    body: DisputeCreate,
    now: Now,
    response: Response,
) -> MyDispute:
    """Say "not me" or "wrong amount": a payout that is not paid yet waits, the others go on."""
    known = numbered_ids.opened(keyring, payout_id)
    dispute, is_new = await my_payout_disputes.submit(
        session, caller, payout_id=known, kind=body.kind, now=now
    )
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/me/payout-disputes/{dispute.id}"
    return numbered_ids.shown_in(keyring, dispute)


@router.get("/payout-disputes", summary="List my payout disputes", response_model=Page[MyDispute])
async def list_my_payout_disputes(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MyDisputeFilters, Query()],
    now: Now,
) -> Response:
    """List what the member said of her payouts, the newest first."""
    page = await my_payout_disputes.list_disputes(
        statements, caller, keyring, filters=filters, now=now
    )
    return paging.answer(request, page)


@router.get("/payout-disputes/{dispute_id}", summary="Get my payout dispute")
async def get_my_payout_dispute(
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    dispute_id: DisputeId,
    now: Now,
) -> MyDispute:
    """Give one dispute, with the office's answer."""
    found = await my_payout_disputes.find(statements, caller, dispute_id=dispute_id, now=now)
    return numbered_ids.shown_in(keyring, found)


@router.post(
    "/payout-disputes/{dispute_id}/withdraw",
    summary="Withdraw my payout dispute",
    responses=refusals(DisputeClosed),
)
async def withdraw_my_payout_dispute(
    session: Session,
    keyring: Keys,
    caller: MayWriteOwn,
    dispute_id: DisputeId,
    if_match: IfMatch,
    now: Now,
) -> MyDispute:
    """Take it back while it waits, so that the payout goes on."""
    withdrawn = await my_payout_disputes.withdraw(
        session, caller, dispute_id=dispute_id, version=if_match, now=now
    )
    return numbered_ids.shown_in(keyring, withdrawn)
