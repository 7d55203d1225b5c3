"""Memberships: the dated moves of a member into, between and out of associations."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.events.service_events import HEALTH_KINDS
from app.models.membership.members import (
    Member,
    MemberDetail,
    MemberLeave,
    MembershipFilters,
    MemberStatus,
    MemberTransfer,
)
from app.paging import Key, Listing, Slice, Where
from app.problems import Invalid, NotFound, Problem
from app.services.events import registrations
from app.services.membership import members, open_associations
from app.services.privacy import data_keys, person_storage

ORDER = (
    Key("joined_on", "s.joined_on", "date"),
    # The one that is open is the last, so that no page begins after it.
    Key("left_on", "coalesce(s.left_on, 'infinity')", "date"),
    Key("association_id", "s.association_id", "uuid"),
)
LISTING = Listing(
    columns="s.association_id, s.joined_on, s.left_on, s.reason",
    source=(
        "memberships s join members m on m.district_code = s.district_code and m.id = s.member_id"
    ),
    order=ORDER,
    about="",
)
_CLOSE = text(
    "update memberships set left_on = :left_on, reason = :reason,"
    " left_recorded_at = greatest(recorded_at, :now)"
    " where district_code = :district_code and member_id = :member_id and left_on is null"
)
_OPEN = text(
    "insert into memberships as s (district_code, member_id, joined_on, association_id, left_on,"
    " reason, recorded_at)"
    " values (:district_code, :member_id, :joined_on, :association_id, null, null, :now)"
    " on conflict (district_code, member_id, joined_on, association_id)"
    " do update set left_on = null, reason = null, left_recorded_at = null,"
    " was_left = s.was_left || array[s.left_recorded_at, greatest(s.left_recorded_at, :now)]"
)
_LAST_DATE = text(
    "select max(coalesce(left_on, joined_on)) from memberships"
    " where district_code = :district_code and member_id = :member_id"
)


class AlreadyInAssociation(Problem):
    """The member is in this association now."""

    code, status = "already_in_association", 409


class AlreadyLeft(Problem):
    """The member is in no association now; a transfer brings her back."""

    code, status = "already_left", 409


async def list_memberships(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    filters: MembershipFilters,
) -> Slice:
    """Give a page of a member's ties to associations, the oldest first; raises NotFound."""
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    where = Where(params | {"district_code": caller.district_code, "id": member_id})
    where.add("s.district_code = :district_code and m.district_code = :district_code")
    where.add(f"s.member_id = :id and {condition}")
    shown = statements.showing(member_id)
    page = await LISTING.page(shown, keyring, filters=filters, where=where)
    if not page.items and filters.cursor is None:
        raise NotFound
    return page


async def transfer(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    version: int,
    body: MemberTransfer,
    now: datetime,
) -> MemberDetail:
    """Move a member to another association from a date on, or back into one after leaving.

    Raises AlreadyInAssociation, AssociationTakesNoMembers or EmployeeNumberTaken.
    """
    member = await members.locked(session, caller, member_id=member_id, version=version)
    active = member.status == MemberStatus.ACTIVE
    if active and member.association_id == body.association_id:
        raise AlreadyInAssociation
    area_code = await open_associations.area_of(session, caller, body.association_id)
    members.refuse_future(civil_date(now), moved_on=body.moved_on)
    await _close(session, member, on=body.moved_on, at="/moved_on", reason=body.reason, now=now)
    member.association_id, member.area_code = body.association_id, area_code
    member.employee_no, member.status = body.employee_no, MemberStatus.ACTIVE.value
    person_storage.touch(member, now)
    await session.flush()
    await session.execute(
        _OPEN,
        {
            "district_code": member.district_code,
            "member_id": member.id,
            "joined_on": body.moved_on,
            "association_id": member.association_id,
            "now": now,
        },
    )
    async with district_wide(session):
        # Those of the association that she leaves are shown her no more.
        await person_storage.forget_answers(session, member)
    key = await data_keys.find_of(session, keyring, member)
    return await members.answer(session, caller, member, key)


async def leave(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    version: int,
    body: MemberLeave,
    now: datetime,
) -> MemberDetail:
    """End a member's membership from a date on; her history stays. Raises AlreadyLeft.

    Her places at events that are not over are free for those who wait, but at health checks: her
    employer may end her membership, and by who moves up there would learn whether she came.
    """
    async with district_wide(session):
        events = await registrations.hold_places(
            session, caller, member_id=member_id, now=now, kept=HEALTH_KINDS
        )
    member = await members.locked(session, caller, member_id=member_id, version=version)
    if member.status == MemberStatus.LEFT:
        raise AlreadyLeft
    members.refuse_future(civil_date(now), left_on=body.left_on)
    await _close(session, member, on=body.left_on, at="/left_on", reason=body.reason, now=now)
    member.status = MemberStatus.LEFT.value
    person_storage.touch(member, now)
    await session.flush()
    async with district_wide(session):
        await registrations.give_up(session, member, events, now=now, kept=HEALTH_KINDS)
        await person_storage.forget_answers(session, member)
    key = await data_keys.find_of(session, keyring, member)
    return await members.answer(session, caller, member, key)


async def _close(
    session: AsyncSession,
    member: Member,
    *,
    on: date,
    at: str,
    reason: str | None,
    now: datetime,
) -> None:
    """End the open membership, if any; no date may come before the last of the history."""
    last = (await session.execute(_LAST_DATE, member.key)).scalar_one()
    if on < last:
        raise Invalid.at(at, "before_last_move")
    await session.execute(_CLOSE, {**member.key, "left_on": on, "reason": reason, "now": now})
