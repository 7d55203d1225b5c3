"""What became of a grant, and what the earlier grants of a subject mean for the next one."""

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import district_wide
from app.identity import Caller
from app.models.grants import GrantCreate
from app.roles import Role
from app.services.admission import GrantMissing

IN_FORCE = (
    "(g.revoked_at is null and g.starts_at <= :now and (g.ends_at is null or g.ends_at > :now))"
)
# One that is to begin links her from now on: else the order of two grants would decide.
_IS_LINKED = text(
    "select exists (select from grants g where g.district_code = :district_code"
    " and g.subject = :subject and g.employer_linked and g.revoked_at is null"
    " and (g.ends_at is null or g.ends_at > :now))"
)
_LATEST_TOKENS = text(
    "select max(g.tokens_from) from grants g where g.district_code = :district_code"
    " and g.subject = :subject and g.member_id = :member_id and g.role = 'member'"
)
_STANDS = text(
    "select exists (select from grants g where g.district_code = :district_code"
    f" and g.id = :grant_id and {IN_FORCE})"
)


async def require(
    session: AsyncSession, *, district_code: str, grant_id: UUID, now: datetime
) -> None:
    """Raise GrantMissing unless a grant under which work was asked for is still in force."""
    params = {"district_code": district_code, "grant_id": grant_id, "now": now}
    if not await session.scalar(_STANDS, params):
        raise GrantMissing


async def is_linked(
    session: AsyncSession, caller: Caller, body: GrantCreate, *, now: datetime
) -> bool:
    """Tell whether who is to hold an office works for a host of members already.

    Her own record is hers, whomever she works for.
    """
    if body.role is Role.MEMBER:
        return False
    params = {"district_code": caller.district_code, "subject": body.subject, "now": now}
    async with district_wide(session):
        return bool(await session.scalar(_IS_LINKED, params))


async def latest_tokens(
    session: AsyncSession, caller: Caller, body: GrantCreate
) -> datetime | None:
    """Give when who is to be a member again had last signed out: what she ended stays ended."""
    params = {"district_code": caller.district_code, "subject": body.subject}
    async with district_wide(session):
        latest = await session.scalar(_LATEST_TOKENS, params | {"member_id": body.member_id})
    return cast("datetime | None", latest)
