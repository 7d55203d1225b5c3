"""`/v1/members/{id}/erase`: the end of a member's personal data."""

from typing import Annotated

from fastapi import BackgroundTasks, Path

from app import concurrency
from app.answers import Configured
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.membership.members import ErasureRead
from app.models.shapes import Id
from app.problems import refusals
from app.rights import MayEraseMembers
from app.services.self_service import erasures
from app.services.self_service.erasures import ErasureBlocked
from app.sms import Messages
from app.transactions import Session

router = concurrency.router("/members", "members")


@router.post(
    "/{member_id}/erase",
    summary="Erase a member's personal data",
    responses=refusals(ErasureBlocked),
)
async def erase_member(
    *,
    background: BackgroundTasks,
    session: Session,
    keyring: Keys,
    settings: Configured,
    messenger: Messages,
    caller: MayEraseMembers,
    member_id: Annotated[Id, Path(description="The member's id.")],
    version: IfMatch,
    now: Now,
) -> ErasureRead:
    """Destroy her key and what names her, for ever; totals stay. Again, it changes nothing.

    An office needs a fresh sign-in, and the phone that she logged in by is told.
    """
    erased, notice = await erasures.erase(
        session, caller, keyring, settings, member_id=member_id, version=version, now=now
    )
    background.add_task(messenger.submit, notice)
    return erased
