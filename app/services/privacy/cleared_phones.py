"""Phones that are gone: one that an office took is told; what offices enter next waits 72 hours."""

from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.membership.members import Member
from app.models.privacy.held_changes import HeldChange, HeldField
from app.services.access import grants
from app.services.privacy import data_keys, held_changes, person_data, person_storage
from app.services.privacy.held_changes import HOLD

IN_QUESTION = (
    "c.district_code = :district_code and c.field = 'cleared_phone'"
    " and (c.in_force_at > :now or c.applied_at is null and c.cancelled_at is null)"
)
"""What makes another phone wait: one that went lately, or one that was not told yet."""
# What is not told yet is told now at the earliest.
_STANDING = text(
    "select max(case when c.applied_at is null and c.cancelled_at is null"
    " then greatest(c.in_force_at, cast(:until as timestamptz)) else c.in_force_at end) as until,"
    " bool_and(c.applied_at is not null or c.cancelled_at is not null) as is_told"
    f" from held_changes c where {IN_QUESTION} and c.member_id = :member_id"
)
_UNTOLD = text(
    "select id, value_sealed from held_changes where district_code = :district_code"
    " and member_id = :member_id and field = 'cleared_phone' and applied_at is null"
    " and cancelled_at is null"
)
_FOLLOWING = text(
    "update held_changes set noticed_at = :now, in_force_at = greatest(in_force_at, :until)"
    " where district_code = :district_code and member_id = :member_id and field = 'phone'"
    " and applied_at is null and cancelled_at is null"
)


async def waits_until(session: AsyncSession, member: Member, *, now: datetime) -> datetime | None:
    """Give until when a phone entered now would wait, district-wide; None where none must."""
    return (await _standing(session, member, now=now))[0]


async def _standing(
    session: AsyncSession, member: Member, *, now: datetime
) -> tuple[datetime | None, bool]:
    params = member.key | {"now": now, "until": now + HOLD}
    row = (await session.execute(_STANDING, params)).one()
    return cast("datetime | None", row.until), bool(row.is_told)


async def take_away(
    session: AsyncSession, keyring: Keyring, member: Member, *, now: datetime
) -> str | None:
    """Let in nobody any more by the phone of a locked member, district-wide; gives whom to tell.

    What waited for her is given up, as she could not be told of it. A phone that lets nobody in
    needs no notice, and none may wait for its sake. Where none is on file, it is the one that was
    taken away before and was not told yet: its hold begins again.
    """
    await data_keys.give_up_waiting(
        session, member, HeldField.PHONE, HeldField.PAYOUT_ACCOUNT, now=now
    )
    phone = await to_be_told(session, keyring, member)
    if phone is None:
        return None
    await held_changes.hold(
        session,
        keyring,
        member=member,
        field=HeldField.CLEARED_PHONE,
        value=phone.encode(),
        now=now,
        until=now + HOLD,
    )
    # By the clock, as a login that this transaction had to wait for began after it.
    await grants.end_tokens(
        session, district_code=member.district_code, member_id=member.id, now=clock.now()
    )
    return phone


async def to_be_told(session: AsyncSession, keyring: Keyring, member: Member) -> str | None:
    """Give the phone that lets a member in, or lately did and was not told yet, district-wide."""
    key = await data_keys.find_of(session, keyring, member)
    if key is None:
        return None
    if member.phone_sealed is not None:
        is_door = held_changes.is_reachable(member)
        return person_data.open_phone(key, member.id, member.phone_sealed) if is_door else None
    row = (await session.execute(_UNTOLD, member.key)).first()
    if row is None:
        return None
    return held_changes.opened(key, HeldField.CLEARED_PHONE, row.id, row.value_sealed).decode()


async def leave_gap(session: AsyncSession, member: Member, *, now: datetime) -> None:
    """Make what offices enter wait once a locked member has taken back her consent herself.

    Nothing is kept of the phone, and nobody is told what she knows.
    """
    until, is_told = await _standing(session, member, now=now)
    if not held_changes.is_reachable(member) and (until is None or is_told):
        return
    session.add(
        HeldChange(
            district_code=member.district_code,
            id=clock.new_id(),
            member_id=member.id,
            field=HeldField.CLEARED_PHONE.value,
            value_sealed=None,
            requested_at=now,
            in_force_at=now + HOLD,
            noticed_at=None,
            applied_at=None,
            cancelled_at=now,
        )
    )
    await session.flush()


async def follow(
    session: AsyncSession, keyring: Keyring, *, member: Member, phone: str, now: datetime
) -> bool:
    """Hold a phone entered after one was taken away, district-wide; False if none was lately."""
    until, is_told = await _standing(session, member, now=now)
    if until is None:
        return False
    await held_changes.hold(
        session,
        keyring,
        member=member,
        field=HeldField.PHONE,
        value=phone.encode(),
        now=now,
        until=until,
        noticed_at=now if is_told else None,
    )
    return True


async def end(
    session: AsyncSession,
    keyring: Keyring,
    *,
    district_code: str,
    change_id: UUID,
    is_told: bool,
    now: datetime,
) -> UUID | None:
    """Erase a phone that was told that it was taken away, or cannot be; gives whose it was.

    What follows it waits for as long from when it was told.
    """
    change = await session.get(HeldChange, (district_code, change_id))
    if change is None:
        return None
    member = await session.get(Member, (district_code, change.member_id), with_for_update=True)
    await session.refresh(change, with_for_update=True)
    if member is None or change.value_sealed is None:
        return None
    change.value_sealed = None
    if is_told:
        change.noticed_at = change.applied_at = now
        change.in_force_at = max(change.in_force_at, now + HOLD)
    else:
        change.cancelled_at = now
    await session.flush()
    params = member.key | {"now": now, "until": change.in_force_at}
    await session.execute(_FOLLOWING, params)
    await person_storage.drop_idle_key(session, keyring, member, now=now)
    return member.id
