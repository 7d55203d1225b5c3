"""Service events: who sees them, and their way from published to closed or cancelled."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import concurrency, reach
from app.crypto import Keyring
from app.database import Statements, district_wide, show
from app.identity import Caller
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import (
    HEALTH_KINDS,
    EventFilters,
    EventKind,
    EventRead,
    EventStatus,
    ServiceEvent,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.roles import Right, Role
from app.services.events import attendance_flags, exam_rounds, told_counts
from app.telling import tells

_UNLIMITED = 2**31 - 1
LONGEST = timedelta(days=31)
"""How long an event may last: while it does, those who have a place are told."""

AFTERMATH = timedelta(days=1)
"""How long after its end an event that nobody closes is over."""

# What is spoken of before an audience says nothing of those who listen.
_BEFORE_AN_AUDIENCE = {
    EventKind.LECTURE,
    EventKind.MOBILE_CLASS,
    EventKind.FILM_SCREENING,
    EventKind.PUBLICITY,
}
_SEE_NO_DRAFTS = {Role.MEMBER, Role.GUIDE, Role.DATA_PLATFORM}
_PLAIN = (
    "e.id, e.kind, e.title, e.venue, e.area_code, e.association_id, r.id as exam_round_id,"
    " e.round_sequence, e.capacity, e.status, e.status_reason, e.version"
)
_INSTANTS = (
    "e.starts_at", "e.ends_at", "e.registration_opens_at", "e.registration_closes_at",
    "e.created_at", "e.updated_at",
)  # fmt: skip
_SOURCE = (
    "service_events e left join exam_rounds r"
    " on r.district_code = :district_code and r.sequence = e.round_sequence"
)
LISTING = Listing(
    columns=", ".join([_PLAIN, *map(instant, _INSTANTS)]),
    source=_SOURCE,
    order=(Key("starts_at", "e.starts_at", "timestamptz"), Key("id", "e.id", "uuid")),
)
_REGISTERED = (
    "(select count(*) from registrations g where g.district_code = :district_code"
    " and g.event_id = e.id and g.status = '{status}') as {status}_count"
)
_ATTENDED = (
    "(select count(*) from attendances t where t.district_code = :district_code"
    " and t.event_id = e.id and t.voided_at is null) as attended_count"
)
_FIND = (
    f"select {_PLAIN}, {', '.join(_INSTANTS)}, {_REGISTERED.format(status='registered')},"
    f" {_REGISTERED.format(status='waiting')}, {_ATTENDED} from {_SOURCE}"
    " where e.district_code = :district_code and e.id = :id"
)
_ADMIT = text(
    "update registrations set status = 'registered', version = version + 1"
    " where district_code = :district_code and event_id = :event_id and member_id in ("
    " select member_id from registrations where district_code = :district_code"
    " and event_id = :event_id and status = 'waiting' order by position"
    " limit (select greatest(cast(:capacity as bigint) - count(*), 0) from registrations"
    " where district_code = :district_code and event_id = :event_id and status = 'registered'))"
)
_SEATED = text(
    "select count(*) from registrations where district_code = :district_code"
    " and event_id = :event_id and status = 'registered'"
)
_HAS_ATTENDANCES = text(
    "select exists (select from attendances where district_code = :district_code"
    " and event_id = :event_id and voided_at is null)"
)


class HealthChecksAreRunByOfficers(Problem):
    """The employer's side neither runs health checks nor sees who was at one."""

    code, status = "health_checks_are_run_by_officers", 403


class EventStepRefused(Problem):
    """The event's status does not allow this step; `event_status` is what it is."""

    code, status = "event_step_refused", 409

    def __init__(self, event_status: str = "") -> None:
        """Say what the event's status is."""
        super().__init__(extra={"event_status": event_status})


class EventEndsTooLate(Problem):
    """Begun now the event would last for more than a month; its end is to be mended first."""

    code, status = "event_ends_too_late", 409


class EventHasAttendances(Problem):
    """Members came to the event, so it cannot be cancelled."""

    code, status = "event_has_attendances", 409


def visible(caller: Caller) -> tuple[str, dict[str, Any]]:
    """Give the condition on events `e` that keeps to those the caller may know of."""
    condition, params = reach.within(
        caller, area="e.area_code", association="e.association_id", event="e.id"
    )
    if caller.role in _SEE_NO_DRAFTS:
        condition += " and e.status <> 'draft'"
    return condition, params


def refuse_the_blind(caller: Caller, kind: str) -> None:
    """Raise HealthChecksAreRunByOfficers when the employer's side asks about a health check."""
    if caller.blind_to_health_checks and kind in HEALTH_KINDS:
        raise HealthChecksAreRunByOfficers


async def require_visible(statements: Statements, caller: Caller, *, event_id: UUID) -> EventStatus:
    """Give the status of an event within reach, whose members the caller may see.

    Raises NotFound, and HealthChecksAreRunByOfficers for who must not know its members.
    """
    condition, params = visible(caller)
    params |= {"district_code": caller.district_code, "id": event_id}
    row = await statements.fetch_row(
        "select e.kind, e.status from service_events e"
        f" where e.district_code = :district_code and e.id = :id and {condition}",
        params,
    )
    if row is None:
        raise NotFound
    refuse_the_blind(caller, row["kind"])
    return EventStatus(row["status"])


def refuse_telling(pointer: str, words: str | None, *, kind: str) -> None:
    """Refuse words that tell what is done at a health check or what was found there.

    Events of every kind are asked: a check that is called a consultation is one. A lecture may
    have contraception as its topic.
    """
    if words is not None and tells(words, before_an_audience=kind in _BEFORE_AN_AUDIENCE):
        raise Invalid.at(pointer, "telling_words")


async def list_events(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: EventFilters
) -> Slice:
    """Give a page of events in the order in which they start."""
    condition, params = visible(caller)
    where = Where(params | {"district_code": caller.district_code})
    where.add("e.district_code = :district_code")
    where.add(condition)
    where.equal("e.kind", "kind", filters.kind)
    where.equal("e.status", "status", filters.status)
    where.equal("e.association_id", "association_id", filters.association_id)
    where.equal("r.id", "exam_round_id", filters.exam_round_id)
    where.in_area("e.area_code", filters.area)
    for name, condition in (
        ("starts_at_gte", "e.starts_at >= :starts_at_gte"),
        ("starts_at_lt", "e.starts_at < :starts_at_lt"),
        ("updated_since", "e.updated_at >= :updated_since"),
    ):
        if (value := getattr(filters, name)) is not None:
            where.add(condition, **{name: value})
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, *, event_id: UUID, now: datetime
) -> EventRead:
    """Give one event with its counts, or refuse with NotFound."""
    condition, params = visible(caller)
    params |= {"district_code": caller.district_code, "id": event_id}
    wide = statements.district_wide()
    row = await wide.fetch_row(f"{_FIND} and {condition}", params)
    if row is None:
        raise NotFound
    if _is_entitled(caller, row["kind"]):
        return EventRead(**row)
    told = await told_counts.tens(wide, row, district_code=caller.district_code, now=now)
    return EventRead(**{**row, **told})


def _is_entitled(caller: Caller, kind: str) -> bool:
    """Tell whether a caller may know how many were at an event of a kind, and who."""
    if kind not in HEALTH_KINDS:
        return True
    is_apart = caller.blind_to_health_checks or caller.role is Role.MEMBER
    return not is_apart and caller.may(Right.READ_ATTENDANCES)


async def read(session: AsyncSession, caller: Caller, event: ServiceEvent) -> EventRead:
    """Give an event as the caller may see it within this transaction."""
    params = {"district_code": caller.district_code, "id": event.id}
    async with district_wide(session):
        found = (await session.execute(text(_FIND), params)).mappings().one()
    if _is_entitled(caller, event.kind):
        return EventRead(**found)
    # Of what is still changed nobody else is told a count.
    return EventRead(**{**found, **dict.fromkeys(told_counts.COUNTS)})


async def locked(session: AsyncSession, caller: Caller, *, event_id: UUID) -> ServiceEvent:
    """Give an event within reach that nobody else changes until the transaction ends."""
    hidden = {EventStatus.DRAFT} if caller.role in _SEE_NO_DRAFTS else set()
    event = await session.scalar(
        select(ServiceEvent)
        .where(
            col(ServiceEvent.district_code) == caller.district_code,
            col(ServiceEvent.id) == event_id,
            col(ServiceEvent.status).not_in(hidden),
            reach.clause(
                caller,
                area="service_events.area_code",
                association="service_events.association_id",
                event="service_events.id",
            ),
        )
        .with_for_update(key_share=True)
    )
    if event is None:
        raise NotFound
    refuse_the_blind(caller, event.kind)
    return event


async def begin_step(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    version: int,
    allowed: Collection[EventStatus],
) -> ServiceEvent:
    """Give an event, locked, whose version and status allow a change.

    Raises NotFound, Stale and EventStepRefused.
    """
    event = await locked(session, caller, event_id=event_id)
    await show(session, event.id)
    concurrency.require_version(event.version, version)
    if event.status not in allowed:
        raise EventStepRefused(event.status)
    return event


async def finish_step(
    session: AsyncSession, caller: Caller, event: ServiceEvent, now: datetime
) -> EventRead:
    """Store a changed event as its next version."""
    event.version, event.updated_at = event.version + 1, now
    await session.flush()
    return await read(session, caller, event)


async def round_of(session: AsyncSession, caller: Caller, event: ServiceEvent) -> ExamRound | None:
    """Give the round of a health exam, held open meanwhile; raises RoundClosed."""
    if event.round_sequence is None:
        return None
    which = col(ExamRound.sequence) == event.round_sequence
    return await exam_rounds.held_open(session, caller, which)


async def count_seated(session: AsyncSession, event: ServiceEvent) -> int:
    """Count who has a seat, over the whole district; with the event locked it stays so."""
    params = {"district_code": event.district_code, "event_id": event.id}
    async with district_wide(session):
        return int(await session.scalar(_SEATED, params) or 0)


async def admit_waiting(session: AsyncSession, event: ServiceEvent) -> None:
    """Give free seats to the waiting in their order; the event must be locked."""
    await session.flush()
    params = {
        "district_code": event.district_code,
        "event_id": event.id,
        "capacity": _UNLIMITED if event.capacity is None else event.capacity,
    }
    await session.execute(_ADMIT, params)


async def publish(
    session: AsyncSession, caller: Caller, *, event_id: UUID, version: int, now: datetime
) -> EventRead:
    """Show a draft to members, who may register from now on."""
    allowed = {EventStatus.DRAFT}
    event = await begin_step(session, caller, event_id=event_id, version=version, allowed=allowed)
    await round_of(session, caller, event)
    event.status = EventStatus.PUBLISHED
    return await finish_step(session, caller, event, now)


async def start(
    session: AsyncSession, caller: Caller, *, event_id: UUID, version: int, now: datetime
) -> EventRead:
    """Begin a published event: from now on members are checked in.

    A health exam begins no earlier than its round, and no event long before its end; raises
    RoundNotBegun and EventEndsTooLate.
    """
    allowed = {EventStatus.PUBLISHED}
    event = await begin_step(session, caller, event_id=event_id, version=version, allowed=allowed)
    held_in = await round_of(session, caller, event)
    if held_in is not None:
        exam_rounds.require_begun(held_in, now)
    if event.ends_at > now + LONGEST:
        raise EventEndsTooLate(days=LONGEST.days)
    event.status = EventStatus.IN_PROGRESS
    return await finish_step(session, caller, event, now)


async def close(
    session: AsyncSession, caller: Caller, *, event_id: UUID, version: int, now: datetime
) -> EventRead:
    """End an event that is in progress, for good, and look whether its attendance asks why."""
    allowed = {EventStatus.IN_PROGRESS}
    event = await begin_step(session, caller, event_id=event_id, version=version, allowed=allowed)
    event.status = EventStatus.CLOSED
    await session.flush()
    await attendance_flags.compute(
        session, district_code=caller.district_code, event_id=event_id, now=now
    )
    return await finish_step(session, caller, event, now)


async def cancel(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    version: int,
    reason: str,
    now: datetime,
) -> EventRead:
    """Call off an event to which nobody came; the reason is for those who registered."""
    allowed = {EventStatus.DRAFT, EventStatus.PUBLISHED, EventStatus.IN_PROGRESS}
    event = await begin_step(session, caller, event_id=event_id, version=version, allowed=allowed)
    params = {"district_code": caller.district_code, "event_id": event.id}
    refuse_telling("/reason", reason, kind=event.kind)
    if await session.scalar(_HAS_ATTENDANCES, params):
        raise EventHasAttendances
    event.status, event.status_reason = EventStatus.CANCELLED, reason
    return await finish_step(session, caller, event, now)
