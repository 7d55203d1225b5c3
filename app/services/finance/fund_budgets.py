"""Budgets of funds: set anew as a whole, each version kept."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Statements, district_wide
from app.identity import Caller
from app.models.finance.fund_budgets import BudgetRead, BudgetWrite, FundBudget
from app.problems import NotFound
from app.services.finance import funds

_FIND = (
    "select fund_id, number, planned_fen, set_by, set_at from fund_budgets"
    " where district_code = :district_code and fund_id = :fund_id order by number desc limit 1"
)
_LAST = text(
    "select coalesce(max(number), 0) from fund_budgets"
    " where district_code = :district_code and fund_id = :fund_id"
)


async def find(statements: Statements, caller: Caller, *, fund_id: UUID) -> BudgetRead:
    """Give the budget that holds now; raises NotFound while there is none."""
    await funds.find(statements, caller, fund_id=fund_id)
    params = {"district_code": caller.district_code, "fund_id": fund_id}
    row = await statements.showing(fund_id).fetch_row(_FIND, params)
    if row is None:
        raise NotFound
    return BudgetRead(**row)


async def put(
    session: AsyncSession, caller: Caller, *, fund_id: UUID, body: BudgetWrite, now: datetime
) -> BudgetRead:
    """Set a fund's budget as the next version; what holds already changes nothing.

    Months that were closed keep the budget that they were closed with.
    """
    fund = await funds.locked(session, caller, fund_id=fund_id)
    key: dict[str, Any] = {"district_code": caller.district_code, "fund_id": fund.id}
    async with district_wide(session):
        last = (await session.execute(text(_FIND), key)).mappings().one_or_none()
        if last is not None and list(last["planned_fen"]) == body.planned_fen:
            return BudgetRead(**last)
        number = int(await session.scalar(_LAST, key) or 0) + 1
        budget = FundBudget(
            **key,
            number=number,
            planned_fen=body.planned_fen,
            set_by=caller.subject,
            set_at=now,
        )
        session.add(budget)
        await session.flush()
    return BudgetRead.model_validate(budget)
