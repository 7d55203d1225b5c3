"""Decisions on payouts."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.disbursement.payout_decisions import PayoutDecision
from app.models.disbursement.payouts import Payout, PayoutStatus
from app.models.events.service_events import ServiceEvent


async def make_decision(
    session: AsyncSession, payout: Payout, event: ServiceEvent, **facts: Any
) -> PayoutDecision:
    """Store an open decision after an attendance was voided; what was pending is held."""
    holds = payout.status in {PayoutStatus.PENDING, PayoutStatus.HELD}
    if holds:
        payout.status = PayoutStatus.HELD.value
    now = clock.now()
    names = ("run_id", "line_no", "round_sequence", "rule_id", "member_id", "association_id")
    values: dict[str, Any] = {name: getattr(payout, name) for name in names} | {
        "district_code": payout.district_code,
        "id": clock.new_id(),
        "created_at": now,
        "updated_at": now,
        "cause": "attendance_voided",
        "event_id": event.id,
        "dispute_id": None,
        "caused_by": "officer-1",
        "holds": holds,
        "status": "open",
        "choice": None,
        "reason": None,
        "decided_by": None,
        "decided_at": None,
        "closed_at": None,
    }
    decision = PayoutDecision(**(values | facts))
    session.add(decision)
    await session.flush()
    return decision
