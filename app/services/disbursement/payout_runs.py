"""Payout runs: from a draft to settled, with a maker and a checker."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import concurrency, reach
from app.crypto import Keyring
from app.database import Statements, district_wide, show
from app.identity import Caller
from app.models.disbursement.payout_runs import (
    Channel,
    PayoutRun,
    RunFilters,
    RunRead,
    RunStatus,
)
from app.models.disbursement.payouts import UNSETTLED, PayoutStatus
from app.models.events.exam_rounds import ExamRound
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.services.disbursement import calculations, voucher_issuing
from app.services.finance import reservations
from app.services.goods import gift_reservations
from app.services.lucky_draws import draw_tickets

LISTING = Listing(
    columns=(
        f"r.id, r.version, {instant('r.created_at')}, {instant('r.updated_at')},"
        " e.id as exam_round_id, r.round_sequence, r.policy_id, r.policy_number, r.area_code,"
        " r.channel, r.status, r.status_reason, r.payout_count, r.amount_fen, r.created_by,"
        f" {instant('r.calculated_at')}, r.submitted_by, {instant('r.submitted_at')},"
        f" r.approved_by, {instant('r.approved_at')}, {instant('r.settled_at')}, r.closed_by,"
        f" {instant('r.closed_at')}, r.failed_of"
    ),
    source=(
        "payout_runs r join exam_rounds e on e.district_code = r.district_code"
        " and e.sequence = r.round_sequence"
    ),
    order=(Key("id", "r.id", "uuid"),),
    descending=True,
)
_FIND = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from {LISTING.source}"
    " where r.district_code = :district_code and r.id = :id and {}) item"
)
_OPEN_CASES = (
    "(select count(*) from {} where district_code = :district_code and run_id = :run_id"
    " and holds and status = 'open')"
)
_PENDING = text(
    "select count(*) as pending,"
    f" count(*) filter (where status = '{PayoutStatus.PENDING}') as waiting,"
    f" count(*) filter (where status = '{PayoutStatus.SENDING}') as sending,"
    f" count(*) filter (where status = '{PayoutStatus.UNKNOWN}') as unknown,"
    f" count(*) filter (where status = '{PayoutStatus.HELD}') as held,"
    f" {_OPEN_CASES.format('payout_disputes')} as disputes,"
    f" {_OPEN_CASES.format('payout_decisions')} as decisions"
    " from payouts where district_code = :district_code"
    " and round_sequence = :sequence and run_id = :run_id"
    f" and status in {UNSETTLED}"
)


class RunStateForbids(Problem):
    """The run's state does not allow this step."""

    code, status = "run_state", 409


class OtherChannel(Problem):
    """The run's money reaches its members by another channel."""

    code, status = "run_channel", 409


class RoundStillOpen(Problem):
    """A run is submitted once its round is closed."""

    code, status = "round_still_open", 409


class CalculationOutdated(Problem):
    """The round closed, or an attendance of a member in it was voided, after it was calculated."""

    code, status = "calculation_outdated", 409


class RunEmpty(Problem):
    """The run grants nothing: there is nothing to approve or to hand out."""

    code, status = "run_empty", 409


class MakerIsChecker(Problem):
    """Whoever made or submitted a run cannot approve it."""

    code, status = "maker_is_checker", 403
    constraint = "ck_payout_runs_maker_is_not_checker"


class CreatorIsChecker(MakerIsChecker):
    """Whoever made a run cannot approve it."""

    constraint = "ck_payout_runs_creator_is_not_checker"


class PayoutsPending(Problem):
    """Payouts without a result keep a run from being settled."""

    code, status = "payouts_pending", 409


async def list_runs(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: RunFilters
) -> Slice:
    """Give a page of the runs within reach, the newest first."""
    condition, params = reach.within(caller, area="r.area_code")
    where = Where({"district_code": caller.district_code})
    where.add("r.district_code = :district_code and e.district_code = :district_code")
    where.add(condition, **params)
    where.equal("r.status", "status", filters.status)
    where.equal("e.id", "exam_round_id", filters.exam_round_id)
    where.equal("r.policy_id", "policy_id", filters.policy_id)
    where.equal("r.failed_of", "failed_of", filters.failed_of)
    where.in_area("r.area_code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, run_id: UUID) -> RunRead:
    """Give one run, or refuse with NotFound."""
    condition, params = reach.within(caller, area="r.area_code")
    params |= {"district_code": caller.district_code, "id": run_id}
    found = await statements.fetch_value(_FIND.format(condition), params)
    if found is None:
        raise NotFound
    return RunRead.model_validate_json(found)


async def calculate(
    session: AsyncSession, caller: Caller, *, run_id: UUID, expected: int, now: datetime
) -> RunRead:
    """Work out what the policy grants now; it may be repeated until the run is submitted."""
    run, exam_round = await _lock(session, caller, run_id=run_id, expected=expected)
    require_state(run, RunStatus.DRAFT, RunStatus.CALCULATED)
    async with district_wide(session):
        await calculations.grant(session, run, now=now)
    return await _step(session, run, exam_round, to=RunStatus.CALCULATED, now=now)


async def submit(
    session: AsyncSession, caller: Caller, *, run_id: UUID, expected: int, now: datetime
) -> RunRead:
    """Ask for approval of what was calculated since the round closed.

    Raises RoundStillOpen, CalculationOutdated or RunEmpty.
    """
    run, exam_round = await _lock(session, caller, run_id=run_id, expected=expected)
    require_state(run, RunStatus.CALCULATED)
    if exam_round.closed_at is None:
        raise RoundStillOpen
    if run.calculated_at is None or run.calculated_at < exam_round.closed_at:
        raise CalculationOutdated
    await _require_current(session, run)
    if not run.payout_count:
        raise RunEmpty
    run.submitted_by, run.submitted_at = caller.subject, now
    return await _step(session, run, exam_round, to=RunStatus.SUBMITTED, now=now)


async def approve(
    session: AsyncSession, caller: Caller, *, run_id: UUID, expected: int, now: datetime
) -> RunRead:
    """Approve a run that somebody else made and submitted, and reserve its money and its gifts.

    Raises MakerIsChecker, CalculationOutdated for one that can only be rejected by now, and
    reservations.FundMissing or FundsShort, gift_reservations.DepotMissing or GiftsShort, which
    reserve nothing.
    """
    run, exam_round = await _lock(session, caller, run_id=run_id, expected=expected)
    require_state(run, RunStatus.SUBMITTED)
    if caller.subject in {run.submitted_by, run.created_by}:
        raise MakerIsChecker
    await _require_current(session, run)
    run.approved_by, run.approved_at = caller.subject, now
    async with district_wide(session):
        await reservations.reserve(session, run, subject=caller.subject, now=now)
        await gift_reservations.reserve(session, run, subject=caller.subject, now=now)
    return await _step(session, run, exam_round, to=RunStatus.APPROVED, now=now)


async def _require_current(session: AsyncSession, run: PayoutRun) -> None:
    async with district_wide(session):
        is_outdated = await calculations.is_outdated(session, run)
    if is_outdated:
        raise CalculationOutdated


async def reject(
    session: AsyncSession,
    caller: Caller,
    *,
    run_id: UUID,
    expected: int,
    reason: str,
    now: datetime,
) -> RunRead:
    """Reject a submitted run for good; what it granted can be granted by another."""
    run, exam_round = await _lock(session, caller, run_id=run_id, expected=expected)
    require_state(run, RunStatus.SUBMITTED)
    run.status_reason = reason
    async with district_wide(session):
        await calculations.release(session, run)
    return await _step(session, run, exam_round, to=RunStatus.REJECTED, now=now)


async def cancel(
    session: AsyncSession, caller: Caller, *, run_id: UUID, expected: int, now: datetime
) -> RunRead:
    """Give a run up before it is approved; what it granted can be granted by another."""
    run, exam_round = await _lock(session, caller, run_id=run_id, expected=expected)
    require_state(run, RunStatus.DRAFT, RunStatus.CALCULATED, RunStatus.SUBMITTED)
    async with district_wide(session):
        await calculations.release(session, run)
    return await _step(session, run, exam_round, to=RunStatus.CANCELLED, now=now)


async def disburse(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    run_id: UUID,
    expected: int,
    now: datetime,
) -> RunRead:
    """Begin to hand out an approved run; its vouchers are issued, its tickets drawn.

    Raises draw_tickets.DrawNotOpen.
    """
    run, exam_round = await _lock(session, caller, run_id=run_id, expected=expected)
    require_state(run, RunStatus.APPROVED)
    async with district_wide(session):
        await draw_tickets.issue(session, run, now=now)
        await voucher_issuing.issue(session, keyring, run, now=now)
    return await _step(session, run, exam_round, to=RunStatus.DISBURSING, now=now)


async def settle(
    session: AsyncSession, caller: Caller, *, run_id: UUID, expected: int, now: datetime
) -> RunRead:
    """Close a run of which every payout is paid or failed; raises PayoutsPending.

    What failed may be granted by another run; what was not paid goes back to the funds and depots.
    """
    run, exam_round = await _lock(session, caller, run_id=run_id, expected=expected)
    require_state(run, RunStatus.DISBURSING)
    async with district_wide(session):
        pending = dict((await session.execute(_PENDING, run.place)).mappings().one())
        if pending["pending"]:
            raise PayoutsPending(**pending, extra={f"{k}_count": n for k, n in pending.items()})
        await calculations.release_failed(session, run)
        await reservations.release(session, run, subject=caller.subject, now=now)
        await gift_reservations.release(session, run, subject=caller.subject, now=now)
    run.settled_at = now
    return await _step(session, run, exam_round, to=RunStatus.SETTLED, now=now)


def with_round(caller: Caller, *, run_id: UUID) -> Select[PayoutRun, ExamRound]:
    """Select a run within reach together with its round."""
    return (
        select(PayoutRun, ExamRound)
        .join(
            ExamRound,
            (col(ExamRound.district_code) == col(PayoutRun.district_code))
            & (col(ExamRound.sequence) == col(PayoutRun.round_sequence)),
        )
        .where(
            col(PayoutRun.district_code) == caller.district_code,
            col(PayoutRun.id) == run_id,
            reach.clause(caller, area="payout_runs.area_code"),
        )
    )


async def lock(
    session: AsyncSession, caller: Caller, *, run_id: UUID
) -> tuple[PayoutRun, ExamRound]:
    """Give a run within reach, held until the transaction ends, with its round."""
    statement = with_round(caller, run_id=run_id).with_for_update(of=PayoutRun)
    row = (await session.execute(statement)).one_or_none()
    if row is None:
        raise NotFound
    await show(session, run_id)
    return row[0], row[1]


async def _lock(
    session: AsyncSession, caller: Caller, *, run_id: UUID, expected: int
) -> tuple[PayoutRun, ExamRound]:
    run, exam_round = await lock(session, caller, run_id=run_id)
    concurrency.require_version(run.version, expected)
    return run, exam_round


def require_state(run: PayoutRun, *allowed: RunStatus) -> None:
    """Raise RunStateForbids unless the run is in one of these states."""
    if run.status not in allowed:
        extra = {"run_status": run.status, "allowed": [status.value for status in allowed]}
        raise RunStateForbids(run_status=run.status, extra=extra)


def require_channel(run: PayoutRun | RunRead, channel: Channel) -> None:
    """Raise OtherChannel unless the run's money goes by this channel, and so by no other too."""
    if run.channel != channel:
        raise OtherChannel(channel=run.channel, extra={"channel": run.channel})


async def _step(
    session: AsyncSession, run: PayoutRun, exam_round: ExamRound, *, to: RunStatus, now: datetime
) -> RunRead:
    run.status = to
    run.version += 1
    run.updated_at = now
    await session.flush()
    return shown(run, exam_round)


def shown(run: PayoutRun, exam_round: ExamRound) -> RunRead:
    """Give a run as it is read, with its round."""
    facts = run.model_dump(exclude={"district_code"})
    return RunRead(**facts, exam_round_id=exam_round.id)
