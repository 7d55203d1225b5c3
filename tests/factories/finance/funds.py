"""Funds with money in them, and entries that say where it came from."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.database import Database, transaction
from app.models.disbursement.payout_runs import PayoutRun
from app.models.finance.funds import BALANCES, Fund
from app.models.finance.transfers import RunShare, Transfer
from app.models.organisation.associations import Association
from app.scopes import Acting, Scope
from app.services.accounting import books
from tests.factories.callers import DISTRICT

TODAY = clock.civil_date(clock.now())


async def make_fund(session: AsyncSession, amount_fen: int = 0, **facts: Any) -> Fund:
    """Store an open fund of the district for this year, filled by one document; caller commits."""
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "name": "测试经费",
        "source": "district",
        "fiscal_year": TODAY.year,
        "area_code": DISTRICT,
        "association_id": None,
        "status": "open",
        **dict.fromkeys(BALANCES, 0),
        "received_fen": amount_fen,
        "available_fen": amount_fen,
        "created_by": "finance_clerk-1",
        "closed_at": None,
        "closed_by": None,
    }
    fund = Fund(**(values | facts))
    session.add(fund)
    await session.flush()
    if amount_fen:
        session.add(make_receipt(fund, amount_fen))
        await session.flush()
    return fund


async def district_fund(session: AsyncSession, fiscal_year: int) -> Fund:
    """Give the district's own fund of a year, made with enough money where it is missing."""
    found = await session.scalar(
        select(Fund).where(
            col(Fund.source) == "district",
            col(Fund.fiscal_year) == fiscal_year,
            col(Fund.area_code) == DISTRICT,
        )
    )
    return found or await make_fund(session, 10_000_000, fiscal_year=fiscal_year)


def make_receipt(fund: Fund, amount_fen: int, **facts: Any) -> Transfer:
    """Make the entry of money that a fund's source has paid in."""
    values: dict[str, Any] = {
        "district_code": fund.district_code,
        "posting_id": clock.new_id(),
        "number": 1,
        "kind": "receive",
        "fund_id": fund.id,
        "credit_fund_id": fund.id,
        "debit": "available",
        "credit": "outside",
        "amount_fen": amount_fen,
        "run_id": None,
        "line_no": None,
        "document_no": "测〔2026〕1号",
        "note": None,
        "occurred_on": TODAY,
        "recorded_at": clock.now(),
        "recorded_by": "finance_clerk-1",
    }
    return Transfer(**(values | facts))


def make_share(run: PayoutRun, association: Association, fund: Fund) -> RunShare:
    """Make the share by which one fund pays the whole of some rule of a run."""
    return RunShare(
        district_code=run.district_code,
        run_id=run.id,
        rule_id=clock.new_id(),
        association_id=association.id,
        from_bp=0,
        to_bp=10_000,
        fund_id=fund.id,
    )


async def agree(database: Database) -> None:
    """Fail unless the books agree to the fen."""
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as session:
        found = await books.check(session, district_code=DISTRICT)
    assert found == [], found
