"""Blind indexes: filled anew under another key while both versions are looked up."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.services.privacy import data_keys, person_data

# It needs no former key: what is indexed is decrypted and hashed again.
_OTHERS = text(
    "select m.id as member_id, m.id_number_sealed, m.phone_sealed, m.payout_account_sealed,"
    " k.wrapped, k.master_version"
    " from members m join data_keys k on k.district_code = :district_code and k.member_id = m.id"
    " where m.district_code = :district_code and (get_byte(m.id_number_index, 0) <> :version"
    " or get_byte(m.phone_index, 0) <> :version"
    " or get_byte(m.payout_account_index, 0) <> :version)"
    " order by m.id limit :limit for update of m"
)
_REPLACE = text(
    "update members m set id_number_index = s.id_number_index, phone_index = s.phone_index,"
    " payout_account_index = s.payout_account_index"
    " from unnest(cast(:ids as uuid[]), cast(:id_numbers as bytea[]), cast(:phones as bytea[]),"
    " cast(:accounts as bytea[]))"
    " s(member_id, id_number_index, phone_index, payout_account_index)"
    " where m.district_code = :district_code and m.id = s.member_id"
)
_CLAIM = text(
    "insert into person_keys (identity_hash, district_code, member_id)"
    " select s.identity_hash, :district_code, s.member_id"
    " from unnest(cast(:ids as uuid[]), cast(:identities as bytea[])) s(member_id, identity_hash)"
    " where s.identity_hash is not null on conflict (identity_hash) do nothing"
)
_FORGET = text(
    "delete from person_keys where district_code = :district_code"
    " and get_byte(identity_hash, 0) <> all(:versions)"
)
_COUNT = text(
    "select get_byte(i.value, 0) as version, count(*) as members from members m"
    " cross join lateral (select coalesce(m.id_number_index, m.phone_index,"
    " m.payout_account_index) as value) i where m.district_code = :district_code"
    " and i.value is not null group by 1 order by 1"
)


async def refill_some(
    session: AsyncSession, keyring: Keyring, *, district_code: str, limit: int
) -> int:
    """Index some members anew by the first version of the key; 0 when there is nothing left."""
    params = {"district_code": district_code, "version": keyring.index_versions[0]}
    rows = (await session.execute(_OTHERS, {**params, "limit": limit})).mappings().all()
    found = [_indexes(keyring, row) for row in rows]
    ids = [member_id for member_id, *_ in found]
    filled = {
        **params,
        "ids": ids,
        "id_numbers": [each[1] for each in found],
        "phones": [each[2] for each in found],
        "accounts": [each[3] for each in found],
    }
    await session.execute(_CLAIM, {**params, "ids": ids, "identities": [e[4] for e in found]})
    await session.execute(_REPLACE, filled)
    return len(rows)


def _indexes(keyring: Keyring, row: Any) -> tuple[Any, ...]:
    member_id = row["member_id"]
    key = data_keys.opened(keyring, row)
    sealed = (row["id_number_sealed"], row["phone_sealed"], row["payout_account_sealed"])
    data = person_data.opened(key, member_id, *sealed)
    number, phone, account = data.id_number, data.phone, data.account
    return (
        member_id,
        None if number is None else person_data.id_number_index(keyring, number),
        None if phone is None else person_data.phone_index(keyring, phone),
        None if account is None else person_data.account_index(keyring, account),
        None if number is None else person_data.identity_hash(keyring, number),
    )


async def forget_former(session: AsyncSession, keyring: Keyring, *, district_code: str) -> None:
    """Delete the nation's hashes made by keys that are no longer in use."""
    versions = list(keyring.index_versions)
    await session.execute(_FORGET, {"district_code": district_code, "versions": versions})


async def count(session: AsyncSession, *, district_code: str) -> dict[int, int]:
    """Give how many members of a district are indexed by each version of the key."""
    rows = await session.execute(_COUNT, {"district_code": district_code})
    return {row.version: row.members for row in rows}
