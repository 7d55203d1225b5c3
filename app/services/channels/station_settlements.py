"""Station settlements: made by a clerk, approved by somebody else, paid by a document."""

from datetime import date, datetime, time
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.channels.station_settlements import (
    SettlementCreate,
    SettlementFilters,
    SettlementPayment,
    SettlementRead,
    SettlementStatus,
    StationSettlement,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem

LISTING = Listing(
    columns=(
        f"s.id, s.version, {instant('s.created_at')}, {instant('s.updated_at')}, s.station_id,"
        " n.name as station_name, s.area_code, to_char(s.month_on, 'YYYY-MM') as month, s.status,"
        " s.status_reason, s.voucher_count, s.amount_fen, s.created_by, s.approved_by,"
        f" {instant('s.approved_at')}, s.document_no, s.paid_on, s.paid_by"
    ),
    source=(
        "station_settlements s join service_stations n"
        " on n.district_code = s.district_code and n.id = s.station_id"
    ),
    order=(Key("id", "s.id", "uuid"),),
    descending=True,
)
# What each fund spent stands in the ledger, a line a voucher.
_BY_FUND = (
    "(select coalesce(json_agg(row_to_json(b) order by b.source, b.fund_name, b.fund_id), '[]')"
    " from (select f.id as fund_id, f.name as fund_name, f.source,"
    " cast(sum(t.amount_fen) as bigint) as amount_fen from vouchers v"
    " join transfers t on t.district_code = v.district_code and t.run_id = v.run_id"
    " and t.line_no = v.line_no and t.kind = 'pay'"
    " join funds f on f.district_code = t.district_code and f.id = t.fund_id"
    " where v.district_code = :district_code and v.settlement_id = s.id"
    " group by f.id, f.name, f.source) b)"
)
_FIND = (
    f"select row_to_json(item)::text from (select {LISTING.columns}, {_BY_FUND} as by_fund"
    f" from {LISTING.source} where s.district_code = :district_code and s.id = :id and {{}}) item"
)
_STATION = (
    "select s.area_code from service_stations s where s.district_code = :district_code"
    " and s.id = :station_id and {}"
)
# Two who settle at once wait for each other's vouchers, and the second finds none.
_MAKE = text(
    "with due as materialized (select v.run_id, v.line_no from vouchers v"
    " where v.district_code = :district_code and v.station_id = :station_id"
    " and v.redeemed_at >= :begins and v.redeemed_at < :ends and v.settlement_id is null"
    " order by v.run_id, v.line_no for update),"
    " taken as (update vouchers v set settlement_id = :id from due d"
    " where v.district_code = :district_code and v.run_id = d.run_id and v.line_no = d.line_no"
    " and v.settlement_id is null returning v.amount_fen)"
    " insert into station_settlements (district_code, id, version, created_at, updated_at,"
    " station_id, area_code, month_on, status, voucher_count, amount_fen, created_by)"
    " select :district_code, cast(:id as uuid), 1, cast(:now as timestamptz),"
    " cast(:now as timestamptz), cast(:station_id as uuid), :area_code, cast(:month_on as date),"
    " 'submitted', count(*), sum(amount_fen), :subject from taken having count(*) > 0"
    " returning id"
)
_RELEASE = text(
    "update vouchers set settlement_id = null where district_code = :district_code"
    " and settlement_id = :id"
)


class SettlementEmpty(Problem):
    """The station redeemed nothing in the month that is not settled yet."""

    code, status = "settlement_empty", 409


class SettlementState(Problem):
    """The settlement's state does not allow this step."""

    code, status = "settlement_state", 409


class SettlementMakerIsChecker(Problem):
    """Whoever made a settlement cannot approve it."""

    code, status = "settlement_maker_is_checker", 403
    constraint = "ck_station_settlements_maker_is_not_checker"


async def list_settlements(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: SettlementFilters
) -> Slice:
    """Give a page of the settlements within reach, the newest first."""
    condition, params = reach.within(caller, area="s.area_code")
    where = Where(params | {"district_code": caller.district_code})
    where.add("s.district_code = :district_code and n.district_code = :district_code")
    where.add(condition)
    where.equal("s.station_id", "station_id", filters.station_id)
    where.equal("s.status", "status", filters.status)
    if filters.month is not None:
        where.equal("s.month_on", "month_on", _first_day(filters.month))
    where.in_area("s.area_code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, settlement_id: UUID) -> SettlementRead:
    """Give one settlement with what each fund spent on it, or refuse with NotFound."""
    condition, params = reach.within(caller, area="s.area_code")
    params |= {"district_code": caller.district_code, "id": settlement_id}
    # The funds that paid may lie above the station's area.
    found = await statements.district_wide().fetch_value(_FIND.format(condition), params)
    if found is None:
        raise NotFound
    return SettlementRead.model_validate_json(found)


async def make(
    session: AsyncSession, caller: Caller, *, body: SettlementCreate, now: datetime
) -> SettlementRead:
    """Settle what a station redeemed in a civil month and is in no settlement yet.

    A second settlement of a month takes what was redeemed since. Raises SettlementEmpty.
    """
    first = _first_day(body.month)
    if first > clock.civil_date(now):
        raise Invalid.at("/month", "settlement_month_ahead")
    condition, params = reach.within(caller, area="s.area_code")
    params |= {"district_code": caller.district_code, "station_id": body.station_id}
    area_code = await session.scalar(text(_STATION.format(condition)), params)
    if area_code is None:
        raise Invalid.at("/station_id", "unknown_reference")
    settlement_id = clock.new_id()
    facts = {
        "district_code": caller.district_code,
        "id": settlement_id,
        "station_id": body.station_id,
        "area_code": area_code,
        "month_on": first,
        "begins": _midnight(first),
        "ends": _midnight(_next_month(first)),
        "now": now,
        "subject": caller.subject,
    }
    async with district_wide(session):
        if await session.scalar(_MAKE, facts) is None:
            raise SettlementEmpty
    return await _shown(session, caller, settlement_id)


def _first_day(month: str) -> date:
    return date.fromisoformat(f"{month}-01")


def _next_month(first: date) -> date:
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), clock.CIVIL_ZONE)


async def approve(
    session: AsyncSession, caller: Caller, *, settlement_id: UUID, expected: int, now: datetime
) -> SettlementRead:
    """Approve a settlement that somebody else made; raises SettlementMakerIsChecker."""
    found = await _lock(session, caller, settlement_id, SettlementStatus.SUBMITTED, expected)
    if found.created_by == caller.subject:
        raise SettlementMakerIsChecker
    found.change(now, status=SettlementStatus.APPROVED, approved_by=caller.subject, approved_at=now)
    return await _shown(session, caller, settlement_id)


async def reject(
    session: AsyncSession,
    caller: Caller,
    *,
    settlement_id: UUID,
    expected: int,
    reason: str,
    now: datetime,
) -> SettlementRead:
    """Send a settlement back for good; its vouchers are free for another."""
    found = await _lock(session, caller, settlement_id, SettlementStatus.SUBMITTED, expected)
    found.change(now, status=SettlementStatus.REJECTED, status_reason=reason)
    await session.flush()
    async with district_wide(session):
        params: dict[str, Any] = {"district_code": caller.district_code, "id": settlement_id}
        await session.execute(_RELEASE, params)
    return await _shown(session, caller, settlement_id)


async def pay(
    session: AsyncSession,
    caller: Caller,
    *,
    settlement_id: UUID,
    expected: int,
    body: SettlementPayment,
    now: datetime,
) -> SettlementRead:
    """Note by which document an approved settlement was paid; the funds were charged before."""
    found = await _lock(session, caller, settlement_id, SettlementStatus.APPROVED, expected)
    if body.paid_on > clock.civil_date(now):
        raise Invalid.at("/paid_on", "document_in_the_future")
    found.change(now, status=SettlementStatus.PAID, paid_by=caller.subject, **body.model_dump())
    return await _shown(session, caller, settlement_id)


async def _lock(
    session: AsyncSession,
    caller: Caller,
    settlement_id: UUID,
    status: SettlementStatus,
    expected: int,
) -> StationSettlement:
    found = await session.scalar(
        select(StationSettlement)
        .where(
            col(StationSettlement.district_code) == caller.district_code,
            col(StationSettlement.id) == settlement_id,
            reach.clause(caller, area="station_settlements.area_code"),
        )
        .with_for_update()
    )
    if found is None:
        raise NotFound
    concurrency.require_version(found.version, expected)
    if found.status != status:
        extra = {"settlement_status": found.status}
        raise SettlementState(settlement_status=found.status, extra=extra)
    return found


async def _shown(session: AsyncSession, caller: Caller, settlement_id: UUID) -> SettlementRead:
    await session.flush()
    params = {"district_code": caller.district_code, "id": settlement_id}
    async with district_wide(session):
        found = await session.scalar(text(_FIND.format("true")), params)
    return SettlementRead.model_validate_json(found)
