"""ID number and phone of a member: checked, encrypted, indexed, masked and unique in the nation."""

from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import identifiers
from app.crypto import Keyring
from app.models.members import Member
from app.problems import FieldError, Invalid, field_error

_CLAIM = text(
    "insert into person_keys (identity_hash, district_code, member_id)"
    " values (:identity_hash, :district_code, :member_id)"
    " on conflict (identity_hash) do nothing returning member_id"
)
_RELEASE = text(
    "delete from person_keys where identity_hash = :identity_hash"
    " and district_code = :district_code and member_id = :member_id"
)


@dataclass(frozen=True)
class PersonData:
    """An ID number and a phone in their normal forms."""

    id_number: str | None
    phone: str | None


def check(*, id_number: str | None, phone: str | None, today: date) -> PersonData:
    """Give the normal forms; raises Invalid that names each one that is none."""
    errors: list[FieldError] = []
    try:
        id_number = id_number and identifiers.resident_id(id_number, today=today)
    except ValueError as error:
        errors.append(field_error("/id_number", str(error)))
    try:
        phone = phone and identifiers.phone(phone)
    except ValueError as error:
        errors.append(field_error("/phone", str(error)))
    if errors:
        raise Invalid(errors=errors)
    return PersonData(id_number, phone)


def require_consent(data: PersonData, consented_on: date | None) -> None:
    """Raise Invalid at each field that may not be stored without consent."""
    if consented_on is not None:
        return
    given = {"/id_number": data.id_number, "/phone": data.phone}
    errors = [field_error(pointer, "consent_needed") for pointer, value in given.items() if value]
    if errors:
        raise Invalid(errors=errors)


def id_number_index(keyring: Keyring, id_number: str) -> bytes:
    """Give the blind index by which an ID number is found in its district."""
    return keyring.blind_index(id_number, column="id_number")


def phone_index(keyring: Keyring, phone: str) -> bytes:
    """Give the blind index by which a phone is found in its district."""
    return keyring.blind_index(phone, column="phone")


def identity_hash(keyring: Keyring, id_number: str) -> bytes:
    """Give the keyed hash that is unique in the nation; it cannot be joined with the index."""
    return keyring.blind_index(id_number, column="person")


def seal_id_number(keyring: Keyring, member_id: UUID, id_number: str) -> bytes:
    """Encrypt an ID number for one member."""
    return keyring.encrypt(id_number, place=f"members.id_number:{member_id}")


def seal_phone(keyring: Keyring, member_id: UUID, phone: str) -> bytes:
    """Encrypt a phone for one member."""
    return keyring.encrypt(phone, place=f"members.phone:{member_id}")


def open_id_number(keyring: Keyring, member_id: UUID, sealed: bytes) -> str:
    """Decrypt the ID number of a member."""
    return keyring.decrypt(sealed, place=f"members.id_number:{member_id}")


def open_phone(keyring: Keyring, member_id: UUID, sealed: bytes) -> str:
    """Decrypt the phone of a member."""
    return keyring.decrypt(sealed, place=f"members.phone:{member_id}")


def masked(
    keyring: Keyring, member_id: UUID, id_number: bytes | None, phone: bytes | None
) -> dict[str, Any]:
    """Give both, decrypted and masked, as an answer shows them."""
    return {
        "id_number_masked": id_number
        and identifiers.mask_resident_id(open_id_number(keyring, member_id, id_number)),
        "phone_masked": phone and identifiers.mask_phone(open_phone(keyring, member_id, phone)),
    }


async def claim(session: AsyncSession, member: Member, identity: bytes) -> bool:
    """Take a person's key for a member; False when another member of the nation has it."""
    found = await session.execute(_CLAIM, _key(member, identity))
    return found.first() is not None


async def release(session: AsyncSession, member: Member, identity: bytes) -> None:
    """Give a person's key back."""
    await session.execute(_RELEASE, _key(member, identity))


def _key(member: Member, identity: bytes) -> dict[str, Any]:
    return {
        "identity_hash": identity,
        "district_code": member.district_code,
        "member_id": member.id,
    }
