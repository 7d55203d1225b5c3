"""`/v1/members/{id}/due-gifts` and `/v1/payouts/{id}/hand-out`: a code is scanned, a gift given."""

from typing import Annotated

from fastapi import Path

from app import concurrency, numbered_ids
from app.clock import Now
from app.concurrency import NeedsIdempotencyKey
from app.crypto import Keys
from app.models.channels.hand_outs import DueGiftsRead, HandOut, HandOutRead
from app.models.shapes import Id
from app.problems import refusals
from app.rights import MayHandOutGifts
from app.services.channels import hand_outs
from app.services.disbursement.payout_runs import RunStateForbids
from app.services.disbursement.payouts import PayoutContradiction, PayoutHeld
from app.transactions import OneStatement, Session

router = concurrency.router("/members/{member_id}/due-gifts", "gifts")
of_payouts = concurrency.router("/payouts/{payout_id}/hand-out", "payouts")


@router.get("", summary="List the gifts due to a member")
async def list_due_gifts(
    statements: OneStatement,
    keyring: Keys,
    caller: MayHandOutGifts,
    member_id: Annotated[Id, Path(description="As the member's code says.")],
    now: Now,
) -> DueGiftsRead:
    """Give what she may be handed now, and what she was handed of runs that are still open.

    To the staff of an event until seven days after it, and what health checks earned only where
    the event was one.
    """
    due = await hand_outs.list_due(statements, caller, member_id=member_id, now=now)
    return numbered_ids.shown_in(keyring, due)


@of_payouts.post(
    "",
    summary="Hand out a gift",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(RunStateForbids, PayoutContradiction, PayoutHeld),
)
async def hand_out_gift(
    session: Session,
    keyring: Keys,
    caller: MayHandOutGifts,
    payout_id: Annotated[Id, Path(description="The payout's id.")],
    body: HandOut,
    now: Now,
) -> HandOutRead:
    """Note that the gift was given, and take it from its depot; a second scan changes nothing."""
    known = numbered_ids.opened(keyring, payout_id)
    given = await hand_outs.hand_out(session, caller, payout_id=known, body=body, now=now)
    return numbered_ids.shown_in(keyring, given)
