"""ID number, phone and payout account of a member: checked, encrypted, indexed and masked."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import identifiers
from app.ciphers import Cipher
from app.crypto import Keyring
from app.models.membership.members import Member
from app.models.privacy.privacy_notices import ConsentPurpose
from app.problems import FieldError, Invalid, field_error

# While two versions of the index key are in use a person holds a key under each of them.
_CLAIM = text(
    "insert into person_keys (identity_hash, district_code, member_id)"
    " select identity_hash, :district_code, :member_id"
    " from unnest(cast(:identities as bytea[])) i(identity_hash)"
    " where not exists (select from person_keys k where k.identity_hash = any(:identities))"
    " on conflict (identity_hash) do nothing returning member_id"
)
_RELEASE = text(
    "delete from person_keys where identity_hash = any(:identities)"
    " and district_code = :district_code and member_id = :member_id"
)
ID_NUMBER, PHONE, PERSON = "id_number", "phone", "person"
ACCOUNT = "payout_account"
"""The columns whose equal values are found by blind indexes; no two can be joined."""


@dataclass(frozen=True)
class PayoutAccount:
    """An account to which somebody is paid, its number in its normal form."""

    kind: str
    number: str
    issuer: str
    holder: str

    def __str__(self) -> str:
        """Write it as whoever pays needs it."""
        return f"{self.issuer} {self.number} {self.holder}"

    @property
    def masked(self) -> "PayoutAccount":
        """Give it with its number and its holder's name hidden."""
        number, holder = identifiers.mask_account(self.number), identifiers.mask_name(self.holder)
        return replace(self, number=number, holder=holder)


@dataclass(frozen=True)
class PersonData:
    """An ID number, a phone and a payout account in their normal forms."""

    id_number: str | None
    phone: str | None
    account: PayoutAccount | None = None


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


def normal_phone(phone: str) -> str:
    """Give the normal form of a phone that is a field of its own; raises Invalid."""
    try:
        return identifiers.phone(phone)
    except ValueError as error:
        raise Invalid.at("/phone", str(error)) from None


def require_consent(data: PersonData, purposes: Collection[ConsentPurpose]) -> None:
    """Raise Invalid at each field that may not be stored without consent to it."""
    given = {
        ConsentPurpose.IDENTITY: ("/id_number", data.id_number),
        ConsentPurpose.CONTACT: ("/phone", data.phone),
    }
    errors = [
        field_error(pointer, "consent_needed")
        for purpose, (pointer, value) in given.items()
        if value and purpose not in purposes
    ]
    if errors:
        raise Invalid(errors=errors)


def id_number_index(keyring: Keyring, id_number: str) -> bytes:
    """Give the blind index by which an ID number is found in its district."""
    return keyring.blind_index(id_number, column=ID_NUMBER)


def phone_index(keyring: Keyring, phone: str) -> bytes:
    """Give the blind index by which a phone is found in its district."""
    return keyring.blind_index(phone, column=PHONE)


def identity_hash(keyring: Keyring, id_number: str) -> bytes:
    """Give the keyed hash that is unique in the nation; it cannot be joined with the index."""
    return keyring.blind_index(id_number, column=PERSON)


def identities(keyring: Keyring, id_number: str) -> list[bytes]:
    """Give the keyed hash under every version of the index key in use."""
    return keyring.blind_indexes(id_number, column=PERSON)


def seal_id_number(key: Cipher, member_id: UUID | str, id_number: str) -> bytes:
    """Encrypt an ID number under its member's key."""
    return key.seal(id_number.encode(), place=f"members.id_number:{member_id}")


def seal_phone(key: Cipher, member_id: UUID | str, phone: str) -> bytes:
    """Encrypt a phone under its member's key."""
    return key.seal(phone.encode(), place=f"members.phone:{member_id}")


def open_id_number(key: Cipher, member_id: UUID, sealed: bytes) -> str:
    """Decrypt the ID number of a member."""
    return key.open(sealed, place=f"members.id_number:{member_id}").decode()


def open_phone(key: Cipher, member_id: UUID, sealed: bytes) -> str:
    """Decrypt the phone of a member."""
    return key.open(sealed, place=f"members.phone:{member_id}").decode()


def account_index(keyring: Keyring, account: PayoutAccount) -> bytes:
    """Give the blind index by which an equal account is recognised in its district."""
    return keyring.blind_index(account.number, column=ACCOUNT)


def encode_account(account: PayoutAccount) -> bytes:
    """Write an account as it is sealed."""
    return json.dumps(asdict(account), ensure_ascii=False).encode()


def decode_account(value: bytes) -> PayoutAccount:
    """Read an account as it was sealed."""
    return PayoutAccount(**json.loads(value))


def seal_account(key: Cipher, member_id: UUID, account: PayoutAccount) -> bytes:
    """Encrypt a payout account under its member's key."""
    return key.seal(encode_account(account), place=f"members.payout_account:{member_id}")


def open_account(key: Cipher, member_id: UUID, sealed: bytes) -> PayoutAccount:
    """Decrypt the payout account of a member."""
    return decode_account(key.open(sealed, place=f"members.payout_account:{member_id}"))


def opened(
    key: Cipher | None,
    member_id: UUID,
    id_number: bytes | None,
    phone: bytes | None,
    account: bytes | None = None,
) -> PersonData:
    """Decrypt all; without her key there is nothing to read, whatever ciphertext is left."""
    if key is None:
        return PersonData(None, None)
    return PersonData(
        None if id_number is None else open_id_number(key, member_id, id_number),
        None if phone is None else open_phone(key, member_id, phone),
        None if account is None else open_account(key, member_id, account),
    )


def mask(data: PersonData) -> PersonData:
    """Hide the most of each."""
    return PersonData(
        data.id_number and identifiers.mask_resident_id(data.id_number),
        data.phone and identifiers.mask_phone(data.phone),
        data.account and data.account.masked,
    )


def masked(data: PersonData) -> dict[str, Any]:
    """Give ID number and phone as an answer shows them."""
    hidden = mask(data)
    return {"id_number_masked": hidden.id_number, "phone_masked": hidden.phone}


async def claim(session: AsyncSession, member: Member, held: Sequence[bytes]) -> bool:
    """Take a person's keys for a member; False when another member of the nation has one."""
    found = await session.execute(_CLAIM, _key(member, held))
    return len(found.all()) == len(held)


async def release(session: AsyncSession, member: Member, held: Sequence[bytes]) -> None:
    """Give a person's keys back."""
    await session.execute(_RELEASE, _key(member, held))


def _key(member: Member, held: Sequence[bytes]) -> dict[str, Any]:
    return {
        "identities": list(held),
        "district_code": member.district_code,
        "member_id": member.id,
    }
