"""The demo's thanks: the run of the last round but one, handed out; the last is left to try."""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.payout_runs import Channel, PayoutRun, RunStatus, run_id_of
from app.services import calculations
from app.services.demo_dice import die, hashed, share
from app.services.demo_facts import CLOSED, DISTRICT, Kind, analyse, at, demo_id

_STEPS = 6
_LUCK = hashed("member_id", "'handed'")
_HAND_OUT = f"""
update payouts set
  status = case when {die(_LUCK, 0)} < {share(0.01)} then 'failed' else 'paid' end,
  failure_reason = case when {die(_LUCK, 0)} < {share(0.01)} then '未到场领取' end,
  settled_at = :settled_at
where district_code = :district_code and round_sequence = :round_sequence and run_id = :run_id
"""


async def store(session: AsyncSession) -> None:
    """Calculate the run as everybody's is calculated, and store what became of it."""
    await analyse(session, "attendances", "excuses")
    run = _draft()
    session.add(run)
    await session.flush()
    await calculations.grant(session, run)
    await session.execute(
        text(_HAND_OUT),
        {
            "district_code": DISTRICT,
            "round_sequence": run.round_sequence,
            "run_id": run.id,
            "settled_at": run.updated_at,
        },
    )
    run.status = RunStatus.SETTLED
    await session.flush()


def _draft() -> PayoutRun:
    quarter = CLOSED[-2]
    days = [at(quarter.ends_on + timedelta(days=after), 10) for after in (7, 8, 9, 20)]
    return PayoutRun(
        district_code=DISTRICT,
        id=run_id_of(demo_id(Kind.RUN, 1)),
        version=_STEPS,
        created_at=days[0],
        updated_at=days[3],
        area_code=DISTRICT,
        round_sequence=quarter.sequence,
        policy_id=demo_id(Kind.POLICY, 1),
        policy_number=None,
        channel=Channel.CASH_LIST,
        status=RunStatus.DRAFT,
        status_reason=None,
        payout_count=0,
        amount_fen=0,
        created_by="demo-district_officer",
        calculated_at=days[0],
        submitted_by="demo-finance_clerk",
        submitted_at=days[1],
        approved_by="demo-finance_approver",
        approved_at=days[2],
        settled_at=days[3],
    )
