"""Payouts: the lines of a run."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import numbered_ids
from app.crypto import Keyring
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import Payout, PayoutStatus, payout_id
from app.models.membership.members import Member


def known_id(keyring: Keyring, run_id: UUID, line_no: int) -> UUID:
    """Give the id by which a line of a run is known outside."""
    return numbered_ids.shown(keyring, payout_id(run_id, line_no))


async def make_payout(
    session: AsyncSession,
    run: PayoutRun,
    member: Member,
    rule_id: UUID,
    line_no: int = 1,
    **facts: Any,
) -> Payout:
    """Store a line of ten yuan that waits for its result; the caller commits."""
    values: dict[str, Any] = {
        "district_code": run.district_code,
        "round_sequence": run.round_sequence,
        "member_id": member.id,
        "rule_id": rule_id,
        "released": 0,
        "run_id": run.id,
        "line_no": line_no,
        "association_id": member.association_id,
        "streak": 1,
        "amount_fen": 1000,
        "quantity": 0,
        "status": PayoutStatus.PENDING.value,
        "failure_reason": None,
        "settled_at": None,
    }
    payout = Payout(**(values | facts))
    session.add(payout)
    await session.flush()
    return payout
