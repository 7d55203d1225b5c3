"""Unknown payouts: what a person found out of them, or has the gateway asked about once more."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.database import district_wide
from app.identity import Caller
from app.models.channels.gateway_payments import GatewayState, PayoutResolve
from app.models.disbursement.payout_runs import Channel, PayoutRun, RunStatus
from app.models.disbursement.payouts import PayoutOutcome, PayoutStatus, run_and_line
from app.problems import Invalid, NotFound, Problem
from app.services.channels import gateway_payments
from app.services.channels.gateway_payments import Claimed, Outcome
from app.services.disbursement import payout_runs, payouts


class PayoutNotUnknown(Problem):
    """Only of a payout that waits for a person can she say what became of it."""

    code, status = "payout_not_unknown", 409


class ReceiptTaken(Problem):
    """Another payout has this receipt of the gateway."""

    code, status = "receipt_taken", 409
    constraint = "uq_gateway_payments_receipt"


async def resolve(
    session: AsyncSession, caller: Caller, *, payout_id: UUID, body: PayoutResolve, now: datetime
) -> None:
    """Note whether an unknown payout was paid, with its receipt, or failed, with the reason.

    Raises NotFound, PayoutNotUnknown, ReceiptTaken or Invalid.
    """
    is_paid = body.outcome is PayoutOutcome.PAID
    if is_paid != (body.receipt is not None):
        raise Invalid.at("/receipt", "resolve_needs_receipt")
    if is_paid != (body.reason is None):
        raise Invalid.at("/reason", "resolve_needs_reason")
    state = GatewayState(body.outcome.value)
    outcome = Outcome(state, "found_out", receipt=body.receipt, reason=body.reason)
    await _move(session, caller, payout_id, outcome, now)


async def ask_again(
    session: AsyncSession, caller: Caller, *, payout_id: UUID, now: datetime
) -> None:
    """Have the gateway asked what became of an unknown payout, which is not sent by that.

    Raises NotFound or PayoutNotUnknown.
    """
    await _move(session, caller, payout_id, Outcome(GatewayState.SENDING, "asked"), now)


async def _move(
    session: AsyncSession, caller: Caller, payout_id: UUID, outcome: Outcome, now: datetime
) -> None:
    run, claimed = await _unknown(session, caller, payout_id)
    async with district_wide(session):
        done = await gateway_payments.record(
            session,
            district_code=run.district_code,
            run_id=run.id,
            outcomes=[(claimed, outcome)],
            now=now,
            before=GatewayState.UNKNOWN,
            subject=caller.subject,
        )
    if not done:
        raise PayoutNotUnknown


async def _unknown(
    session: AsyncSession, caller: Caller, payout_id: UUID
) -> tuple[PayoutRun, Claimed]:
    run_id, line_no = run_and_line(payout_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    run, _ = await payout_runs.lock(session, caller, run_id=run_id)
    payout_runs.require_state(run, RunStatus.DISBURSING)
    line = (await payouts.lines_of(session, run, [line_no])).get(line_no)
    if line is None:
        raise NotFound
    payouts.name_members(session, [line])
    payout_runs.require_channel(run, Channel.GATEWAY)
    if line.status != PayoutStatus.UNKNOWN:
        raise PayoutNotUnknown
    return run, Claimed(line_no, line.member_id, line.rule_id, line.amount_fen)
