"""The gifts of runs: reserved in depots on approval, handed out line by line, the rest released.

Each step is one statement that moves the counts and writes the entries. A count that would fall
below zero refuses the step, whoever else takes from the depot at that moment.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Statements
from app.models.disbursement.payout_runs import GiftTotals, PayoutRun, RunRead
from app.models.goods.stock_movements import SIDES, MovementKind
from app.problems import Problem
from app.reach import highest_below
from app.services.finance import postings
from app.services.goods.stock_movements import COLUMNS

_CELLS = (
    "select p.rule_id, p.association_id, sum(p.quantity) as pieces from payouts p"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.run_id = :run_id and p.quantity > 0 group by 1, 2"
)
_DEPOT = (
    "select d.id, d.name from depots d join stock k on k.district_code = :district_code"
    " and k.depot_id = d.id and k.gift_id = g.id where d.district_code = :district_code"
    " and d.status = 'open' and (d.association_id = a.id or d.association_id is null"
    f" and a.area_code between d.area_code and {highest_below('d.area_code')})"
    " order by d.association_id is null, d.area_code desc limit 1"
)
PARTS = (
    f"with cells as materialized ({_CELLS})"
    " select c.rule_id, c.association_id, c.pieces, g.id as gift_id, d.id as depot_id,"
    " g.name as gift_name, a.name as association_name"
    " from cells c join incentive_rules i on i.district_code = :district_code"
    " and i.policy_id = :policy_id and i.number = :number and i.rule_id = c.rule_id"
    " join gifts g on g.district_code = :district_code and g.code = i.gift_code"
    " join associations a on a.district_code = :district_code and a.id = c.association_id"
    f" left join lateral ({_DEPOT}) d on true"
)
"""What each depot is to give of a run: the narrowest open one that keeps the gift."""
_FIXED = (
    f"select c.pieces, r.gift_id, r.depot_id from ({_CELLS}) c"
    " join run_gifts r on r.district_code = :district_code and r.run_id = :run_id"
    " and r.rule_id = c.rule_id and r.association_id = c.association_id"
)
_BY_DEPOT = (
    "select g.id as gift_id, g.code as gift_code, g.name as gift_name, g.unit, t.depot_id,"
    " d.name as depot_name, cast(t.pieces as bigint) as quantity, k.available"
    " from (select gift_id, depot_id, sum(pieces) as pieces from ({}) p group by 1, 2) t"
    " join gifts g on g.district_code = :district_code and g.id = t.gift_id"
    " left join depots d on d.district_code = :district_code and d.id = t.depot_id"
    " left join stock k on k.district_code = :district_code and k.depot_id = t.depot_id"
    " and k.gift_id = t.gift_id order by g.code, d.name nulls first, t.depot_id"
)
_MISSING = text(
    f"select distinct gift_name, association_name from ({PARTS}) parts where depot_id is null"
    " order by gift_name, association_name limit 20"
)
_FIX = text(
    "insert into run_gifts (district_code, run_id, rule_id, association_id, gift_id, depot_id)"
    " select :district_code, cast(:run_id as uuid), rule_id, association_id, gift_id, depot_id"
    f" from ({PARTS}) parts"
)


def _entries(kind: MovementKind, source: str, *, line_no: str = "null") -> str:
    """Write the entries of one posting, a row each of `source` with depot, gift and pieces."""
    debit, credit = SIDES[kind]
    return (
        f"{COLUMNS} select :district_code, :posting_id, row_number() over (), '{kind}', gift_id,"
        f" depot_id, depot_id, '{debit}', '{credit}', pieces, cast(:run_id as uuid),"
        f" cast({line_no} as int), null, null, null, cast(:today as date),"
        f" cast(:now as timestamptz), :subject from {source}"
    )


# The stock is locked in one order, as an update locks it, for the reasons that funds are.
_RESERVE = text(
    f"with needed as (select depot_id, gift_id, sum(pieces) as pieces from ({_FIXED}) c"
    " group by 1, 2),"
    " held as materialized (select s.depot_id, s.gift_id, s.available from stock s"
    " where s.district_code = :district_code and (s.depot_id, s.gift_id) in"
    " (select depot_id, gift_id from needed) order by s.depot_id, s.gift_id for no key update),"
    " taken as (update stock s set available = s.available - n.pieces,"
    " reserved = s.reserved + n.pieces from needed n join held h on h.depot_id = n.depot_id"
    " and h.gift_id = n.gift_id where s.district_code = :district_code"
    " and s.depot_id = n.depot_id and s.gift_id = n.gift_id and s.available >= n.pieces"
    " returning s.depot_id, s.gift_id, n.pieces),"
    f" entered as ({_entries(MovementKind.RESERVE, 'taken')})"
    " select g.name as gift_name, d.name as depot_name, n.pieces as needed, h.available,"
    " n.gift_id, n.depot_id from needed n join held h on h.depot_id = n.depot_id"
    " and h.gift_id = n.gift_id join gifts g on g.district_code = :district_code"
    " and g.id = n.gift_id join depots d on d.district_code = :district_code"
    " and d.id = n.depot_id where not exists (select from taken t"
    " where t.depot_id = n.depot_id and t.gift_id = n.gift_id) order by 1, 2"
)
_MOVED = (
    " summed as (select depot_id, gift_id, sum(pieces) as pieces from moved group by 1, 2),"
    " held as materialized (select s.depot_id, s.gift_id from stock s"
    " where s.district_code = :district_code and (s.depot_id, s.gift_id) in"
    " (select depot_id, gift_id from summed) order by s.depot_id, s.gift_id for no key update),"
    " entered as ({entries}) update stock s set {change} from summed n join held h"
    " on h.depot_id = n.depot_id and h.gift_id = n.gift_id"
    " where s.district_code = :district_code and s.depot_id = n.depot_id and s.gift_id = n.gift_id"
)
_HAND_OUT = (
    "with moved as (select l.line_no, r.depot_id, r.gift_id, l.quantity as pieces from {} l"
    " join run_gifts r on r.district_code = :district_code and r.run_id = :run_id"
    " and r.rule_id = l.rule_id and r.association_id = l.association_id where l.quantity > 0),"
    + _MOVED.format(
        entries=_entries(MovementKind.HAND_OUT, "moved", line_no="line_no"),
        change="reserved = s.reserved - n.pieces, handed_out = s.handed_out + n.pieces",
    )
)
_HAND_OUT_LINES = text(
    _HAND_OUT.format(
        "(select * from unnest(cast(:lines as int[]), cast(:rules as uuid[]),"
        " cast(:associations as uuid[]), cast(:quantities as int[]))"
        " l(line_no, rule_id, association_id, quantity))"
    )
)
_HAND_OUT_RUN = text(
    _HAND_OUT.format(
        "(select line_no, rule_id, association_id, quantity from payouts"
        " where district_code = :district_code and round_sequence = :sequence"
        " and run_id = :run_id and status = 'paid')"
    )
)
HELD = (
    "sum(case t.kind when 'reserve' then t.quantity when 'hand_out' then -t.quantity"
    " when 'release' then -t.quantity else 0 end)"
)
"""What the movements `t` of a run, a depot and a gift hold in reserve."""
_RELEASE = text(
    f"with moved as (select t.depot_id, t.gift_id, {HELD} as pieces from stock_movements t"
    " where t.district_code = :district_code and t.run_id = :run_id"
    f" group by t.depot_id, t.gift_id having {HELD} > 0),"
    + _MOVED.format(
        entries=_entries(MovementKind.RELEASE, "moved"),
        change="reserved = s.reserved - n.pieces, available = s.available + n.pieces",
    )
)
_RETURN = text(
    "with moved as (select t.depot_id, t.gift_id, t.line_no, t.quantity as pieces"
    " from stock_movements t where t.district_code = :district_code and t.run_id = :run_id"
    " and t.line_no = any(cast(:lines as int[])) and t.kind = 'hand_out'),"
    + _MOVED.format(
        entries=_entries(MovementKind.RETURN, "moved", line_no="line_no"),
        change="handed_out = s.handed_out - n.pieces, available = s.available + n.pieces",
    )
)


class DepotMissing(Problem):
    """No open depot that keeps a gift covers some of the associations; it is said which."""

    code, status = "depot_missing", 409


class GiftsShort(Problem):
    """Some depots have too few of a gift for the run; it is said which, and how many."""

    code, status = "gifts_short", 409


async def totals(statements: Statements, run: RunRead, *, district_code: str) -> list[GiftTotals]:
    """Give what each depot gives of a run; before it is approved, what each would give now."""
    params = {
        "district_code": district_code,
        "sequence": run.round_sequence,
        "run_id": run.id,
        "policy_id": run.policy_id,
        "number": run.policy_number,
    }
    sql = _BY_DEPOT.format(_FIXED if run.approved_at is not None else PARTS)
    return [GiftTotals(**row) for row in await statements.fetch(sql, params)]


async def reserve(session: AsyncSession, run: PayoutRun, *, subject: str, now: datetime) -> None:
    """Fix from which depots an approved run's gifts come, and set all of them aside, or none.

    Raises DepotMissing or GiftsShort, which name what is missing.
    """
    params = run.place | {"policy_id": run.policy_id, "number": run.policy_number}
    missing = [dict(row) for row in (await session.execute(_MISSING, params)).mappings()]
    if missing:
        names = "、".join(f"{row['gift_name']}（{row['association_name']}）" for row in missing[:5])
        raise DepotMissing(names=names, extra={"missing": missing})
    await session.execute(_FIX, params)
    acts = run.place | postings.act(subject, now)
    short = [dict(row) for row in (await session.execute(_RESERVE, acts)).mappings()]
    if short:
        for row in short:
            row["needed"] = int(row["needed"])
            row |= {name: str(row[name]) for name in ("gift_id", "depot_id")}
        names = "、".join(
            f"{row['gift_name']}（{row['depot_name']} {row['available']}/{row['needed']}）"
            for row in short[:5]
        )
        raise GiftsShort(names=names, extra={"short": short})


async def hand_out(
    session: AsyncSession,
    run: PayoutRun,
    *,
    lines: Sequence[Mapping[str, Any]],
    subject: str,
    now: datetime,
) -> None:
    """Take from the depots what was reserved for payouts; each has line_no, rule, place, pieces."""
    if not any(line["quantity"] for line in lines):
        return
    params = run.place | postings.act(subject, now)
    params |= {
        "lines": [line["line_no"] for line in lines],
        "rules": [line["rule_id"] for line in lines],
        "associations": [line["association_id"] for line in lines],
        "quantities": [line["quantity"] for line in lines],
    }
    await session.execute(_HAND_OUT_LINES, params)


async def hand_out_run(
    session: AsyncSession, run: PayoutRun, *, subject: str, now: datetime
) -> None:
    """Take from the depots what was reserved for all paid payouts of a run, none taken before."""
    await session.execute(_HAND_OUT_RUN, run.place | postings.act(subject, now))


async def release(session: AsyncSession, run: PayoutRun, *, subject: str, now: datetime) -> None:
    """Give back to the depots what a settled run has not handed out."""
    await session.execute(_RELEASE, run.place | postings.act(subject, now))


async def take_back(
    session: AsyncSession,
    run: PayoutRun,
    *,
    lines: Sequence[int],
    subject: str,
    now: datetime,
) -> None:
    """Put gifts that came back where they were taken from."""
    params = run.place | postings.act(subject, now) | {"lines": lines}
    await session.execute(_RETURN, params)
