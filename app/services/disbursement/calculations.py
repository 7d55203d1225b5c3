"""The calculation of a run: one statement that writes what its policy grants over a round."""

from dataclasses import replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.identifiers import district_of
from app.models.disbursement.payout_runs import PayoutRun
from app.models.events.service_events import EventKind
from app.problems import Problem
from app.services.incentives.bindings import Bindings
from app.services.incentives.decisions import TERMS, Decision, Occasion, Rule, rules_of
from app.services.incentives.knowledge import Known
from app.services.incentives.streaks import Rounds

# A run over a million members outlasts a request's usual limits, also while it waits for another.
_PATIENCE = ("set local statement_timeout = '300s'", "set local lock_timeout = '120s'")
# Attendances are streamed in the order of their index: every sort or hash would only cost.
_STREAMED = (
    "set local enable_hashagg = off",
    "set local enable_hashjoin = off",
)
_LOCK_ROUND = text(
    f"select r.starts_on, r.ends_on, {Known(Bindings()).decided_on('r')} as decided_on"
    " from exam_rounds r where r.district_code = :district_code"
    " and r.sequence = :sequence for no key update"
)
_LOCK_POLICY = text(
    "select 1 from incentive_policies where district_code = :district_code"
    " and id = :policy_id for no key update"
)
_SURROUNDINGS = text(
    "select (select array_agg(sequence order by sequence) from exam_rounds"
    " where district_code = :district_code and sequence <= :sequence) as sequences,"
    " (select array_agg(sequence) from exam_rounds where district_code = :district_code"
    " and sequence <> :sequence and extract(year from ends_on) = :year) as year,"
    " exists (select 1 from excuses where district_code = :district_code"
    " and round_sequence < :sequence) as excuses,"
    " exists (select 1 from payouts where district_code = :district_code"
    " and round_sequence = :sequence) as payouts"
)
_TERMS = text(TERMS.format(policies="p.id = :policy_id", versions=""))
_TERMS_OF_VERSION = text(
    TERMS.format(policies="p.id = :policy_id", versions=" and v.number = :number")
)
_RELEASE = text(
    "delete from payouts where district_code = :district_code"
    " and round_sequence = :sequence and run_id = :run_id"
)
_RELEASE_FAILED = text(
    "update payouts p set released = 1 + (select max(o.released) from payouts o"
    " where o.district_code = :district_code and o.round_sequence = :sequence"
    " and o.member_id = p.member_id and o.rule_id = p.rule_id)"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.run_id = :run_id and p.status in ('failed', 'returned') and p.released = 0"
)
_LOST_SINCE = text(
    "select exists (select from payouts where district_code = :district_code"
    " and round_sequence = :sequence and run_id = :run_id and member_id = any(array("
    "select member_id from attendances where district_code = :district_code"
    " and voided_at >= :since union all select member_id from consents"
    " where district_code = :district_code and withdraws is not null and purpose = 'thanks'"
    # Begun before the calculation, a withdrawal may still have been on its way while that looked.
    " and recorded_at >= cast(:since as timestamptz) - interval '1 minute')))"
)
_TOTALS = text(
    "select count(*) as payout_count, cast(coalesce(sum(amount_fen), 0) as bigint) as amount_fen"
    " from payouts where district_code = :district_code and round_sequence = :sequence"
    " and run_id = :run_id"
)


class PolicyNotInForce(Problem):
    """No version of the policy holds on the round's last day, or when it was closed before."""

    code, status = "policy_not_in_force", 409


async def grant(session: AsyncSession, run: PayoutRun, *, now: datetime) -> None:
    """Replace the payouts of a run by what its policy grants now; note the totals, and when.

    Runs over one round or of one policy wait for each other, so that each sees what the others
    have granted, in the round and under a yearly cap; the primary key of payouts holds the first
    against every error. Raises PolicyNotInForce.
    """
    for setting in _PATIENCE:
        await session.execute(text(setting))
    place, began = _place(run), clock.now()
    row = (await session.execute(_LOCK_ROUND, place)).one()
    await session.execute(_LOCK_POLICY, place | {"policy_id": run.policy_id})
    # It sees what was stored while it waited.
    run.calculated_at = now + (clock.now() - began)
    await session.execute(_RELEASE, place | {"run_id": run.id})
    rules = await _rules(session, run, on=row.decided_on)
    occasion = await _occasion(session, run, starts_on=row.starts_on, ends_on=row.ends_on)
    if run.area_code == district_of(run.area_code) and rules[0].association_id is None:
        for setting in _STREAMED:
            await session.execute(text(setting))
    decision = Decision(run.district_code, rules, occasion)
    await session.execute(text(_insertion(decision, run)), decision.params)
    totals = (await session.execute(_TOTALS, place | {"run_id": run.id})).mappings().one()
    run.policy_number = rules[0].number
    run.payout_count, run.amount_fen = totals["payout_count"], totals["amount_fen"]


async def is_outdated(session: AsyncSession, run: PayoutRun) -> bool:
    """Tell whether a run was calculated before one of its members lost what it grants her.

    An attendance of hers was voided, or she took back her consent to be thanked.
    """
    for setting in _PATIENCE:
        await session.execute(text(setting))
    params = _place(run) | {"run_id": run.id, "since": run.calculated_at}
    return bool(await session.scalar(_LOST_SINCE, params))


async def release(session: AsyncSession, run: PayoutRun) -> None:
    """Give back what a run had granted, so that another run may grant it."""
    for setting in _PATIENCE:
        await session.execute(text(setting))
    await session.execute(_RELEASE, _place(run) | {"run_id": run.id})
    run.payout_count = run.amount_fen = 0


async def release_failed(session: AsyncSession, run: PayoutRun) -> None:
    """Give back what a settled run could not pay, or was returned; its lines stay as they are."""
    for setting in _PATIENCE:
        await session.execute(text(setting))
    await session.execute(_RELEASE_FAILED, _place(run) | {"run_id": run.id})


def _place(run: PayoutRun) -> dict[str, Any]:
    return {"district_code": run.district_code, "sequence": run.round_sequence}


async def _rules(session: AsyncSession, run: PayoutRun, *, on: date) -> list[Rule]:
    params: dict[str, Any] = {"policy_id": run.policy_id, "on": on}
    params["district_code"] = run.district_code
    if run.failed_of is not None:
        # What the first run granted by this version holds, whatever became of it since.
        params["number"] = run.policy_number
        rows = (await session.execute(_TERMS_OF_VERSION, params)).mappings().all()
        return [replace(rule, in_force=True) for rule in rules_of([dict(row) for row in rows])]
    rows = (await session.execute(_TERMS, params)).mappings().all()
    rules = rules_of([dict(row) for row in rows])
    if not rules[0].in_force:
        raise PolicyNotInForce
    return rules


async def _occasion(
    session: AsyncSession, run: PayoutRun, *, starts_on: date, ends_on: date
) -> Occasion:
    params = _place(run) | {"year": ends_on.year}
    found = (await session.execute(_SURROUNDINGS, params)).mappings().one()
    return Occasion(
        rounds=Rounds(run.round_sequence, starts_on, ends_on, found["sequences"]),
        year=found["year"] or [],
        excuses=found["excuses"],
        payouts=found["payouts"],
        area_code=run.area_code,
    )


def _insertion(decision: Decision, run: PayoutRun) -> str:
    """Write the insertion: each granted rule a row, numbered in the order of members.

    Lines are found by that order, so it is asked for: only some plans happen to keep it. All
    columns are given, in their order: others would be put in by a pass of their own.
    """
    kinds = decision.kinds
    # Thanks for another kind of event tell nothing of health checks.
    place, streak = "association_0", "streak" if EventKind.HEALTH_EXAM in kinds else "0"
    if len(kinds) > 1:
        places = " ".join(f"when {n} then association_{n}" for n in range(len(kinds)))
        place, streak = f"case kind {places} end", "case when is_exam then streak else 0 end"
    left = "" if run.failed_of is None else _left(decision, run)
    return (
        "insert into payouts (district_code, round_sequence, member_id, rule_id, released, run_id,"
        " line_no, association_id, streak, amount_fen, quantity, status, failure_reason,"
        " settled_at)"
        f" select cast(:district_code as text), {decision.value(run.round_sequence, 'int')},"
        f" member_id, rule_id, 0, {decision.value(run.id, 'uuid')},"
        f" cast(row_number() over (order by member_id) as int), {place}, {streak}, amount_fen,"
        " quantity, cast('pending' as text), cast(null as text), cast(null as timestamptz)"
        f" from ({decision.decided(ordered=True)}) decided cross join ({_rules_given(decision)})"
        f" rules where granted & bit <> 0{left}"
    )


def _rules_given(decision: Decision) -> str:
    """Write the relation of the rules with what each gives, by its bit in `granted`."""
    rows = ", ".join(
        f"({1 << n}, {decision.value(rule.rule_id, 'uuid')},"
        f" {decision.value(rule.amount_fen or 0, 'bigint')},"
        f" {decision.value(rule.quantity or 0, 'int')},"
        f" {decision.kinds.index(rule.event_kind)}, {rule.event_kind == EventKind.HEALTH_EXAM})"
        for n, rule in enumerate(decision.rules)
    )
    names = "bit, rule_id, amount_fen, quantity, kind, is_exam"
    return f"select * from (values {rows}) given({names})"


def _left(decision: Decision, run: PayoutRun) -> str:
    """Keep to what the run that failed left free."""
    return (
        " and exists (select from payouts f where f.district_code = :district_code"
        f" and f.round_sequence = {decision.value(run.round_sequence, 'int')}"
        " and f.member_id = decided.member_id and f.rule_id = rules.rule_id"
        f" and f.run_id = {decision.value(run.failed_of, 'uuid')} and f.released > 0)"
    )
