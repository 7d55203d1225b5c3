"""Payouts that came back: to its funds or its depot; the grant becomes free."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import district_wide
from app.identity import Caller
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.disbursement.payouts import PayoutStatus, run_and_line
from app.problems import NotFound, Problem
from app.services.disbursement import (
    calculations,
    payout_holds,
    payout_runs,
    payouts,
    voucher_lines,
)
from app.services.disbursement.payouts import Line
from app.services.disbursement.voucher_lines import PayoutByVoucher
from app.services.finance import reservations
from app.services.goods import gift_reservations
from app.services.lucky_draws import draw_tickets
from app.services.privacy import personal_texts

_RETURN = text(
    "update payouts p set status = 'returned', failure_reason = :reason, settled_at = :now"
    " from unnest(cast(:members as uuid[]), cast(:rules as uuid[])) l(member_id, rule_id)"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.member_id = l.member_id and p.rule_id = l.rule_id and p.run_id = :run_id"
    " and p.status = 'paid'"
)


class RunClosed(Problem):
    """The run is closed for good: what comes back now is new money of a fund."""

    code, status = "run_closed", 409


class PayoutNotPaid(Problem):
    """Only what was paid can come back."""

    code, status = "payout_not_paid", 409


async def take_back(
    session: AsyncSession, caller: Caller, *, payout_id: UUID, reason: str, now: datetime
) -> None:
    """Note that a payout came back: the fen return to their funds, the grant becomes free.

    Raises NotFound, RunClosed, PayoutNotPaid, PayoutByVoucher or draw_tickets.TicketsIssued.
    """
    run_id, line_no = run_and_line(payout_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    run, _ = await payout_runs.lock(session, caller, run_id=run_id)
    if run.status == RunStatus.CLOSED:
        raise RunClosed
    payout_runs.require_state(run, RunStatus.DISBURSING, RunStatus.SETTLED)
    line = (await payouts.lines_of(session, run, [line_no])).get(line_no)
    if line is None:
        raise NotFound
    payouts.name_members(session, [line])
    if line.rule_id in await voucher_lines.rules_of(session, run):
        raise PayoutByVoucher
    if line.status != PayoutStatus.PAID:
        raise PayoutNotPaid
    async with district_wide(session):
        await draw_tickets.require_none(session, run, line_no=line_no)
        reason = await personal_texts.kept(
            session, reason, district_code=run.district_code, member_id=line.member_id
        )
    await give_back(session, caller, run, lines=[line], reason=reason, now=now)


async def give_back(
    session: AsyncSession,
    caller: Caller,
    run: PayoutRun,
    *,
    lines: Sequence[Line],
    reason: str,
    now: datetime,
) -> None:
    """Note that paid payouts of a run that the transaction holds came back, for one reason.

    The reason stands with the payouts alone: what is in the books is never changed, and what was
    written about a person goes with her.
    """
    params = run.place | {
        "members": [line.member_id for line in lines],
        "rules": [line.rule_id for line in lines],
    }
    await session.execute(_RETURN, params | {"reason": reason, "now": now})
    numbers = [line.line_no for line in lines]
    async with district_wide(session):
        for step in (reservations.take_back, gift_reservations.take_back):
            await step(session, run, lines=numbers, subject=caller.subject, now=now)
        await payout_holds.came_back(session, run, lines=numbers, now=now)
        if run.status == RunStatus.SETTLED:
            await calculations.release_failed(session, run)
