"""`/v1/service-events/{id}/registrations`: seats, and a waiting list that moves up."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.events.registrations import (
    RegistrationCreate,
    RegistrationFilters,
    RegistrationMade,
    RegistrationRead,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadRegistrations, MayRegister
from app.services.events import registrations
from app.services.events.exam_rounds import RoundClosed
from app.services.events.registrations import AlreadyCheckedIn, RegistrationNotOpen
from app.services.events.service_events import EventStepRefused, HealthChecksAreRunByOfficers
from app.transactions import OneStatement, Session

router = concurrency.router("/service-events/{event_id}/registrations", "service-events")
EventId = Annotated[Id, Path(description="The event's id.")]
MemberId = Annotated[Id, Path(description="The member's id.")]


@router.get(
    "",
    summary="List an event's registrations",
    response_model=Page[RegistrationRead],
    responses=refusals(HealthChecksAreRunByOfficers),
)
async def list_registrations(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadRegistrations,
    event_id: EventId,
    filters: Annotated[RegistrationFilters, Query()],
    now: Now,
) -> Response:
    """List who is registered, waiting or has cancelled, in order; a member sees her own alone.

    Once the event is closed, or was over yesterday, others see the places of those alone who came.
    """
    page = await registrations.list_registrations(
        statements, caller, keyring, event_id=event_id, filters=filters, now=now
    )
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Register for an event",
    dependencies=[NeedsIdempotencyKey],
    responses={
        200: {"description": "The member was registered before.", "model": RegistrationRead},
        **refusals(RegistrationNotOpen, RoundClosed, HealthChecksAreRunByOfficers),
    },
)
async def create_registration(
    session: Session,
    caller: MayRegister,
    event_id: EventId,
    body: RegistrationCreate,
    now: Now,
    response: Response,
) -> RegistrationRead:
    """Give a member a seat, or a place on the waiting list; repeating it changes nothing."""
    place, is_new = await registrations.register(
        session, caller, event_id=event_id, body=body, now=now
    )
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/service-events/{event_id}/registrations/{place.member_id}"
    return RegistrationMade.model_validate(place)


@router.get(
    "/{member_id}",
    summary="Get a registration",
    responses=refusals(HealthChecksAreRunByOfficers),
)
async def get_registration(
    statements: OneStatement,
    caller: MayReadRegistrations,
    event_id: EventId,
    member_id: MemberId,
    now: Now,
) -> RegistrationRead:
    """Give a member's place at an event; once it is over, to others only if she came."""
    return await registrations.find(
        statements, caller, event_id=event_id, member_id=member_id, now=now
    )


@router.post(
    "/{member_id}/cancel",
    summary="Cancel a registration",
    responses=refusals(EventStepRefused, AlreadyCheckedIn, HealthChecksAreRunByOfficers),
)
async def cancel_registration(
    session: Session,
    caller: MayRegister,
    event_id: EventId,
    member_id: MemberId,
    if_match: IfMatch,
    now: Now,
) -> RegistrationRead:
    """Give a place back, unless the member is there; the first who waits gets the seat."""
    return await registrations.cancel(
        session, caller, event_id=event_id, member_id=member_id, version=if_match, now=now
    )
