"""Reconciliation of a run: each payout by attendance, entitlement and proof, with one reason.

The entitlement is decided by the rules of the version that the run used, with the attendances,
excuses and consents of now and with what other runs had granted when it was calculated. The
ledger and the channel's proof stand against what became of the payout.
"""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.accounting.reconciliation import (
    AGREED,
    MismatchFilters,
    OutcomeTotals,
    ReconciliationRead,
)
from app.models.disbursement.payout_runs import Channel, PayoutRun, RunRead, RunStatus
from app.models.disbursement.payouts import payout_id_sql
from app.models.events.service_events import EventKind
from app.paging import Key, Listing, Slice, Where, instant
from app.services.accounting.proofs import proof_of
from app.services.disbursement import payout_runs, run_decisions
from app.services.disbursement.payout_runs import RunStateForbids
from app.services.disbursement.run_decisions import Reader, Within
from app.services.incentives.decisions import Decision

_ALLOWED = (
    RunStatus.CALCULATED,
    RunStatus.SUBMITTED,
    RunStatus.APPROVED,
    RunStatus.DISBURSING,
    RunStatus.SETTLED,
    RunStatus.CLOSED,
)
_ENTRIES = (
    "select line_no, sum(case kind when 'pay' then amount_fen else -amount_fen end) as fen,"
    " max(recorded_by) as recorded_by from transfers where district_code = :district_code"
    " and run_id = :run_id and line_no is not null group by line_no"
)
# A run from before there were funds has no shares, and no entries are asked of it.
_PAID = (
    "case when p.status = 'paid' and exists (select from run_shares s where"
    " s.district_code = :district_code and s.run_id = :run_id) then p.amount_fen else 0 end"
)
_OUTCOME = (
    "case when p.run_id is null then 'granted_but_not_in_run'"
    f" when {_PAID} > coalesce(n.fen, 0) then 'paid_without_entry'"
    f" when {_PAID} < coalesce(n.fen, 0) then 'entry_without_payment'"
    " when p.status in ('unknown', 'failed', 'returned') then p.status"
    " when {voided} then 'attendance_voided'"
    " when e.member_id is null or e.refusal is not null then 'no_longer_granted'"
    " when p.amount_fen <> e.fen or p.quantity <> e.quantity then 'amount_differs'"
    " when p.status <> 'paid' then 'waiting'"
    " when s.outcome is null then 'no_signature_line'"
    " when s.outcome <> p.status then 'proof_differs' else 'matched' end"
)
# As one member's explanation has it, in that order. Who came to nothing has no row of decisions,
# and who came to something else only is in no place of the policy's.
_REFUSAL = (
    "case when e.refusal = 'policy_not_in_force' then e.refusal"
    " when {voided} then 'attendance_voided'"
    " when e.attended is not true then 'not_attended' else e.refusal end"
)
_SIDES = (
    "select p.run_id, p.line_no, coalesce(p.member_id, e.member_id) as member_id,"
    " coalesce(p.rule_id, e.rule_id) as rule_id,"
    " coalesce(p.association_id, e.association_id) as association_id, {outcome} as reason,"
    " coalesce(e.attended, false) as attended,"
    " {refusal} as refusal,"
    " case when e.member_id is not null and e.refusal is null then e.fen else 0 end"
    " as entitled_fen,"
    " case when e.member_id is not null and e.refusal is null then e.quantity else 0 end"
    " as entitled_quantity, p.amount_fen, p.quantity, p.status, p.failure_reason,"
    " cast(coalesce(n.fen, 0) as bigint) as entries_fen, s.outcome as proof, s.proved_at,"
    " s.proved_by from (select * from payouts where district_code = :district_code"
    " and round_sequence = :sequence and run_id = :run_id) p"
    " full join ({entitled}) e on e.member_id = p.member_id and e.rule_id = p.rule_id"
    f" left join ({_ENTRIES}) n on n.line_no = p.line_no"
    " left join lateral {proof} s on true"
    # What another run has granted meanwhile is missing in no run.
    " where p.run_id is not null or e.refusal is null and not exists (select from payouts o"
    " where o.district_code = :district_code and o.round_sequence = :sequence"
    " and o.member_id = e.member_id and o.rule_id = e.rule_id)"
)
_COUNT = (
    "select reason as outcome, count(*) as payout_count,"
    " cast(sum(coalesce(amount_fen, entitled_fen)) as bigint) as amount_fen"
    " from ({}) x group by reason order by reason"
)
_COLUMNS = (
    f"case when x.line_no is not null then {payout_id_sql('x')} end as payout_id, x.line_no,"
    " x.member_id, x.association_id, x.rule_id, i.code as rule_code, x.reason, x.attended,"
    " x.refusal, x.entitled_fen, x.entitled_quantity, x.amount_fen, x.quantity, x.status,"
    f" x.failure_reason, x.entries_fen, x.proof, {instant('x.proved_at')}, x.proved_by"
)
_RULE = (
    "incentive_rules i on i.district_code = :district_code and i.policy_id = :policy_id"
    " and i.number = :number and i.rule_id = x.rule_id"
)
_ORDER = (Key("member_id", "x.member_id", "uuid"), Key("rule_id", "x.rule_id", "uuid"))


async def summarise(statements: Statements, caller: Caller, *, run_id: UUID) -> ReconciliationRead:
    """Count a run's payouts by outcome; raises NotFound or RunStateForbids."""
    run = await _reconcilable(statements, caller, run_id=run_id)
    wide = statements.district_wide().patiently()
    return ReconciliationRead(
        run_id=run.id,
        payout_count=run.payout_count,
        amount_fen=run.amount_fen,
        outcomes=await _tally(wide, run, district_code=caller.district_code),
    )


async def count_within(
    session: AsyncSession, *, district_code: str, run_id: UUID
) -> list[OutcomeTotals]:
    """Count the payouts of a run by outcome in a transaction of the whole district."""
    run = await session.get_one(PayoutRun, (district_code, run_id))
    return await _tally(Within(session), run, district_code=district_code)


async def _tally(
    reader: Reader, run: PayoutRun | RunRead, *, district_code: str
) -> list[OutcomeTotals]:
    sql, params = await _sides(reader, run, district_code=district_code)
    return [OutcomeTotals(**row) for row in await reader.fetch(_COUNT.format(sql), params)]


async def list_mismatches(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    run_id: UUID,
    filters: MismatchFilters,
) -> Slice:
    """Give a page of a run's mismatches by member; raises NotFound or RunStateForbids."""
    run = await _reconcilable(statements, caller, run_id=run_id)
    reader = statements.district_wide().patiently()
    sql, params = await _sides(reader, run, district_code=caller.district_code)
    listing = Listing(
        columns=_COLUMNS,
        source=f"({sql}) x join {_RULE}",
        order=_ORDER,
        about="member_id",
        numbered="payout_id",
    )
    where = Where(
        params
        | {
            "policy_id": run.policy_id,
            "number": run.policy_number,
            "agreed": [outcome.value for outcome in AGREED],
        }
    )
    where.add("x.reason <> all(:agreed)")
    where.equal("x.reason", "reason", filters.reason)
    where.equal("x.association_id", "association_id", filters.association_id)
    return await listing.page(reader, keyring, filters=filters, where=where)


async def _reconcilable(statements: Statements, caller: Caller, *, run_id: UUID) -> RunRead:
    run = await payout_runs.find(statements, caller, run_id=run_id)
    if run.status not in _ALLOWED:
        extra = {"run_status": run.status, "allowed": [status.value for status in _ALLOWED]}
        raise RunStateForbids(run_status=run.status, extra=extra)
    return run


async def _sides(
    reader: Reader, run: PayoutRun | RunRead, *, district_code: str
) -> tuple[str, dict[str, Any]]:
    """Write the three sides of every payout of a run, and bind what they ask for."""
    occasion = await run_decisions.occasion_of(
        reader, run, district_code=district_code, as_of=None, grants_by=run.calculated_at
    )
    rules = await run_decisions.rules_used(reader, run, occasion, district_code=district_code)
    decision = Decision(district_code, rules, occasion)
    exams = [rule.rule_id for rule in rules if rule.event_kind == EventKind.HEALTH_EXAM]
    voided = (
        f"(p.rule_id = any({decision.value(exams, 'uuid[]')}) and exists (select from attendances t"
        " where t.district_code = :district_code and t.member_id = p.member_id"
        " and t.round_sequence = :sequence and t.voided_at is not null))"
    )
    for kind in decision.kinds:
        ids = [rule.rule_id for rule in rules if rule.event_kind == kind]
        if kind != EventKind.HEALTH_EXAM:
            voided += (
                f" or (p.rule_id = any({decision.value(ids, 'uuid[]')}) and exists"
                f" (select from {decision.attendances(kind)} and t.member_id = p.member_id"
                " and t.voided_at is not null))"
            )
    voided = f"e.attended is not true and ({voided})"
    sql = _SIDES.format(
        outcome=_OUTCOME.format(voided=voided),
        refusal=_REFUSAL.format(voided=voided),
        entitled=run_decisions.each_rule(decision),
        proof=proof_of(Channel(run.channel)),
    )
    params = {"sequence": run.round_sequence, "run_id": run.id}
    return sql, decision.params | params
