"""The money of runs: which funds pay, reserved on approval, paid line by line, the rest released.

Each step is one statement that moves the balances and writes the entries. A balance that would
fall below zero refuses the step, whoever else takes from the fund at that moment.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Statements
from app.models.disbursement.payout_runs import FundTotals, PayoutRun, RunRead
from app.models.finance.funds import FundSource
from app.models.finance.transfers import SIDES, TransferKind
from app.problems import Problem
from app.reach import highest_below
from app.services.finance import postings

_SOURCES = tuple(FundSource)


def _points() -> str:
    """Write each source's part of a rule `i`, as the two points of the amount between which it is.

    The order is the table's own, so that the fen that rounding leaves goes to the later source.
    """
    columns = [f"i.{source}_bp" for source in _SOURCES]
    before = ["0", *(" + ".join(columns[:n]) for n in range(1, len(columns)))]
    rows = (
        f"('{source}', {start}, {start} + {column})"
        for source, start, column in zip(_SOURCES, before, columns, strict=True)
    )
    return f"(values {', '.join(rows)}) s(source, from_bp, to_bp)"


_CELLS = (
    "select p.rule_id, p.association_id, p.amount_fen, count(*) as number from payouts p"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.run_id = :run_id and p.amount_fen > 0 group by 1, 2, 3"
)
_FUND = (
    "select f.id from funds f where f.district_code = :district_code and f.status = 'open'"
    " and f.source = s.source and f.fiscal_year = :fiscal_year and (f.association_id = a.id"
    " or f.association_id is null and a.area_code between f.area_code and"
    f" {highest_below('f.area_code')})"
    " order by f.association_id is null, f.area_code desc limit 1"
)
PARTS = (
    f"with cells as materialized ({_CELLS})"
    " select c.rule_id, c.association_id, c.amount_fen, c.number, s.source, s.from_bp, s.to_bp,"
    " f.id as fund_id, a.name as association_name"
    " from cells c join incentive_rules i on i.district_code = :district_code"
    " and i.policy_id = :policy_id and i.number = :number and i.rule_id = c.rule_id"
    " join associations a on a.district_code = :district_code and a.id = c.association_id"
    f" cross join lateral {_points()} left join lateral ({_FUND}) f on true"
    " where s.to_bp > s.from_bp"
)
"""What each fund is to pay of a run: the narrowest open one of the source and the round's year."""


# A round is paid by the year of its last day; fiscal years are civil (Budget Law, article 18).
_FISCAL_YEAR = (
    "select cast(extract(year from ends_on) as int) from exam_rounds"
    " where district_code = :district_code and sequence = :sequence"
)


def share_of(amount: str, points: str) -> str:
    """Write a fund's share of an amount in fen, of the two points of `points`."""
    return f"({amount} * {points}.to_bp / 10000 - {amount} * {points}.from_bp / 10000)"


_SHARED = f"sum(c.number * {share_of('c.amount_fen', 's')})"
_TO_PAY = (
    f"select p.source, p.fund_id, sum(p.number * {share_of('p.amount_fen', 'p')}) as fen"
    f" from ({PARTS}) p group by 1, 2"
)
_FIXED = (
    f"select f.source, s.fund_id, {_SHARED} as fen from ({_CELLS}) c"
    " join run_shares s on s.district_code = :district_code and s.run_id = :run_id"
    " and s.rule_id = c.rule_id and s.association_id = c.association_id"
    " join funds f on f.district_code = :district_code and f.id = s.fund_id group by 1, 2"
)
_BY_FUND = (
    "select t.source, t.fund_id, f.name as fund_name, cast(t.fen as bigint) as amount_fen,"
    " f.available_fen from ({}) t left join funds f on f.district_code = :district_code"
    " and f.id = t.fund_id where t.fen > 0 order by t.source, f.name nulls first, t.fund_id"
)
_MISSING = text(
    f"select distinct source, association_name from ({PARTS}) parts where fund_id is null"
    " order by source, association_name limit 20"
)
_FIX = text(
    "insert into run_shares (district_code, run_id, rule_id, association_id, from_bp, to_bp,"
    " fund_id) select distinct :district_code, cast(:run_id as uuid), rule_id, association_id,"
    f" from_bp, to_bp, fund_id from ({PARTS}) parts"
)
_COLUMNS = (
    "insert into transfers (district_code, posting_id, number, kind, fund_id, credit_fund_id,"
    " debit, credit, amount_fen, run_id, line_no, occurred_on, recorded_at, recorded_by)"
)


def _entries(kind: TransferKind, source: str, *, line_no: str = "null") -> str:
    """Write the entries of one posting, a row each of `source` with `fund_id` and `fen`."""
    debit, credit = SIDES[kind]
    return (
        f"{_COLUMNS} select :district_code, :posting_id, row_number() over (), '{kind}', fund_id,"
        f" fund_id, '{debit}', '{credit}', fen, cast(:run_id as uuid), cast({line_no} as int),"
        " cast(:today as date), cast(:now as timestamptz), :subject"
        f" from {source}"
    )


# The funds are locked in one order, so that two runs wait for each other and not in a ring; as
# an update locks them, which lets those be whose new rows refer to the fund.
_RESERVE = text(
    f"with needed as (select s.fund_id, {_SHARED} as fen from ({_CELLS}) c"
    " join run_shares s on s.district_code = :district_code"
    " and s.run_id = :run_id and s.rule_id = c.rule_id and s.association_id = c.association_id"
    " group by s.fund_id),"
    " held as materialized (select f.id, f.available_fen from funds f"
    " where f.district_code = :district_code and f.id in (select fund_id from needed)"
    " order by f.id for no key update),"
    " taken as (update funds f set available_fen = f.available_fen - n.fen,"
    " reserved_fen = f.reserved_fen + n.fen from needed n join held h on h.id = n.fund_id"
    " where f.district_code = :district_code and f.id = n.fund_id and n.fen > 0"
    " and f.available_fen >= n.fen and f.status = 'open' returning f.id as fund_id, n.fen),"
    f" entered as ({_entries(TransferKind.RESERVE, 'taken')})"
    " select f.name, n.fen as needed_fen, h.available_fen, n.fund_id"
    " from needed n join held h on h.id = n.fund_id join funds f"
    " on f.district_code = :district_code and f.id = n.fund_id"
    " where n.fen > 0 and not exists (select from taken t where t.fund_id = n.fund_id)"
    " order by n.fund_id"
)
_MOVED = (
    " summed as (select fund_id, sum(fen) as fen from moved group by fund_id),"
    " held as materialized (select f.id from funds f where f.district_code = :district_code"
    " and f.id in (select fund_id from summed) order by f.id for no key update),"
    " entered as ({entries}) update funds f set {change} from summed n join held h"
    " on h.id = n.fund_id where f.district_code = :district_code and f.id = n.fund_id"
)
_PAY = (
    f"with moved as (select l.line_no, s.fund_id, sum({share_of('l.amount_fen', 's')}) as fen"
    " from {} l join run_shares s on s.district_code = :district_code and s.run_id = :run_id"
    " and s.rule_id = l.rule_id and s.association_id = l.association_id"
    f" group by l.line_no, s.fund_id having sum({share_of('l.amount_fen', 's')}) > 0),"
    + _MOVED.format(
        entries=_entries(TransferKind.PAY, "moved", line_no="line_no"),
        change="reserved_fen = f.reserved_fen - n.fen, spent_fen = f.spent_fen + n.fen",
    )
)
_PAY_LINES = text(
    _PAY.format(
        "(select * from unnest(cast(:lines as int[]), cast(:rules as uuid[]),"
        " cast(:associations as uuid[]), cast(:amounts as bigint[]))"
        " l(line_no, rule_id, association_id, amount_fen))"
    )
)
_PAY_RUN = text(
    _PAY.format(
        "(select line_no, rule_id, association_id, amount_fen from payouts"
        " where district_code = :district_code and round_sequence = :sequence"
        " and run_id = :run_id and status = 'paid')"
    )
)
HELD = (
    "sum(case t.kind when 'reserve' then t.amount_fen when 'pay' then -t.amount_fen"
    " when 'release' then -t.amount_fen else 0 end)"
)
"""What the transfers `t` of a run and a fund hold in reserve."""
_RELEASE = text(
    f"with moved as (select t.fund_id, {HELD} as fen from transfers t"
    " where t.district_code = :district_code and t.run_id = :run_id"
    f" group by t.fund_id having {HELD} > 0),"
    + _MOVED.format(
        entries=_entries(TransferKind.RELEASE, "moved"),
        change="reserved_fen = f.reserved_fen - n.fen, available_fen = f.available_fen + n.fen",
    )
)
_RETURN = text(
    "with moved as (select t.fund_id, t.line_no, t.amount_fen as fen from transfers t"
    " where t.district_code = :district_code and t.run_id = :run_id"
    " and t.line_no = any(cast(:lines as int[])) and t.kind = 'pay'),"
    + _MOVED.format(
        entries=_entries(TransferKind.RETURN, "moved", line_no="line_no"),
        change="spent_fen = f.spent_fen - n.fen, available_fen = f.available_fen + n.fen",
    )
)


class FundMissing(Problem):
    """No open fund of a source covers some of the associations; it is said which."""

    code, status = "fund_missing", 409


class FundsShort(Problem):
    """Some funds have too little for the run; it is said which, and by how much."""

    code, status = "funds_short", 409


async def totals(statements: Statements, run: RunRead, *, district_code: str) -> list[FundTotals]:
    """Give what each fund pays of a run; before it is approved, what each would pay now."""
    params = {
        "district_code": district_code,
        "sequence": run.round_sequence,
        "run_id": run.id,
        "policy_id": run.policy_id,
        "number": run.policy_number,
        "fiscal_year": await statements.fetch_value(
            _FISCAL_YEAR, {"district_code": district_code, "sequence": run.round_sequence}
        ),
    }
    sql = _BY_FUND.format(_FIXED if run.approved_at is not None else _TO_PAY)
    return [FundTotals(**row) for row in await statements.fetch(sql, params)]


async def reserve(session: AsyncSession, run: PayoutRun, *, subject: str, now: datetime) -> None:
    """Fix which funds pay an approved run, and set its whole amount aside in them, or nothing.

    Raises FundMissing or FundsShort, which name what is missing.
    """
    params = run.place | {
        "policy_id": run.policy_id,
        "number": run.policy_number,
        "fiscal_year": await session.scalar(text(_FISCAL_YEAR), run.place),
    }
    missing = [dict(row) for row in (await session.execute(_MISSING, params)).mappings()]
    if missing:
        names = "、".join(f"{row['association_name']}（{row['source']}）" for row in missing[:5])
        raise FundMissing(year=params["fiscal_year"], names=names, extra={"missing": missing})
    await session.execute(_FIX, params)
    acts = run.place | postings.act(subject, now)
    short = [dict(row) for row in (await session.execute(_RESERVE, acts)).mappings()]
    if short:
        for row in short:
            row["needed_fen"], row["fund_id"] = int(row["needed_fen"]), str(row["fund_id"])
        raise FundsShort(names="、".join(row["name"] for row in short[:5]), extra={"short": short})


async def pay(
    session: AsyncSession,
    run: PayoutRun,
    *,
    lines: Sequence[Mapping[str, Any]],
    subject: str,
    now: datetime,
) -> None:
    """Turn what was reserved for payouts into spent; each has line_no, rule, place and fen."""
    if not any(line["amount_fen"] for line in lines):
        return
    params = run.place | postings.act(subject, now)
    params |= {
        "lines": [line["line_no"] for line in lines],
        "rules": [line["rule_id"] for line in lines],
        "associations": [line["association_id"] for line in lines],
        "amounts": [line["amount_fen"] for line in lines],
    }
    await session.execute(_PAY_LINES, params)


async def pay_run(session: AsyncSession, run: PayoutRun, *, subject: str, now: datetime) -> None:
    """Turn into spent what was reserved for all paid payouts of a run, none paid for before."""
    await session.execute(_PAY_RUN, run.place | postings.act(subject, now))


async def release(session: AsyncSession, run: PayoutRun, *, subject: str, now: datetime) -> None:
    """Give back to the funds what a settled run has not paid."""
    await session.execute(_RELEASE, run.place | postings.act(subject, now))


async def take_back(
    session: AsyncSession,
    run: PayoutRun,
    *,
    lines: Sequence[int],
    subject: str,
    now: datetime,
) -> None:
    """Give back to the funds what payouts took that came back."""
    params = run.place | postings.act(subject, now) | {"lines": lines}
    await session.execute(_RETURN, params)
