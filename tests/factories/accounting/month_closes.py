"""Month closes, summed or closed, of an area that moved no money, and accounts published from."""

from datetime import date
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import digest
from app.models.accounting.accounts import Figures, PublishedAccounts, Received
from app.models.accounting.month_closes import MonthClose, MonthControl, MonthFile, MonthStatus
from app.models.finance.fund_budgets import FundBudget
from app.models.finance.funds import Fund
from app.models.organisation.associations import Association
from app.services.accounting.month_totals import canonical
from tests.factories.callers import DISTRICT


async def make_close(
    session: AsyncSession, area_code: str, month: date, *, closed: bool = False, **facts: Any
) -> MonthClose:
    """Store the close of a month in which nothing moved; the caller commits."""
    now = clock.now()
    nothing = MonthControl(**dict.fromkeys(MonthControl.model_fields, 0))
    file = MonthFile(
        district_code=DISTRICT,
        area_code=area_code,
        month=f"{month:%Y-%m}",
        previous=None,
        control=nothing,
        funds=[],
        payouts=[],
        exceptions=[],
    )
    content = canonical(file)
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "id": clock.new_id(),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "area_code": area_code,
        "month": month,
        "status": (MonthStatus.CLOSED if closed else MonthStatus.DRAFT).value,
        "created_by": "finance_clerk-1",
        "calculated_at": now,
        "calculated_by": "finance_clerk-1",
        "content": content,
        "previous_month": None,
        "closed_at": now if closed else None,
        "closed_by": "finance_approver-1" if closed else None,
        "sha256": digest(content) if closed else None,
        "signature": b"0" * 64 if closed else None,
        "key_id": "0" * 16 if closed else None,
    }
    close = MonthClose(**(values | facts))
    session.add(close)
    await session.flush()
    return close


async def make_accounts(
    session: AsyncSession, association: Association, close: MonthClose
) -> PublishedAccounts:
    """Store accounts of a month in which nobody received anything; the caller commits."""
    nothing = Received(people=0, amount_fen=0)
    figures = Figures(event_count=0, total=nothing, by_kind=[], by_source=[])
    accounts = PublishedAccounts(
        district_code=DISTRICT,
        association_id=association.id,
        month=close.month,
        number=1,
        close_id=close.id,
        figures=figures.model_dump_json(),
        correction=None,
        published_at=clock.now(),
        published_by="finance_clerk-1",
    )
    session.add(accounts)
    await session.flush()
    return accounts


async def make_budget(session: AsyncSession, fund: Fund, **facts: Any) -> FundBudget:
    """Store a budget of a yuan a month; the caller commits."""
    values: dict[str, Any] = {
        "district_code": fund.district_code,
        "fund_id": fund.id,
        "number": 1,
        "planned_fen": [100] * 12,
        "set_by": "finance_clerk-1",
        "set_at": clock.now(),
    }
    budget = FundBudget(**(values | facts))
    session.add(budget)
    await session.flush()
    return budget
