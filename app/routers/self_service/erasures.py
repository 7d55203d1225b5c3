"""`/v1/members/{id}/erase`: the end of a member's personal data."""

from typing import Annotated

from fastapi import Path

from app import concurrency
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.membership.members import ErasureRead
from app.models.shapes import Id
from app.problems import refusals
from app.rights import MayEraseMembers
from app.services.self_service import erasures
from app.services.self_service.erasures import ErasureBlocked
from app.transactions import Session

router = concurrency.router("/members", "members")


@router.post(
    "/{member_id}/erase",
    summary="Erase a member's personal data",
    responses=refusals(ErasureBlocked),
)
async def erase_member(
    session: Session,
    keyring: Keys,
    caller: MayEraseMembers,
    member_id: Annotated[Id, Path(description="The member's id.")],
    version: IfMatch,
    now: Now,
) -> ErasureRead:
    """Destroy her key and what names her, for ever; totals stay. Again, it changes nothing."""
    return await erasures.erase(
        session, caller, keyring, member_id=member_id, version=version, now=now
    )
