"""Published accounts of associations: from closed months, never changed, and told in tens."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.accounting.accounts import (
    AccountsFilters,
    AccountsPublish,
    AccountsRead,
    Figures,
    PublishedAccounts,
    Received,
    ReceivedFrom,
    ReceivedOfKind,
)
from app.models.events.service_events import TEN
from app.models.shapes import Output
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.reach import highest_below
from app.roles import Right
from app.services.accounting import month_totals
from app.services.accounting.told_accounts import (
    fewest_of,
    is_near,
    repeated,
    told_of,
    untold,
)
from app.services.events.told_counts import begins_at, is_over_at, known_open
from app.services.organisation import associations

_COLUMNS = (
    "p.association_id, to_char(p.month, 'YYYY-MM') as month, p.number, p.correction,"
    f" {instant('p.published_at')}, c.sha256 as file_sha256, p.figures::json as figures"
)
_SOURCE = (
    "published_accounts p join month_closes c on c.district_code = p.district_code"
    " and c.id = p.close_id"
)
LISTING = Listing(
    columns=f"{_COLUMNS}, to_char(p.month, 'YYYY-MM-DD') as first",
    source=_SOURCE,
    order=(Key("first", "p.month", "date"), Key("number", "p.number", "int")),
    descending=True,
)
_OWN = replace(
    LISTING,
    source=(
        f"{_SOURCE} join members m"
        " on m.district_code = p.district_code and m.association_id = p.association_id"
    ),
    about="",
)
_PLACE = (
    "select a.id, a.area_code from associations a where a.district_code = :district_code"
    " and a.id = :id and {}"
)
_CLOSE = text(
    "select c.id, c.sha256 from month_closes c where c.district_code = :district_code"
    " and c.month = :first and c.status = 'closed'"
    f" and :area between c.area_code and {highest_below('c.area_code')}"
    " order by c.area_code desc limit 1"
)
_LAST = text(
    "select coalesce(max(number), 0) from published_accounts where district_code = :district_code"
    " and association_id = :association_id and month = :first"
)
_BEFORE = text(
    "select figures from published_accounts where district_code = :district_code"
    " and association_id = :association_id and month = :first order by number desc limit 1"
)
# Paid in the month and not back by its end: one who received by two rules is one person.
_RECEIVED = (
    "select t.fund_id, p.member_id, p.association_id, p.rule_id, p.round_sequence, i.event_kind,"
    " t.amount_fen, exists (select from policy_versions v where v.district_code = t.district_code"
    " and v.policy_id = r.policy_id and v.number = r.policy_number and v.consent_required)"
    " as for_consent from transfers t"
    " join payout_runs r on r.district_code = t.district_code and r.id = t.run_id"
    " join payouts p on p.district_code = t.district_code and p.round_sequence = r.round_sequence"
    " and p.run_id = t.run_id and p.line_no = t.line_no"
    " join incentive_rules i on i.district_code = t.district_code and i.policy_id = r.policy_id"
    " and i.number = r.policy_number and i.rule_id = p.rule_id"
    " where t.district_code = :district_code and t.kind = 'pay' and t.occurred_on >= :first"
    " and t.occurred_on < :next and not exists (select from transfers b"
    " where b.district_code = t.district_code and b.run_id = t.run_id and b.line_no = t.line_no"
    " and b.kind = 'return' and b.occurred_on < :next)"
)
# What is told to all is what whole tens got: of those whom one rule gave as much for a round.
_TENS = (
    f"select {{0}}, count(*) / {TEN} * {TEN} * fen as fen from (select {{0}}, rule_id,"
    " round_sequence, sum(amount_fen) as fen from r group by {0}, rule_id, round_sequence,"
    " member_id) x group by {0}, rule_id, round_sequence, fen"
)
_CELL = "count(distinct member_id), sum(amount_fen)::bigint, (select sum(fen)::bigint from {})"
_BEGINS, _IS_OVER = begins_at("e"), is_over_at("e")
_ASKED = "exists (select from r where r.for_consent)"
_CONSENTED = (
    "exists (select from consents c where c.district_code = e.district_code"
    " and c.member_id = s.member_id and c.purpose = 'thanks' and c.state = 'given' and {})"
)
_LATE = _CONSENTED.format(f"c.method <> 'app' and c.recorded_at >= {_IS_OVER}")
# Of each round of which something was received, as of a draw: who could have received it, as was
# known when it began, and was thanked for nothing of it; for each who was known to leave within it
# one less, and nobody where an office entered a consent when it was over.
_BESIDE = (
    f"select case when bool_or({_ASKED} and {_LATE}) then 0 else"
    " count(distinct s.member_id) filter (where m.id is not null and not exists"
    " (select from r where r.member_id = s.member_id) and not exists (select from payouts p"
    " where p.district_code = :district_code and p.round_sequence = e.sequence"
    " and p.member_id = s.member_id))"
    f" - count(distinct s.member_id) filter (where not {known_open(_IS_OVER)}) end as people"
    " from exam_rounds e left join memberships s on s.district_code = e.district_code"
    f" and s.association_id = :association_id and {known_open(_BEGINS)}"
    " left join members m on m.district_code = s.district_code and m.id = s.member_id"
    " and m.erased_at is null and m.thanks_withdrawn_on is null"
    f" and (not {_ASKED} or {_CONSENTED.format(f'c.recorded_at < {_BEGINS}')})"
    " where e.district_code = :district_code"
    " and e.sequence in (select round_sequence from r) group by e.sequence"
)
_FIGURES = text(
    f"with r as materialized (select x.*, f.source from ({_RECEIVED}) x join funds f"
    " on f.district_code = :district_code and f.id = x.fund_id"
    " where x.association_id = :association_id),"
    f" k as ({_TENS.format('event_kind')}), s as ({_TENS.format('source')})"
    " select 'total' as of_what, '' as name, count(distinct member_id) as people,"
    " cast(coalesce(sum(amount_fen), 0) as bigint) as amount_fen,"
    " (select cast(coalesce(sum(fen), 0) as bigint) from k) as told_fen from r"
    f" union all select 'kind', event_kind, {_CELL.format('k where k.event_kind = r.event_kind')}"
    " from r group by event_kind"
    f" union all select 'source', source, {_CELL.format('s where s.source = r.source')}"
    " from r group by source"
    " union all select 'beside', '', greatest(coalesce(min(people), 0), 0), 0, 0"
    f" from ({_BESIDE}) x"
    # Rules differ in price within a kind: of how many each is kept from the others' amounts.
    " union all select 'rule', cast(rule_id as text), count(distinct member_id), 0, 0"
    " from r group by rule_id"
    " union all select 'events', '', count(*), 0, 0 from service_events e"
    " where e.district_code = :district_code and e.association_id = :association_id"
    " and e.status in ('in_progress', 'closed')"
    " and e.starts_at >= cast(:first as timestamp) at time zone 'Asia/Shanghai'"
    " and e.starts_at < cast(:next as timestamp) at time zone 'Asia/Shanghai'"
    " order by 1, 2"
)


class MonthNotClosed(Problem):
    """Accounts are published from a month that is closed."""

    code, status = "month_not_closed", 409


async def list_accounts(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    association_id: UUID,
    filters: AccountsFilters,
) -> Slice:
    """Give a page of an association's accounts, the latest first, as the caller may see them."""
    await associations.find(statements, caller, association_id=association_id)
    where = Where({"district_code": caller.district_code, "association_id": association_id})
    where.add("p.district_code = :district_code and p.association_id = :association_id")
    return await _shown(LISTING, statements, caller, keyring, filters=filters, where=where)


async def list_own(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: AccountsFilters
) -> Slice:
    """Give a page of the accounts of the member's association, the latest first."""
    where = Where({"district_code": caller.district_code, "member_id": caller.member_id})
    where.add("p.district_code = :district_code and m.id = :member_id")
    return await _shown(_OWN, statements, caller, keyring, filters=filters, where=where)


async def _shown(
    listing: Listing,
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    filters: AccountsFilters,
    where: Where,
) -> Slice:
    if filters.month is not None:
        where.add("p.month = :first", first=date.fromisoformat(f"{filters.month}-01"))
    page = await listing.page(statements.district_wide(), keyring, filters=filters, where=where)
    items = [shown_to(caller, item).model_dump_json() for item in page.items]
    return page._replace(items=items)


def shown_to(caller: Caller, stored: str) -> AccountsRead:
    """Read stored accounts; whoever may not read the records reads what is told without them."""
    kept = _Stored.model_validate_json(stored)
    figures: Figures = kept.figures
    if not caller.may(Right.READ_PAYOUTS):
        # Of editions that were published before these were kept, nothing can be told safely.
        told, beside = kept.figures.told_in_tens, kept.figures.beside
        figures = untold(figures) if told is None or beside is None else repeated(told)
    shown = figures.model_dump(include=set(Figures.model_fields))
    return AccountsRead.model_validate(kept.model_dump(exclude={"figures"}) | shown)


class _Kept(Figures):
    """Figures as they are stored: with what readers without the records are told, and of which.

    An edition too near the one that was told before tells the same. `beside` those who received
    were so many members.
    """

    told_in_tens: Figures | None = None
    basis: Figures | None = None
    beside: int | None = None


class _Stored(Output):
    """Accounts as they are stored: all figures apart."""

    association_id: UUID
    month: str
    number: int
    correction: str | None
    published_at: datetime
    file_sha256: str
    figures: _Kept


async def publish(
    session: AsyncSession,
    caller: Caller,
    *,
    association_id: UUID,
    body: AccountsPublish,
    now: datetime,
) -> AccountsRead:
    """Publish an association's accounts of a closed month, or a correction of them.

    Raises NotFound, MonthNotClosed, or Invalid for a correction of nothing or without a reason.
    """
    area_code = await _hold(session, caller, association_id=association_id)
    key: dict[str, Any] = {
        "district_code": caller.district_code,
        "association_id": association_id,
        "first": date.fromisoformat(f"{body.month}-01"),
    }
    async with district_wide(session):
        close = (await session.execute(_CLOSE, key | {"area": area_code})).one_or_none()
        if close is None:
            raise MonthNotClosed(month=body.month)
        number = await _edition(session, key, body)
        figures = await _figures(session, key)
        edition = PublishedAccounts(
            district_code=caller.district_code,
            association_id=association_id,
            month=key["first"],
            number=number,
            close_id=close.id,
            figures=figures.model_dump_json(),
            correction=body.correction,
            published_at=now,
            published_by=caller.subject,
        )
        session.add(edition)
        await session.flush()
    shown = figures.model_dump(include=set(Figures.model_fields))
    facts = {"month": body.month, "file_sha256": close.sha256, **shown}
    return AccountsRead.model_validate(edition.model_dump(exclude={"month", "figures"}) | facts)


async def _edition(session: AsyncSession, key: Mapping[str, Any], body: AccountsPublish) -> int:
    """Give the number of the edition; only a correction follows another."""
    number = int(await session.scalar(_LAST, key) or 0) + 1
    if (number == 1) != (body.correction is None):
        code = "nothing_to_correct" if number == 1 else "correction_missing"
        raise Invalid.at("/correction", code)
    return number


async def _hold(session: AsyncSession, caller: Caller, *, association_id: UUID) -> str:
    """Hold an association within reach, so that its editions have one order; give its area."""
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    params |= {"district_code": caller.district_code, "id": association_id}
    found = await session.execute(text(f"{_PLACE.format(condition)} for update"), params)
    place = found.one_or_none()
    if place is None:
        raise NotFound
    return str(place.area_code)


async def _figures(session: AsyncSession, key: Mapping[str, Any]) -> _Kept:
    params = {**key, "next": month_totals.month_after(key["first"])}
    rows = [dict(row) for row in (await session.execute(_FIGURES, params)).mappings()]

    def cells(of_what: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["of_what"] == of_what]

    figures = Figures(
        event_count=cells("events")[0]["people"],
        total=Received(**_counted(cells("total")[0])),
        by_kind=[ReceivedOfKind(event_kind=c["name"], **_counted(c)) for c in cells("kind")],
        by_source=[ReceivedFrom(source=c["name"], **_counted(c)) for c in cells("source")],
    )
    parts = [row["people"] for row in rows if row["of_what"] in {"kind", "source", "rule"}]
    beside: int = cells("beside")[0]["people"]
    fewest = fewest_of(figures.total.people or 0, parts)
    before = await session.scalar(_BEFORE, key)
    former = None if before is None else _Kept.model_validate_json(before)
    if former is not None and former.basis is not None and is_near(former.basis, figures):
        return former.model_copy(update=_fields(figures))
    amounts = {
        " ".join(filter(None, (row["of_what"], row["name"]))): row["told_fen"] for row in rows
    }
    told = told_of(figures, amounts, fewest=fewest, beside=beside)
    return _Kept(**_fields(figures), told_in_tens=told, basis=figures, beside=beside)


def _fields(figures: Figures) -> dict[str, Any]:
    return {name: getattr(figures, name) for name in Figures.model_fields}


def _counted(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {"people": cell["people"], "amount_fen": cell["amount_fen"]}
