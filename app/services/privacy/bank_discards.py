"""Bank files that nobody is given any more: what they hold goes, and what never left is freed."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import named

NEVER_SENT = "(f.discarded_at is not null and f.given_at is null)"
"""A file that was discarded before anybody had it: no bank can know it, and another may follow."""

# A round is named, so that the payouts are found along their primary key.
_HERS = (
    "p.district_code = :district_code and p.member_id = :member_id and p.round_sequence in"
    " (select sequence from exam_rounds where district_code = :district_code)"
)
_HOLD = text(
    "select r.id from payout_runs r where r.district_code = :district_code"
    " and r.channel = 'bank_file' and r.status not in ('settled', 'cancelled')"
    f" and r.id in (select p.run_id from payouts p where {_HERS}) order by r.id for update of r"
)
_DISCARD = text(
    "update bank_files f set content_sealed = null, discarded_at = :now"
    " where f.district_code = :district_code and f.content_sealed is not null"
    f" and exists (select from payouts p where {_HERS}"
    " and p.run_id = f.run_id and p.line_no = any(f.lines))"
    " returning f.id"
)
_FREE = text(
    "update payouts p set status = 'pending' from bank_files f join payout_runs r"
    " on r.district_code = f.district_code and r.id = f.run_id"
    " where f.district_code = :district_code and f.id = any(cast(:ids as uuid[]))"
    f" and {NEVER_SENT} and p.district_code = :district_code"
    " and p.round_sequence = r.round_sequence and p.run_id = f.run_id"
    " and p.line_no = any(f.lines) and p.status = 'sending'"
)
_OVERDUE = (
    "f.district_code = :district_code and f.created_at < :before and f.given_at is null"
    " and f.answered_at is null and f.discarded_at is null"
)
_HOLD_OVERDUE = text(
    "select r.id from payout_runs r where r.district_code = :district_code"
    f" and r.id in (select f.run_id from bank_files f where {_OVERDUE})"
    " order by r.id for update of r"
)
_NEVER_LEFT = text(
    f"update bank_files f set discarded_at = :now where {_OVERDUE}"
    " and f.content_sealed is null returning f.id"
)


async def hold_overdue(session: AsyncSession, *, district_code: str, before: datetime) -> None:
    """Lock the runs of files made before an instant that nobody was given, as their answers do."""
    await session.execute(_HOLD_OVERDUE, {"district_code": district_code, "before": before})


async def free_overdue(
    session: AsyncSession, *, district_code: str, before: datetime, now: datetime
) -> None:
    """Let the payouts wait for another file whose own went with its time before it was given out.

    Their runs are held. No bank can answer them, so they were on their way for ever.
    """
    params: dict[str, Any] = {"district_code": district_code}
    found = await session.scalars(_NEVER_LEFT, params | {"before": before, "now": now})
    await session.execute(_FREE, params | {"ids": found.all()})


async def hold_runs(session: AsyncSession, *, district_code: str, member_id: UUID) -> None:
    """Lock the runs that a bank pays her by, before her own row: none puts her into a file now."""
    await session.execute(_HOLD, {"district_code": district_code, "member_id": member_id})


async def discard(
    session: AsyncSession, *, district_code: str, member_id: UUID, now: datetime
) -> None:
    """Discard the content of every unanswered file that holds a line of hers, district-wide.

    The payouts of a file that nobody was given wait for another one. Those of a file that may be
    at the bank stay on their way, so that nobody is paid twice.
    """
    params: dict[str, Any] = {"district_code": district_code}
    found = await session.scalars(_DISCARD, params | {"member_id": member_id, "now": now})
    ids = found.all()
    if not ids:
        return
    await session.execute(_FREE, params | {"ids": ids})
    act = named(session.info.get("act"))
    act.object_ids = (*act.object_ids, *map(str, ids))
