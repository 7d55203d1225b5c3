"""`/v1/payouts`: what has been granted, and what became of it."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, numbered_ids, paging
from app.clock import Now
from app.concurrency import NeedsIdempotencyKey
from app.crypto import Keys
from app.models.channels.gateway_payments import PayoutResolve
from app.models.disbursement.payouts import PayoutFilters, PayoutRead, PayoutReturn
from app.models.finance.transfers import EntriesRead
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayDisbursePayouts, MayReadPayouts
from app.services.channels import payout_returns, unknown_payouts
from app.services.channels.payout_returns import PayoutNotPaid, RunClosed
from app.services.channels.unknown_payouts import PayoutNotUnknown, ReceiptTaken
from app.services.disbursement import payout_lists
from app.services.disbursement.payout_runs import OtherChannel, RunStateForbids
from app.services.disbursement.voucher_lines import PayoutByVoucher
from app.services.finance.funds import FundClosed
from app.services.lucky_draws.draw_tickets import TicketsIssued
from app.transactions import OneStatement, Session

router = concurrency.router("/payouts", "payouts")
PayoutId = Annotated[Id, Path(description="The payout's id.")]


@router.get("", summary="List payouts", response_model=Page[PayoutRead])
async def list_payouts(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    filters: Annotated[PayoutFilters, Query()],
) -> Response:
    """List the payouts within reach, by round and member."""
    page = await payout_lists.list_payouts(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get("/{payout_id}", summary="Get a payout")
async def get_payout(
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    payout_id: PayoutId,
) -> PayoutRead:
    """Give one payout."""
    known = numbered_ids.opened(keyring, payout_id)
    found = await payout_lists.find(statements, caller, payout_id=known)
    return numbered_ids.shown_in(keyring, found)


@router.get("/{payout_id}/entries", summary="List a payout's entries")
async def list_payout_entries(
    statements: OneStatement, keyring: Keys, caller: MayReadPayouts, payout_id: PayoutId
) -> EntriesRead:
    """Give what was reserved for the payout's run, paid for it, and returned."""
    known = numbered_ids.opened(keyring, payout_id)
    entries = await payout_lists.list_entries(statements, caller, payout_id=known)
    return numbered_ids.shown_in(keyring, entries)


@router.post(
    "/{payout_id}/return",
    status_code=204,
    summary="Note that a payout came back",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(
        PayoutNotPaid, PayoutByVoucher, RunClosed, RunStateForbids, TicketsIssued, FundClosed
    ),
)
async def return_payout(
    session: Session,
    keyring: Keys,
    caller: MayDisbursePayouts,
    payout_id: PayoutId,
    body: PayoutReturn,
    now: Now,
) -> None:
    """Put the money back into its funds; another run may grant the payout again."""
    known = numbered_ids.opened(keyring, payout_id)
    await payout_returns.take_back(session, caller, payout_id=known, reason=body.reason, now=now)


@router.post(
    "/{payout_id}/resolve",
    status_code=204,
    summary="Say what became of an unknown payout",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(PayoutNotUnknown, ReceiptTaken, OtherChannel, RunStateForbids),
)
async def resolve_payout(
    session: Session,
    keyring: Keys,
    caller: MayDisbursePayouts,
    payout_id: PayoutId,
    body: PayoutResolve,
    now: Now,
) -> None:
    """Enter what you found out at the gateway: paid, with its receipt, or failed, and why."""
    known = numbered_ids.opened(keyring, payout_id)
    await unknown_payouts.resolve(session, caller, payout_id=known, body=body, now=now)


@router.post(
    "/{payout_id}/ask-again",
    status_code=204,
    summary="Have the gateway asked about an unknown payout",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(PayoutNotUnknown, OtherChannel, RunStateForbids),
)
async def ask_payout_again(
    session: Session, keyring: Keys, caller: MayDisbursePayouts, payout_id: PayoutId, now: Now
) -> None:
    """Ask what became of it, without sending it again; it stays unknown if nobody tells."""
    known = numbered_ids.opened(keyring, payout_id)
    await unknown_payouts.ask_again(session, caller, payout_id=known, now=now)
