"""Month closes: summed by one person, closed by another, signed, and closed for good."""

import io
import zipfile
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, concurrency, reach
from app.crypto import Keyring, digest
from app.database import Statements, district_wide
from app.identifiers import area_range
from app.identity import Caller
from app.models.accounting.month_closes import (
    TOTALS,
    MonthClose,
    MonthCreate,
    MonthDetail,
    MonthException,
    MonthExceptionKind,
    MonthFile,
    MonthFilters,
    MonthStatus,
    PreviousMonth,
)
from app.models.accounting.reconciliation import AGREED
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.services.accounting import books, month_totals, reconciliation, signing_keys
from app.services.accounting.books import Discrepancy
from app.services.organisation import areas

_PATIENCE = ("set local statement_timeout = '300s'", "set local lock_timeout = '120s'")
_LASTING = timedelta(minutes=10)
"""After so long an act that began in the month, and pays by its day, has ended."""
LISTING = Listing(
    columns=(
        f"c.id, c.version, {instant('c.created_at')}, {instant('c.updated_at')}, c.area_code,"
        " to_char(c.month, 'YYYY-MM') as month, c.status, c.created_by,"
        f" {instant('c.calculated_at')}, c.calculated_by, {instant('c.closed_at')}, c.closed_by,"
        " c.sha256, encode(c.signature, 'base64') as signature, c.key_id"
    ),
    source="month_closes c",
    order=(Key("id", "c.id", "uuid"),),
    descending=True,
)
_DETAIL = (
    f"select (select row_to_json(item)::text from (select {LISTING.columns}) item) as facts,"
    " c.content, c.signature from month_closes c where c.district_code = :district_code"
    " and c.id = :id and {}"
)
# Held by their order of id, as allocations and runs hold them.
_HOLD_FUNDS = text(
    "select id from funds where district_code = :district_code"
    " and area_code between :low and :high order by id for no key update"
)
_LAST_CLOSED = text(
    "select month, sha256 from month_closes where district_code = :district_code"
    " and area_code = :area_code and status = 'closed' order by month desc limit 1"
)
_SETTLED = text(
    "select id from payout_runs where district_code = :district_code"
    " and status in ('settled', 'closed')"
    " and area_code between :low and :high"
    " and settled_at >= cast(:first as timestamp) at time zone 'Asia/Shanghai'"
    " and settled_at < cast(:next as timestamp) at time zone 'Asia/Shanghai' order by id"
)
_FORGET = text(
    "delete from month_fund_totals where district_code = :district_code and close_id = :close_id"
)
_KEEP = text(
    f"insert into month_fund_totals (district_code, close_id, fund_id, {', '.join(TOTALS)},"
    " planned_fen) select :district_code, :close_id, x.fund_id,"
    f" {', '.join(f'x.{name}' for name in TOTALS)}, x.planned_fen"
    " from jsonb_to_recordset(cast(:funds as jsonb)) as x(fund_id uuid,"
    f" {', '.join(f'{name} bigint' for name in TOTALS)}, planned_fen bigint)"
)


class MonthTaken(Problem):
    """The month of this area is closed, or about to be."""

    code, status = "month_taken", 409
    constraint = "uq_month_closes_month"


class MonthNotOver(Problem):
    """A month is closed when it is over."""

    code, status = "month_not_over", 409


class MonthOutOfOrder(Problem):
    """Months are closed one after the other; it is said which is next."""

    code, status = "month_out_of_order", 409


class MonthIsClosed(Problem):
    """What is closed stays as it is."""

    code, status = "month_is_closed", 409


class MonthOpen(Problem):
    """There is no file before the month is closed."""

    code, status = "month_open", 409


class MonthOutdated(Problem):
    """Something of the month changed since it was summed."""

    code, status = "month_outdated", 409


class MonthMakerIsChecker(Problem):
    """Whoever summed a month does not close it."""

    code, status = "month_maker_is_checker", 403


class BooksDisagree(Problem):
    """The books check finds what does not agree; until it is mended no month closes."""

    code, status = "books_disagree", 409


async def list_closes(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: MonthFilters
) -> Slice:
    """Give a page of the closes within reach, the newest first."""
    condition, params = reach.within(caller, area="c.area_code")
    where = Where(params | {"district_code": caller.district_code})
    where.add("c.district_code = :district_code")
    where.add(condition)
    where.equal("c.status", "status", filters.status)
    where.in_area("c.area_code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def _row(
    statements: Statements, caller: Caller, close_id: UUID, *, about: Sequence[UUID] | None = None
) -> Any:
    condition, params = reach.within(caller, area="c.area_code")
    params |= {"district_code": caller.district_code, "id": close_id}
    row = await statements.fetch_row(_DETAIL.format(condition), params, about=about)
    if row is None:
        raise NotFound
    return row


async def find(statements: Statements, caller: Caller, *, close_id: UUID) -> MonthDetail:
    """Give one close with all its totals, or refuse with NotFound."""
    row = await _row(statements, caller, close_id)
    return _detail(row["facts"], bytes(row["content"]))


def _detail(facts: str, content: bytes) -> MonthDetail:
    totals = content.decode()
    return MonthDetail.model_validate_json(f'{facts[:-1]},"totals":{totals}}}')


async def file(statements: Statements, caller: Caller, *, close_id: UUID) -> bytes:
    """Give the signed file of a closed month, the same bytes each time.

    Raises NotFound or MonthOpen.
    """
    # That a file left the service is noted, though it is about nobody.
    row = await _row(statements, caller, close_id, about=())
    if row["signature"] is None:
        raise MonthOpen
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("month.json", row["content"]), ("month.json.sig", row["signature"])):
            # A fixed date and system: the archive is a function of what is in it.
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, bytes(content))
    return out.getvalue()


async def create(
    session: AsyncSession, caller: Caller, *, body: MonthCreate, now: datetime
) -> MonthDetail:
    """Sum a month of an area that is over; raises MonthTaken, MonthNotOver or MonthOutOfOrder."""
    await areas.require_known(session, body.area_code)
    reach.require_area(caller, body.area_code)
    first = date.fromisoformat(f"{body.month}-01")
    if clock.civil_date(now - _LASTING) < month_totals.month_after(first):
        raise MonthNotOver
    month = MonthClose(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        area_code=body.area_code,
        month=first,
        status=MonthStatus.DRAFT,
        created_by=caller.subject,
        calculated_at=now,
        calculated_by=caller.subject,
        content=b"",
        previous_month=None,
        closed_at=None,
        closed_by=None,
        sha256=None,
        signature=None,
        key_id=None,
    )
    async with district_wide(session):
        month.content = month_totals.canonical(await _summed(session, month))
        session.add(month)
        await session.flush()
        await _keep(session, month)
    return await _shown(session, month)


async def calculate(
    session: AsyncSession, caller: Caller, *, close_id: UUID, expected: int, now: datetime
) -> MonthDetail:
    """Sum a month anew that is not closed yet; raises MonthIsClosed."""
    month = await _lock(session, caller, close_id=close_id, expected=expected)
    async with district_wide(session):
        content = month_totals.canonical(await _summed(session, month))
        month.change(now, content=content, calculated_at=now, calculated_by=caller.subject)
        await session.flush()
        await _keep(session, month)
    return await _shown(session, month)


async def close(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    close_id: UUID,
    expected: int,
    now: datetime,
) -> MonthDetail:
    """Close a month that somebody else summed: signed, and no document of it is taken any more.

    Raises MonthIsClosed, MonthMakerIsChecker, BooksDisagree, MonthOutdated or MonthOutOfOrder.
    """
    month = await _lock(session, caller, close_id=close_id, expected=expected)
    if caller.subject in {month.created_by, month.calculated_by}:
        raise MonthMakerIsChecker
    async with district_wide(session):
        await _hold_funds(session, month)
        found = await books.check(session, district_code=month.district_code)
        if found:
            questions = sorted({each.question for each in found})
            raise BooksDisagree(extra={"questions": questions})
        summed = await _summed(session, month)
        if month_totals.canonical(summed) != month.content:
            raise MonthOutdated
        key = signing_keys.of_months(keyring)
        month.change(
            now,
            status=MonthStatus.CLOSED,
            closed_at=now,
            closed_by=caller.subject,
            previous_month=None
            if summed.previous is None
            else date.fromisoformat(f"{summed.previous.month}-01"),
            sha256=digest(month.content),
            signature=key.private.sign(month.content),
            key_id=key.kid,
        )
        await session.flush()
    return await _shown(session, month)


async def _lock(
    session: AsyncSession, caller: Caller, *, close_id: UUID, expected: int
) -> MonthClose:
    async with district_wide(session):
        month = await session.scalar(
            select(MonthClose)
            .where(
                col(MonthClose.district_code) == caller.district_code,
                col(MonthClose.id) == close_id,
                reach.clause(caller, area="month_closes.area_code"),
            )
            .with_for_update()
        )
    if month is None:
        raise NotFound
    concurrency.require_version(month.version, expected)
    if month.status == MonthStatus.CLOSED:
        raise MonthIsClosed
    return month


def _place(month: MonthClose) -> dict[str, Any]:
    low, high = area_range(month.area_code)
    return {"district_code": month.district_code, "low": low, "high": high}


async def _hold_funds(session: AsyncSession, month: MonthClose) -> None:
    """Wait for what is being entered, and let nothing be entered until this is committed."""
    for setting in _PATIENCE:
        await session.execute(text(setting))
    await session.execute(_HOLD_FUNDS, _place(month))


async def _summed(session: AsyncSession, month: MonthClose) -> MonthFile:
    """Add the month up as the books know it now, after the month that was closed last."""
    for setting in _PATIENCE:
        await session.execute(text(setting))
    key = {"district_code": month.district_code, "area_code": month.area_code}
    last = (await session.execute(_LAST_CLOSED, key)).one_or_none()
    previous = None
    if last is not None:
        following = month_totals.month_after(last.month)
        if month.month != following:
            raise MonthOutOfOrder(month=f"{following:%Y-%m}", extra={"next": f"{following:%Y-%m}"})
        previous = PreviousMonth(month=f"{last.month:%Y-%m}", sha256=last.sha256)
    found = await books.check(session, district_code=month.district_code)
    exceptions = [*_of_books(found), *await _of_runs(session, month)]
    return await month_totals.add_up(
        session,
        district_code=month.district_code,
        area_code=month.area_code,
        first=month.month,
        previous=previous,
        exceptions=exceptions,
    )


def _of_books(found: Sequence[Discrepancy]) -> list[MonthException]:
    questions = [each.question for each in found]
    return [
        MonthException(
            kind=MonthExceptionKind.BOOKS_DISAGREE,
            subject=question,
            reason=None,
            count=questions.count(question),
            amount_fen=0,
        )
        for question in sorted(set(questions))
    ]


async def _of_runs(session: AsyncSession, month: MonthClose) -> list[MonthException]:
    """Reconcile each run that was settled in the month."""
    params = _place(month) | {
        "first": month.month,
        "next": month_totals.month_after(month.month),
    }
    told = []
    for run_id in (await session.scalars(_SETTLED, params)).all():
        counts = await reconciliation.count_within(
            session, district_code=month.district_code, run_id=run_id
        )
        told += [
            MonthException(
                kind=MonthExceptionKind.RUN_MISMATCH,
                subject=str(run_id),
                reason=each.outcome.value,
                count=each.payout_count,
                amount_fen=each.amount_fen,
            )
            for each in counts
            if each.outcome not in AGREED
        ]
    return told


async def _keep(session: AsyncSession, month: MonthClose) -> None:
    """Keep the funds' totals as rows beside the file; raises MonthNegative."""
    key = {"district_code": month.district_code, "close_id": month.id}
    await session.execute(_FORGET, key)
    funds = MonthFile.model_validate_json(month.content).model_dump_json(include={"funds"})
    await session.execute(_KEEP, key | {"funds": funds[len('{"funds":') : -1]})


async def _shown(session: AsyncSession, month: MonthClose) -> MonthDetail:
    params = {"district_code": month.district_code, "id": month.id}
    row = (await session.execute(text(_DETAIL.format("true")), params)).mappings().one()
    return _detail(row["facts"], bytes(row["content"]))
