"""`/v1/service-events/{id}/attendances`: check-in, who was there, and what a member attended."""

from typing import Annotated, Literal, cast

from fastapi import Depends, Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.events.attendances import (
    AttendanceFilters,
    AttendanceRead,
    AttendanceVoid,
    Batch,
    BatchRead,
    CheckIn,
    CheckInCodeRead,
    CheckInRead,
    CodeCheckIn,
    MemberAttendanceFilters,
    MemberAttendanceRead,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import (
    MayCheckIn,
    MayCheckInSelf,
    MayReadAttendances,
    MayReadMembers,
    MayVoidAttendances,
)
from app.services.disbursement import voided_attendances
from app.services.disbursement.voided_attendances import AttendanceInForce
from app.services.events import attendances, check_in_batches, check_in_codes, check_ins
from app.services.events.check_in_codes import EventNotOpen
from app.services.events.check_ins import CheckIns
from app.services.events.exam_rounds import RoundNotBegun
from app.services.events.recording import AttendanceVoided, AttendedThisRound, MemberUnknown
from app.services.events.service_events import EventStepRefused, HealthChecksAreRunByOfficers
from app.transactions import OneStatement, Session
from app.wording import Spoken

router = concurrency.router("", "attendances")
EventId = Annotated[Id, Path(description="The event's id.")]
MemberId = Annotated[Id, Path(description="The member's id.")]


async def _check_ins(request: Request) -> CheckIns:
    return cast("CheckIns", request.app.state.check_ins)


Gathered = Annotated[CheckIns, Depends(_check_ins)]
_REFUSALS = (
    MemberUnknown,
    EventNotOpen,
    AttendedThisRound,
    AttendanceVoided,
    HealthChecksAreRunByOfficers,
    RoundNotBegun,
)


@router.put(
    "/service-events/{event_id}/attendances/{member_id}",
    status_code=201,
    summary="Check a member in",
    responses={
        200: {"description": "The member was checked in before.", "model": CheckInRead},
        **refusals(*_REFUSALS),
    },
)
async def check_in(
    statements: OneStatement,
    gathered: Gathered,
    caller: MayCheckIn,
    event_id: EventId,
    member_id: MemberId,
    body: CheckIn,
    now: Now,
    response: Response,
) -> CheckInRead:
    """Record that a member was at an event; repeating it changes nothing and says so."""
    attendance = await check_ins.check_in(
        statements, gathered, caller, event_id=event_id, member_id=member_id, body=body, now=now
    )
    response.status_code = 200 if attendance.repeated else 201
    return attendance


@router.post(
    "/service-events/{event_id}/check-in",
    status_code=201,
    summary="Check oneself in by the event's code",
    responses={
        200: {"description": "The member was checked in before.", "model": CheckInRead},
        **refusals(*_REFUSALS),
    },
)
async def check_in_by_code(
    session: Session,
    statements: OneStatement,
    gathered: Gathered,
    keyring: Keys,
    caller: MayCheckInSelf,
    event_id: EventId,
    body: CodeCheckIn,
    now: Now,
    response: Response,
) -> CheckInRead:
    """Record that the calling member is at the event whose code she scanned."""
    attendance = await check_ins.check_in_by_code(
        statements, gathered, caller, keyring, event_id=event_id, body=body, now=now
    )
    response.status_code = 200 if attendance.repeated else 201
    response.headers["Location"] = (
        f"/v1/service-events/{event_id}/attendances/{attendance.member_id}"
    )
    return attendance


@router.get(
    "/service-events/{event_id}/check-in-code",
    summary="Get the code to show at an event",
    response_model=CheckInCodeRead,
    responses={
        200: {"content": {"image/svg+xml": {"example": "<svg/>"}}},
        **refusals(EventNotOpen, HealthChecksAreRunByOfficers),
    },
)
async def get_check_in_code(
    statements: OneStatement,
    keyring: Keys,
    caller: MayCheckIn,
    event_id: EventId,
    now: Now,
    format: Annotated[  # noqa: A002  (the parameter's public name)
        Literal["json", "svg"], Query(description="The code as text, or as a QR picture.")
    ] = "json",
) -> CheckInCodeRead | Response:
    """Give the code of this moment; it rotates every 30 seconds and holds for two turns."""
    code = await check_in_codes.current(statements, caller, keyring, event_id=event_id, now=now)
    if format == "svg":
        return Response(check_in_codes.picture(code.code), media_type="image/svg+xml")
    return code


@router.post(
    "/service-events/{event_id}/attendances/batch",
    summary="Check in what a device noted offline",
    responses=refusals(HealthChecksAreRunByOfficers),
)
async def check_in_batch(
    session: Session,
    statements: OneStatement,
    caller: MayCheckIn,
    event_id: EventId,
    body: Batch,
    now: Now,
    language: Spoken,
) -> BatchRead:
    """Record up to 1,000 lines, each on its own, and answer each in order."""
    return await check_in_batches.check_in(
        statements, caller, event_id=event_id, body=body, language=language, now=now
    )


@router.get(
    "/service-events/{event_id}/attendances",
    summary="List an event's attendances",
    response_model=Page[AttendanceRead],
    responses=refusals(HealthChecksAreRunByOfficers),
)
async def list_attendances(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAttendances,
    event_id: EventId,
    filters: Annotated[AttendanceFilters, Query()],
) -> Response:
    """List who was at an event, to a member herself alone; nowhere is it listed who was not."""
    page = await attendances.list_of_event(
        statements, caller, keyring, event_id=event_id, filters=filters
    )
    return paging.answer(request, page)


@router.get(
    "/service-events/{event_id}/attendances/{member_id}",
    summary="Get an attendance",
    responses=refusals(HealthChecksAreRunByOfficers),
)
async def get_attendance(
    statements: OneStatement, caller: MayReadAttendances, event_id: EventId, member_id: MemberId
) -> AttendanceRead:
    """Give one attendance, in force or voided."""
    return await attendances.find(statements, caller, event_id=event_id, member_id=member_id)


@router.post(
    "/service-events/{event_id}/attendances/{member_id}/void",
    summary="Void an attendance",
    responses=refusals(AttendanceVoided),
)
async def void_attendance(
    session: Session,
    caller: MayVoidAttendances,
    event_id: EventId,
    member_id: MemberId,
    body: AttendanceVoid,
    if_match: IfMatch,
    now: Now,
) -> AttendanceRead:
    """Take a wrong attendance out of force, with a reason; it stays on record."""
    return await voided_attendances.void(
        session,
        caller,
        event_id=event_id,
        member_id=member_id,
        version=if_match,
        reason=body.reason,
        now=now,
    )


@router.post(
    "/service-events/{event_id}/attendances/{member_id}/restore",
    summary="Restore a voided attendance",
    responses=refusals(AttendanceInForce, AttendedThisRound, EventStepRefused),
)
async def restore_attendance(
    session: Session,
    caller: MayVoidAttendances,
    event_id: EventId,
    member_id: MemberId,
    if_match: IfMatch,
    now: Now,
) -> AttendanceRead:
    """Put an attendance back in force that was voided by mistake."""
    return await voided_attendances.restore(
        session, caller, event_id=event_id, member_id=member_id, version=if_match, now=now
    )


@router.get(
    "/members/{member_id}/attendances",
    summary="List what a member attended",
    response_model=Page[MemberAttendanceRead],
)
async def list_member_attendances(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadMembers,
    member_id: MemberId,
    filters: Annotated[MemberAttendanceFilters, Query()],
) -> Response:
    """List what a member attended, the latest first; the employer's side sees no health checks."""
    page = await attendances.list_of_member(
        statements, caller, keyring, member_id=member_id, filters=filters
    )
    return paging.answer(request, page)
