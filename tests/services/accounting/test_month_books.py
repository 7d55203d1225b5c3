"""The books check on closed months: their totals are the ledger's, their files as signed."""

from datetime import date

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database, transaction
from app.models.accounting.month_closes import MonthCreate
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.accounting import books, month_closes
from tests.factories.callers import DISTRICT, make_caller
from tests.factories.finance.funds import agree, make_fund, make_receipt


async def _closed(session: AsyncSession, database: Database, keyring: Keyring) -> None:
    """Close two months of a fund; the books agree."""
    fund = await make_fund(session)
    for place, number in ((1, "a"), (2, "b")):
        facts = {"document_no": number, "occurred_on": date(2026, place, 5)}
        session.add(make_receipt(fund, 500, **facts))
    fund.received_fen = fund.available_fen = 1000
    await session.commit()
    maker, checker = make_caller(), make_caller(Role.FINANCE_APPROVER)
    for month in ("2026-01", "2026-02"):
        async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as working:
            body = MonthCreate(area_code=DISTRICT, month=month)
            made = await month_closes.create(working, maker, body=body, now=clock.now())
            await month_closes.close(
                working, checker, keyring, close_id=made.id, expected=1, now=clock.now()
            )
    await agree(database)


_TAMPERED_MONTHS = {
    "a document in a closed month": (
        "month_totals",
        "update transfers set occurred_on = '2026-01-31' where document_no = 'b'",
    ),
    "another total": (
        "month_totals",
        (
            "update month_fund_totals set received_fen = received_fen + 1,"
            " closing_available_fen = closing_available_fen + 1"
        ),
    ),
    "another file": (
        "month_files",
        "update month_closes set content = content || ' '::bytea where month = '2026-02-01'",
    ),
    "a file that follows another": (
        "month_files",
        "update month_closes set sha256 = 'x' where month = '2026-01-01'",
    ),
}


@pytest.mark.parametrize(("question", "tampering"), _TAMPERED_MONTHS.values(), ids=_TAMPERED_MONTHS)
async def test_tampering_with_a_closed_month_is_told(
    session: AsyncSession, database: Database, keyring: Keyring, question: str, tampering: str
) -> None:
    await _closed(session, database, keyring)
    await session.execute(text(tampering))
    await session.commit()
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as checking:
        found = await books.check(checking, district_code=DISTRICT)
    assert question in {each.question for each in found}
