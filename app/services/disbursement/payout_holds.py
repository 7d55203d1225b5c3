"""Payouts that wait for a person: held by a dispute or a decision, let go, or failed.

Whoever calls holds the payout's run, as whoever enters results does: of the two one wins.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app.models.disbursement.payout_decisions import PENDING, DecisionStatus, PayoutDecision
from app.models.disbursement.payout_disputes import DisputeStatus, PayoutDispute
from app.models.disbursement.payout_runs import PayoutRun
from app.problems import NotFound
from app.services.disbursement import voucher_endings

Case = PayoutDispute | PayoutDecision
"""What a person looks into: it names its payout."""

_KEY = (
    " where p.district_code = :district_code and p.round_sequence = :round_sequence"
    " and p.member_id = :member_id and p.rule_id = :rule_id and p.run_id = :run_id"
)
_STATUS = text(f"select p.status from payouts p{_KEY}")
_HOLD = text(f"update payouts p set status = 'held'{_KEY} and p.status = 'pending' returning 1")
_HELD_BY = (
    "exists (select from {table} c where c.district_code = :district_code"
    " and c.run_id = p.run_id and c.line_no = p.line_no and c.holds and c.status = 'open')"
)
HELD_BY_DISPUTE = _HELD_BY.format(table="payout_disputes")
"""Whether an open dispute holds the payout `p`."""
HELD_BY_DECISION = _HELD_BY.format(table="payout_decisions")
"""Whether an open decision holds the payout `p`."""
_LET_GO = text(
    f"update payouts p set status = 'pending'{_KEY} and p.status = 'held'"
    f" and not ({HELD_BY_DISPUTE} or {HELD_BY_DECISION})"
)
_FAIL = text(
    "update payouts p set status = 'failed', failure_reason = :reason, settled_at = :now"
    f"{_KEY} and p.status in ('pending', 'held') returning 1"
)
_CAME_BACK = text(
    "update payout_decisions set status = 'recovered', closed_at = :now, updated_at = :now,"
    " version = version + 1 where district_code = :district_code and run_id = :run_id"
    " and line_no = any(cast(:lines as int[])) and status in ('open', 'recovering', 'written_off')"
)


async def hold_run(session: AsyncSession, *, district_code: str, run_id: UUID) -> PayoutRun:
    """Give a run, held until the transaction ends; the caller's reach was asked before."""
    run = await session.scalar(
        select(PayoutRun)
        .where(col(PayoutRun.district_code) == district_code, col(PayoutRun.id) == run_id)
        .with_for_update(key_share=True)
    )
    if run is None:
        raise NotFound
    return run


def _key(case: Case) -> dict[str, Any]:
    names = ("district_code", "round_sequence", "member_id", "rule_id", "run_id")
    return {name: getattr(case, name) for name in names}


async def status_of(session: AsyncSession, case: Case) -> str:
    """Give the state of the payout of a case."""
    return str(await session.scalar(_STATUS, _key(case)))


async def hold(session: AsyncSession, case: Case) -> bool:
    """Hold a pending payout; tell whether it is held by this."""
    return await session.scalar(_HOLD, _key(case)) is not None


async def let_go(session: AsyncSession, case: Case) -> None:
    """Let a held payout go on, unless another case holds it too."""
    await session.execute(_LET_GO, _key(case))


async def fail(session: AsyncSession, case: Case, *, reason: str, now: datetime) -> bool:
    """Note that the payout of a case is not handed out, and why; tell whether it waited."""
    waited = await session.scalar(_FAIL, _key(case) | {"reason": reason, "now": now}) is not None
    if waited:
        await voucher_endings.lose(
            session,
            district_code=case.district_code,
            run_id=case.run_id,
            line_no=case.line_no,
            now=now,
        )
    return waited


async def close_decisions(session: AsyncSession, dispute: PayoutDispute, *, now: datetime) -> None:
    """Lift the decision that waits on a disputed payout: there is nothing left to decide."""
    for decision in await _others(session, PayoutDecision, dispute, PENDING):
        decision.change(now, status=DecisionStatus.LIFTED.value, closed_at=now)


async def close_disputes(
    session: AsyncSession, decision: PayoutDecision, *, answer: str, by: str, now: datetime
) -> None:
    """Uphold the dispute that waits on a cancelled payout, so that the member has her answer."""
    facts = {"status": DisputeStatus.UPHELD.value, "answer": answer, "answered_by": by}
    for dispute in await _others(session, PayoutDispute, decision, "('open')"):
        dispute.change(now, closed_at=now, **facts)


async def _others(
    session: AsyncSession, table: type[Any], case: Case, states: str
) -> Sequence[Any]:
    of_same = (
        col(table.district_code) == case.district_code,
        col(table.run_id) == case.run_id,
        col(table.line_no) == case.line_no,
        text(f"status in {states}"),
    )
    return (await session.scalars(select(table).where(*of_same).with_for_update())).all()


async def came_back(
    session: AsyncSession, run: PayoutRun, *, lines: Sequence[int], now: datetime
) -> None:
    """Note on the decisions about payouts, where there are any, that their money is back."""
    await session.execute(_CAME_BACK, run.place | {"lines": lines, "now": now})
