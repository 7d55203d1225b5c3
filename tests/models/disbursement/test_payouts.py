"""What the table of payouts never holds: no thanks twice, no result without its reason."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database_errors import constraint_name
from tests.factories.disbursement.payout_runs import make_granted_run, make_run, make_thanks
from tests.factories.disbursement.payouts import make_payout

_PENDING = "status = 'pending', failure_reason = null, settled_at = null"
_PAID = "status = 'paid', failure_reason = null, settled_at = :now"
_FAILED = "status = 'failed', failure_reason = '本人未到', settled_at = :now"


async def _breaks(session: AsyncSession, constraint: str, sql: str, **params: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql), params)
    assert constraint_name(caught.value) == constraint


async def test_a_member_is_granted_a_rule_once_a_round_whatever_the_run(
    session: AsyncSession,
) -> None:
    thanks = await make_thanks(session, members=1)
    await make_granted_run(session, thanks)
    other = await make_run(session, thanks.round, thanks.policy)
    copied = (
        "insert into payouts select district_code, round_sequence, member_id, rule_id, released,"
        " :run_id, 1, association_id, streak, amount_fen, quantity, status, failure_reason,"
        " settled_at from payouts"
    )
    await _breaks(session, "pk_payouts", copied, run_id=other.id)


_WAITING = [f"status = '{each}'" for each in ("held", "sending", "unknown")]


@pytest.mark.parametrize("change", _WAITING)
async def test_what_waits_has_neither_a_reason_nor_a_result(
    session: AsyncSession, change: str
) -> None:
    await make_granted_run(session, await make_thanks(session, members=1))
    await session.execute(text(f"update payouts set {change}"))
    for more in ("failure_reason = '本人未到'", "settled_at = now()", "released = 1"):
        async with session.begin_nested() as inner:
            await _breaks(session, "ck_payouts_status", f"update payouts set {more}")
            await inner.rollback()


@pytest.mark.parametrize("change", [_PENDING, _PAID])
async def test_only_what_failed_is_released(session: AsyncSession, change: str) -> None:
    await make_granted_run(session, await make_thanks(session, members=1))
    params = {"now": clock.now()}
    await session.execute(text(f"update payouts set {_FAILED}, released = 1"), params)
    await _breaks(
        session,
        "ck_payouts_status",
        f"update payouts set {change}",
        **(params if ":now" in change else {}),
    )


@pytest.mark.parametrize("change", [_PENDING, _PAID, _FAILED])
async def test_a_payout_is_pending_paid_or_failed(session: AsyncSession, change: str) -> None:
    await make_granted_run(session, await make_thanks(session, members=1))
    params = {"now": clock.now()} if ":now" in change else {}
    await session.execute(text(f"update payouts set {change}"), params)
    assert await session.scalar(text("select count(*) from payouts where amount_fen = 1000")) == 1


@pytest.mark.parametrize(
    "change",
    [
        "status = 'lost'",
        "status = 'paid'",
        "status = 'pending', settled_at = :now",
        "status = 'pending', failure_reason = '本人未到'",
        "status = 'paid', failure_reason = '本人未到', settled_at = :now",
        "status = 'failed', settled_at = :now",
        "status = 'failed', failure_reason = '本人未到'",
        "status = 'failed', failure_reason = '本人未到', settled_at = :now, released = -1",
    ],
)
async def test_a_result_has_its_time_and_only_a_failure_its_reason(
    session: AsyncSession, change: str
) -> None:
    await make_granted_run(session, await make_thanks(session, members=1))
    params = {"now": clock.now()} if ":now" in change else {}
    await _breaks(session, "ck_payouts_status", f"update payouts set {change}", **params)


async def test_nobody_is_granted_less_than_nothing(session: AsyncSession) -> None:
    thanks = await make_thanks(session, members=1)
    run = await make_run(session, thanks.round, thanks.policy)
    await make_payout(session, run, thanks.members[0], clock.new_id(), amount_fen=0, quantity=1)
    await _breaks(session, "ck_payouts_amount", "update payouts set amount_fen = -1")
