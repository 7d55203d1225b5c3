"""`/v1/me`: what a member's phone shows her, and what she may change herself."""

from typing import Annotated

from fastapi import BackgroundTasks, Query, Request, Response

from app import concurrency, paging
from app.answers import Configured, PreferredLanguage
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.attendances import MemberAttendanceFilters, MemberAttendanceRead
from app.models.audit_entries import LookupFilters, LookupRead
from app.models.me import (
    MeRead,
    MyEvent,
    MyEventFilters,
    MyMembership,
    MyPayout,
    MyPayoutFilters,
    MyRegistration,
    MyRegistrationFilters,
    StreakRead,
)
from app.models.phone_changes import MyPhone, PhoneCodeCreate, PhoneCodeRead, PhoneUpdate
from app.paging import Page
from app.problems import NotFound, refusals
from app.rights import MayReadOwn, MayWriteOwn
from app.services import grants, lookups, me, phone_changes, streak_progress
from app.services.phone_changes import ConsentMissing, LoginTooOld, NoPhoneChange
from app.services.phone_codes import CodeRefused, CodesPaused, TooManyCodes
from app.sms import Messages
from app.transactions import OneStatement, Session

router = concurrency.router("/me", "me")


@router.get("", summary="Get myself", responses=refusals(NotFound))
async def get_me(statements: OneStatement, keyring: Keys, caller: MayReadOwn) -> MeRead:
    """Give the calling member and her association."""
    return await me.find(statements, caller, keyring)


@router.get("/memberships", summary="List my memberships")
async def list_my_memberships(statements: OneStatement, caller: MayReadOwn) -> list[MyMembership]:
    """Give the associations that the member is and was in, the oldest first."""
    return await me.list_memberships(statements, caller)


@router.get("/events", summary="List events near me", response_model=Page[MyEvent])
async def list_my_events(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MyEventFilters, Query()],
    now: Now,
) -> Response:
    """List the coming events of the member's village, town and district, the soonest first."""
    page = await me.list_events(statements, caller, keyring, filters=filters, now=now)
    return paging.answer(request, page)


@router.get("/registrations", summary="List my registrations", response_model=Page[MyRegistration])
async def list_my_registrations(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MyRegistrationFilters, Query()],
) -> Response:
    """List the member's places at events, the latest event first."""
    page = await me.list_registrations(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get(
    "/attendances", summary="List my attendances", response_model=Page[MemberAttendanceRead]
)
async def list_my_attendances(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MemberAttendanceFilters, Query()],
) -> Response:
    """List what the member attended, the latest first."""
    page = await me.list_attendances(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get("/streak", summary="Get my streak", responses=refusals(NotFound))
async def get_my_streak(statements: OneStatement, caller: MayReadOwn, now: Now) -> StreakRead:
    """Give the rounds attended without a break, and what the next ones are thanked with."""
    return await streak_progress.find(statements, caller, now=now)


@router.get("/payouts", summary="List my payouts", response_model=Page[MyPayout])
async def list_my_payouts(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MyPayoutFilters, Query()],
) -> Response:
    """List what the member gets, from its approval on, the latest round first."""
    page = await me.list_payouts(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get("/lookups", summary="List who looked at my record", response_model=Page[LookupRead])
async def list_my_lookups(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    language: PreferredLanguage,
    filters: Annotated[LookupFilters, Query()],
) -> Response:
    """List which offices saw or changed the member's record and what for, the latest first."""
    page = await lookups.list_lookups(
        statements, caller, keyring, filters=filters, language=language
    )
    return paging.answer(request, page)


@router.get("/phone", summary="Get my phone", responses=refusals(NotFound))
async def get_my_phone(statements: OneStatement, keyring: Keys, caller: MayReadOwn) -> MyPhone:
    """Give the phone in force, masked, and the one that is to follow."""
    return await phone_changes.find(statements, caller, keyring)


@router.post(
    "/phone/codes",
    status_code=202,
    summary="Have a code sent to my new phone",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(NotFound, LoginTooOld, TooManyCodes, CodesPaused, ConsentMissing),
)
async def create_phone_code(
    session: Session,
    background: BackgroundTasks,
    keyring: Keys,
    settings: Configured,
    messenger: Messages,
    caller: MayWriteOwn,
    language: PreferredLanguage,
    body: PhoneCodeCreate,
    now: Now,
) -> PhoneCodeRead:
    """Send a code to the new phone, by which its holder agrees to the change."""
    messenger.require_provider()
    issued, message = await phone_changes.ask_code(
        session, caller, keyring, settings, body=body, language=language, now=now
    )
    background.add_task(messenger.submit, message)
    return issued


@router.patch(
    "/phone",
    summary="Change my phone",
    responses=refusals(NotFound, CodeRefused, CodesPaused, ConsentMissing),
)
async def update_my_phone(
    session: Session,
    statements: OneStatement,
    keyring: Keys,
    settings: Configured,
    caller: MayWriteOwn,
    version: IfMatch,
    body: PhoneUpdate,
    now: Now,
) -> MyPhone:
    """Hold the new phone for 72 hours and tell the old one; then it takes its place."""
    return await phone_changes.request(
        session, statements, caller, keyring, settings, version=version, body=body, now=now
    )


@router.post(
    "/phone/cancel",
    summary="Give up my change of phone",
    responses=refusals(NotFound, NoPhoneChange),
)
async def cancel_phone_change(
    session: Session, keyring: Keys, caller: MayWriteOwn, version: IfMatch, now: Now
) -> MyPhone:
    """Keep the phone in force; the new one is erased."""
    return await phone_changes.cancel(session, caller, keyring, version=version, now=now)


@router.post(
    "/sign-out", status_code=204, summary="Sign out everywhere", responses=refusals(NotFound)
)
async def sign_out(session: Session, caller: MayWriteOwn, now: Now) -> None:
    """End all my tokens, this one too, within 5 seconds; I log in again by a new code."""
    await grants.sign_out(session, caller, now=now)
