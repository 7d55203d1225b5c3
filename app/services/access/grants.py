"""Grants: given by those above to those below, taken back with a reason."""

from datetime import datetime, time
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller, is_reserved
from app.models.access.grants import Grant, GrantCreate, GrantFilters, GrantProvide, GrantRead
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.roles import Role
from app.scopes import Acting, Scope, require_enterable
from app.services.access import grant_extents, grant_history
from app.services.access.grant_extents import Extent, RoleNotBelow
from app.tokens import member_of

_FACTS = (
    "g.id, g.version, g.subject, g.role, g.area_code, g.areas, g.association_ids, g.event_ids,"
    " g.member_id, g.employer_linked, g.granted_by, g.revoked_by, g.revoke_reason"
)
_COLUMNS = (
    f"{_FACTS}, g.starts_at, g.ends_at, g.created_at as granted_at, g.revoked_at from grants g"
)
LISTING = Listing(
    columns=", ".join(
        (
            _FACTS,
            instant("g.starts_at"),
            instant("g.ends_at"),
            instant("g.created_at", "granted_at"),
            instant("g.revoked_at"),
        )
    ),
    source="grants g",
    order=(Key("id", "g.id", "uuid"),),
    about="member_id",
)
_SAME = text(
    "select g.id from grants g where g.district_code = :district_code and g.subject = :subject"
    " and g.role = :role and g.areas = cast(:areas as text[])"
    " and g.association_ids = cast(:association_ids as uuid[])"
    " and g.event_ids = cast(:event_ids as uuid[])"
    " and g.member_id is not distinct from cast(:member_id as uuid)"
    f" and g.employer_linked = :employer_linked and {grant_history.IN_FORCE} order by g.id limit 1"
)
_END_OF_MEMBER = text(
    "update grants set revoked_at = :now, revoked_by = :subject, revoke_reason = :reason,"
    " version = version + 1, updated_at = :now where district_code = :district_code"
    " and member_id = :member_id and role = 'member' and revoked_at is null"
)
_END_OF_TOKENS = text(
    "update grants set tokens_from = :now, updated_at = :now where district_code = :district_code"
    " and member_id = :member_id and role = 'member' and revoked_at is null"
    " and (cast(:subject as text) is null or subject = cast(:subject as text))"
)
_BELOW_A_TOWN = frozenset({Role.MEMBER, Role.EVENT_STAFF, Role.SECRETARY, Role.GUIDE})
BELOW = {
    Role.DISTRICT_OFFICER: frozenset(Role) - {Role.DISTRICT_OFFICER},
    Role.TOWN_OFFICER: _BELOW_A_TOWN,
}
"""Which roles the holder of one may take and, but for a member's, give."""


class GrantToOneself(Problem):
    """Nobody grants anything to herself, or takes back her own."""

    code, status = "grant_to_oneself", 403


class GrantRevoked(Problem):
    """The grant was revoked before."""

    code, status = "grant_revoked", 409


async def list_grants(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: GrantFilters,
    now: datetime,
) -> Slice:
    """Give a page of the grants whose reach lies within the caller's, the oldest first."""
    condition, params = reach.within(caller, area="g.area_code")
    where = Where(params | {"district_code": caller.district_code})
    where.add("g.district_code = :district_code")
    where.add(condition)
    where.equal("g.subject", "subject", filters.subject)
    where.equal("g.role", "role", filters.role)
    where.equal("g.employer_linked", "employer_linked", filters.employer_linked)
    where.in_area("g.area_code", filters.area)
    if filters.association_id is not None:
        condition = ":association_id = any(g.association_ids)"
        where.add(condition, association_id=filters.association_id)
    if filters.in_force is not None:
        where.add(f"{grant_history.IN_FORCE} = :in_force", in_force=filters.in_force, now=now)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, grant_id: UUID) -> GrantRead:
    """Give one grant, or refuse with NotFound."""
    condition, params = reach.within(caller, area="g.area_code")
    params |= {"district_code": caller.district_code, "id": grant_id}
    sql = f"select {_COLUMNS} where g.district_code = :district_code and g.id = :id"
    row = await statements.fetch_row(f"{sql} and {condition}", params, about="member_id")
    if row is None:
        raise NotFound
    return GrantRead(**row)


async def give(
    session: AsyncSession, caller: Caller, *, body: GrantCreate, now: datetime
) -> tuple[GrantRead, bool]:
    """Store a grant of a role below the caller's, with a reach within hers, and tell if it is new.

    What an employer's side gives, and what reaches an association inside an enterprise, is linked
    to an employer whether or not it is said; admission has one such grant count for all that its
    subject holds. So nothing is given to who holds an office that the caller could not take back,
    but to staff an event, which links nobody, to who does nothing else.
    To act as a member is given to nobody but herself: she may all that concerns her, and would not
    know. Her login by phone, once taken back, is given again by its subject, and only then.
    What is in force just so is not given a second time: two that are alike would shut her out.
    """
    if body.subject == caller.subject:
        raise GrantToOneself
    _require_below(caller, body.role)
    asked = GrantProvide(**body.model_dump(), member_id=_logging_in(caller, body))
    _keep_to_persons_and_today(asked, now)
    _verify_subject_and_term(asked, now)
    grant_extents.verify_kind(asked)
    extent = await grant_extents.extent_of(session, caller, asked, member_at="/subject")
    grant = _made(caller, asked, extent, now=now)
    await grant_history.require_within(
        session,
        caller,
        subject=body.subject,
        below=BELOW[caller.role],
        now=now,
        is_staff=body.role is Role.EVENT_STAFF and not grant.employer_linked,
    )
    if body.role is Role.MEMBER:
        await grant_history.require_out(session, caller, subject=body.subject, now=now)
    same = await _same(session, grant, now=now)
    if same is not None and same.ends_at == grant.ends_at:
        return _read(same), False
    grant.tokens_from = await grant_history.latest_tokens(session, caller, asked)
    session.add(grant)
    await session.flush()
    return _read(grant), True


async def _same(session: AsyncSession, grant: Grant, *, now: datetime) -> Grant | None:
    """Give a grant in force of the same role and reach to the same subject."""
    same_id = await session.scalar(_SAME, grant.model_dump() | {"now": now})
    key = (grant.district_code, same_id)
    return None if same_id is None else await session.get(Grant, key)


def _logging_in(caller: Caller, body: GrantCreate) -> UUID | None:
    """Give whom a grant lets log in by phone; refuses to let anybody else act as a member."""
    if body.role is not Role.MEMBER:
        return None
    member_id = member_of(body.subject)
    if member_id is None or caller.employer_linked:
        raise Invalid.at("/role", "members_log_in")
    if body.employer_linked:
        raise Invalid.at("/employer_linked", "member_linked")
    return member_id


async def revoke(
    session: AsyncSession,
    caller: Caller,
    *,
    grant_id: UUID,
    reason: str,
    expected_version: int,
    now: datetime,
) -> GrantRead:
    """Take back a grant of a role below the caller's; no call is served under it 5 s later.

    Nobody takes back her own, nor does the employer's side what makes an office be of it that its
    holder would keep.
    """
    statement = select(Grant).where(
        col(Grant.district_code) == caller.district_code,
        col(Grant.id) == grant_id,
        reach.clause(caller, area="grants.area_code"),
    )
    grant = (await session.execute(statement.with_for_update())).scalar_one_or_none()
    if grant is None:
        raise NotFound
    _require_below(caller, Role(grant.role))
    if grant.subject == caller.subject:
        raise GrantToOneself
    if grant.employer_linked and caller.employer_linked:
        await grant_history.require_nobody_freed(
            session, caller, subject=grant.subject, grant_id=grant.id, now=now
        )
    if grant.revoked_at is not None:
        raise GrantRevoked
    concurrency.require_version(grant.version, expected_version)
    grant.change(now, revoked_at=now, revoked_by=caller.subject, revoke_reason=reason)
    await session.flush()
    return _read(grant)


async def end_of_member(
    session: AsyncSession, caller: Caller, *, member_id: UUID, reason: str, now: datetime
) -> None:
    """Take back all that lets somebody act as a member who is no more, district-wide."""
    params = {"district_code": caller.district_code, "member_id": member_id}
    facts = {"now": now, "subject": caller.subject, "reason": reason}
    await session.execute(_END_OF_MEMBER, params | facts)


async def sign_out(session: AsyncSession, caller: Caller, *, now: datetime) -> None:
    """End all tokens by which somebody acts as the calling member, within 5 seconds."""
    if caller.member_id is None:
        raise NotFound
    async with district_wide(session):
        await end_tokens(
            session, district_code=caller.district_code, member_id=caller.member_id, now=now
        )


async def end_tokens(
    session: AsyncSession,
    *,
    district_code: str,
    member_id: UUID,
    now: datetime,
    subject: str | None = None,
) -> None:
    """Accept no token of a member that was signed until now, of one `subject` or of any."""
    params = {
        "district_code": district_code,
        "member_id": member_id,
        "now": now,
        "subject": subject,
    }
    await session.execute(_END_OF_TOKENS, params)


async def provide(
    session: AsyncSession, *, district_code: str, body: GrantProvide, granted_by: str, now: datetime
) -> UUID:
    """Make sure that a grant is in force, and give its id: the way of those who run the service.

    The first officer of a district has nobody above her to ask.
    """
    caller = Caller(granted_by, Role.DISTRICT_OFFICER, district_code, areas=(district_code,))
    _verify_subject_and_term(body, now)
    grant_extents.verify_kind(body)
    await grant_history.hold(session, district_code=district_code, subject=body.subject)
    # Areas may be loaded after the first officer is there to load them.
    extent = (
        Extent(body.areas) if body.areas else await grant_extents.extent_of(session, caller, body)
    )
    grant = _made(caller, body, extent, now=now)
    grant.tokens_from = await grant_history.latest_tokens(session, caller, body)
    same = await _same(session, grant, now=now)
    if same is not None:
        return same.id
    session.add(grant)
    await session.flush()
    return grant.id


def _made(caller: Caller, body: GrantProvide, extent: Extent, *, now: datetime) -> Grant:
    return Grant(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        area_code=extent.area_code,
        granted_by=caller.subject,
        revoked_at=None,
        revoked_by=None,
        revoke_reason=None,
        **body.model_dump(exclude={"starts_at", "employer_linked"}),
        starts_at=body.starts_at or now,
        employer_linked=body.employer_linked or caller.employer_linked or extent.is_employers,
    )


def _read(grant: Grant) -> GrantRead:
    return GrantRead(**grant.model_dump(), granted_at=grant.created_at)


def _require_below(caller: Caller, role: Role) -> None:
    if role not in BELOW.get(caller.role, frozenset()):
        raise RoleNotBelow


def _keep_to_persons_and_today(body: GrantProvide, now: datetime) -> None:
    """Refuse a subject under which the service itself acts, and an office before today."""
    if is_reserved(body.subject) and body.role is not Role.MEMBER:
        raise Invalid.at("/subject", "subject_reserved")
    today = datetime.combine(clock.civil_date(now), time.min, clock.CIVIL_ZONE)
    if body.starts_at is not None and body.starts_at < today:
        raise Invalid.at("/starts_at", "starts_before_today")


def _verify_subject_and_term(body: GrantCreate, now: datetime) -> None:
    try:
        require_enterable(Scope(Acting.QUEUE, subject=body.subject))
    except ValueError:
        reason = "backslash" if "\\" in body.subject else "control_character"
        raise Invalid.at("/subject", reason) from None
    if body.ends_at is None:
        return
    if body.ends_at <= now:
        raise Invalid.at("/ends_at", "ends_in_the_past")
    if body.starts_at is not None and body.ends_at <= body.starts_at:
        raise Invalid.at("/ends_at", "ends_before_it_starts")
