"""How vouchers end that nobody redeems: past their day, or with the data of an erased member."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.membership.members import Member
from app.services.disbursement.vouchers import SAME_PAYOUT

BATCH = 1_000
"""How many vouchers one transaction ends."""
UNUSED = "过期未用"
"""Why the payout of an expired voucher failed."""
ERASED = "会员信息已删除"
"""Why the payout of an erased member's voucher failed."""

# Whose payout failed by another way has a voucher that is worth nothing; one that is held waits.
_EXPIRE = text(
    "with due as materialized (select v.run_id, v.line_no, v.round_sequence, v.member_id,"
    f" v.rule_id, p.status <> 'pending' as is_lost from vouchers v join payouts p on {SAME_PAYOUT}"
    " where v.district_code = :district_code and v.status = 'issued'"
    " and (p.status = 'pending' and v.valid_until_on < :today"
    " or p.status in ('failed', 'returned'))"
    " limit :limit for update of v skip locked),"
    " failed as (update payouts p set status = 'failed', failure_reason = :reason,"
    f" settled_at = :now from due v where {SAME_PAYOUT} and p.status = 'pending'"
    " returning p.run_id, p.line_no)"
    " update vouchers v set status = case when d.is_lost then 'cancelled' else 'expired' end,"
    " ended_at = :now, code_sealed = null"
    " from due d left join failed f on f.run_id = d.run_id and f.line_no = d.line_no"
    " where v.district_code = :district_code and v.run_id = d.run_id and v.line_no = d.line_no"
    " and (d.is_lost or f.run_id is not null) returning v.member_id"
)
_GIVE_UP = text(
    "with found as materialized (select v.run_id, v.line_no, v.round_sequence, v.member_id,"
    " v.rule_id from vouchers v where v.district_code = :district_code"
    " and v.member_id = :member_id and v.status = 'issued' for update),"
    " failed as (update payouts p set status = 'failed', failure_reason = :reason,"
    f" settled_at = :now from found v where {SAME_PAYOUT} and p.status = 'pending'"
    " returning p.run_id, p.line_no)"
    " update vouchers v set status = 'cancelled', ended_at = :now, code_sealed = null from failed f"
    " where v.district_code = :district_code and v.run_id = f.run_id and v.line_no = f.line_no"
)
_LOSE = text(
    "update vouchers set status = 'cancelled', ended_at = :now, code_sealed = null"
    " where district_code = :district_code and run_id = :run_id and line_no = :line_no"
    " and status = 'issued'"
)


async def lose(
    session: AsyncSession, *, district_code: str, run_id: UUID, line_no: int, now: datetime
) -> None:
    """End the voucher of a payout that failed by another way, if it is one."""
    params = {"district_code": district_code, "run_id": run_id, "line_no": line_no, "now": now}
    await session.execute(_LOSE, params)


async def expire_some(
    session: AsyncSession, *, district_code: str, now: datetime, limit: int = BATCH
) -> Sequence[UUID]:
    """End one batch of the vouchers past their day; give whose, fewer than `limit` at the end.

    Their payouts have failed, and the money goes back when their run settles.
    """
    params = {
        "district_code": district_code,
        "today": clock.civil_date(now),
        "now": now,
        "reason": UNUSED,
        "limit": limit,
    }
    return (await session.scalars(_EXPIRE, params)).all()


async def give_up(session: AsyncSession, member: Member, *, now: datetime) -> None:
    """End the open vouchers of a member who is being erased, district-wide."""
    await session.execute(_GIVE_UP, member.key | {"now": now, "reason": ERASED})
