"""Data keys: made when something of a person is first sealed, re-wrapped, and destroyed."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.ciphers import Cipher
from app.crypto import Keyring, Wrapped
from app.models.membership.members import Member
from app.models.privacy.data_keys import DataKey
from app.models.privacy.held_changes import HeldField

FIND = (
    "select member_id, wrapped, master_version from data_keys"
    " where district_code = :district_code and member_id = any(:ids)"
)
COLUMNS = "k.wrapped, k.master_version"
JOIN = "left join data_keys k on k.district_code = :district_code and k.member_id = {}"
"""What a statement reads of a member's key beside her `member_id`, for `opened_or_none`."""
_DESTROY = text(
    "delete from data_keys where district_code = :district_code and member_id = :member_id"
)
_GIVE_UP = text(
    "update held_changes set cancelled_at = :now, value_sealed = null"
    " where district_code = :district_code and member_id = :member_id and field = any(:fields)"
    " and applied_at is null and cancelled_at is null returning id"
)
_WAITED_FOR = text(
    "select exists (select from held_changes where district_code = :district_code"
    " and member_id = :member_id and applied_at is null and cancelled_at is null)"
    " or exists (select from vouchers where district_code = :district_code"
    " and member_id = :member_id and status = 'issued')"
)
_OTHERS = text(
    "select member_id, wrapped, master_version from data_keys"
    " where district_code = :district_code and master_version <> :version"
    " order by member_id limit :limit for update"
)
_REPLACE = text(
    "update data_keys k set wrapped = s.wrapped, master_version = :version"
    " from unnest(cast(:ids as uuid[]), cast(:keys as bytea[])) s(member_id, wrapped)"
    " where k.district_code = :district_code and k.member_id = s.member_id"
)
_COUNT = text(
    "select master_version, count(*) as keys from data_keys"
    " where district_code = :district_code group by master_version order by master_version"
)


def place(member_id: UUID | str) -> str:
    """Give the place that a member's wrapped key is bound to."""
    return f"data_keys.wrapped:{member_id}"


def make(keyring: Keyring, member_id: UUID | str) -> tuple[Cipher, Wrapped]:
    """Make the key of a member, to seal with now and to keep."""
    return keyring.new_key(place=place(member_id))


def opened(keyring: Keyring, row: Any) -> Cipher:
    """Unwrap a row of the table."""
    wrapped = Wrapped(row["wrapped"], row["master_version"])
    return keyring.open_key(wrapped, place=place(row["member_id"]))


def opened_or_none(keyring: Keyring, row: Any) -> Cipher | None:
    """Unwrap what a member's row was joined with; None where she has no key."""
    return None if row["wrapped"] is None else opened(keyring, row)


async def keep(session: AsyncSession, member: Member, wrapped: Wrapped) -> None:
    """Store the key of a member who is stored and shown."""
    session.add(
        DataKey(
            district_code=member.district_code,
            member_id=member.id,
            wrapped=wrapped.sealed,
            master_version=wrapped.master_version,
        )
    )
    await session.flush()


async def find(
    session: AsyncSession, keyring: Keyring, *, district_code: str, ids: Iterable[UUID]
) -> dict[UUID, Cipher]:
    """Give the keys of members who are shown; who has none has nothing that can be read."""
    rows = await session.execute(text(FIND), {"district_code": district_code, "ids": list(ids)})
    return {row["member_id"]: opened(keyring, row) for row in rows.mappings()}


async def find_of(session: AsyncSession, keyring: Keyring, member: Member) -> Cipher | None:
    """Give the key of one member who is shown."""
    keys = await find(session, keyring, district_code=member.district_code, ids=[member.id])
    return keys.get(member.id)


async def find_or_make(session: AsyncSession, keyring: Keyring, member: Member) -> Cipher:
    """Give the key of a stored member whom the transaction holds, made if she has none."""
    key = await find_of(session, keyring, member)
    if key is None:
        key, wrapped = make(keyring, member.id)
        await keep(session, member, wrapped)
    return key


async def destroy(session: AsyncSession, member: Member, *, now: datetime) -> None:
    """Delete the key of a member, and with it the meaning of all that it ever sealed."""
    # What waits under the key could never be read again: it ends with it.
    await give_up_waiting(session, member, *HeldField, now=now)
    await session.execute(_DESTROY, member.key)


async def give_up_waiting(
    session: AsyncSession, member: Member, *fields: HeldField, now: datetime
) -> bool:
    """End changes that wait under a member's key; False when none does."""
    params = member.key | {"now": now, "fields": [field.value for field in fields]}
    return (await session.execute(_GIVE_UP, params)).first() is not None


async def is_waited_for(session: AsyncSession, member: Member) -> bool:
    """Tell whether a change waits under a member's key, or the code of an open voucher."""
    return bool(await session.scalar(_WAITED_FOR, member.key))


async def rewrap_some(
    session: AsyncSession, keyring: Keyring, *, district_code: str, limit: int
) -> int:
    """Wrap some keys by the first version of the master key; 0 when there is nothing left.

    Whoever reads meanwhile finds a key under the one version or the other and can unwrap both.
    """
    params = {"district_code": district_code, "version": keyring.master_version}
    rows = (await session.execute(_OTHERS, {**params, "limit": limit})).mappings().all()
    keys = [
        keyring.rewrap(
            Wrapped(row["wrapped"], row["master_version"]), place=place(row["member_id"])
        ).sealed
        for row in rows
    ]
    ids = [row["member_id"] for row in rows]
    await session.execute(_REPLACE, {**params, "ids": ids, "keys": keys})
    return len(rows)


async def count(session: AsyncSession, *, district_code: str) -> dict[int, int]:
    """Give how many keys of a district each version of the master key wraps."""
    rows = await session.execute(_COUNT, {"district_code": district_code})
    return {row.master_version: row.keys for row in rows}
