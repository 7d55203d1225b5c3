"""Which payouts an attendance earned: voiding it marks them, so that a person decides on each.

Marked is what the rule would not grant without it: the thanks of the round itself, and those of
later rounds whose streak counted it and is too short now. Nothing else about the member changes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.models.disbursement.payout_decisions import (
    PENDING,
    DecisionCause,
    DecisionStatus,
    PayoutDecision,
)
from app.models.disbursement.payouts import UNSETTLED, PayoutStatus
from app.services.disbursement import payout_holds
from app.services.disbursement.payout_holds import Case
from app.services.events import exam_rounds
from app.services.incentives.bindings import Bindings
from app.services.incentives.knowledge import Known
from app.services.incentives.streaks import Rounds, streaks

_OF_ROUNDS = (
    "p.district_code = :district_code and p.member_id = :member_id and p.released = 0"
    " and p.round_sequence in (select sequence from exam_rounds"
    " where district_code = :district_code)"
)
_REACHED = "('submitted', 'approved', 'disbursing', 'settled')"
_HOLD_RUNS = text(
    "select r.id from payout_runs r where r.district_code = :district_code"
    f" and r.status in {_REACHED}"
    f" and r.id in (select p.run_id from payouts p where {_OF_ROUNDS})"
    " order by r.id for no key update"
)
_AFTER_CALCULATIONS = text(
    "select greatest(:now, max(r.calculated_at) + interval '1 microsecond') from payout_runs r"
    " where r.district_code = :district_code"
)
_ROUNDS = text(
    "select e.sequence, e.starts_on, e.ends_on, (select array_agg(s.sequence order by s.sequence)"
    " from exam_rounds s where s.district_code = :district_code and s.sequence <= e.sequence)"
    " as sequences from exam_rounds e where e.district_code = :district_code and e.sequence in"
    f" (select p.round_sequence from payouts p where {_OF_ROUNDS})"
)


_MIDNIGHT = "(cast({} as timestamp) at time zone 'Asia/Shanghai')"


def _within(round_: str, instant: str) -> str:
    """Write that an instant is within a round's civil days."""
    first = _MIDNIGHT.format(f"{round_}.starts_on")
    after = _MIDNIGHT.format(f"{round_}.ends_on + 1")
    return f"{instant} >= {first} and {instant} < {after}"


_CAUSES = (
    "select t.event_id, t.voided_by, t.recorded_at, v.kind, e.sequence, e.starts_on, e.ends_on"
    " from attendances t join service_events v on v.district_code = :district_code"
    " and v.id = t.event_id join exam_rounds e on e.district_code = :district_code"
    " and (e.sequence = t.round_sequence or t.round_sequence is null"
    f" and {_within('e', 'v.starts_at')})"
    " where t.district_code = :district_code and t.member_id = :member_id"
    " and t.voided_at is not null and {which}"
)
_INSTEAD = (
    "exists (select from attendances o join service_events v on v.district_code = :district_code"
    " and v.id = o.event_id where o.district_code = :district_code and o.member_id = :member_id"
    " and o.voided_at is null and v.kind = c.kind and (o.round_sequence = c.sequence"
    f" or o.round_sequence is null and {_within('c', 'v.starts_at')}))"
)
# So many rounds after the voided one the run that thanks for a later one counted as attended.
_SINCE = (
    "(select count(distinct o.round_sequence) from attendances o"
    " where o.district_code = :district_code and o.member_id = :member_id"
    " and o.round_sequence > c.sequence and o.round_sequence <= p.round_sequence"
    " and o.recorded_at <= r.calculated_at"
    " and (o.voided_at is null or o.voided_at > r.calculated_at))"
)
_TOO_SHORT = "(k.streak < i.min_streak or i.every is not null and k.streak % i.every <> 0)"
_TOUCHED = (
    "select distinct on (p.run_id, p.line_no) p.district_code, p.run_id, p.line_no,"
    " p.round_sequence, p.member_id, p.rule_id, p.association_id, p.status, c.event_id,"
    " c.voided_by from ({causes}) c"
    f" join payouts p on {_OF_ROUNDS} and p.round_sequence >= c.sequence"
    " join payout_runs r on r.district_code = :district_code and r.id = p.run_id"
    " join incentive_rules i on i.district_code = :district_code and i.policy_id = r.policy_id"
    " and i.number = r.policy_number and i.rule_id = p.rule_id"
    " left join ({streaks}) k on k.sequence = p.round_sequence"
    " where r.status in ('approved', 'disbursing', 'settled')"
    f" and (p.status in {UNSETTLED} or p.status = 'paid')"
    f" and i.event_kind = c.kind and c.recorded_at <= r.calculated_at and not {_INSTEAD}"
    " and (p.round_sequence = c.sequence or c.kind = 'health_exam'"
    f" and p.streak > {_SINCE} and {_TOO_SHORT})"
    " and not exists (select from payout_decisions d where d.district_code = :district_code"
    " and d.run_id = p.run_id and d.line_no = p.line_no and d.status <> 'lifted')"
    " order by p.run_id, p.line_no, c.event_id"
)
_HOLD_ALL = text(
    f"update payouts p set status = 'held' where {_OF_ROUNDS} and p.status = 'pending'"
    " and (p.round_sequence, p.rule_id) in"
    " (select * from unnest(cast(:rounds as int[]), cast(:rules as uuid[])))"
    " returning p.run_id, p.line_no"
)
_LIFT = (
    col(PayoutDecision.status).in_(["open", "recovering"]),
    col(PayoutDecision.cause) == DecisionCause.ATTENDANCE_VOIDED.value,
)


async def after_calculations(
    session: AsyncSession, *, district_code: str, member_id: UUID, now: datetime
) -> datetime:
    """Give the instant of a voiding or restoring: later than all that was calculated until then.

    Calculations under way are waited for; later ones wait, and see it. The runs that thank the
    member come before the rounds, as a calculation holds its run and then the round.
    """
    member = {"district_code": district_code, "member_id": member_id}
    await session.execute(_HOLD_RUNS, member)
    await exam_rounds.hold_all(session, district_code=district_code)
    params = {"district_code": district_code, "now": now}
    last: datetime = (await session.execute(_AFTER_CALCULATIONS, params)).scalar_one()
    return last


async def mark_voided(
    session: AsyncSession,
    *,
    district_code: str,
    member_id: UUID,
    event_id: UUID | None,
    now: datetime,
) -> None:
    """Have somebody decide on what an attendance that is being voided earned; pending ones wait.

    Without an event, of every one of the member's that was voided. Only runs from their approval
    until they are closed are meant: before, they are calculated anew.
    """
    member: dict[str, Any] = {"district_code": district_code, "member_id": member_id}
    await session.execute(_HOLD_RUNS, member)
    found = await _touched(session, member, event_id)
    keys = {"rounds": [row["round_sequence"] for row in found]}
    keys["rules"] = [row["rule_id"] for row in found]
    held = (await session.execute(_HOLD_ALL, member | keys)).all() if found else []
    for row in found:
        decision = make_decision(
            row,
            cause=DecisionCause.ATTENDANCE_VOIDED,
            event_id=row["event_id"],
            caused_by=row["voided_by"],
            now=now,
        )
        is_held = (row["run_id"], row["line_no"]) in held
        decision.holds = is_held or row["status"] == PayoutStatus.HELD
        session.add(decision)
    await session.flush()


async def _touched(
    session: AsyncSession, member: Mapping[str, Any], event_id: UUID | None
) -> Sequence[Mapping[str, Any]]:
    bind = Bindings(dict(member))
    which = "true" if event_id is None else f"t.event_id = {bind.value(event_id, 'uuid')}"
    parts = [
        f"select {row.sequence} as sequence, s.streak from ({_streaks(bind, row)}) s"
        for row in (await session.execute(_ROUNDS, member)).all()
    ]
    if not parts:
        return []
    sql = _TOUCHED.format(causes=_CAUSES.format(which=which), streaks=" union all ".join(parts))
    return [dict(row) for row in (await session.execute(text(sql), bind.params)).mappings()]


def _streaks(bind: Bindings, row: Any) -> str:
    rounds = Rounds(row.sequence, row.starts_on, row.ends_on, row.sequences)
    return streaks(
        bind, rounds, known=Known(bind), excuses=True, member_id=bind.params["member_id"]
    )


async def lift(
    session: AsyncSession,
    *,
    district_code: str,
    member_id: UUID,
    event_id: UUID,
    now: datetime,
) -> None:
    """Let go what waits because of an attendance that is put back, and close its decisions."""
    member = {"district_code": district_code, "member_id": member_id}
    await session.execute(_HOLD_RUNS, member)
    waiting = await session.scalars(
        select(PayoutDecision)
        .where(
            col(PayoutDecision.district_code) == district_code,
            col(PayoutDecision.member_id) == member_id,
            col(PayoutDecision.event_id) == event_id,
            *_LIFT,
        )
        .with_for_update()
    )
    lifted = waiting.all()
    for decision in lifted:
        decision.change(now, status=DecisionStatus.LIFTED.value, closed_at=now)
    await session.flush()
    for decision in lifted:
        await payout_holds.let_go(session, decision)
    if lifted:
        # Another attendance of hers may have been voided that earned the same.
        await mark_voided(
            session, district_code=district_code, member_id=member_id, event_id=None, now=now
        )


def of_case(case: Case) -> dict[str, Any]:
    """Give which payout a case is about."""
    names = ("run_id", "line_no", "round_sequence", "rule_id", "member_id", "association_id")
    return {"district_code": case.district_code} | {name: getattr(case, name) for name in names}


def make_decision(
    payout: Mapping[str, Any],
    *,
    cause: DecisionCause,
    caused_by: str,
    now: datetime,
    event_id: UUID | None = None,
    dispute_id: UUID | None = None,
) -> PayoutDecision:
    """Make an open decision on a payout, which holds nothing yet."""
    names = ("run_id", "line_no", "round_sequence", "rule_id", "member_id", "association_id")
    return PayoutDecision(
        **{name: payout[name] for name in names},
        district_code=payout["district_code"],
        id=clock.new_id(),
        created_at=now,
        updated_at=now,
        cause=cause.value,
        event_id=event_id,
        dispute_id=dispute_id,
        caused_by=caused_by,
        holds=False,
        status=DecisionStatus.OPEN.value,
        choice=None,
        reason=None,
        decided_by=None,
        decided_at=None,
        closed_at=None,
    )


async def add_unless_pending(session: AsyncSession, decision: PayoutDecision) -> None:
    """Store a decision, unless somebody has one of the same payout to take already."""
    waiting = await session.scalar(
        select(col(PayoutDecision.id)).where(
            col(PayoutDecision.district_code) == decision.district_code,
            col(PayoutDecision.run_id) == decision.run_id,
            col(PayoutDecision.line_no) == decision.line_no,
            text(f"status in {PENDING}"),
        )
    )
    if waiting is None:
        session.add(decision)
