"""`/v1/members/{id}/reveal`: an ID number, a phone or a payout account in full, for a purpose."""

from typing import Annotated

from fastapi import Path

from app import concurrency
from app.clock import Now
from app.crypto import Keys
from app.models.privacy.reveals import Revealed, RevealRequest
from app.models.shapes import Id
from app.problems import refusals
from app.rights import MayRevealMembers
from app.services.privacy import reveals
from app.services.privacy.reveals import NothingToReveal, RevealLimitReached
from app.transactions import Session

router = concurrency.router("/members", "members")


@router.post(
    "/{member_id}/reveal",
    summary="Reveal an ID number, a phone or a payout account",
    responses=refusals(NothingToReveal, RevealLimitReached),
)
async def reveal_member(
    session: Session,
    keyring: Keys,
    caller: MayRevealMembers,
    member_id: Annotated[Id, Path(description="The member's id.")],
    body: RevealRequest,
    now: Now,
) -> Revealed:
    """Show one value in full, 30 a caller and day; each is on record, and no answer is kept."""
    return await reveals.reveal(session, caller, keyring, member_id=member_id, body=body, now=now)
