"""What the table of gateway payments never holds: two payments of one line, a paid one unproven."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database_errors import constraint_name
from app.models.disbursement.payout_runs import Channel
from tests.factories.channels.gateway import make_gateway_payment
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks


async def _store(session: AsyncSession, lines: int = 1) -> None:
    thanks = await make_thanks(session, members=lines)
    run = await make_granted_run(session, thanks, channel=Channel.GATEWAY.value)
    for line_no in range(1, lines + 1):
        session.add(make_gateway_payment(run, thanks.members[line_no - 1], line_no=line_no))
    await session.flush()


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("state = 'lost', lease_until = null", "ck_gateway_payments_state"),
        ("amount_fen = 0", "ck_gateway_payments_amount"),
        ("attempts = -1", "ck_gateway_payments_attempts"),
        ("lease_until = null", "ck_gateway_payments_lease"),
        ("state = 'unknown'", "ck_gateway_payments_lease"),
        ("state = 'paid', lease_until = null", "ck_gateway_payments_receipt"),
        ("state = 'paid', lease_until = null, receipt = 'R'", "ck_gateway_payments_receipt"),
        ("receipt = 'R', paid_on = '2026-01-01'", "ck_gateway_payments_receipt"),
        (
            "state = 'paid', lease_until = null, receipt = 'R', paid_on = '2026-01-01'",
            "uq_gateway_payments_receipt",
        ),
        ("line_no = 1", "pk_gateway_payments"),
        ("run_id = '00000000-0000-0000-0000-000000000007'", "fk_gateway_payments_payout_run"),
    ],
)
async def test_a_payment_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await _store(session, lines=2)
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(f"update gateway_payments set {change}"))
    assert constraint_name(caught.value) == constraint
