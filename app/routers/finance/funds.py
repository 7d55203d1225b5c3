"""`/v1/funds`: whose money there is, for which year and scope, and every movement of it."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.finance.funds import (
    Allocation,
    BalanceQuery,
    BalanceRead,
    FundCreate,
    FundFilters,
    FundRead,
    FundUpdate,
    MoneyIn,
    MoneyOut,
)
from app.models.finance.transfers import EntryFilters, EntryRead
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadFunds, MayWriteFunds
from app.services.finance import funds
from app.services.finance.closed_months import MonthClosed
from app.services.finance.funds import (
    BeyondReceipts,
    FundClosed,
    FundNotEmpty,
    FundScopeTaken,
    FundShort,
)
from app.services.finance.transfers import DocumentEntered
from app.transactions import OneStatement, Session

router = concurrency.router("/funds", "funds")
FundId = Annotated[Id, Path(description="The fund's id.")]


@router.get("", summary="List funds", response_model=Page[FundRead])
async def list_funds(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadFunds,
    filters: Annotated[FundFilters, Query()],
) -> Response:
    """List the funds within reach with their balances."""
    page = await funds.list_funds(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Keep a new fund",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(FundScopeTaken),
)
async def create_fund(
    session: Session, caller: MayWriteFunds, body: FundCreate, now: Now, response: Response
) -> FundRead:
    """Keep a fund of a source and a year, empty at first."""
    fund = await funds.create(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/funds/{fund.id}"
    return fund


@router.get("/{fund_id}", summary="Get a fund")
async def get_fund(statements: OneStatement, caller: MayReadFunds, fund_id: FundId) -> FundRead:
    """Give one fund with its balances now."""
    return await funds.find(statements, caller, fund_id=fund_id)


@router.patch("/{fund_id}", summary="Rename a fund")
async def update_fund(
    session: Session,
    caller: MayWriteFunds,
    fund_id: FundId,
    body: FundUpdate,
    if_match: IfMatch,
    now: Now,
) -> FundRead:
    """Give a fund another name; source, year and scope stay what runs were reserved by."""
    return await funds.update(
        session, caller, fund_id=fund_id, body=body, expected=if_match, now=now
    )


@router.post(
    "/{fund_id}/close", summary="Close a fund", responses=refusals(FundClosed, FundNotEmpty)
)
async def close_fund(
    session: Session, caller: MayWriteFunds, fund_id: FundId, if_match: IfMatch, now: Now
) -> FundRead:
    """Close an empty fund for good."""
    return await funds.close(session, caller, fund_id=fund_id, expected=if_match, now=now)


@router.post(
    "/{fund_id}/receipts",
    status_code=201,
    summary="Take money into a fund",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(FundClosed, DocumentEntered, MonthClosed),
)
async def create_receipt(
    session: Session, caller: MayWriteFunds, fund_id: FundId, body: MoneyIn, now: Now
) -> FundRead:
    """Enter what the fund's source has paid in."""
    return await funds.receive(session, caller, fund_id=fund_id, body=body, now=now)


@router.post(
    "/{fund_id}/withdrawals",
    status_code=201,
    summary="Give money back to the source",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(FundClosed, FundShort, BeyondReceipts, DocumentEntered, MonthClosed),
)
async def create_withdrawal(
    session: Session, caller: MayWriteFunds, fund_id: FundId, body: MoneyOut, now: Now
) -> FundRead:
    """Enter what went back to the fund's source."""
    return await funds.withdraw(session, caller, fund_id=fund_id, body=body, now=now)


@router.post(
    "/{fund_id}/allocations",
    status_code=201,
    summary="Pass money on to another fund",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(FundClosed, FundShort, DocumentEntered, MonthClosed),
)
async def create_allocation(
    session: Session, caller: MayWriteFunds, fund_id: FundId, body: Allocation, now: Now
) -> FundRead:
    """Enter what another fund is given of this one; the answer is the fund that gave."""
    return await funds.allocate(session, caller, fund_id=fund_id, body=body, now=now)


@router.get("/{fund_id}/entries", summary="List a fund's entries", response_model=Page[EntryRead])
async def list_fund_entries(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadFunds,
    fund_id: FundId,
    filters: Annotated[EntryFilters, Query()],
) -> Response:
    """List every movement of the fund's money, the oldest first; none is ever changed."""
    page = await funds.list_entries(statements, caller, keyring, fund_id=fund_id, filters=filters)
    return paging.answer(request, page)


@router.get("/{fund_id}/balance", summary="Get a fund's balance as of an instant")
async def get_fund_balance(
    statements: OneStatement,
    caller: MayReadFunds,
    fund_id: FundId,
    query: Annotated[BalanceQuery, Query()],
    now: Now,
) -> BalanceRead:
    """Give the balances as the books knew them at an instant."""
    return await funds.balance(statements, caller, fund_id=fund_id, query=query, now=now)
