"""`/v1/service-events`: what members come to, from draft to closed."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.events.service_events import (
    EventCancel,
    EventCreate,
    EventFilters,
    EventItem,
    EventRead,
    EventUpdate,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadEvents, MayWriteEvents
from app.services.events import event_drafts, service_events
from app.services.events.exam_rounds import RoundClosed, RoundNotBegun
from app.services.events.service_events import (
    EventEndsTooLate,
    EventHasAttendances,
    EventStepRefused,
    HealthChecksAreRunByOfficers,
)
from app.transactions import OneStatement, Session

router = concurrency.router("/service-events", "service-events")
EventId = Annotated[Id, Path(description="The event's id.")]


@router.get("", summary="List service events", response_model=Page[EventItem])
async def list_service_events(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadEvents,
    filters: Annotated[EventFilters, Query()],
) -> Response:
    """List events within reach in the order in which they start."""
    page = await service_events.list_events(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Draft a service event",
    responses=refusals(RoundClosed, HealthChecksAreRunByOfficers),
)
async def create_service_event(
    session: Session, caller: MayWriteEvents, body: EventCreate, now: Now, response: Response
) -> EventRead:
    """Draft an event of an association or of an area; a health exam belongs to an open round."""
    event = await event_drafts.create(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/service-events/{event.id}"
    return event


@router.get("/{event_id}", summary="Get a service event")
async def get_service_event(
    statements: OneStatement, caller: MayReadEvents, event_id: EventId, now: Now
) -> EventRead:
    """Give one event with its counts; those of a health check only where they tell of nobody."""
    return await service_events.find(statements, caller, event_id=event_id, now=now)


@router.patch(
    "/{event_id}",
    summary="Change a service event",
    responses=refusals(EventStepRefused, RoundClosed, HealthChecksAreRunByOfficers),
)
async def update_service_event(
    session: Session,
    caller: MayWriteEvents,
    event_id: EventId,
    body: EventUpdate,
    if_match: IfMatch,
    now: Now,
) -> EventRead:
    """Change an event that is not over; more seats admit the waiting in their order.

    Of one in progress the venue, the end and the seats may change.
    """
    return await event_drafts.update(
        session, caller, event_id=event_id, version=if_match, body=body, now=now
    )


@router.post(
    "/{event_id}/publish",
    summary="Publish a service event",
    responses=refusals(EventStepRefused, RoundClosed, HealthChecksAreRunByOfficers),
)
async def publish_service_event(
    session: Session, caller: MayWriteEvents, event_id: EventId, if_match: IfMatch, now: Now
) -> EventRead:
    """Show a draft to members, who may register from now on."""
    return await service_events.publish(
        session, caller, event_id=event_id, version=if_match, now=now
    )


@router.post(
    "/{event_id}/start",
    summary="Start a service event",
    responses=refusals(
        EventStepRefused,
        EventEndsTooLate,
        RoundClosed,
        RoundNotBegun,
        HealthChecksAreRunByOfficers,
    ),
)
async def start_service_event(
    session: Session, caller: MayWriteEvents, event_id: EventId, if_match: IfMatch, now: Now
) -> EventRead:
    """Begin a published event: from now on members are checked in.

    A health exam is begun on the first day of its round or later, and no event more than 31 days
    before its end.
    """
    return await service_events.start(session, caller, event_id=event_id, version=if_match, now=now)


@router.post(
    "/{event_id}/close",
    summary="Close a service event",
    responses=refusals(EventStepRefused, HealthChecksAreRunByOfficers),
)
async def close_service_event(
    session: Session, caller: MayWriteEvents, event_id: EventId, if_match: IfMatch, now: Now
) -> EventRead:
    """End an event in progress for good; late lines are still taken for a while."""
    return await service_events.close(session, caller, event_id=event_id, version=if_match, now=now)


@router.post(
    "/{event_id}/cancel",
    summary="Cancel a service event",
    responses=refusals(EventStepRefused, EventHasAttendances, HealthChecksAreRunByOfficers),
)
async def cancel_service_event(
    session: Session,
    caller: MayWriteEvents,
    event_id: EventId,
    body: EventCancel,
    if_match: IfMatch,
    now: Now,
) -> EventRead:
    """Call off an event to which nobody came, with a reason for those who registered."""
    return await service_events.cancel(
        session, caller, event_id=event_id, version=if_match, reason=body.reason, now=now
    )
