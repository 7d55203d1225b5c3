"""Vouchers issued: a random code for each voucher line of a run, batch by batch."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.ciphers import Cipher
from app.crypto import Keyring, Wrapped
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import UNSETTLED
from app.services.disbursement import voucher_codes, voucher_lines
from app.services.privacy import data_keys

BATCH = 2_000
"""How many codes are in memory at a time."""
_FIRST = UUID(int=0)
# A run of many thousands outlasts a request's usual limits, also while it waits for a member.
_PATIENCE = ("set local statement_timeout = '300s'", "set local lock_timeout = '120s'")
# Her row is held, so that nothing is sealed under a key that is destroyed meanwhile.
_LINES = text(
    "select p.line_no, p.member_id, p.rule_id, p.association_id, p.amount_fen,"
    f" {data_keys.COLUMNS} from payouts p"
    " join members m on m.district_code = p.district_code and m.id = p.member_id"
    f" {data_keys.JOIN.format('p.member_id')}"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.run_id = :run_id and p.rule_id = any(:rules)"
    f" and p.status in {UNSETTLED} and (p.member_id, p.rule_id) > (:member_id, :rule_id)"
    f" order by p.member_id, p.rule_id limit {BATCH} for no key update of m"
)
_KEEP_KEYS = text(
    "insert into data_keys (district_code, member_id, wrapped, master_version)"
    " select :district_code, k.member_id, k.wrapped, k.version from unnest("
    "cast(:ids as uuid[]), cast(:wrapped as bytea[]), cast(:versions as int[]))"
    " k(member_id, wrapped, version)"
)
_ISSUE = text(
    "insert into vouchers (district_code, run_id, line_no, round_sequence, member_id, rule_id,"
    " association_id, amount_fen, code_index, code_sealed, status, issued_at, valid_until_on)"
    " select :district_code, cast(:run_id as uuid), v.line_no, cast(:sequence as int),"
    " v.member_id, v.rule_id, v.association_id, v.amount_fen, v.code_index, v.code_sealed,"
    " 'issued', cast(:now as timestamptz), v.valid_until_on from unnest(cast(:lines as int[]),"
    " cast(:members as uuid[]), cast(:rules as uuid[]), cast(:associations as uuid[]),"
    " cast(:amounts as bigint[]), cast(:indexes as bytea[]), cast(:sealed as bytea[]),"
    " cast(:until as date[])) v(line_no, member_id, rule_id, association_id, amount_fen,"
    " code_index, code_sealed, valid_until_on)"
)


@dataclass(frozen=True)
class _Batch:
    """The codes of some lines, sealed, and the keys that were made for it."""

    indexes: Sequence[bytes]
    sealed: Sequence[bytes]
    keys: Mapping[UUID, Wrapped]


def place(run_id: UUID, line_no: int) -> str:
    """Give the place that a sealed code is bound to."""
    return f"vouchers.code_sealed:{run_id}/{line_no}"


async def issue(session: AsyncSession, keyring: Keyring, run: PayoutRun, *, now: datetime) -> int:
    """Issue the vouchers of a run that the transaction holds, district-wide; give how many."""
    rules = await voucher_lines.rules_of(session, run)
    if not rules:
        return 0
    for setting in _PATIENCE:
        await session.execute(text(setting))
    today = clock.civil_date(now)
    until = {rule_id: today + timedelta(days=days) for rule_id, days in rules.items()}
    after, issued = (_FIRST, _FIRST), 0
    while True:
        params = run.place | {"rules": list(rules), "member_id": after[0], "rule_id": after[1]}
        rows = (await session.execute(_LINES, params)).mappings().all()
        if not rows:
            return issued
        batch = await asyncio.to_thread(_sealed, keyring, run.id, rows)
        await _store(session, run, rows, batch, until=until, now=now)
        after, issued = (rows[-1]["member_id"], rows[-1]["rule_id"]), issued + len(rows)


def _sealed(keyring: Keyring, run_id: UUID, rows: Sequence[Mapping[Any, Any]]) -> _Batch:
    """Make a code for each line; who has no key yet is given one."""
    opened: dict[UUID, Cipher] = {}
    made: dict[UUID, Wrapped] = {}
    indexes, sealed = [], []
    for row in rows:
        member_id = row["member_id"]
        if member_id not in opened:
            known = data_keys.opened_or_none(keyring, row)
            if known is None:
                known, made[member_id] = data_keys.make(keyring, member_id)
            opened[member_id] = known
        code = voucher_codes.make()
        indexes.append(voucher_codes.index(keyring, code))
        sealed.append(opened[member_id].seal(code.encode(), place=place(run_id, row["line_no"])))
    return _Batch(indexes, sealed, made)


async def _store(
    session: AsyncSession,
    run: PayoutRun,
    rows: Sequence[Mapping[Any, Any]],
    batch: _Batch,
    *,
    until: Mapping[UUID, date],
    now: datetime,
) -> None:
    if batch.keys:
        keys = {
            "district_code": run.district_code,
            "ids": list(batch.keys),
            "wrapped": [key.sealed for key in batch.keys.values()],
            "versions": [key.master_version for key in batch.keys.values()],
        }
        await session.execute(_KEEP_KEYS, keys)
    facts = run.place | {
        "now": now,
        "lines": [row["line_no"] for row in rows],
        "members": [row["member_id"] for row in rows],
        "rules": [row["rule_id"] for row in rows],
        "associations": [row["association_id"] for row in rows],
        "amounts": [row["amount_fen"] for row in rows],
        "indexes": batch.indexes,
        "sealed": batch.sealed,
        "until": [until[row["rule_id"]] for row in rows],
    }
    await session.execute(_ISSUE, facts)
