"""Payout disputes at the office: what is due, and the one answer, which fails or frees a payout."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.disbursement.payout_decisions import DecisionCause
from app.models.disbursement.payout_disputes import (
    DisputeFilters,
    DisputeRead,
    DisputeStatus,
    PayoutDispute,
)
from app.models.disbursement.payouts import PayoutStatus
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.services.disbursement import my_payout_disputes, payout_holds, payout_marks
from app.services.privacy import personal_texts

_SOURCE = (
    "payout_disputes c join associations a on a.district_code = c.district_code"
    " and a.id = c.association_id"
)
_PLAIN = f"{my_payout_disputes.PLAIN}, c.member_id, c.association_id, c.answered_by"
LISTING = Listing(
    columns=f"{_PLAIN}, {instant('c.closed_at')}, {instant('c.created_at')}",
    source=_SOURCE,
    order=(Key("due_on", "c.due_on", "date"), Key("id", "c.id", "uuid")),
    about="member_id",
    numbered="payout_id",
)
_FIND = (
    f"select {_PLAIN}, c.closed_at, c.created_at from {_SOURCE}"
    " where c.district_code = :district_code and c.id = :id and {}"
)
_KNOWN = f"select 1 from {_SOURCE} where c.district_code = :district_code and c.id = :id and {{}}"


_GIVEN_BY = text(
    "select exists (select from transfers t where t.district_code = :district_code"
    " and t.run_id = :run_id and t.line_no = :line_no and t.kind = 'pay'"
    " and t.recorded_by = :subject) or exists (select from stock_movements m"
    " where m.district_code = :district_code and m.run_id = :run_id and m.line_no = :line_no"
    " and m.kind = 'hand_out' and m.recorded_by = :subject)"
)


class GiverIsJudge(Problem):
    """Whoever entered that it was paid or handed out does not say that the member is wrong."""

    code, status = "giver_is_judge", 403


def _within(caller: Caller) -> tuple[str, dict[str, Any]]:
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    return condition, params | {"district_code": caller.district_code}


async def list_disputes(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: DisputeFilters,
    now: datetime,
) -> Slice:
    """Give a page of the disputes of payouts within reach, the soonest due first."""
    condition, params = _within(caller)
    where = Where(params | {"today": civil_date(now)})
    where.add(f"c.district_code = :district_code and {condition}")
    where.equal("c.status", "status", filters.status)
    where.equal("c.kind", "kind", filters.kind)
    where.equal("c.run_id", "run_id", filters.run_id)
    where.equal("c.member_id", "member_id", filters.member_id)
    where.equal("c.association_id", "association_id", filters.association_id)
    where.equal(
        "(c.status = 'open' and c.due_on < cast(:today as date))", "overdue", filters.overdue
    )
    where.span("c.due_on", "due_on", gte=filters.due_on_gte, lt=filters.due_on_lt)
    where.in_area("a.area_code", filters.area)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, *, dispute_id: UUID, now: datetime
) -> DisputeRead:
    """Give one dispute within reach, or refuse with NotFound."""
    condition, params = _within(caller)
    params |= {"id": dispute_id, "today": civil_date(now)}
    row = await statements.district_wide().fetch_row(
        _FIND.format(condition), params, about="member_id"
    )
    if row is None:
        raise NotFound
    return DisputeRead(**row)


async def uphold(
    session: AsyncSession,
    caller: Caller,
    *,
    dispute_id: UUID,
    version: int,
    reason: str,
    now: datetime,
) -> DisputeRead:
    """Say that the member is right: what was held fails, of what was paid somebody decides.

    A failed grant is free for another run once its own is settled. Raises NotFound, Stale or
    DisputeClosed.
    """
    async with district_wide(session):
        dispute = await _answered(
            session, caller, dispute_id, version, DisputeStatus.UPHELD, reason=reason, now=now
        )
        status = await payout_holds.status_of(session, dispute)
        if status == PayoutStatus.HELD:
            await payout_holds.fail(session, dispute, reason=reason, now=now)
            await payout_holds.close_decisions(session, dispute, now=now)
        elif status == PayoutStatus.PAID:
            decision = payout_marks.make_decision(
                payout_marks.of_case(dispute),
                cause=DecisionCause.DISPUTE_UPHELD,
                dispute_id=dispute.id,
                caused_by=caller.subject,
                now=now,
            )
            await payout_marks.add_unless_pending(session, decision)
        await session.flush()
    return _shown(dispute, now=now)


async def dismiss(
    session: AsyncSession,
    caller: Caller,
    *,
    dispute_id: UUID,
    version: int,
    reason: str,
    now: datetime,
) -> DisputeRead:
    """Say why the payout is right: one that was held goes on.

    Raises NotFound, Stale, DisputeClosed or GiverIsJudge.
    """
    async with district_wide(session):
        dispute = await _answered(
            session, caller, dispute_id, version, DisputeStatus.DISMISSED, reason=reason, now=now
        )
        line = dispute.model_dump(include={"district_code", "run_id", "line_no"})
        if await session.scalar(_GIVEN_BY, line | {"subject": caller.subject}):
            raise GiverIsJudge
        if dispute.holds:
            await payout_holds.let_go(session, dispute)
    return _shown(dispute, now=now)


async def _answered(
    session: AsyncSession,
    caller: Caller,
    dispute_id: UUID,
    version: int,
    status: DisputeStatus,
    *,
    reason: str,
    now: datetime,
) -> PayoutDispute:
    """Answer a dispute within reach that waits, its run being held."""
    condition, params = _within(caller)
    known = text(_KNOWN.format(condition))
    if await session.scalar(known, params | {"id": dispute_id}) is None:
        raise NotFound
    dispute, _ = await my_payout_disputes.open_one(
        session, caller, dispute_id=dispute_id, version=version
    )
    answer = await personal_texts.kept(
        session, reason, district_code=dispute.district_code, member_id=dispute.member_id
    )
    dispute.change(
        now, status=status.value, answer=answer, answered_by=caller.subject, closed_at=now
    )
    await session.flush()
    return dispute


def _shown(dispute: PayoutDispute, *, now: datetime) -> DisputeRead:
    return DisputeRead(**my_payout_disputes.facts_of(dispute, now=now))
