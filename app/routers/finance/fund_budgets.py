"""`/v1/funds/{fund_id}/budget`: what a fund is planned to spend in each month."""

from typing import Annotated

from fastapi import Path

from app import concurrency
from app.clock import Now
from app.models.finance.fund_budgets import BudgetRead, BudgetWrite
from app.models.shapes import Id
from app.rights import MayReadFunds, MayWriteFunds
from app.services.finance import fund_budgets
from app.transactions import OneStatement, Session

router = concurrency.router("/funds/{fund_id}/budget", "funds")
FundId = Annotated[Id, Path(description="The fund's id.")]


@router.get("", summary="Get a fund's budget")
async def get_fund_budget(
    statements: OneStatement, caller: MayReadFunds, fund_id: FundId
) -> BudgetRead:
    """Give the budget that holds now; 404 while none was set."""
    return await fund_budgets.find(statements, caller, fund_id=fund_id)


@router.put("", summary="Set a fund's budget")
async def put_fund_budget(
    session: Session, caller: MayWriteFunds, fund_id: FundId, body: BudgetWrite, now: Now
) -> BudgetRead:
    """Set the twelve months anew; each version is kept, and set again it changes nothing."""
    return await fund_budgets.put(session, caller, fund_id=fund_id, body=body, now=now)
