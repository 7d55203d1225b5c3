"""Payout runs at any step of their life, and what they are calculated from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.disbursement.payout_runs import Channel, PayoutRun, RunStatus, run_id_of
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import ServiceEvent
from app.models.finance.funds import Fund
from app.models.incentives.incentive_policies import IncentivePolicy
from app.models.membership.members import Member
from app.models.organisation.associations import Association
from app.services.disbursement import calculations
from app.services.finance import reservations
from app.services.goods import gift_reservations
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.finance.funds import district_fund
from tests.factories.goods.gifts import district_depot
from tests.factories.incentives.incentive_policies import make_policy
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_DAYS = {
    "calculated_at": datetime(2026, 4, 7, tzinfo=UTC),
    "submitted_at": datetime(2026, 4, 8, tzinfo=UTC),
    "approved_at": datetime(2026, 4, 9, tzinfo=UTC),
    "settled_at": datetime(2026, 4, 20, tzinfo=UTC),
    "closed_at": datetime(2026, 5, 20, tzinfo=UTC),
}
_REACHED = {
    RunStatus.DRAFT: 0,
    RunStatus.CALCULATED: 1,
    RunStatus.SUBMITTED: 2,
    RunStatus.REJECTED: 2,
    RunStatus.APPROVED: 3,
    RunStatus.DISBURSING: 3,
    RunStatus.SETTLED: 4,
    RunStatus.CLOSED: 5,
    RunStatus.CANCELLED: 1,
}


_RESERVED = {RunStatus.APPROVED, RunStatus.DISBURSING}


async def make_run(
    session: AsyncSession,
    round_: ExamRound,
    policy: IncentivePolicy,
    status: RunStatus = RunStatus.DISBURSING,
    **facts: Any,
) -> PayoutRun:
    """Store a run of a policy over a round that has reached a step; the caller commits."""
    now = clock.now()
    reached = _REACHED[status]
    days = {name: day if n < reached else None for n, (name, day) in enumerate(_DAYS.items())}
    values: dict[str, Any] = {
        "district_code": policy.district_code,
        "id": run_id_of(clock.new_id()),
        "version": 1,
        "created_at": now,
        "updated_at": now,
        "area_code": policy.area_code,
        "round_sequence": round_.sequence,
        "policy_id": policy.id,
        "policy_number": 1 if reached else None,
        "channel": Channel.CASH_LIST.value,
        "status": status.value,
        "status_reason": "金额不符" if status is RunStatus.REJECTED else None,
        "payout_count": 0,
        "amount_fen": 0,
        "created_by": "officer-1",
        "submitted_by": "officer-1" if reached > 1 else None,
        "approved_by": "approver-1" if reached > 2 else None,
        "closed_by": "approver-1" if reached > 4 else None,
        "failed_of": None,
        **days,
    }
    run = PayoutRun(**(values | facts))
    session.add(run)
    await session.flush()
    return run


async def make_granted_run(
    session: AsyncSession,
    thanks: "Thanks",
    status: RunStatus = RunStatus.DISBURSING,
    **facts: Any,
) -> PayoutRun:
    """Store a run with the lines that its calculation grants; the caller commits.

    Its money and gifts are reserved once it is approved, from what the thanks were made with.
    """
    run = await make_run(session, thanks.round, thanks.policy, status, **facts)
    await calculations.grant(session, run, now=run.calculated_at or clock.now())
    await session.flush()
    if status in _RESERVED:
        await reservations.reserve(session, run, subject="approver-1", now=clock.now())
        await gift_reservations.reserve(session, run, subject="approver-1", now=clock.now())
    return run


@dataclass(frozen=True)
class Thanks:
    """A closed round, members who came to its health check, and a policy that thanks them."""

    association: Association
    round: ExamRound
    event: ServiceEvent
    members: Sequence[Member]
    policy: IncentivePolicy
    fund: Fund

    @property
    def draft(self) -> dict[str, str]:
        """What drafts a run of it over HTTP."""
        return {"exam_round_id": str(self.round.id), "policy_id": str(self.policy.id)}


async def make_thanks(
    session: AsyncSession,
    rules: Sequence[dict[str, Any]] = (),
    *,
    members: int = 2,
    sequence: int = 1,
    **policy: Any,
) -> Thanks:
    """Store what a run of the district is calculated from; the caller commits."""
    association = await make_association(session)
    held = await make_round(session, sequence, status="closed", closed_at=clock.now())
    event = await make_event(session, held, status="closed")
    came = [
        await make_member(session, association, name=f"会员{n}", employee_no=f"{n:04}")
        for n in range(1, members + 1)
    ]
    for member in came:
        await make_attendance(session, event, member)
    fund = await district_fund(session, held.ends_on.year)
    made = await make_policy(session, rules, **policy)
    await district_depot(session, [rule["gift_code"] for rule in rules if rule.get("gift_code")])
    return Thanks(association, held, event, came, made, fund)
