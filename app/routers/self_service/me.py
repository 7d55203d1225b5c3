"""`/v1/me`: what a member's phone shows her, and what she may change herself."""

from typing import Annotated

from fastapi import BackgroundTasks, Path, Query, Request, Response

from app import concurrency, paging
from app.answers import Configured, PreferredLanguage
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.accounting.accounts import AccountsFilters, MyAccounts
from app.models.audit.audit_entries import LookupFilters, LookupRead
from app.models.events.attendances import MemberAttendanceFilters, MemberAttendanceRead
from app.models.membership.consents import (
    ConsentFilters,
    ConsentGive,
    ConsentRead,
    ConsentReceipt,
    ConsentWithdraw,
)
from app.models.membership.payout_accounts import MyPayoutAccount, PayoutAccountUpdate
from app.models.membership.phone_changes import MyPhone, PhoneCodeCreate, PhoneCodeRead, PhoneUpdate
from app.models.self_service.me import (
    MeRead,
    MyEvent,
    MyEventFilters,
    MyMembership,
    MyMembershipFilters,
    MyPayout,
    MyPayoutFilters,
    MyRegistration,
    MyRegistrationFilters,
    StreakRead,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import NotFound, refusals
from app.rights import MayReadOwn, MayWriteOwn
from app.services.access import grants
from app.services.accounting import accounts
from app.services.audit import lookups
from app.services.incentives import streak_progress
from app.services.membership import consents, payout_accounts, phone_changes
from app.services.membership.consents import ConsentNotGiven, NoticeNotInForce
from app.services.membership.members import MemberErased
from app.services.membership.payout_accounts import AccountNeedsConsent, NoAccountChange
from app.services.membership.phone_changes import ConsentMissing, NoPhoneChange
from app.services.privacy.held_changes import LoginTooOld, NoPhoneOnFile
from app.services.privacy.phone_codes import CodeRefused, CodesPaused, TooManyCodes, TooManyTries
from app.services.self_service import me
from app.sms import Messages
from app.transactions import OneStatement, Session

router = concurrency.router("/me", "me")


@router.get("", summary="Get myself", responses=refusals(NotFound))
async def get_me(statements: OneStatement, keyring: Keys, caller: MayReadOwn) -> MeRead:
    """Give the calling member and her association."""
    return await me.find(statements, caller, keyring)


@router.get("/accounts", summary="List my association's accounts", response_model=Page[MyAccounts])
async def list_my_accounts(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[AccountsFilters, Query()],
) -> Response:
    """List what my association has published, the latest month first."""
    page = await accounts.list_own(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get("/memberships", summary="List my memberships", response_model=Page[MyMembership])
async def list_my_memberships(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MyMembershipFilters, Query()],
) -> Response:
    """List the associations that the member is and was in, the oldest first."""
    page = await me.list_memberships(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


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


@router.get("/consents", summary="List my consents", response_model=Page[ConsentRead])
async def list_my_consents(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[ConsentFilters, Query()],
) -> Response:
    """List each consent that the member gave and each that she withdrew, the oldest first."""
    member_id = consents.own(caller)
    page = await consents.list_consents(
        statements, caller, keyring, member_id=member_id, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "/consents",
    status_code=201,
    summary="Give my consent",
    responses={
        200: {"description": "The member had said so before.", "model": ConsentRead},
        **refusals(NotFound, NoticeNotInForce, MemberErased),
    },
)
async def give_my_consent(
    session: Session, caller: MayWriteOwn, body: ConsentGive, now: Now, response: Response
) -> ConsentRead:
    """Consent to one purpose, as the notice that holds now describes it."""
    event, is_new = await consents.give(session, caller, body=body, now=now)
    response.status_code = 201 if is_new else 200
    return event


@router.post(
    "/consents/withdraw",
    summary="Withdraw my consent",
    responses=refusals(NotFound, ConsentNotGiven),
)
async def withdraw_my_consent(
    session: Session, keyring: Keys, caller: MayWriteOwn, body: ConsentWithdraw, now: Now
) -> ConsentRead:
    """Take a consent back; what it covered is erased at once. Again, it changes nothing.

    Offices give it again from the next day on, and a phone that they enter within 72 hours waits
    until they are over.
    """
    member_id = consents.own(caller)
    return await consents.withdraw(
        session, caller, keyring, member_id=member_id, purpose=body.purpose, now=now
    )


@router.get("/consents/{consent_id}/receipt", summary="Get the receipt of a consent")
async def get_my_consent_receipt(
    statements: OneStatement,
    caller: MayReadOwn,
    consent_id: Annotated[Id, Path(description="The consent's id, or its withdrawal's.")],
) -> ConsentReceipt:
    """Give a record of the consent to keep: who, what for, under which notice, and since when."""
    return await consents.receipt(statements, caller, consent_id=consent_id)


@router.get("/phone", summary="Get my phone", responses=refusals(NotFound))
async def get_my_phone(statements: OneStatement, keyring: Keys, caller: MayReadOwn) -> MyPhone:
    """Give the phone in force, masked, and the one that is to follow."""
    return await phone_changes.find(statements, caller, keyring)


@router.post(
    "/phone/codes",
    status_code=202,
    summary="Have a code sent to my new phone",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(
        NotFound, LoginTooOld, NoPhoneOnFile, TooManyCodes, CodesPaused, ConsentMissing
    ),
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
    responses=refusals(
        NotFound, CodeRefused, TooManyTries, CodesPaused, ConsentMissing, NoPhoneOnFile
    ),
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


@router.get("/payout-account", summary="Get my payout account", responses=refusals(NotFound))
async def get_my_payout_account(
    statements: OneStatement, keyring: Keys, caller: MayReadOwn
) -> MyPayoutAccount:
    """Give the account in force, masked, and the one that is to follow."""
    return await payout_accounts.find(statements, caller, keyring)


@router.patch(
    "/payout-account",
    summary="Change my payout account",
    responses=refusals(NotFound, AccountNeedsConsent, NoPhoneOnFile, LoginTooOld),
)
async def update_my_payout_account(
    session: Session,
    keyring: Keys,
    caller: MayWriteOwn,
    version: IfMatch,
    body: PayoutAccountUpdate,
    now: Now,
) -> MyPayoutAccount:
    """Hold the new account for 72 hours and tell the phone on file; then it is in force."""
    return await payout_accounts.request(
        session, caller, keyring, version=version, body=body, now=now
    )


@router.post(
    "/payout-account/cancel",
    summary="Give up my change of payout account",
    responses=refusals(NotFound, NoAccountChange),
)
async def cancel_payout_account_change(
    session: Session, keyring: Keys, caller: MayWriteOwn, version: IfMatch, now: Now
) -> MyPayoutAccount:
    """Keep the account in force; the new one is erased."""
    return await payout_accounts.cancel(session, caller, keyring, version=version, now=now)
