"""Vouchers issued in batches: one a line, whoever has a key and who has none yet."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import RunStatus
from app.services.disbursement import voucher_issuing
from tests.factories.disbursement.payout_disputes import hold_lines
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.disbursement.vouchers import codes_of
from tests.factories.events.attendances import make_attendance
from tests.factories.finance.funds import agree
from tests.factories.incentives.incentive_policies import make_cash, make_voucher
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_phone

_RULES: list[dict[str, Any]] = [
    make_cash(),
    make_voucher(),
    make_voucher("again", amount_fen=700, valid_days=1),
]


@pytest.mark.parametrize("batch", [1, 3, 7, 2000])
async def test_each_voucher_line_has_a_code_however_large_a_batch_is(
    session: AsyncSession,
    keyring: Keyring,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    thanks = await make_thanks(session, _RULES, members=3)
    known = await make_member_with_phone(session, keyring, thanks.association, make_phone(1))
    await make_attendance(session, thanks.event, known)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING)
    sql = voucher_issuing._LINES.text.replace("limit 2000", f"limit {batch}")
    monkeypatch.setattr(voucher_issuing, "_LINES", text(sql))
    assert await voucher_issuing.issue(session, keyring, run, now=clock.now()) == 8
    await session.commit()
    codes = await codes_of(session, keyring, run)
    assert len(set(codes)) == 8
    await agree(database)
    days = await session.execute(
        text(
            "select amount_fen, valid_until_on - cast(:today as date) as days, count(*) as number"
            " from vouchers group by 1, 2 order by 1"
        ),
        {"today": clock.civil_date(clock.now())},
    )
    assert [tuple(row) for row in days] == [(700, 1, 4), (5000, 30, 4)]


async def test_a_run_without_vouchers_issues_none(session: AsyncSession, keyring: Keyring) -> None:
    run = await make_granted_run(session, await make_thanks(session))
    assert await voucher_issuing.issue(session, keyring, run, now=clock.now()) == 0


async def test_what_is_held_has_a_voucher_and_what_failed_has_none(
    session: AsyncSession, keyring: Keyring, database: Database
) -> None:
    thanks = await make_thanks(session, [make_voucher()], members=3)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING)
    await hold_lines(session, 1)
    await session.execute(
        text(
            "update payouts set status = 'failed', failure_reason = '误', settled_at = updated_at"
            " from payout_runs where line_no = 2"
        )
    )
    assert await voucher_issuing.issue(session, keyring, run, now=clock.now()) == 2
    await session.commit()
    await agree(database)
