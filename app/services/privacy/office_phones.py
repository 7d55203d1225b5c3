"""Phones that offices enter: the first at once; another waits and is told to the one before."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.membership.members import Member
from app.models.privacy.held_changes import HeldField
from app.problems import Invalid
from app.services.privacy import cleared_phones, held_changes, person_data
from app.services.privacy.person_data import PersonData

KEPT = "phone_on_file_stays"
"""Why a phone is not taken: who has the phone is let in as the member."""
WAITS = "phone_waits"
"""Why a phone is not taken yet: another one is gone since lately."""
_WAITING = (
    "select member_id, in_force_at from held_changes where district_code = :district_code"
    " and member_id = any(:member_ids) and field = 'phone' and applied_at is null"
    " and cancelled_at is null"
)
_TAKEN_BACK = text(
    "select exists (select from consents where district_code = :district_code"
    " and member_id = :member_id and purpose = 'contact' and withdraws is not null)"
)


async def waits_until(
    statements: Statements, caller: Caller, *, member_id: UUID
) -> datetime | None:
    """Give when the phone that waits of a member whom the caller sees is in force; None of none."""
    if caller.employer_linked:
        return None
    params = {"district_code": caller.district_code, "member_ids": [member_id]}
    row = await statements.district_wide().fetch_row(_WAITING, params)
    return None if row is None else cast("datetime", row["in_force_at"])


async def wait_until(
    session: AsyncSession, caller: Caller, *, member_ids: Sequence[UUID]
) -> Mapping[UUID, datetime]:
    """Give the same of several, by their ids, within a transaction that has found them."""
    if caller.employer_linked or not member_ids:
        return {}
    params = {"district_code": caller.district_code, "member_ids": list(member_ids)}
    async with district_wide(session):
        rows = (await session.execute(text(_WAITING), params)).all()
    return {row.member_id: row.in_force_at for row in rows}


async def settle(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member: Member,
    data: PersonData,
    cleared: Collection[str],
    now: datetime,
) -> PersonData:
    """Give what takes its place at once; in place of a phone that she logs in by, another is held.

    Raises Invalid where the employer's side would change by what a member logs in.
    """
    is_cleared = "phone" in cleared
    if data.phone is None and not is_cleared:
        return data
    if data.phone is not None and member.phone_index in _indexes(keyring, data.phone):
        _vouch(caller, member)
        return data
    async with district_wide(session):
        until = await cleared_phones.waits_until(session, member, now=now)
        if is_cleared and member.phone_index is None and until is None:
            return data
        await _refuse_employers(session, caller, member, is_awaited=until is not None)
        if data.phone is None:
            await cleared_phones.take_away(session, keyring, member, now=now)
            return data
        return await _settled(session, keyring, member=member, data=data, now=now)


def _indexes(keyring: Keyring, phone: str) -> Sequence[bytes]:
    return keyring.blind_indexes(phone, column=person_data.PHONE)


def _vouch(caller: Caller, member: Member) -> None:
    """Confirm the phone on file, which an office that is not the employer's enters again."""
    if not caller.employer_linked:
        member.phone_unconfirmed_since = None


async def _settled(
    session: AsyncSession, keyring: Keyring, *, member: Member, data: PersonData, now: datetime
) -> PersonData:
    """Hold a phone that follows one that lets, or lately let, her in; any other takes none."""
    phone = data.phone or ""
    if held_changes.is_reachable(member):
        value, field = phone.encode(), HeldField.PHONE
        await held_changes.begin(session, keyring, member=member, field=field, value=value, now=now)
    elif not await cleared_phones.follow(session, keyring, member=member, phone=phone, now=now):
        return data
    return replace(data, phone=None)


async def _refuse_employers(
    session: AsyncSession, caller: Caller, member: Member, *, is_awaited: bool
) -> None:
    """Leave alone what she logs in by, and what was taken away: taking is the way to replacing."""
    if not caller.employer_linked:
        return
    stays = member.phone_index is not None or is_awaited
    if stays or await session.scalar(_TAKEN_BACK, member.key):
        raise Invalid.at("/phone", KEPT)
