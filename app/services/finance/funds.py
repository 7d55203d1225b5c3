"""Funds: kept by source, year and scope; filled, passed on and given back by documents."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.finance.funds import (
    BALANCES,
    Allocation,
    BalanceQuery,
    BalanceRead,
    Fund,
    FundCreate,
    FundFilters,
    FundRead,
    FundStatus,
    FundUpdate,
    MoneyIn,
)
from app.models.finance.transfers import EntryFilters, TransferKind
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.services.finance import transfers
from app.services.organisation import areas

LISTING = Listing(
    columns=(
        f"f.id, f.version, {instant('f.created_at')}, {instant('f.updated_at')}, f.name, f.source,"
        " f.fiscal_year, f.area_code, f.association_id, f.status,"
        f" {', '.join(f'f.{name}' for name in BALANCES)}, f.created_by, {instant('f.closed_at')},"
        " f.closed_by"
    ),
    source="funds f",
    order=(Key("id", "f.id", "uuid"),),
)
_FIND = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from funds f"
    " where f.district_code = :district_code and f.id = :id and {}) item"
)
_AS_OF = (
    f"select {transfers.BALANCES} from {transfers.LEGS} where {transfers.OF_FUND}"
    " and leg.fund_id = :fund_id and t.recorded_at <= :as_of"
)


class FundScopeTaken(Problem):
    """There is a fund of this source, year and scope: a run could not tell which is to pay."""

    code, status = "fund_scope_taken", 409
    constraint = "uq_funds_scope"


class FundClosed(Problem):
    """A closed fund neither takes nor gives."""

    code, status = "fund_closed", 409
    constraint = "ck_funds_closed"


class FundNotEmpty(Problem):
    """What a fund still holds is paid, passed on or given back before it closes."""

    code, status = "fund_not_empty", 409


class FundShort(Problem):
    """The fund has not so much to give."""

    code, status = "fund_short", 409


class BeyondReceipts(Problem):
    """A source gets back no more than it has paid in; the rest came from other funds."""

    code, status = "beyond_receipts", 409


async def list_funds(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: FundFilters
) -> Slice:
    """Give a page of the funds within reach, the oldest first."""
    condition, params = _within(caller, "f")
    where = Where(params | {"district_code": caller.district_code})
    where.add("f.district_code = :district_code")
    where.add(condition)
    where.equal("f.source", "source", filters.source)
    where.equal("f.fiscal_year", "fiscal_year", filters.fiscal_year)
    where.equal("f.status", "status", filters.status)
    where.equal("f.association_id", "association_id", filters.association_id)
    where.in_area("f.area_code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


def _within(caller: Caller, table: str) -> tuple[str, dict[str, Any]]:
    return reach.within(caller, area=f"{table}.area_code", association=f"{table}.association_id")


async def find(statements: Statements, caller: Caller, *, fund_id: UUID) -> FundRead:
    """Give one fund, or refuse with NotFound."""
    condition, params = _within(caller, "f")
    params |= {"district_code": caller.district_code, "id": fund_id}
    found = await statements.fetch_value(_FIND.format(condition), params)
    if found is None:
        raise NotFound
    return FundRead.model_validate_json(found)


async def balance(
    statements: Statements, caller: Caller, *, fund_id: UUID, query: BalanceQuery, now: datetime
) -> BalanceRead:
    """Give a fund's balances as they were known at an instant, counted from its transfers."""
    await find(statements, caller, fund_id=fund_id)
    as_of = query.as_of or now
    params = {"district_code": caller.district_code, "fund_id": fund_id, "as_of": as_of}
    [row] = await statements.showing(fund_id).fetch(_AS_OF, params)
    return BalanceRead(fund_id=fund_id, as_of=as_of, **row)


async def list_entries(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    fund_id: UUID,
    filters: EntryFilters,
) -> Slice:
    """Give a page of a fund's entries, the oldest first."""
    await find(statements, caller, fund_id=fund_id)
    return await transfers.list_entries(
        statements, caller, keyring, fund_id=fund_id, filters=filters
    )


async def create(
    session: AsyncSession, caller: Caller, *, body: FundCreate, now: datetime
) -> FundRead:
    """Keep a new fund, empty; raises FundScopeTaken."""
    reach.require_area(caller, body.area_code)
    await areas.require_scope(
        session,
        district_code=caller.district_code,
        area_code=body.area_code,
        association_id=body.association_id,
    )
    facts: dict[str, Any] = body.model_dump() | dict.fromkeys(BALANCES, 0)
    fund = Fund(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        **facts,
        status=FundStatus.OPEN,
        created_by=caller.subject,
        closed_at=None,
        closed_by=None,
    )
    session.add(fund)
    await session.flush()
    return _shown(fund)


async def update(
    session: AsyncSession,
    caller: Caller,
    *,
    fund_id: UUID,
    body: FundUpdate,
    expected: int,
    now: datetime,
) -> FundRead:
    """Give a fund another name."""
    changes = body.changes()
    fund = await locked(session, caller, fund_id=fund_id)
    concurrency.require_version(fund.version, expected)
    fund.change(now, **changes)
    await session.flush()
    return _shown(fund)


async def close(
    session: AsyncSession, caller: Caller, *, fund_id: UUID, expected: int, now: datetime
) -> FundRead:
    """Close an empty fund for good; raises FundClosed or FundNotEmpty."""
    fund = await locked(session, caller, fund_id=fund_id)
    concurrency.require_version(fund.version, expected)
    _require_open(fund)
    if fund.available_fen or fund.reserved_fen:
        raise FundNotEmpty(
            available=fund.available_fen,
            reserved=fund.reserved_fen,
            extra={"available_fen": fund.available_fen, "reserved_fen": fund.reserved_fen},
        )
    fund.change(now, status=FundStatus.CLOSED, closed_at=now, closed_by=caller.subject)
    await session.flush()
    return _shown(fund)


async def receive(
    session: AsyncSession, caller: Caller, *, fund_id: UUID, body: MoneyIn, now: datetime
) -> FundRead:
    """Take money in from the fund's source; raises FundClosed or transfers.DocumentEntered."""
    return await _move(session, caller, fund_id, body, kind=TransferKind.RECEIVE, now=now)


async def withdraw(
    session: AsyncSession, caller: Caller, *, fund_id: UUID, body: MoneyIn, now: datetime
) -> FundRead:
    """Give money back to the fund's source.

    Raises FundClosed, FundShort, BeyondReceipts or transfers.DocumentEntered.
    """
    return await _move(session, caller, fund_id, body, kind=TransferKind.WITHDRAW, now=now)


async def _move(
    session: AsyncSession,
    caller: Caller,
    fund_id: UUID,
    body: MoneyIn,
    *,
    kind: TransferKind,
    now: datetime,
) -> FundRead:
    fund = await locked(session, caller, fund_id=fund_id)
    _require_open(fund)
    _require_past(body, now)
    signed = body.amount_fen if kind is TransferKind.RECEIVE else -body.amount_fen
    _require_funds(fund, -signed)
    if fund.received_fen < -signed:
        raise BeyondReceipts(received=fund.received_fen, extra={"received_fen": fund.received_fen})
    fund.available_fen += signed
    fund.received_fen += signed
    await transfers.enter(
        session, caller, kind=kind, fund_id=fund.id, credit_fund_id=fund.id, body=body, now=now
    )
    return _shown(fund)


async def allocate(
    session: AsyncSession, caller: Caller, *, fund_id: UUID, body: Allocation, now: datetime
) -> FundRead:
    """Pass money on to another fund within reach, and give the one that it comes from.

    Raises FundClosed, FundShort or transfers.DocumentEntered.
    """
    if body.to_fund_id == fund_id:
        raise Invalid.at("/to_fund_id", "fund_to_itself")
    # One order for all who lock two funds, so that they wait for each other and not in a ring.
    first, second = sorted((fund_id, body.to_fund_id))
    found = {id_: await _locked(session, caller, fund_id=id_) for id_ in (first, second)}
    giver, taker = found[fund_id], found[body.to_fund_id]
    if giver is None:
        raise NotFound
    if taker is None:
        raise Invalid.at("/to_fund_id", "unknown_reference")
    for fund in (giver, taker):
        _require_open(fund)
    _require_past(body, now)
    _require_funds(giver, body.amount_fen)
    giver.available_fen -= body.amount_fen
    giver.allocated_out_fen += body.amount_fen
    taker.available_fen += body.amount_fen
    taker.allocated_in_fen += body.amount_fen
    await transfers.enter(
        session,
        caller,
        kind=TransferKind.ALLOCATE,
        fund_id=taker.id,
        credit_fund_id=giver.id,
        body=body,
        now=now,
    )
    return _shown(giver)


async def locked(session: AsyncSession, caller: Caller, *, fund_id: UUID) -> Fund:
    """Give a fund within reach that nobody else changes until the transaction ends."""
    fund = await _locked(session, caller, fund_id=fund_id)
    if fund is None:
        raise NotFound
    return fund


async def _locked(session: AsyncSession, caller: Caller, *, fund_id: UUID) -> Fund | None:
    condition, params = _within(caller, "funds")
    return await session.scalar(
        select(Fund)
        .where(
            col(Fund.district_code) == caller.district_code,
            col(Fund.id) == fund_id,
            text(condition).bindparams(**params),
        )
        .with_for_update(key_share=True)
    )


def _require_open(fund: Fund) -> None:
    if fund.status == FundStatus.CLOSED:
        raise FundClosed


def _require_past(body: MoneyIn, now: datetime) -> None:
    if body.occurred_on > clock.civil_date(now):
        raise Invalid.at("/occurred_on", "document_in_the_future")


def _require_funds(fund: Fund, needed: int) -> None:
    if fund.available_fen < needed:
        raise FundShort(
            available=fund.available_fen,
            needed=needed,
            extra={"available_fen": fund.available_fen, "needed_fen": needed},
        )


def _shown(fund: Fund) -> FundRead:
    return FundRead(**fund.model_dump(exclude={"district_code"}))
