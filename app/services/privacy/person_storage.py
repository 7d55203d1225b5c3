"""ID number and phone of a member in her row: sealed under her key, replaced, and cleared."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import kept_answers, reach
from app.ciphers import Cipher
from app.crypto import Keyring
from app.database import district_wide
from app.identity import Caller
from app.models.membership.members import Member
from app.problems import Problem
from app.services.privacy import correction_texts, data_keys, person_data
from app.services.privacy.enrolled_elsewhere import Allowance
from app.services.privacy.person_data import PersonData

_IN_REACH = (
    "select m.id from person_keys k"
    " join members m on m.district_code = k.district_code and m.id = k.member_id"
    " where k.identity_hash = any(:identities) and k.district_code = :district_code"
    " and m.district_code = :district_code and {reach}"
)
# Answers kept for repeated requests show what she no longer wants to be shown. That the request was
# answered is kept: without it a repeat of her enrolment would enrol her again. What the version
# before kept says only in its body of whom it tells.
_FORGET_ANSWERS = text(
    f"update idempotency_keys set status = {kept_answers.FORGOTTEN}, headers = '', body = '',"
    " persons = '{}' where district_code = :district_code"
    " and (cast(:member_id as uuid) = any(persons)"
    " or position(cast(:member as bytea) in body) > 0)"
)
_FORGET_REJECTED = text(
    "delete from operation_files f using import_rows r where f.district_code = :district_code"
    " and r.district_code = :district_code and r.operation_id = f.operation_id"
    " and r.member_id = :member_id and r.outcome = 'rejected'"
)


class AlreadyEnrolled(Problem):
    """The ID number belongs to a member; `member_id` says to whom, if within the caller's reach."""

    code, status = "already_enrolled", 409
    constraint = "uq_members_id_number"


def is_sealed(member: Member) -> bool:
    """Tell whether her row holds anything that her key is needed for."""
    sealed = (member.id_number_sealed, member.phone_sealed, member.payout_account_sealed)
    return any(each is not None for each in sealed)


async def keep(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    key: Cipher | None,
    member: Member,
    data: PersonData,
    told: Allowance,
    now: datetime,
    cleared: Collection[str] = (),
) -> None:
    """Store new person data under the member's key, and erase what is cleared.

    What the employer's side enters nobody has vouched for yet. Raises AlreadyEnrolled, or
    TooManyElsewhere once the caller was told so often enough.
    """
    if "phone" in cleared:
        clear_phone(member)
    if key is not None and data.phone is not None:
        indexes = keyring.blind_indexes(data.phone, column=person_data.PHONE)
        if member.phone_index not in indexes:
            member.phone_sealed = person_data.seal_phone(key, member.id, data.phone)
            member.phone_index = indexes[0]
            member.phone_unconfirmed_since = now if caller.employer_linked else None
    if data.id_number is not None:
        await _keep_id_number(
            session, caller, keyring, key=key, member=member, id_number=data.id_number, told=told
        )
    elif "id_number" in cleared:
        async with district_wide(session):
            await clear_id_number(session, keyring, key=key, member=member)


async def _keep_id_number(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    key: Cipher | None,
    member: Member,
    id_number: str,
    told: Allowance,
) -> None:
    """Replace the ID number and, in step with it, the keys that are unique in the nation."""
    indexes = keyring.blind_indexes(id_number, column=person_data.ID_NUMBER)
    if member.id_number_index in indexes or key is None:
        return
    await told.require()
    async with district_wide(session):
        await clear_id_number(session, keyring, key=key, member=member)
        held = person_data.identities(keyring, id_number)
        if not await person_data.claim(session, member, held):
            raise await _already_enrolled(session, caller, held, told)
    member.id_number_sealed = person_data.seal_id_number(key, member.id, id_number)
    member.id_number_index = indexes[0]


async def _already_enrolled(
    session: AsyncSession, caller: Caller, held: Sequence[bytes], told: Allowance
) -> AlreadyEnrolled:
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    params |= {"district_code": caller.district_code, "identities": list(held)}
    found = (await session.execute(text(_IN_REACH.format(reach=condition)), params)).scalar()
    if found is None:
        await told.spend()
        return AlreadyEnrolled()
    return AlreadyEnrolled(extra={"member_id": str(found)})


def touch(member: Member, now: datetime) -> None:
    """Count a change of her row."""
    member.version += 1
    member.updated_at = now


def clear_phone(member: Member) -> None:
    """Take the phone out of her row."""
    member.phone_sealed = member.phone_index = member.phone_unconfirmed_since = None


def clear_account(member: Member) -> None:
    """Take the payout account out of her row."""
    member.payout_account_sealed = member.payout_account_index = None


async def clear_id_number(
    session: AsyncSession, keyring: Keyring, *, key: Cipher | None, member: Member
) -> None:
    """Take the ID number out of her row, district-wide; she may enrol again as somebody new."""
    if key is not None and member.id_number_sealed is not None:
        old = person_data.open_id_number(key, member.id, member.id_number_sealed)
        await person_data.release(session, member, person_data.identities(keyring, old))
    member.id_number_sealed = member.id_number_index = None


async def drop_idle_key(
    session: AsyncSession, keyring: Keyring, member: Member, *, now: datetime
) -> None:
    """Destroy a key that seals nothing of her row any more, and let her corrections outlast it.

    What it sealed is then gone from backups too.
    """
    async with district_wide(session):
        if is_sealed(member) or await data_keys.is_waited_for(session, member):
            return
        key = await data_keys.find_of(session, keyring, member)
        if key is not None:
            await correction_texts.outlast_key(session, keyring, member, key, now=now)


async def forget_answers(session: AsyncSession, member: Member) -> None:
    """Forget the answers that are kept for repeated requests and tell of her, district-wide.

    The answer to the request under way is kept after it, and stays.
    """
    params: dict[str, Any] = {**member.key, "member": str(member.id).encode()}
    await session.execute(_FORGET_ANSWERS, params)


async def forget_rejected(session: AsyncSession, member: Member) -> None:
    """Drop the files of rejected rows that are known to hold a row of hers, district-wide."""
    await session.execute(_FORGET_REJECTED, member.key)
