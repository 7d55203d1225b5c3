"""Drafts of runs: which policy over which round, within which area and by which channel."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, reach
from app.identifiers import area_range
from app.identity import Caller
from app.models.disbursement.payout_runs import (
    Channel,
    PayoutRun,
    RunCreate,
    RunRead,
    RunStatus,
    run_id_of,
)
from app.models.events.exam_rounds import ExamRound
from app.models.incentives.incentive_policies import IncentivePolicy
from app.payment_gateway import NoGateway
from app.problems import Invalid
from app.services.disbursement import failed_runs, payout_runs
from app.services.organisation import areas

_NOT_YET = (
    "calculated_at", "submitted_by", "submitted_at", "approved_by", "approved_at", "settled_at",
    "closed_by", "closed_at",
)  # fmt: skip


async def create(
    session: AsyncSession,
    caller: Caller,
    *,
    body: RunCreate,
    now: datetime,
    has_gateway: bool = False,
) -> RunRead:
    """Draft a run of a policy over a round, within the area that caller and policy share.

    Raises NoGateway for one that nothing could pay.
    """
    if body.channel is Channel.GATEWAY and not has_gateway:
        raise NoGateway
    asked = await failed_runs.asked(session, caller, body=body)
    exam_round = await _round(session, caller, asked.exam_round_id)
    policy = await _policy(session, caller, asked.policy_id)
    run = PayoutRun(
        district_code=caller.district_code,
        id=run_id_of(clock.new_id()),
        version=1,
        created_at=now,
        updated_at=now,
        area_code=await _area(session, caller, policy, asked.area_code),
        round_sequence=exam_round.sequence,
        policy_id=policy.id,
        policy_number=asked.policy_number,
        channel=body.channel,
        status=RunStatus.DRAFT,
        status_reason=None,
        payout_count=0,
        amount_fen=0,
        created_by=caller.subject,
        failed_of=body.failed_of,
        **dict.fromkeys(_NOT_YET),
    )
    session.add(run)
    await session.flush()
    return payout_runs.shown(run, exam_round)


async def _round(session: AsyncSession, caller: Caller, round_id: UUID) -> ExamRound:
    exam_round = await session.scalar(
        select(ExamRound).where(
            col(ExamRound.district_code) == caller.district_code, col(ExamRound.id) == round_id
        )
    )
    if exam_round is None:
        raise Invalid.at("/exam_round_id", "unknown_reference")
    return exam_round


async def _policy(session: AsyncSession, caller: Caller, policy_id: UUID) -> IncentivePolicy:
    condition, params = reach.concerning(
        caller, area="incentive_policies.area_code", association="incentive_policies.association_id"
    )
    policy = await session.scalar(
        select(IncentivePolicy).where(
            col(IncentivePolicy.district_code) == caller.district_code,
            col(IncentivePolicy.id) == policy_id,
            text(condition).bindparams(**params),
        )
    )
    if policy is None:
        raise Invalid.at("/policy_id", "unknown_reference")
    return policy


async def _area(
    session: AsyncSession, caller: Caller, policy: IncentivePolicy, asked: str | None
) -> str:
    """Choose the area asked for, or the one that both the policy and the caller cover."""
    if asked is None:
        if reach.covers(caller, policy.area_code):
            return policy.area_code
        widest = [code for code in caller.areas if not _within_another(code, caller.areas)]
        if len(widest) != 1:
            raise Invalid.at("/area_code", "missing")
        return widest[0]
    await areas.require_known(session, asked)
    if not reach.covers(caller, asked):
        raise Invalid.at("/area_code", "out_of_reach")
    if not _contains(policy.area_code, asked) and not _contains(asked, policy.area_code):
        raise Invalid.at("/area_code", "area_outside_policy")
    return asked


def _within_another(code: str, areas: Sequence[str]) -> bool:
    return any(area != code and _contains(area, code) for area in areas)


def _contains(area: str, code: str) -> bool:
    low, high = area_range(area)
    return low <= code <= high
