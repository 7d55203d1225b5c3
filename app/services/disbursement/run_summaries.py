"""Summaries of runs: what one costs and whom it reaches, in numbers and without names."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from app.database import Statements
from app.identity import Caller
from app.models.disbursement.payout_runs import (
    AssociationTotals,
    RuleTotals,
    RunSummary,
    Totals,
    TownTotals,
)
from app.models.disbursement.payouts import UNSETTLED
from app.services.disbursement import payout_runs
from app.services.finance import reservations
from app.services.goods import gift_reservations

_CELLS = (
    "select c.*, case when i.reward = 'gift' then c.quantity else 0 end as gift_quantity,"
    " case when i.reward = 'draw_ticket' then c.quantity else 0 end as ticket_quantity,"
    " i.code as rule_code, i.name as rule_name, a.name as association_name,"
    " t.code as area_code, t.name as area_name from ("
    " select rule_id, association_id, count(*) as payout_count, sum(amount_fen) as amount_fen,"
    " sum(quantity) as quantity,"
    f" count(*) filter (where status in {UNSETTLED}) as pending_count,"
    " count(*) filter (where status = 'paid') as paid_count,"
    " count(*) filter (where status = 'failed') as failed_count,"
    " count(*) filter (where status = 'returned') as returned_count from payouts"
    " where district_code = :district_code and round_sequence = :sequence and run_id = :run_id"
    " group by rule_id, association_id) c"
    " join incentive_rules i on i.district_code = :district_code and i.policy_id = :policy_id"
    " and i.number = :number and i.rule_id = c.rule_id"
    " join associations a on a.district_code = :district_code and a.id = c.association_id"
    " join areas t on t.code = left(a.area_code, 9) || '000' order by i.code, a.name, a.id"
)


async def summarise(statements: Statements, caller: Caller, *, run_id: UUID) -> RunSummary:
    """Give a run's totals as a whole, per rule, town, association, fund and gift."""
    run = await payout_runs.find(statements, caller, run_id=run_id)
    params = {
        "district_code": caller.district_code,
        "sequence": run.round_sequence,
        "run_id": run_id,
        "policy_id": run.policy_id,
        "number": run.policy_number,
    }
    cells = await statements.showing(run_id).fetch(_CELLS, params)
    return RunSummary(
        run_id=run_id,
        failed_of=run.failed_of,
        total=Totals(**_added(cells)),
        by_rule=[RuleTotals(**row) for row in _grouped(cells, RuleTotals)],
        by_town=[TownTotals(**row) for row in _grouped(cells, TownTotals)],
        by_association=[AssociationTotals(**row) for row in _grouped(cells, AssociationTotals)],
        by_fund=await reservations.totals(
            statements.district_wide(), run, district_code=caller.district_code
        ),
        by_gift=await gift_reservations.totals(
            statements.district_wide(), run, district_code=caller.district_code
        ),
    )


def _added(cells: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    rows = list(cells)
    return {name: sum(int(row[name]) for row in rows) for name in Totals.model_fields}


def _grouped(cells: Iterable[Mapping[str, Any]], shape: type[Totals]) -> list[dict[str, Any]]:
    names = [name for name in shape.model_fields if name not in Totals.model_fields]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for cell in cells:
        groups[tuple(cell[name] for name in names)].append(cell)
    return [dict(zip(names, key, strict=True)) | _added(rows) for key, rows in groups.items()]
