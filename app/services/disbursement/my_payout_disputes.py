"""A member's disputes: filed with a due date, read with the answer, withdrawn by herself."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.disbursement.payout_disputes import (
    DisputeKind,
    DisputeStatus,
    MyDispute,
    MyDisputeFilters,
    PayoutDispute,
)
from app.models.disbursement.payout_runs import PROMISED, PayoutRun, RunStatus
from app.models.disbursement.payouts import PayoutStatus, payout_id, payout_id_sql, run_and_line
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.services.disbursement import payout_holds, payouts
from app.services.disbursement.payouts import Line
from app.services.organisation import areas

PLAIN = (
    f"{payout_id_sql('c')} as payout_id, c.id, c.run_id, c.kind, c.status, c.holds, c.due_on,"
    " c.answer, c.version, c.status = 'open' and c.due_on < cast(:today as date) as is_overdue"
)
"""What every reader of a dispute `c` sees of it, but for instants."""
LISTING = Listing(
    columns=f"{PLAIN}, {instant('c.closed_at')}, {instant('c.created_at')}",
    source="payout_disputes c",
    order=(Key("id", "c.id", "uuid"),),
    descending=True,
    about="",
    numbered="payout_id",
)
_FIND = (
    f"select {PLAIN}, c.closed_at, c.created_at from payout_disputes c"
    " where c.district_code = :district_code and c.id = :id and c.member_id = :member_id"
)
_HOME = text(
    "select area_code from members where district_code = :district_code and id = :member_id"
)


class DisputeAlreadyOpen(Problem):
    """Another dispute of the same payout waits for its answer."""

    code, status = "dispute_already_open", 409
    constraint = "uq_payout_disputes_open"


class DisputeAnswered(Problem):
    """The office has answered the same dispute of the same payout."""

    code, status = "dispute_answered", 409


class DisputeClosed(Problem):
    """The dispute was answered or withdrawn."""

    code, status = "dispute_closed", 409


class PayoutUndisputable(Problem):
    """The payout is on its way, waits already, was not paid, or its run is closed."""

    code, status = "payout_undisputable", 409


async def list_disputes(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: MyDisputeFilters,
    now: datetime,
) -> Slice:
    """Give a page of the member's disputes, the newest first."""
    where = Where({"district_code": caller.district_code, "today": civil_date(now)})
    where.add("c.district_code = :district_code")
    where.equal("c.member_id", "member_id", caller.member_id)
    where.equal("c.status", "status", filters.status)
    where.equal("c.run_id", "run_id", filters.run_id)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, *, dispute_id: UUID, now: datetime
) -> MyDispute:
    """Give one dispute of the member's, or refuse with NotFound."""
    params = {
        "district_code": caller.district_code,
        "id": dispute_id,
        "member_id": caller.member_id,
        "today": civil_date(now),
    }
    row = await statements.fetch_row(_FIND, params, about=())
    if row is None:
        raise NotFound
    return MyDispute(**row)


async def submit(
    session: AsyncSession, caller: Caller, *, payout_id: UUID, kind: DisputeKind, now: datetime
) -> tuple[MyDispute, bool]:
    """Dispute a payout that was promised: a pending one is held, a paid one stays paid.

    Gives the dispute, and whether it is new; the same said twice is one. Raises NotFound,
    DisputeAlreadyOpen, DisputeAnswered or PayoutUndisputable.
    """
    run_id, line_no = run_and_line(payout_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    async with district_wide(session):
        run = await payout_holds.hold_run(
            session, district_code=caller.district_code, run_id=run_id
        )
        line = (await payouts.lines_of(session, run, [line_no])).get(line_no)
        if line is None or line.member_id != caller.member_id or run.status not in PROMISED:
            raise NotFound
        said = await _said(session, run, line_no)
        if (standing := _same_open(said, kind)) is not None:
            return shown(standing, now=now), False
        if any(dispute.kind == kind for dispute in said):
            raise DisputeAnswered
        dispute = await _filed(session, caller, run, line, kind=kind, now=now)
    return shown(dispute, now=now), True


async def _said(session: AsyncSession, run: PayoutRun, line_no: int) -> list[PayoutDispute]:
    """Give what the member has said of a payout and did not withdraw."""
    found = await session.scalars(
        select(PayoutDispute).where(
            col(PayoutDispute.district_code) == run.district_code,
            col(PayoutDispute.run_id) == run.id,
            col(PayoutDispute.line_no) == line_no,
            col(PayoutDispute.status) != DisputeStatus.WITHDRAWN.value,
        )
    )
    return list(found)


def _same_open(said: list[PayoutDispute], kind: DisputeKind) -> PayoutDispute | None:
    """Give the open dispute if it says the same; raises DisputeAlreadyOpen if it does not."""
    for dispute in said:
        if dispute.status == DisputeStatus.OPEN:
            if dispute.kind != kind:
                raise DisputeAlreadyOpen
            return dispute
    return None


async def _filed(
    session: AsyncSession,
    caller: Caller,
    run: PayoutRun,
    line: Line,
    *,
    kind: DisputeKind,
    now: datetime,
) -> PayoutDispute:
    dispute = PayoutDispute(
        district_code=run.district_code,
        id=clock.new_id(),
        created_at=now,
        updated_at=now,
        run_id=run.id,
        line_no=line.line_no,
        round_sequence=run.round_sequence,
        rule_id=line.rule_id,
        member_id=line.member_id,
        association_id=line.association_id,
        kind=kind.value,
        holds=False,
        status=DisputeStatus.OPEN.value,
        due_on=await _due_on(session, caller, now),
        answer=None,
        answered_by=None,
        closed_at=None,
    )
    dispute.holds = await payout_holds.hold(session, dispute)
    if not dispute.holds:
        status = await payout_holds.status_of(session, dispute)
        if status != PayoutStatus.PAID or run.status == RunStatus.CLOSED:
            raise PayoutUndisputable(payout_status=status, extra={"payout_status": status})
    session.add(dispute)
    await session.flush()
    return dispute


async def _due_on(session: AsyncSession, caller: Caller, now: datetime) -> date:
    """Give until when it is answered: as a correction is, where the member's association is."""
    home = {"district_code": caller.district_code, "member_id": caller.member_id}
    code = str(await session.scalar(_HOME, home))
    return await areas.answer_due_on(
        session, district_code=caller.district_code, code=code, now=now
    )


def shown(dispute: PayoutDispute, *, now: datetime) -> MyDispute:
    """Give a dispute as its member sees it."""
    return MyDispute(**facts_of(dispute, now=now))


def facts_of(dispute: PayoutDispute, *, now: datetime) -> dict[str, Any]:
    """Give what a dispute shows of itself."""
    is_open = dispute.status == DisputeStatus.OPEN
    return {
        **dispute.model_dump(),
        "payout_id": payout_id(dispute.run_id, dispute.line_no),
        "is_overdue": is_open and dispute.due_on < civil_date(now),
    }


async def withdraw(
    session: AsyncSession, caller: Caller, *, dispute_id: UUID, version: int, now: datetime
) -> MyDispute:
    """Take a dispute back, so that the payout goes on; raises Stale or DisputeClosed."""
    async with district_wide(session):
        dispute, _ = await open_one(session, caller, dispute_id=dispute_id, version=version)
        if dispute.member_id != caller.member_id:
            raise NotFound
        dispute.change(now, status=DisputeStatus.WITHDRAWN.value, closed_at=now)
        await session.flush()
        if dispute.holds:
            await payout_holds.let_go(session, dispute)
    return shown(dispute, now=now)


async def open_one(
    session: AsyncSession, caller: Caller, *, dispute_id: UUID, version: int
) -> tuple[PayoutDispute, PayoutRun]:
    """Give a dispute that waits, locked after its run, district-wide.

    Raises NotFound, Stale or DisputeClosed.
    """
    key = (caller.district_code, dispute_id)
    found = await session.get(PayoutDispute, key)
    if found is None:
        raise NotFound
    run = await payout_holds.hold_run(
        session, district_code=caller.district_code, run_id=found.run_id
    )
    dispute = await session.get(PayoutDispute, key, with_for_update=True, populate_existing=True)
    if dispute is None:
        raise NotFound
    concurrency.require_version(dispute.version, version)
    if dispute.status != DisputeStatus.OPEN:
        raise DisputeClosed
    return dispute, run
