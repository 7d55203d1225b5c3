"""Disputes of payouts."""

from datetime import date
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.models.disbursement.payout_disputes import PayoutDispute
from app.models.disbursement.payouts import Payout, PayoutStatus


async def make_dispute(session: AsyncSession, payout: Payout, **facts: Any) -> PayoutDispute:
    """Store an open dispute of a payout, which is held if it was pending; the caller commits."""
    holds = payout.status == PayoutStatus.PENDING
    if holds:
        payout.status = PayoutStatus.HELD.value
    now = clock.now()
    names = ("run_id", "line_no", "round_sequence", "rule_id", "member_id", "association_id")
    values: dict[str, Any] = {name: getattr(payout, name) for name in names} | {
        "district_code": payout.district_code,
        "id": clock.new_id(),
        "created_at": now,
        "updated_at": now,
        "kind": "not_me",
        "holds": holds,
        "status": "open",
        "due_on": date(2100, 1, 1),
        "answer": None,
        "answered_by": None,
        "closed_at": None,
    }
    dispute = PayoutDispute(**(values | facts))
    session.add(dispute)
    await session.flush()
    return dispute


async def hold_lines(session: AsyncSession, *numbers: int) -> None:
    """Let the members of pending payouts dispute them, by their line numbers of the only run."""
    found = await session.scalars(select(Payout).where(col(Payout.line_no).in_(numbers)))
    for payout in found.all():
        await make_dispute(session, payout)
