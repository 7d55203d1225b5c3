"""`/v1/members/{id}/export`: a copy of all that is stored about a member."""

from typing import Annotated

from fastapi import Path

from app import concurrency
from app.clock import Now
from app.crypto import Keys
from app.models.self_service.member_exports import MemberExport
from app.models.shapes import Id
from app.problems import refusals
from app.rights import MayExportMembers, MayHandOutCopies
from app.services.privacy.held_changes import LoginTooOld
from app.services.privacy.reveals import RevealLimitReached
from app.services.self_service import member_exports
from app.transactions import Session

router = concurrency.router("/members", "members")
MemberId = Annotated[Id, Path(description="The member's id.")]


@router.get("/{member_id}/export", summary="Show a copy of a member's data, masked")
async def show_member_export(
    session: Session, keyring: Keys, caller: MayExportMembers, member_id: MemberId, now: Now
) -> MemberExport:
    """Give all that is stored about her, table by table; ID number and phone masked."""
    return await member_exports.show(session, caller, keyring, member_id=member_id, now=now)


@router.post(
    "/{member_id}/export",
    summary="Hand out a copy of a member's data",
    responses=refusals(RevealLimitReached, LoginTooOld),
)
async def hand_out_member_export(
    session: Session, keyring: Keys, caller: MayHandOutCopies, member_id: MemberId, now: Now
) -> MemberExport:
    """Give the copy with ID number and phone in full, which counts as revealing both.

    A member who logged in by phone did so in the last 15 minutes; all others have just signed in.
    """
    return await member_exports.hand_out(session, caller, keyring, member_id=member_id, now=now)
