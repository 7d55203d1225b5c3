"""`/v1/logins`: members log in by a code sent to their phone."""

from typing import Annotated

from fastapi import BackgroundTasks, Path, Request

from app import concurrency
from app.answers import Configured, PreferredLanguage
from app.clock import Now
from app.crypto import Keys
from app.models.membership.logins import (
    AccessToken,
    LoginChoose,
    LoginCreate,
    LoginOutcome,
    LoginRead,
    LoginVerify,
)
from app.models.shapes import Id
from app.problems import refusals
from app.services.membership import logins
from app.services.membership.logins import LoginTakenBack
from app.services.privacy.phone_codes import CodeRefused, CodesPaused, TooManyCodes, TooManyTries
from app.sms import Messages
from app.transactions import OpenDoor

router = concurrency.router("/logins", "logins")
LoginId = Annotated[Id, Path(description="The login's id.")]


@router.post(
    "",
    status_code=202,
    summary="Ask for a login code",
    responses=refusals(TooManyCodes, CodesPaused),
)
async def create_login(
    request: Request,
    background: BackgroundTasks,
    door: OpenDoor,
    keyring: Keys,
    settings: Configured,
    messenger: Messages,
    language: PreferredLanguage,
    body: LoginCreate,
    now: Now,
) -> LoginRead:
    """Send a code to a member's phone; the answer never says whether the phone is one."""
    messenger.require_provider()
    login, message = await logins.ask(
        door, keyring, settings, body=body, address=_address(request), language=language, now=now
    )
    background.add_task(messenger.submit, message)
    return login


@router.post(
    "/{login_id}/verify",
    summary="Log in with the code",
    responses=refusals(CodeRefused, CodesPaused, LoginTakenBack, TooManyTries),
)
async def verify_login(
    request: Request,
    door: OpenDoor,
    keyring: Keys,
    settings: Configured,
    login_id: LoginId,
    body: LoginVerify,
    now: Now,
) -> LoginOutcome:
    """Use the code up for an access token, or for a choice where several members share a phone."""
    address = _address(request)
    return await logins.verify(
        door, keyring, settings, login_id=login_id, body=body, address=address, now=now
    )


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


@router.post(
    "/{login_id}/choose",
    summary="Choose among several members on one phone",
    responses=refusals(CodeRefused, LoginTakenBack),
)
async def choose_login(
    door: OpenDoor,
    keyring: Keys,
    settings: Configured,
    login_id: LoginId,
    body: LoginChoose,
    now: Now,
) -> AccessToken:
    """Give the access token of the chosen member; the ticket is good once."""
    return await logins.choose(door, keyring, settings, login_id=login_id, body=body, now=now)
