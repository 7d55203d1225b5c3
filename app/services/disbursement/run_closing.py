"""Closing a run for good: once nothing of it is disputed, undecided or on its way."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import concurrency
from app.database import district_wide
from app.identity import Caller
from app.models.disbursement.payout_decisions import PENDING
from app.models.disbursement.payout_runs import RunRead, RunStatus
from app.models.disbursement.payouts import UNSETTLED
from app.problems import Problem
from app.services.disbursement import payout_runs
from app.services.disbursement.payout_runs import MakerIsChecker

_OPEN = text(
    "select (select count(*) from payout_disputes where district_code = :district_code"
    " and run_id = :run_id and status = 'open') as disputes,"
    " (select count(*) from payout_decisions where district_code = :district_code"
    f" and run_id = :run_id and status in {PENDING}) as decisions,"
    " (select count(*) from payouts where district_code = :district_code"
    " and round_sequence = :sequence and run_id = :run_id"
    f" and status in {UNSETTLED}) as payouts"
)


class MakerIsCloser(MakerIsChecker):
    """Whoever made or submitted a run does not close it."""

    constraint = "ck_payout_runs_maker_is_not_closer"


class CasesOpen(Problem):
    """Disputes, decisions or payouts under way keep a run from being closed."""

    code, status = "cases_open", 409


async def close(
    session: AsyncSession, caller: Caller, *, run_id: UUID, expected: int, now: datetime
) -> RunRead:
    """Close a settled run that somebody else made, for good: nothing is taken back any more.

    Raises MakerIsChecker or CasesOpen.
    """
    run, exam_round = await payout_runs.lock(session, caller, run_id=run_id)
    concurrency.require_version(run.version, expected)
    payout_runs.require_state(run, RunStatus.SETTLED)
    if caller.subject in {run.submitted_by, run.created_by}:
        raise MakerIsChecker
    async with district_wide(session):
        counts = dict((await session.execute(_OPEN, run.place)).mappings().one())
    if any(counts.values()):
        raise CasesOpen(**counts, extra={f"open_{name}": count for name, count in counts.items()})
    run.change(now, status=RunStatus.CLOSED.value, closed_by=caller.subject, closed_at=now)
    await session.flush()
    return payout_runs.shown(run, exam_round)
