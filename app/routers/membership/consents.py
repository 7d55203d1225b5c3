"""`/v1/members/{id}/consents`: what a member gave and withdrew, and what she tells an office."""

from typing import Annotated

from fastapi import BackgroundTasks, Path, Query, Request, Response

from app import concurrency, paging
from app.answers import Configured
from app.clock import Now
from app.crypto import Keys
from app.models.membership.consents import (
    ConsentEnter,
    ConsentFilters,
    ConsentRead,
    ConsentWithdraw,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadMembers, MayWriteMembers
from app.services.membership import consents
from app.services.membership.consents import ConsentNotGiven
from app.services.membership.members import MemberErased
from app.sms import Messages
from app.transactions import OneStatement, Session

router = concurrency.router("/members/{member_id}/consents", "consents")
MemberId = Annotated[Id, Path(description="The member's id.")]


@router.get("", summary="List a member's consents", response_model=Page[ConsentRead])
async def list_consents(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadMembers,
    member_id: MemberId,
    filters: Annotated[ConsentFilters, Query()],
) -> Response:
    """List each consent that was given and each withdrawal, the oldest first."""
    page = await consents.list_consents(
        statements, caller, keyring, member_id=member_id, filters=filters
    )
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Enter a member's consent",
    responses={
        200: {"description": "She had said so before.", "model": ConsentRead},
        **refusals(MemberErased),
    },
)
async def create_consent(
    session: Session,
    caller: MayWriteMembers,
    member_id: MemberId,
    body: ConsentEnter,
    now: Now,
    response: Response,
) -> ConsentRead:
    """Record what she signed or said, for one purpose, under the notice of that day.

    What was withdrawn is given again on a later day, and what she withdrew herself by herself or
    on a form that she signed. The employer's side enters only forms, and never again what was
    withdrawn.
    """
    event, is_new = await consents.enter(session, caller, member_id=member_id, body=body, now=now)
    response.status_code = 201 if is_new else 200
    return event


@router.post(
    "/withdraw", summary="Withdraw a member's consent for her", responses=refusals(ConsentNotGiven)
)
async def withdraw_consent(
    background: BackgroundTasks,
    session: Session,
    keyring: Keys,
    settings: Configured,
    messenger: Messages,
    caller: MayWriteMembers,
    member_id: MemberId,
    body: ConsentWithdraw,
    now: Now,
) -> ConsentRead:
    """End a consent as she asks; what it covered is erased at once. Again, it changes nothing.

    Without consent to be reached her phone goes: it is told so, what she logged in by ends, and a
    phone that an office enters within 72 hours waits until they are over. The employer's side
    withdraws none.
    """
    event, notice = await consents.withdraw_for(
        session, caller, keyring, settings, member_id=member_id, purpose=body.purpose, now=now
    )
    background.add_task(messenger.submit, notice)
    return event
