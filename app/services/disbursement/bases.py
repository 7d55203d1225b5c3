"""The basis of a run as it was known at an instant: the same rules and facts, asked again."""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from app.database import Statements
from app.identifiers import area_range
from app.identity import Caller
from app.models.disbursement.bases import (
    BasisAttendances,
    BasisExcuses,
    BasisGrants,
    BasisQuery,
    BasisRead,
    BasisRound,
)
from app.models.disbursement.payout_runs import RunRead
from app.models.events.service_events import EventKind
from app.services.disbursement import payout_runs, run_decisions
from app.services.incentives.bindings import Bindings
from app.services.incentives.decisions import Decision, Occasion
from app.services.incentives.knowledge import Known

_ROUNDS = (
    "select sequence, starts_on, ends_on from exam_rounds where district_code = :district_code"
    " and sequence = any(:sequences) order by sequence"
)
_EXCUSES = (
    "select count(x.member_id) as members, count(x.area_code) as areas from excuses x"
    " where x.district_code = :district_code and x.round_sequence = any(:sequences) and {}"
)
_HERE = (
    "t.association_id in (select id from associations where district_code = :district_code"
    " and area_code between :low and :high)"
)
_EXAMS = (
    "attendances t where t.district_code = :district_code and t.round_sequence = :round_sequence"
)
_GRANTS = (
    "select count(*) as payout_count, cast(coalesce(sum(fen), 0) as bigint) as amount_fen"
    " from ({}) e where e.refusal is null"
)


async def find(
    statements: Statements, caller: Caller, *, run_id: UUID, query: BasisQuery, now: datetime
) -> BasisRead:
    """Give what was known at an instant of what a run is worked out from; raises NotFound."""
    run = await payout_runs.find(statements, caller, run_id=run_id)
    district, wide = caller.district_code, statements.district_wide().patiently()
    as_of = query.as_of or run.calculated_at or now
    occasion = await run_decisions.occasion_of(
        wide, run, district_code=district, as_of=as_of, grants_by=as_of
    )
    rules = await run_decisions.rules_known(wide, run, occasion, district_code=district)
    decision = Decision(district, rules, occasion) if rules else None
    sequences = {"district_code": district, "sequences": list(occasion.rounds.sequences)}
    excuses = Bindings(dict(sequences))
    sql = _EXCUSES.format(Known(excuses, as_of).excused())
    [held] = await wide.fetch(sql, excuses.params)
    return BasisRead(
        run_id=run_id,
        as_of=as_of,
        policy_number=rules[0].number if rules else None,
        in_force=bool(rules) and rules[0].in_force,
        rounds=[BasisRound(**row) for row in await wide.fetch(_ROUNDS, sequences)],
        attendances=[] if decision is None else await _attendances(wide, decision, run, occasion),
        excuses=BasisExcuses(**held),
        grants=await _grants(wide, decision),
    )


async def _attendances(
    statements: Statements, decision: Decision, run: RunRead, occasion: Occasion
) -> list[BasisAttendances]:
    low, high = area_range(run.area_code)
    params = {"low": low, "high": high, "round_sequence": occasion.rounds.sequence}
    sql = " union all ".join(_counts(decision))
    rows = await statements.fetch(sql, decision.params | params)
    return [BasisAttendances(**row) for row in rows]


def _counts(decision: Decision) -> Iterator[str]:
    known = decision.known
    for kind in decision.kinds:
        found = _EXAMS if kind == EventKind.HEALTH_EXAM else decision.attendances(kind)
        yield (
            f"select '{kind}' as event_kind, count(*) filter (where {known.in_force()}) as counted,"
            f" count(*) filter (where {known.voided()}) as voided from {found} and {_HERE}"
        )


async def _grants(statements: Statements, decision: Decision | None) -> BasisGrants:
    if decision is None:
        return BasisGrants(payout_count=0, amount_fen=0)
    sql = _GRANTS.format(run_decisions.each_rule(decision))
    [row] = await statements.fetch(sql, decision.params)
    return BasisGrants(**row)
