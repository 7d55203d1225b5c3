"""A month of an area's books added up: funds, payouts, control totals and what to look at."""

import json
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identifiers import area_range
from app.models.accounting.month_closes import (
    TOTALS,
    FundMonth,
    MonthControl,
    MonthException,
    MonthExceptionKind,
    MonthFile,
    PayoutMonth,
    PreviousMonth,
)
from app.problems import Problem
from app.services.finance import transfers

_WITHIN = "f.district_code = :district_code and f.area_code between :low and :high"


def ledger(first: str, *, row: str = "t", leg: str = "leg") -> str:
    """Write what legs until the end of the month of a first day add up to, named as TOTALS."""

    def moved(kind: str, account: str, more: str = "") -> str:
        return (
            f"sum({leg}.fen) filter (where {row}.occurred_on >= {first} and {row}.kind = '{kind}'"
            f" and {leg}.account = '{account}'{more})"
        )

    def held(account: str, when: str = "") -> str:
        return f"sum({leg}.fen) filter (where {when}{leg}.account = '{account}')"

    before = f"{row}.occurred_on < {first} and "
    sums = {
        "opening_available_fen": held("available", before),
        "opening_reserved_fen": held("reserved", before),
        "closing_available_fen": held("available"),
        "closing_reserved_fen": held("reserved"),
        "received_fen": moved("receive", "available"),
        "withdrawn_fen": f"-{moved('withdraw', 'available')}",
        "allocated_in_fen": moved("allocate", "available", f" and {leg}.fen > 0"),
        "allocated_out_fen": f"-{moved('allocate', 'available', f' and {leg}.fen < 0')}",
        "reserved_fen": moved("reserve", "reserved"),
        "spent_fen": moved("pay", "spent"),
        "released_fen": moved("release", "available"),
        "returned_fen": moved("return", "available"),
    }
    return ", ".join(f"cast(coalesce({sums[name]}, 0) as bigint) as {name}" for name in TOTALS)


_PLANNED = (
    "(select b.planned_fen[extract(month from cast(:first as date))::int] from fund_budgets b"
    " where b.district_code = :district_code and b.fund_id = f.id"
    " and f.fiscal_year = extract(year from cast(:first as date)) order by b.number desc limit 1)"
)
_FUNDS = text(
    "select f.id as fund_id, f.name, f.source, f.fiscal_year, f.area_code, f.association_id,"
    f" c.*, f.planned_fen from (select f.*, {_PLANNED} as planned_fen from funds f"
    f" where {_WITHIN}) f left join (select leg.fund_id as fund, {ledger(':first')}"
    f" from {transfers.LEGS}"
    " where t.district_code = :district_code and t.occurred_on < :next group by leg.fund_id) c"
    " on c.fund = f.id where c.fund is not null or f.planned_fen is not null"
    " order by f.area_code, f.source, f.fiscal_year, f.id"
)
_OF_MONTH = (
    "transfers t join funds f on f.district_code = t.district_code and f.id = t.fund_id"
    f" where t.district_code = :district_code and {_WITHIN}"
    " and t.occurred_on >= :first and t.occurred_on < :next"
)
# A line may be paid by several funds: it is one payout of their amounts together.
_PAYOUTS = text(
    "select i.code as rule_code, i.name as rule_name, i.event_kind, a.id as association_id,"
    " a.name as association_name, left(a.area_code, 9) || '000' as town_code,"
    " count(*) filter (where l.kind = 'pay') as paid_count,"
    " cast(coalesce(sum(l.fen) filter (where l.kind = 'pay'), 0) as bigint) as paid_fen,"
    " count(*) filter (where l.kind = 'return') as returned_count,"
    " cast(coalesce(sum(l.fen) filter (where l.kind = 'return'), 0) as bigint) as returned_fen"
    " from (select t.run_id, t.line_no, t.kind, sum(t.amount_fen) as fen"
    f" from {_OF_MONTH} and t.line_no is not null group by 1, 2, 3) l"
    " join payout_runs r on r.district_code = :district_code and r.id = l.run_id"
    " join payouts p on p.district_code = :district_code and p.round_sequence = r.round_sequence"
    " and p.run_id = l.run_id and p.line_no = l.line_no"
    " join incentive_rules i on i.district_code = :district_code and i.policy_id = r.policy_id"
    " and i.number = r.policy_number and i.rule_id = p.rule_id"
    " join associations a on a.district_code = :district_code and a.id = p.association_id"
    " group by i.code, i.name, i.event_kind, a.id, a.name, a.area_code"
    " order by a.area_code, a.id, i.code, i.name"
)
_COUNT = text(f"select count(*) from {_OF_MONTH}")
_RETURNED = (
    "select 'returned_payouts' as kind, t.run_id::text as subject, null as reason,"
    " count(distinct t.line_no) as count, sum(t.amount_fen) as amount_fen"
    f" from {_OF_MONTH} and t.kind = 'return' group by t.run_id"
)
_RESERVED = (
    "select 'reserved_at_the_end', t.run_id::text, null, 1, sum(case t.kind"
    " when 'reserve' then t.amount_fen when 'return' then 0 else -t.amount_fen end)"
    " from transfers t join funds f on f.district_code = t.district_code and f.id = t.fund_id"
    f" where t.district_code = :district_code and {_WITHIN} and t.run_id is not null"
    " and t.occurred_on < :next group by t.run_id having sum(case t.kind"
    " when 'reserve' then t.amount_fen when 'return' then 0 else -t.amount_fen end) > 0"
)
_LATE = (
    "select 'entered_late', t.fund_id::text, null, count(*), sum(t.amount_fen)"
    f" from {_OF_MONTH} and t.recorded_at >= cast(:next as timestamp) at time zone 'Asia/Shanghai'"
    " group by t.fund_id"
)
_EXCEPTIONS = text(
    "select kind, subject, reason, count, cast(amount_fen as bigint) as amount_fen"
    f" from ({_RETURNED} union all {_RESERVED} union all {_LATE}) e order by kind, subject"
)


class MonthNegative(Problem):
    """By the days on its documents a fund would have held less than nothing."""

    code, status = "month_negative", 409
    constraint = "ck_month_fund_totals_not_negative"


def month_after(first: date) -> date:
    """Give the first day of the next month."""
    return (first + timedelta(days=31)).replace(day=1)


def canonical(file: MonthFile) -> bytes:
    """Write what is signed: JSON in UTF-8, keys sorted, nothing between (as RFC 8785)."""
    facts = file.model_dump(mode="json")
    written = json.dumps(facts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return written.encode()


async def add_up(
    session: AsyncSession,
    *,
    district_code: str,
    area_code: str,
    first: date,
    previous: PreviousMonth | None,
    exceptions: Sequence[MonthException],
) -> MonthFile:
    """Add up a month of the funds of an area, by the days on the documents, district-wide."""
    low, high = area_range(area_code)
    params: dict[str, Any] = {
        "district_code": district_code,
        "low": low,
        "high": high,
        "first": first,
        "next": month_after(first),
    }
    rows = (await session.execute(_FUNDS, params)).mappings()
    funds = [_fund(dict(row)) for row in rows]
    found = (await session.execute(_PAYOUTS, params)).mappings()
    payouts = [PayoutMonth(**row) for row in found]
    told = (await session.execute(_EXCEPTIONS, params)).mappings()
    count = int(await session.scalar(_COUNT, params) or 0)
    return MonthFile(
        district_code=district_code,
        area_code=area_code,
        month=f"{first:%Y-%m}",
        previous=previous,
        control=_control(funds, payouts, count),
        funds=funds,
        payouts=payouts,
        exceptions=[
            *exceptions,
            *_over_budget(funds),
            *(MonthException(**row) for row in told),
        ],
    )


def _fund(row: dict[str, Any]) -> FundMonth:
    # A fund with a budget and no transfer yet has sums of nothing.
    facts = {name: 0 if row[name] is None else int(row[name]) for name in TOTALS}
    if min(facts.values()) < 0:
        raise MonthNegative(fund=row["name"], extra={"fund_id": str(row["fund_id"])})
    planned = row["planned_fen"]
    spent = facts["spent_fen"] - facts["returned_fen"]
    kept = {name: row[name] for name in FundMonth.model_fields if name in row and name not in facts}
    return FundMonth(**kept | facts, variance_fen=None if planned is None else int(planned) - spent)


def _control(
    funds: Sequence[FundMonth], payouts: Sequence[PayoutMonth], transfers_count: int
) -> MonthControl:
    def total(*names: str) -> int:
        return sum(getattr(fund, name) for fund in funds for name in names)

    return MonthControl(
        fund_count=len(funds),
        transfer_count=transfers_count,
        opening_fen=total("opening_available_fen", "opening_reserved_fen"),
        received_fen=total("received_fen"),
        withdrawn_fen=total("withdrawn_fen"),
        spent_fen=total("spent_fen"),
        returned_fen=total("returned_fen"),
        closing_fen=total("closing_available_fen", "closing_reserved_fen"),
        payout_count=sum(each.paid_count for each in payouts),
        payout_fen=sum(each.paid_fen for each in payouts),
    )


def _over_budget(funds: Iterable[FundMonth]) -> Iterable[MonthException]:
    for fund in funds:
        if fund.variance_fen is not None and fund.variance_fen < 0:
            yield MonthException(
                kind=MonthExceptionKind.OVER_BUDGET,
                subject=str(fund.fund_id),
                reason=None,
                count=1,
                amount_fen=-fund.variance_fen,
            )
