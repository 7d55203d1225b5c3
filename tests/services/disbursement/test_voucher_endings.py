"""Vouchers that nobody redeems: ended at night, their money back when the run is settled."""

from datetime import timedelta

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, errands, retaining
from app.crypto import Keyring
from app.database import Database, Door
from app.services.audit.audit_seals import UNSEALED
from app.services.disbursement import voucher_endings
from tests.factories.callers import DISTRICT
from tests.factories.disbursement.payout_disputes import hold_lines
from tests.factories.disbursement.vouchers import make_issued
from tests.factories.finance.funds import agree

_STANDING = text(
    "select v.line_no, v.status, p.status, p.failure_reason, v.code_sealed is null from vouchers v"
    " join payouts p on p.run_id = v.run_id and p.line_no = v.line_no order by 1"
)


async def _expire(database: Database, *, days: int, limit: int = 1000) -> int:
    async with Door(database).transaction(DISTRICT) as session:
        now = clock.now() + timedelta(days=days)
        ended = await voucher_endings.expire_some(
            session, district_code=DISTRICT, now=now, limit=limit
        )
    return len(ended)


async def test_a_voucher_holds_through_its_last_day_and_fails_after_it(
    session: AsyncSession, keyring: Keyring, database: Database
) -> None:
    await make_issued(session, keyring, members=2)
    await session.commit()
    assert await _expire(database, days=30) == 0
    assert await _expire(database, days=31) == 2
    assert await _expire(database, days=31) == 0
    rows = [tuple(row) for row in await session.execute(_STANDING)]
    assert rows == [(n, "expired", "failed", "过期未用", True) for n in (1, 2)]
    await agree(database)


async def test_batches_end_all_and_what_is_held_waits(
    session: AsyncSession, keyring: Keyring, database: Database
) -> None:
    await make_issued(session, keyring, members=5)
    await hold_lines(session, 1, 2)
    await session.commit()
    assert [await _expire(database, days=40, limit=2) for _ in range(3)] == [2, 1, 0]
    await agree(database)
    await session.execute(text("delete from payout_disputes where line_no = 1"))
    await session.execute(text("update payouts set status = 'pending' where line_no = 1"))
    await session.commit()
    assert await _expire(database, days=40) == 1


async def test_a_payout_that_failed_by_another_way_leaves_no_voucher_open(
    session: AsyncSession, keyring: Keyring, database: Database
) -> None:
    await make_issued(session, keyring, members=2)
    await session.execute(
        text(
            "update payouts set status = 'failed', failure_reason = '不是本人',"
            " settled_at = r.updated_at from payout_runs r where line_no = 1"
        )
    )
    await session.commit()
    with pytest.raises(AssertionError, match="voucher_lines"):
        await agree(database)
    assert await _expire(database, days=0) == 1
    rows = [tuple(row)[:4] for row in await session.execute(_STANDING)]
    assert rows[0] == (1, "cancelled", "failed", "不是本人")
    assert rows[1][:2] == (2, "issued")
    await agree(database)


async def test_the_night_ends_them_before_it_checks_the_books(
    app: FastAPI,
    owner: Database,
    session: AsyncSession,
    keyring: Keyring,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await make_issued(session, keyring, members=3)
    await session.execute(text("update vouchers set valid_until_on = '2026-01-01'"))
    await session.commit()
    monkeypatch.setattr(retaining, "_HOURS", range(24))
    monkeypatch.setattr(voucher_endings, "BATCH", 2)
    state = app.state
    for _ in range(3):
        await errands.run(Door(state.database), state.keyring, state.settings, None)
    open_ = text("select count(*) from vouchers where status = 'issued'")
    assert await session.scalar(open_) == 0
    await agree(state.database)
    entries = await owner.pool.fetch(
        f"select subject, person_ids from ({UNSEALED}) e where act = 'expire_vouchers'"
    )
    holders = await owner.pool.fetch("select distinct member_id from vouchers")
    assert {each["subject"] for each in entries} == {"clock"}
    named = {person for each in entries for person in each["person_ids"]}
    assert named == {each["member_id"] for each in holders}
