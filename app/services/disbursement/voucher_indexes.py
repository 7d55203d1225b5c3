"""Hashes of open vouchers' codes: filled anew under another index key, as those of members are."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.services.disbursement import voucher_codes, voucher_issuing
from app.services.privacy import data_keys

# What is redeemed or has ended is looked for no more.
_OTHERS = text(
    f"select v.run_id, v.line_no, v.member_id, v.code_sealed, {data_keys.COLUMNS} from vouchers v"
    " join data_keys k on k.district_code = :district_code and k.member_id = v.member_id"
    " where v.district_code = :district_code and v.status = 'issued'"
    " and get_byte(v.code_index, 0) <> :version"
    " order by v.run_id, v.line_no limit :limit for update of v"
)
_REPLACE = text(
    "update vouchers v set code_index = s.code_index from unnest(cast(:runs as uuid[]),"
    " cast(:lines as int[]), cast(:indexes as bytea[])) s(run_id, line_no, code_index)"
    " where v.district_code = :district_code and v.run_id = s.run_id and v.line_no = s.line_no"
)
_COUNT = text(
    "select get_byte(v.code_index, 0) as version, count(*) as vouchers from vouchers v"
    " where v.district_code = :district_code and v.status = 'issued' group by 1 order by 1"
)


async def refill_some(
    session: AsyncSession, keyring: Keyring, *, district_code: str, limit: int
) -> int:
    """Hash some codes anew by the first version of the key; 0 when there is nothing left."""
    params = {"district_code": district_code, "version": keyring.index_versions[0]}
    rows = (await session.execute(_OTHERS, params | {"limit": limit})).mappings().all()
    indexes = []
    for row in rows:
        place = voucher_issuing.place(row["run_id"], row["line_no"])
        code = data_keys.opened(keyring, row).open(row["code_sealed"], place=place)
        indexes.append(voucher_codes.index(keyring, code.decode()))
    filled = {
        "district_code": district_code,
        "runs": [row["run_id"] for row in rows],
        "lines": [row["line_no"] for row in rows],
        "indexes": indexes,
    }
    await session.execute(_REPLACE, filled)
    return len(rows)


async def count(session: AsyncSession, *, district_code: str) -> dict[int, int]:
    """Give how many open vouchers of a district are found by each version of the key."""
    rows = await session.execute(_COUNT, {"district_code": district_code})
    return {row.version: row.vouchers for row in rows}
