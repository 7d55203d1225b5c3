"""What the books check asks of vouchers: silent while they agree, and each tampering is told."""

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database, Statements, transaction
from app.models.channels.station_settlements import SettlementCreate
from app.models.disbursement.vouchers import Redemption
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.accounting import books
from app.services.channels import station_settlements
from app.services.disbursement import voucher_codes, vouchers
from tests.factories.callers import DISTRICT, SHISHAN, make_act, make_caller
from tests.factories.disbursement.vouchers import Issued, make_issued
from tests.factories.finance.funds import agree


@pytest_asyncio.fixture
async def issued(
    session: AsyncSession, keyring: Keyring, database: Database, statements: Statements
) -> Issued:
    """Four vouchers: two redeemed and settled, one expired, one open; the books agree."""
    issued = await make_issued(session, keyring, members=4)
    await session.commit()
    desk, now = make_caller(Role.GUIDE, areas=(SHISHAN,)), clock.now()
    for line_no in (1, 2):
        async with transaction(database, desk.scope, make_act(desk)) as acting:
            body = Redemption(**issued.body(line_no))
            await vouchers.redeem(acting, statements, desk, keyring, body=body, now=now)
    clerk = make_caller(Role.FINANCE_CLERK)
    async with transaction(database, clerk.scope, make_act(clerk)) as acting:
        month = f"{clock.civil_date(now):%Y-%m}"
        wanted = SettlementCreate(station_id=issued.station.id, month=month)
        await station_settlements.make(acting, clerk, body=wanted, now=now)
    await session.execute(
        text(
            "update payouts set status = 'failed', failure_reason = '过期未用', settled_at = :now"
            " where line_no = 3"
        ),
        {"now": now},
    )
    await session.execute(
        text(
            "update vouchers set status = 'expired', code_sealed = null, ended_at = :now"
            " where line_no = 3"
        ),
        {"now": now},
    )
    await session.commit()
    await agree(database)
    return issued


_TAMPERED = {
    "a voucher gone": ("voucher_lines", "delete from vouchers where line_no = 4"),
    "a voucher from nowhere": (
        "voucher_lines",
        (
            "insert into vouchers select district_code, run_id, 99, round_sequence, member_id,"
            " rule_id, association_id, amount_fen, '\\x00', code_sealed, code_tail, status,"
            " issued_at, valid_until_on, redeemed_at, station_id, redeemed_by, settlement_id,"
            " ended_at from vouchers where line_no = 4"
        ),
    ),
    "worth more": ("voucher_lines", "update vouchers set amount_fen = 6000 where line_no = 4"),
    "another's": (
        "voucher_lines",
        (
            "update vouchers set member_id = (select member_id from vouchers where line_no = 1)"
            " where line_no = 4"
        ),
    ),
    "redeemed and not paid": (
        "voucher_lines",
        (
            "update vouchers v set status = 'redeemed', code_sealed = null, code_tail = 'XXXX',"
            " redeemed_at = o.redeemed_at, redeemed_by = 'x', station_id = o.station_id"
            " from vouchers o where v.line_no = 4 and o.line_no = 1"
        ),
    ),
    "paid and not redeemed": (
        "voucher_lines",
        (
            "update payouts set status = 'paid', settled_at = created_at from payout_runs"
            " where line_no = 4"
        ),
    ),
    "expired and not failed": (
        "voucher_lines",
        (
            "update payouts set status = 'pending', failure_reason = null, settled_at = null"
            " where line_no = 3"
        ),
    ),
    "a settlement of more": (
        "station_settlements",
        "update station_settlements set amount_fen = amount_fen + 1",
    ),
    "a settlement of fewer": (
        "station_settlements",
        "update vouchers set settlement_id = null where line_no = 1",
    ),
    "a rejected settlement with vouchers": (
        "station_settlements",
        "update station_settlements set status = 'rejected', status_reason = 'x'",
    ),
}


@pytest.mark.parametrize(("question", "tampering"), _TAMPERED.values(), ids=_TAMPERED)
async def test_tampering_is_told(
    issued: Issued, session: AsyncSession, database: Database, question: str, tampering: str
) -> None:
    await session.execute(text(tampering))
    await session.commit()
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as checking:
        found = await books.check(checking, district_code=DISTRICT)
    assert question in {each.question for each in found}
    assert all(each.expected != each.found for each in found)
    said = str(found)
    assert not any(code in said or voucher_codes.written(code) in said for code in issued.codes)
