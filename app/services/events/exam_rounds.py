"""Exam rounds: numbered without overlap in the order of their dates, open until they are closed."""

from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, locks, reach
from app.clock import CIVIL_ZONE, civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.events.exam_rounds import (
    ExamRound,
    RoundCreate,
    RoundFilters,
    RoundRead,
    RoundStatus,
    RoundUpdate,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.services.events import excuses

ACCEPTS_DAYS = 15
"""How long late batches are taken after a round's last day, unless the round says otherwise."""

_STATUS = (
    "case when r.status = 'open' then 'open'"
    " when r.accepts_until < :now then 'final' else 'closed' end"
)
_PLAIN = "r.id, r.sequence, r.name, r.starts_on, r.ends_on, r.version"
LISTING = Listing(
    columns=(
        f"{_PLAIN}, {instant('r.accepts_until')}, {_STATUS} as status, {instant('r.closed_at')},"
        f" {instant('r.created_at')}, {instant('r.updated_at')}"
    ),
    source="exam_rounds r",
    order=(Key("sequence", "r.sequence", "int"),),
    descending=True,
)
_FIND = (
    f"select {_PLAIN}, r.accepts_until, {_STATUS} as status, r.closed_at, r.created_at,"
    " r.updated_at from exam_rounds r where r.district_code = :district_code and r.id = :id"
)
_NEXT = text(
    "select coalesce(max(sequence), 0) + 1 from exam_rounds where district_code = :district_code"
)
_NEIGHBOURS = text(
    "select"
    " count(*) filter (where starts_on <= :ends_on and ends_on >= :starts_on) as overlapping,"
    " count(*) filter (where (sequence < :sequence) <> (starts_on < :starts_on)) as misordered"
    " from exam_rounds where district_code = :district_code and id <> :id"
    " and sequence <> :sequence"
)
# A run that is being calculated holds its round: what it grants is seen then, or nothing is.
_HOLD_ALL = text(
    "select sequence from exam_rounds where district_code = :district_code order by sequence"
    " for share"
)
_AFTER_CALCULATIONS = text(
    "select greatest(:now, max(calculated_at) + interval '1 microsecond') from payout_runs"
    " where district_code = :district_code and round_sequence = :sequence"
)
_EVENTS_OUTSIDE = text(
    "select count(*) from service_events where district_code = :district_code"
    " and round_sequence = :sequence and status <> 'cancelled'"
    " and (starts_at < :first or ends_at > :last)"
)
_TO_COME = text(
    "select id, count(*) over () as count from service_events"
    " where district_code = :district_code and round_sequence = :sequence"
    " and status in ('published', 'in_progress') and ends_at > :now"
    " order by starts_at, id limit :named"
)
_NAMED = 50
"""Of the events that stand in the way of closing, how many are named."""


class RoundClosed(Problem):
    """The round is closed."""

    code, status = "round_closed", 409


class RoundNotBegun(Problem):
    """The round has not begun; `starts_on` is its first day."""

    code, status = "round_not_begun", 409

    def __init__(self, starts_on: date | None = None) -> None:
        """Say when the round begins."""
        super().__init__(extra={} if starts_on is None else {"starts_on": starts_on.isoformat()})


class EventsToCome(Problem):
    """Health checks of the round are still to come; `event_ids` names `count`, or the first."""

    code, status = "events_to_come", 409


class RoundsOverlap(Problem):
    """Another round of the district has some of these days."""

    code, status = "rounds_overlap", 409


class RoundsOutOfOrder(Problem):
    """The order of the numbers would not be the order of the dates."""

    code, status = "rounds_out_of_order", 409


class RoundNumberTaken(Problem):
    """Another round of the district has this number."""

    code, status = "round_number_taken", 409
    constraint = "uq_exam_rounds_sequence"


class EventsOutsideRound(Problem):
    """Events of the round lie outside its new dates."""

    code, status = "events_outside_round", 409


def first_instant(day: date) -> datetime:
    """Give the instant at which a civil day begins."""
    return datetime.combine(day, time.min, CIVIL_ZONE)


def last_instant(day: date) -> datetime:
    """Give the last instant of a civil day."""
    return datetime.combine(day, time.max, CIVIL_ZONE)


def status_at(record: ExamRound, now: datetime) -> RoundStatus:
    """Give where a round stands: a closed one is final when late batches are no longer taken."""
    if record.status == RoundStatus.OPEN:
        return RoundStatus.OPEN
    return RoundStatus.FINAL if record.accepts_until < now else RoundStatus.CLOSED


def _read(record: ExamRound, now: datetime) -> RoundRead:
    return RoundRead.model_validate(record).model_copy(update={"status": status_at(record, now)})


async def list_rounds(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: RoundFilters,
    now: datetime,
) -> Slice:
    """Give a page of the district's rounds, the latest first."""
    where = Where({"district_code": caller.district_code, "now": now})
    where.add("r.district_code = :district_code")
    where.equal(f"({_STATUS})", "status", filters.status)
    for name, column, operator in (
        ("sequence_gte", "r.sequence", ">="),
        ("sequence_lt", "r.sequence", "<"),
        ("starts_on_gte", "r.starts_on", ">="),
        ("starts_on_lt", "r.starts_on", "<"),
        ("updated_since", "r.updated_at", ">="),
    ):
        if (value := getattr(filters, name)) is not None:
            where.add(f"{column} {operator} :{name}", **{name: value})
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, *, round_id: UUID, now: datetime
) -> RoundRead:
    """Give one round, or refuse with NotFound."""
    params = {"district_code": caller.district_code, "id": round_id, "now": now}
    row = await statements.fetch_row(_FIND, params)
    if row is None:
        raise NotFound
    return RoundRead(**row)


async def create(
    session: AsyncSession, caller: Caller, *, body: RoundCreate, now: datetime
) -> RoundRead:
    """Open a round; one of the past may be entered too."""
    reach.require_area(caller, caller.district_code)
    await locks.hold(session, f"exam_rounds/{caller.district_code}")
    sequence = body.sequence or await session.scalar(_NEXT, {"district_code": caller.district_code})
    record = ExamRound(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        sequence=sequence,
        name=body.name,
        starts_on=body.starts_on,
        ends_on=body.ends_on,
        accepts_until=body.accepts_until or _accepts_until(body.ends_on),
        status=RoundStatus.OPEN,
        closed_at=None,
    )
    await _check(session, record)
    session.add(record)
    await session.flush()
    return _read(record, now)


def _accepts_until(ends_on: date) -> datetime:
    return last_instant(ends_on + timedelta(days=ACCEPTS_DAYS))


async def _check(session: AsyncSession, record: ExamRound) -> None:
    if record.ends_on < record.starts_on:
        raise Invalid.at("/ends_on", "ends_before_it_starts")
    if record.accepts_until < first_instant(record.ends_on + timedelta(days=1)):
        raise Invalid.at("/accepts_until", "accepts_until_before_end")
    facts: dict[str, Any] = {
        name: getattr(record, name)
        for name in ("district_code", "id", "sequence", "starts_on", "ends_on")
    }
    neighbours = (await session.execute(_NEIGHBOURS, facts)).one()
    if neighbours.overlapping:
        raise RoundsOverlap
    if neighbours.misordered:
        raise RoundsOutOfOrder


async def locked(session: AsyncSession, caller: Caller, *, round_id: UUID) -> ExamRound:
    """Give a round that nobody else changes until the transaction ends; raises NotFound."""
    async with district_wide(session):
        record = await session.scalar(
            select(ExamRound)
            .where(
                col(ExamRound.district_code) == caller.district_code,
                col(ExamRound.id) == round_id,
            )
            .with_for_update(key_share=True)
        )
    if record is None:
        raise NotFound
    return record


async def hold_all(session: AsyncSession, *, district_code: str) -> None:
    """Wait for the runs of a district that are being calculated, and have later ones wait."""
    await session.execute(_HOLD_ALL, {"district_code": district_code})


async def held_open(
    session: AsyncSession, caller: Caller, which: ColumnElement[bool]
) -> ExamRound | None:
    """Give a round that cannot be closed meanwhile; raises RoundClosed."""
    async with district_wide(session):
        held_in = await session.scalar(
            select(ExamRound)
            .where(col(ExamRound.district_code) == caller.district_code, which)
            .with_for_update(read=True)
        )
    if held_in is not None and held_in.status != RoundStatus.OPEN:
        raise RoundClosed
    return held_in


def require_begun(record: ExamRound, now: datetime) -> None:
    """Raise RoundNotBegun before the first civil day of a round."""
    if civil_date(now) < record.starts_on:
        raise RoundNotBegun(record.starts_on)


async def _locked_version(
    session: AsyncSession, caller: Caller, *, round_id: UUID, version: int
) -> ExamRound:
    record = await locked(session, caller, round_id=round_id)
    reach.require_area(caller, caller.district_code)
    concurrency.require_version(record.version, version)
    if record.status != RoundStatus.OPEN:
        raise RoundClosed
    return record


async def update(
    session: AsyncSession,
    caller: Caller,
    *,
    round_id: UUID,
    version: int,
    body: RoundUpdate,
    now: datetime,
) -> RoundRead:
    """Change an open round; its events must stay within its dates."""
    await locks.hold(session, f"exam_rounds/{caller.district_code}")
    record = await _locked_version(session, caller, round_id=round_id, version=version)
    for name, value in body.changes().items():
        setattr(record, name, value)
    if record.accepts_until is None:
        record.accepts_until = _accepts_until(record.ends_on)
    with session.no_autoflush:
        await _check(session, record)
        await _require_events_within(session, record)
    record.version, record.updated_at = record.version + 1, now
    await session.flush()
    return _read(record, now)


async def _require_events_within(session: AsyncSession, record: ExamRound) -> None:
    params = {
        "district_code": record.district_code,
        "sequence": record.sequence,
        "first": first_instant(record.starts_on),
        "last": last_instant(record.ends_on),
    }
    if await session.scalar(_EVENTS_OUTSIDE, params):
        raise EventsOutsideRound


async def _refuse_to_come(session: AsyncSession, record: ExamRound, now: datetime) -> None:
    params = {
        "district_code": record.district_code,
        "sequence": record.sequence,
        "now": now,
        "named": _NAMED,
    }
    if events := (await session.execute(_TO_COME, params)).all():
        ids = [str(event.id) for event in events]
        raise EventsToCome(extra={"count": events[0].count, "event_ids": ids})


async def _closing(session: AsyncSession, record: ExamRound, now: datetime) -> datetime:
    """Give the instant of a closing: later than the calculations that it had to wait for."""
    async with district_wide(session):
        key = {"district_code": record.district_code, "sequence": record.sequence, "now": now}
        last: datetime = (await session.execute(_AFTER_CALCULATIONS, key)).scalar_one()
    return last


async def close(
    session: AsyncSession, caller: Caller, *, round_id: UUID, version: int, now: datetime
) -> RoundRead:
    """Close a round and excuse every town in which no health check of it was held.

    From its first day on a round may be closed, once no check that members were told of is to
    come or under way: nobody could come to it any more. One that was begun counts as held.
    """
    record = await _locked_version(session, caller, round_id=round_id, version=version)
    require_begun(record, now)
    await _refuse_to_come(session, record, now)
    record.status, record.closed_at = RoundStatus.CLOSED, await _closing(session, record, now)
    record.version, record.updated_at = record.version + 1, now
    await session.flush()
    await excuses.excuse_towns_without_check(
        session, caller, sequence=record.sequence, now=record.closed_at
    )
    return _read(record, now)
