"""What became of a grant, and what the earlier grants of a subject mean for the next one."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import locks, reach
from app.database import district_wide
from app.identity import Caller
from app.models.access.grants import GrantProvide
from app.problems import Problem
from app.roles import Role
from app.services.access.admission import LINKED, GrantMissing

IN_FORCE = (
    "(g.revoked_at is null and g.starts_at <= :now and (g.ends_at is null or g.ends_at > :now))"
)
_LATEST_TOKENS = text(
    "select max(g.tokens_from) from grants g where g.district_code = :district_code"
    " and g.subject = :subject and g.member_id = :member_id and g.role = 'member'"
)
_STANDS = text(
    f"select l.is_linked from (select g.id, {LINKED} as is_linked from grants g"
    f" where g.district_code = :district_code and g.subject = :subject and {IN_FORCE}) l"
    " where l.id = :grant_id"
)
_HELD = (
    "from grants g where g.district_code = :district_code and g.subject = :subject"
    " and g.revoked_at is null and (g.ends_at is null or g.ends_at > :now)"
)
_OFFICES = f"{_HELD} and g.role <> 'member'"
_LOGIN = text(f"select exists (select {_HELD} and g.role = 'member')")
_FREED = text(f"select exists (select {_OFFICES} and g.id <> :grant_id and not g.employer_linked)")


class GrantsBeyondYours(Problem):
    """The subject holds, or is to hold, an office in the district that you could not take back."""

    code, status = "grants_beyond_yours", 409


class LoginStands(Problem):
    """The member may log in by phone, or is to: with a second grant she could no longer."""

    code, status = "login_stands", 409


class GrantLinked(Problem):
    """The employer's side frees nobody from being of it."""

    code, status = "grant_linked", 403


async def hold(session: AsyncSession, *, district_code: str, subject: str) -> None:
    """Have others wait who give a subject something, until the transaction ends."""
    await locks.hold(session, f"grants/{district_code}/{subject}")


async def require_within(
    session: AsyncSession,
    caller: Caller,
    *,
    subject: str,
    below: Iterable[Role],
    now: datetime,
    is_staff: bool = False,
) -> None:
    """Refuse to add to offices of which one is not `below` the caller's, or reaches beyond hers.

    What is granted to a subject bears on all that she holds, so whoever could not take an office
    back would change what it may do. Of two grants to one subject the second sees the first.
    Who only staffs events may staff more of them, wherever (`is_staff`): a nurse helps several
    towns, and is shut out of nothing if she is to say for which.
    """
    who = {"district_code": caller.district_code, "subject": subject}
    await hold(session, **who)
    condition, params = reach.within(caller, area="g.area_code")
    ours = f"g.role = any(cast(:below as text[])) and {condition}"
    more = f" and bool_or(g.role <> '{Role.EVENT_STAFF}')" if is_staff else ""
    sql = text(f"select bool_or(not ({ours})){more} {_OFFICES}")
    facts = {"below": [role.value for role in below], "now": now}
    async with district_wide(session):
        if await session.scalar(sql, who | params | facts):
            raise GrantsBeyondYours


async def require_out(
    session: AsyncSession, caller: Caller, *, subject: str, now: datetime
) -> None:
    """Refuse to give a login that stands or is to come; whoever gives it holds the subject."""
    who = {"district_code": caller.district_code, "subject": subject}
    async with district_wide(session):
        if await session.scalar(_LOGIN, who | {"now": now}):
            raise LoginStands


async def require_nobody_freed(
    session: AsyncSession, caller: Caller, *, subject: str, grant_id: UUID, now: datetime
) -> None:
    """Refuse to take back what links an office that its holder would keep, or is to hold.

    What is linked itself stays so.
    """
    who = {"district_code": caller.district_code, "subject": subject}
    await hold(session, **who)
    async with district_wide(session):
        if await session.scalar(_FREED, who | {"grant_id": grant_id, "now": now}):
            raise GrantLinked


async def current(session: AsyncSession, caller: Caller, *, now: datetime) -> Caller:
    """Give who asked for work as she is by now, when it is done in her name.

    Raises GrantMissing unless the grant under which she asked is still in force. Whoever has come
    to work for an employer meanwhile is of its side; the shell asks without a grant.
    """
    if caller.grant_id is None:
        return caller
    params = {"district_code": caller.district_code, "subject": caller.subject, "now": now}
    is_linked = await session.scalar(_STANDS, params | {"grant_id": caller.grant_id})
    if is_linked is None:
        raise GrantMissing
    return replace(caller, employer_linked=caller.employer_linked or is_linked)


async def latest_tokens(
    session: AsyncSession, caller: Caller, body: GrantProvide
) -> datetime | None:
    """Give when who is to be a member again had last signed out: what she ended stays ended."""
    params = {"district_code": caller.district_code, "subject": body.subject}
    async with district_wide(session):
        latest = await session.scalar(_LATEST_TOKENS, params | {"member_id": body.member_id})
    return cast("datetime | None", latest)
