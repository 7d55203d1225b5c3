"""Phones that offices enter: the first at once; another waits and is told to the one on file."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import district_wide
from app.identity import Caller
from app.models.held_changes import HeldField
from app.models.members import Member
from app.problems import Invalid
from app.services import data_keys, held_changes, person_data
from app.services.person_data import PersonData

KEPT = "phone_on_file_stays"
"""Why a phone is not taken: who has the phone is let in as the member."""
_TAKEN_BACK = text(
    "select exists (select from consents where district_code = :district_code"
    " and member_id = :member_id and purpose = 'contact' and withdraws is not null)"
)


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
    """Give what takes its place at once; in place of a phone on file, another one is held.

    Raises Invalid where the employer's side would change by what a member logs in.
    """
    known = data.phone and keyring.blind_indexes(data.phone, column=person_data.PHONE)
    is_another = known is not None and member.phone_index not in known
    is_cleared = "phone" in cleared and member.phone_index is not None
    if not (is_another or is_cleared):
        return data
    await _refuse_employers(session, caller, member)
    if member.phone_index is None or data.phone is None:
        if is_cleared:
            await _give_up_what_waits(session, member, now=now)
        return data
    async with district_wide(session):
        value = data.phone.encode()
        await held_changes.begin(
            session, keyring, member=member, field=HeldField.PHONE, value=value, now=now
        )
    return replace(data, phone=None)


async def _refuse_employers(session: AsyncSession, caller: Caller, member: Member) -> None:
    """Leave alone what she logs in by, and what she took back: taking is the way to replacing."""
    if not caller.employer_linked:
        return
    key = {"district_code": member.district_code, "member_id": member.id}
    if member.phone_index is not None or await session.scalar(_TAKEN_BACK, key):
        raise Invalid.at("/phone", KEPT)


async def _give_up_what_waits(session: AsyncSession, member: Member, *, now: datetime) -> None:
    """Give up all that nobody could be told of any more."""
    async with district_wide(session):
        await data_keys.give_up_waiting(session, member, *HeldField, now=now)
