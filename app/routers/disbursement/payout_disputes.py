"""`/v1/payout-disputes`: what members say of their payouts, answered by the offices that pay."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, numbered_ids, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.disbursement.payout_disputes import DisputeAnswer, DisputeFilters, DisputeRead
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayAnswerDisputes, MayReadPayouts
from app.services.disbursement import payout_disputes
from app.services.disbursement.my_payout_disputes import DisputeClosed
from app.services.disbursement.payout_disputes import GiverIsJudge
from app.transactions import OneStatement, Session

router = concurrency.router("/payout-disputes", "payout-disputes")
DisputeId = Annotated[Id, Path(description="The dispute's id.")]


@router.get("", summary="List payout disputes", response_model=Page[DisputeRead])
async def list_payout_disputes(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    filters: Annotated[DisputeFilters, Query()],
    now: Now,
) -> Response:
    """List the disputes of payouts within reach, the soonest due first."""
    page = await payout_disputes.list_disputes(
        statements, caller, keyring, filters=filters, now=now
    )
    return paging.answer(request, page)


@router.get("/{dispute_id}", summary="Get a payout dispute")
async def get_payout_dispute(
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    dispute_id: DisputeId,
    now: Now,
) -> DisputeRead:
    """Give one dispute, with what the member was answered."""
    found = await payout_disputes.find(statements, caller, dispute_id=dispute_id, now=now)
    return numbered_ids.shown_in(keyring, found)


@router.post(
    "/{dispute_id}/uphold",
    summary="Uphold a payout dispute",
    responses=refusals(DisputeClosed),
)
async def uphold_payout_dispute(
    session: Session,
    keyring: Keys,
    caller: MayAnswerDisputes,
    dispute_id: DisputeId,
    body: DisputeAnswer,
    if_match: IfMatch,
    now: Now,
) -> DisputeRead:
    """Say that the member is right: the payout fails, or somebody decides on what was paid."""
    upheld = await payout_disputes.uphold(
        session, caller, dispute_id=dispute_id, version=if_match, reason=body.reason, now=now
    )
    return numbered_ids.shown_in(keyring, upheld)


@router.post(
    "/{dispute_id}/dismiss",
    summary="Dismiss a payout dispute",
    responses=refusals(DisputeClosed, GiverIsJudge),
)
async def dismiss_payout_dispute(
    session: Session,
    keyring: Keys,
    caller: MayAnswerDisputes,
    dispute_id: DisputeId,
    body: DisputeAnswer,
    if_match: IfMatch,
    now: Now,
) -> DisputeRead:
    """Say why the payout is right; one that waited goes on. The member reads it.

    Whoever entered that it was paid or handed out leaves that to another person.
    """
    dismissed = await payout_disputes.dismiss(
        session, caller, dispute_id=dispute_id, version=if_match, reason=body.reason, now=now
    )
    return numbered_ids.shown_in(keyring, dismissed)
