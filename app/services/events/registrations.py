"""Registrations: seats in the order of asking, and a waiting list that moves up."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import concurrency, kept_answers, reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.events.registrations import (
    Registration,
    RegistrationCreate,
    RegistrationFilters,
    RegistrationRead,
    RegistrationStatus,
)
from app.models.events.service_events import EventKind, EventStatus, ServiceEvent
from app.models.membership.members import Member
from app.models.shapes import rfc3339
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Busy, Invalid, NotFound, Problem
from app.roles import Role
from app.services.events import service_events
from app.services.events.exam_rounds import RoundClosed
from app.services.events.service_events import EventStepRefused

_TICK = timedelta(microseconds=1)
_TAKES = {EventStatus.PUBLISHED, EventStatus.IN_PROGRESS}
_TAKING = f"('{EventStatus.PUBLISHED}', '{EventStatus.IN_PROGRESS}')"
_PLAIN = "g.event_id, g.member_id, g.status, g.version"
PLACE = (
    "case when g.status = 'waiting' then (select count(*) from registrations w"
    " where w.district_code = g.district_code and w.event_id = g.event_id"
    " and w.status = 'waiting' and w.position <= g.position) end"
)
"""The place of a registration `g` among those who wait; whoever reads it must see them all."""
# Of a page the places are counted together: one by one would go through the line for each.
_LINE = (
    "select member_id, row_number() over (order by position) as position from registrations"
    " where district_code = :district_code and event_id = :event_id and status = 'waiting'"
)
LISTING = Listing(
    columns=f"{_PLAIN}, w.position, {instant('g.registered_at')}",
    source=f"registrations g left join ({_LINE}) w on w.member_id = g.member_id",
    order=(
        Key("registered_at", "g.registered_at", "timestamptz"),
        Key("member_id", "g.member_id", "uuid"),
    ),
    about="member_id",
)
_FIND = (
    f"select {_PLAIN}, {PLACE} as position, g.registered_at from registrations g"
    " where g.district_code = :district_code and g.event_id = :event_id"
    " and g.member_id = :member_id"
)
# Of an event that is over nobody is told who had a place and did not come.
_OVER = (
    f"(e.status = '{EventStatus.CLOSED}'"
    f" or e.ends_at < cast(:now as timestamptz) - interval '{service_events.AFTERMATH.days} day')"
)
_IS_OVER = (
    f"select {_OVER} from service_events e where e.district_code = :district_code"
    " and e.id = :event_id"
)
_CAME = (
    "exists (select from attendances t where t.district_code = g.district_code"
    " and t.event_id = g.event_id and t.member_id = g.member_id and t.voided_at is null)"
)
_TOLD = f"(not ({_IS_OVER}) or {_CAME})"
_MISSED = text(
    "select g.event_id from registrations g join service_events e"
    " on e.district_code = g.district_code and e.id = g.event_id"
    " where g.district_code = :district_code and g.member_id = :member_id"
    f" and {_OVER} and not {_CAME}"
)
_MEMBER = (
    "select m.id from members m, service_events e where m.district_code = :district_code"
    " and e.district_code = :district_code and e.id = :event_id and m.id = :member_id"
    " and m.erased_at is null"
)
# Who is being erased is waited for, and then no longer found.
_HOLD = " for key share of m"
_GIVE_UP = text(
    "update registrations g set status = 'cancelled', version = g.version + 1"
    " where g.district_code = :district_code and g.member_id = :member_id"
    " and g.event_id = any(:event_ids) and g.status <> 'cancelled'"
    # A seat in which she was is not free.
    f" and not {_CAME} returning g.event_id"
)
_TAKEN_SINCE = text(
    "select exists (select from registrations g join service_events e"
    " on e.district_code = g.district_code and e.id = g.event_id"
    " where g.district_code = :district_code and g.member_id = :member_id"
    f" and g.status <> 'cancelled' and e.status in {_TAKING} and not {_OVER}"
    " and e.kind <> all(:kept)"
    " and g.event_id <> all(:event_ids))"
)
_IS_THERE = text(
    f"select {_CAME} from registrations g where g.district_code = :district_code"
    " and g.event_id = :event_id and g.member_id = :member_id"
)
_ROUND_IS_CLOSED = text(
    "select status <> 'open' from exam_rounds where district_code = :district_code"
    " and sequence = :sequence"
)
_QUEUE = text(
    "select coalesce(max(position), 0) + 1 as next, max(registered_at) as latest,"
    " count(*) filter (where status = 'registered') as seated"
    " from registrations where district_code = :district_code and event_id = :event_id"
)


class RegistrationNotOpen(Problem):
    """The event takes no registrations now; `opens_at` and `closes_at` say when."""

    code, status = "registration_not_open", 409


class AlreadyCheckedIn(Problem):
    """The member is at the event: her seat is taken, and nobody else can have it."""

    code, status = "already_checked_in", 409


async def list_registrations(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    event_id: UUID,
    filters: RegistrationFilters,
    now: datetime,
) -> Slice:
    """Give a page of an event's registrations in their order; to a member no other's than hers.

    Once the event is over, others see those alone who came.
    """
    await service_events.require_visible(statements, caller, event_id=event_id)
    own, params = reach.own(caller, member="g.member_id")
    where = Where(params | {"district_code": caller.district_code, "event_id": event_id})
    where.add(f"g.district_code = :district_code and g.event_id = :event_id and {own}")
    if caller.role is not Role.MEMBER:
        where.add(_TOLD, now=now)
    where.equal("g.status", "status", filters.status)
    seen = _seeing_the_line(statements.showing(event_id), caller)
    return await LISTING.page(seen, keyring, filters=filters, where=where)


async def _is_over_for(
    session: AsyncSession, caller: Caller, *, event_id: UUID, now: datetime
) -> bool:
    """Tell whether places are told no more but of who came: of an event that is over, to others."""
    key = {"district_code": caller.district_code, "event_id": event_id, "now": now}
    return caller.role is not Role.MEMBER and bool(await session.scalar(text(_IS_OVER), key))


def _seeing_the_line(statements: Statements, caller: Caller) -> Statements:
    """Let the place of a member, who reads her own registration alone, be told among all."""
    return statements.district_wide() if caller.role is Role.MEMBER else statements


async def find(
    statements: Statements, caller: Caller, *, event_id: UUID, member_id: UUID, now: datetime
) -> RegistrationRead:
    """Give one registration, or refuse with NotFound; a member's own alone to her.

    Once the event is over, others find the place of who came alone.
    """
    await service_events.require_visible(statements, caller, event_id=event_id)
    own, params = reach.own(caller, member="g.member_id")
    params |= {
        "district_code": caller.district_code,
        "event_id": event_id,
        "member_id": member_id,
    }
    seen = _seeing_the_line(statements.showing(event_id), caller)
    sql = f"{_FIND} and {own}"
    if caller.role is not Role.MEMBER:
        sql, params["now"] = f"{sql} and {_TOLD}", now
    row = await seen.fetch_row(sql, params, about="member_id")
    if row is None:
        raise NotFound
    return RegistrationRead(**row)


async def register(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    body: RegistrationCreate,
    now: datetime,
) -> tuple[RegistrationRead, bool]:
    """Give a member a seat or a place on the waiting list, and tell whether that is new."""
    # Seats are counted over all who asked, whom a member does not see.
    async with district_wide(session):
        return await _register(session, caller, event_id=event_id, body=body, now=now)


async def _register(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    body: RegistrationCreate,
    now: datetime,
) -> tuple[RegistrationRead, bool]:
    # The lock makes the requests for one event stand in line, so that seats are counted right.
    event = await service_events.locked(session, caller, event_id=event_id)
    member_id = body.member_id or caller.member_id
    if member_id is None:
        raise Invalid.at("/member_id", "missing")
    if not await _is_within(session, caller, event_id=event_id, member_id=member_id):
        raise Invalid.at("/member_id", "unknown_reference")
    if await _is_over_for(session, caller, event_id=event_id, now=now):
        raise _not_open(event)
    known = await session.get(Registration, (caller.district_code, event_id, member_id))
    # Who cancelled since is not registered anew by a request that comes late once more.
    stands = kept_answers.is_repeat(session)
    if known is not None and (stands or known.status != RegistrationStatus.CANCELLED):
        return await _read(session, known), False
    _require_open(event, now)
    await _refuse_closed_round(session, event)
    registration = await _seat(session, event, known, member_id=member_id, now=now)
    return await _read(session, registration), True


async def _read(session: AsyncSession, registration: Registration) -> RegistrationRead:
    key = registration.model_dump(include={"district_code", "event_id", "member_id"})
    row = (await session.execute(text(_FIND), key)).mappings().one()
    return RegistrationRead(**row)


async def _is_within(
    session: AsyncSession, caller: Caller, *, event_id: UUID, member_id: UUID
) -> bool:
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id", event="e.id"
    )
    params |= {
        "district_code": caller.district_code,
        "event_id": event_id,
        "member_id": member_id,
    }
    return await session.scalar(text(f"{_MEMBER} and {condition}{_HOLD}"), params) is not None


def _require_open(event: ServiceEvent, now: datetime) -> None:
    opens_at, closes_at = event.registration_opens_at, event.registration_closes_at
    is_early = opens_at is not None and now < opens_at
    is_late = closes_at is not None and now >= closes_at
    if event.status not in _TAKES or is_early or is_late:
        raise _not_open(event)


def _not_open(event: ServiceEvent) -> RegistrationNotOpen:
    opens_at, closes_at = event.registration_opens_at, event.registration_closes_at
    return RegistrationNotOpen(
        extra={
            "event_status": event.status,
            "opens_at": None if opens_at is None else rfc3339(opens_at),
            "closes_at": None if closes_at is None else rfc3339(closes_at),
        }
    )


async def _refuse_closed_round(session: AsyncSession, event: ServiceEvent) -> None:
    # Not held: a calculation holds its round for long, and a round with checks to come stays open.
    params = {"district_code": event.district_code, "sequence": event.round_sequence}
    if event.round_sequence is not None and await session.scalar(_ROUND_IS_CLOSED, params):
        raise RoundClosed


async def _seat(
    session: AsyncSession,
    event: ServiceEvent,
    known: Registration | None,
    *,
    member_id: UUID,
    now: datetime,
) -> Registration:
    params: dict[str, Any] = {"district_code": event.district_code, "event_id": event.id}
    queue = (await session.execute(_QUEUE, params)).one()
    has_seat = event.capacity is None or queue.seated < event.capacity
    facts: dict[str, Any] = {
        "position": queue.next,
        "status": (RegistrationStatus.REGISTERED if has_seat else RegistrationStatus.WAITING).value,
        # In the order of the line, also when requests come in at once.
        "registered_at": now if queue.latest is None else max(now, queue.latest + _TICK),
        "version": 1 if known is None else known.version + 1,
    }
    registration = known or Registration(**params, member_id=member_id, **facts)
    for name, value in facts.items():
        setattr(registration, name, value)
    session.add(registration)
    await session.flush()
    return registration


async def cancel(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    member_id: UUID,
    version: int,
    now: datetime,
) -> RegistrationRead:
    """Give a place back, unless she came (AlreadyCheckedIn); the first who waits gets the seat."""
    async with district_wide(session):
        event = await service_events.locked(session, caller, event_id=event_id)
        if await _is_over_for(session, caller, event_id=event_id, now=now):
            raise EventStepRefused(event.status)
        registration = await session.get(Registration, (caller.district_code, event_id, member_id))
        is_foreign = caller.role is Role.MEMBER and member_id != caller.member_id
        if registration is None or is_foreign:
            raise NotFound
        concurrency.require_version(registration.version, version)
        if registration.status == RegistrationStatus.CANCELLED:
            return await _read(session, registration)
        if event.status not in _TAKES:
            raise EventStepRefused(event.status)
        key = {"district_code": caller.district_code, "event_id": event_id}
        if await session.scalar(_IS_THERE, key | {"member_id": member_id}):
            raise AlreadyCheckedIn
        registration.status = RegistrationStatus.CANCELLED.value
        registration.version += 1
        await service_events.admit_waiting(session, event)
        return await _read(session, registration)


async def missed(
    session: AsyncSession, *, district_code: str, member_id: UUID, now: datetime
) -> set[UUID]:
    """Give the events that are over at which a member had a place and to which she did not come."""
    key = {"district_code": district_code, "member_id": member_id, "now": now}
    return set(await session.scalars(_MISSED, key))


async def hold_places(
    session: AsyncSession,
    caller: Caller,
    *,
    member_id: UUID,
    now: datetime,
    kept: Collection[EventKind] = (),
) -> list[ServiceEvent]:
    """Give the events that are not over and at which a member has a place, locked in their order.

    Of the kinds at which she keeps hers there are none. Asked before she is locked herself, as who
    registers her does; for a rule of the whole district.
    """
    places = select(col(Registration.event_id)).where(
        col(Registration.district_code) == caller.district_code,
        col(Registration.member_id) == member_id,
        col(Registration.status) != RegistrationStatus.CANCELLED,
    )
    found = await session.scalars(
        select(ServiceEvent)
        .where(
            col(ServiceEvent.district_code) == caller.district_code,
            col(ServiceEvent.status).in_(_TAKES),
            # By a place that is given up there it would be seen that she did not come.
            col(ServiceEvent.ends_at) >= now - service_events.AFTERMATH,
            col(ServiceEvent.kind).not_in(kept),
            col(ServiceEvent.id).in_(places),
        )
        .order_by(col(ServiceEvent.id))
        .with_for_update(key_share=True)
    )
    return list(found)


async def give_up(
    session: AsyncSession,
    member: Member,
    events: Sequence[ServiceEvent],
    *,
    now: datetime,
    kept: Collection[EventKind] = (),
) -> None:
    """Cancel the places of a member who goes, once she is locked; the first who wait get the seats.

    Moving to another association frees none: events are open to all members of the district.
    Raises Busy when she was registered between being asked for her places and being locked.
    """
    held = {event.id: event for event in events}
    key = member.key | {"event_ids": list(held)}
    if await session.scalar(_TAKEN_SINCE, key | {"kept": list(kept), "now": now}):
        raise Busy
    freed = (await session.scalars(_GIVE_UP, key)).all()
    for event_id in freed:
        await service_events.admit_waiting(session, held[event_id])
