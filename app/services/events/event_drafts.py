"""What a service event is made of: its place, its round and its times."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, reach
from app.clock import civil_date
from app.identity import Caller
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import (
    EventCreate,
    EventKind,
    EventRead,
    EventStatus,
    EventUpdate,
    ServiceEvent,
)
from app.models.organisation.areas import Area
from app.models.organisation.associations import Association, AssociationStatus
from app.problems import Invalid, field_error
from app.roles import Role
from app.services.events import exam_rounds, service_events
from app.services.events.service_events import AFTERMATH, LONGEST

_MENDABLE = {"venue", "ends_at", "capacity"}
"""What of an event in progress may be changed: where, how long and for how many it is."""


class Place(NamedTuple):
    """Where an event is, and who holds it."""

    area_code: str
    association_id: UUID | None


async def create(
    session: AsyncSession, caller: Caller, *, body: EventCreate, now: datetime
) -> EventRead:
    """Draft an event of an association or of an area."""
    service_events.refuse_the_blind(caller, body.kind)
    _refuse_telling(body, kind=body.kind)
    place = await _place(session, caller, body)
    held_in = await _round(session, caller, body)
    facts = body.model_dump(exclude={"kind", "area_code", "association_id", "exam_round_id"})
    event = ServiceEvent(
        **facts,
        **place._asdict(),
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        kind=body.kind.value,
        round_sequence=None if held_in is None else held_in.sequence,
        status=EventStatus.DRAFT.value,
        status_reason=None,
    )
    _check_times(event, held_in)
    session.add(event)
    await session.flush()
    return await service_events.read(session, caller, event)


def _refuse_telling(body: EventCreate | EventUpdate, *, kind: str) -> None:
    service_events.refuse_telling("/title", body.title, kind=kind)
    service_events.refuse_telling("/venue", body.venue, kind=kind)


async def _place(session: AsyncSession, caller: Caller, body: EventCreate) -> Place:
    if body.association_id is None:
        return Place(await _own_area(session, caller, body.area_code), None)
    area_code = await session.scalar(
        select(col(Association.area_code)).where(
            col(Association.district_code) == caller.district_code,
            col(Association.id) == body.association_id,
            col(Association.status) != AssociationStatus.DISSOLVED,
            reach.clause(caller, area="associations.area_code", association="associations.id"),
        )
    )
    if area_code is None:
        raise Invalid.at("/association_id", "unknown_reference")
    if body.area_code not in {None, area_code}:
        raise Invalid.at("/area_code", "area_of_association")
    return Place(area_code, body.association_id)


async def _own_area(session: AsyncSession, caller: Caller, area_code: str | None) -> str:
    if caller.role is Role.SECRETARY:
        raise Invalid.at("/association_id", "missing")
    if area_code is None:
        raise Invalid.at("/area_code", "area_or_association")
    if await session.get(Area, area_code) is None:
        raise Invalid.at("/area_code", "unknown_reference")
    if not reach.covers(caller, area_code):
        raise Invalid.at("/area_code", "out_of_reach")
    return area_code


async def _round(session: AsyncSession, caller: Caller, body: EventCreate) -> ExamRound | None:
    if body.kind is not EventKind.HEALTH_EXAM:
        if body.exam_round_id is not None:
            raise Invalid.at("/exam_round_id", "only_for_health_exams")
        return None
    if body.exam_round_id is None:
        raise Invalid.at("/exam_round_id", "missing")
    held_in = await exam_rounds.held_open(session, caller, col(ExamRound.id) == body.exam_round_id)
    if held_in is None:
        raise Invalid.at("/exam_round_id", "unknown_reference")
    return held_in


def _check_times(event: ServiceEvent, held_in: ExamRound | None) -> None:
    if event.ends_at <= event.starts_at:
        raise Invalid.at("/ends_at", "ends_before_it_starts")
    opens_at, closes_at = event.registration_opens_at, event.registration_closes_at
    if opens_at is not None and closes_at is not None and closes_at <= opens_at:
        raise Invalid.at("/registration_closes_at", "ends_before_it_starts")
    if held_in is not None:
        _require_within(event, held_in)
    if event.ends_at > event.starts_at + LONGEST:
        raise Invalid.at("/ends_at", "lasts_too_long", days=LONGEST.days)


def _require_within(event: ServiceEvent, held_in: ExamRound) -> None:
    for name, value in (("starts_at", event.starts_at), ("ends_at", event.ends_at)):
        if not held_in.starts_on <= civil_date(value) <= held_in.ends_on:
            first, last = held_in.starts_on, held_in.ends_on
            raise Invalid.at(f"/{name}", "outside_round", first=first, last=last)


def _refuse_fixed(event: ServiceEvent, body: EventUpdate) -> None:
    if event.status != EventStatus.IN_PROGRESS:
        return
    errors = [
        field_error(f"/{name}", "fixed_once_begun")
        for name, value in body.changes().items()
        if name not in _MENDABLE and value != getattr(event, name)
    ]
    if errors:
        raise Invalid(errors=errors)


def _refuse_later_end(event: ServiceEvent, body: EventUpdate, now: datetime) -> None:
    """Refuse an end by which places would be told on, or again, of who did not come."""
    if body.ends_at is None or event.status != EventStatus.IN_PROGRESS:
        return
    if body.ends_at == event.ends_at:
        return
    if event.ends_at < now - AFTERMATH:
        raise Invalid.at("/ends_at", "fixed_once_over")
    if body.ends_at > max(event.ends_at, now + AFTERMATH):
        raise Invalid.at("/ends_at", "ends_tomorrow")


async def update(
    session: AsyncSession,
    caller: Caller,
    *,
    event_id: UUID,
    version: int,
    body: EventUpdate,
    now: datetime,
) -> EventRead:
    """Change an event that is not over; more seats admit the waiting at once.

    Fewer seats than are taken are refused: whose they were is not for a number to decide. Once
    it has begun, only what may turn out otherwise on the day is changed, and its end by a day.
    """
    allowed = {EventStatus.DRAFT, EventStatus.PUBLISHED, EventStatus.IN_PROGRESS}
    event = await service_events.begin_step(
        session, caller, event_id=event_id, version=version, allowed=allowed
    )
    _refuse_telling(body, kind=event.kind)
    _refuse_fixed(event, body)
    _refuse_later_end(event, body, now)
    held_in = await service_events.round_of(session, caller, event)
    await _require_seats(session, event, body)
    for name, value in body.changes().items():
        setattr(event, name, value)
    _check_times(event, held_in)
    answer = await service_events.finish_step(session, caller, event, now)
    if "capacity" not in body.model_fields_set:
        return answer
    await service_events.admit_waiting(session, event)
    return await service_events.read(session, caller, event)


async def _require_seats(session: AsyncSession, event: ServiceEvent, body: EventUpdate) -> None:
    # The event is locked, as it is for who registers: nobody takes a seat meanwhile.
    if body.capacity is None or (event.capacity is not None and body.capacity >= event.capacity):
        return
    seated = await service_events.count_seated(session, event)
    if body.capacity < seated:
        raise Invalid.at("/capacity", "fewer_than_registered", registered=seated)
