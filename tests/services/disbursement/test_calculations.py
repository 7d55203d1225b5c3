"""Calculations of runs: what holds whatever plan the database chooses, and at the same moment."""

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, transaction
from app.models.disbursement.payout_runs import RunCreate
from app.models.events.exam_rounds import ExamRound
from app.models.tables import Record
from app.services.disbursement import payout_runs, payouts, run_drafts
from tests.factories.callers import DISTRICT, SHISHAN, make_caller
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import make_cash, make_gift

_HASHED = "set local enable_sort = off"
_SORTED = "set local enable_hashagg = off"


@pytest.mark.parametrize("area_code", [DISTRICT, SHISHAN])
@pytest.mark.parametrize("setting", [_HASHED, _SORTED])
async def test_every_line_is_found_by_its_number_under_any_plan(
    session: AsyncSession, area_code: str, setting: str
) -> None:
    thanks = await make_thanks(session, [make_cash(), make_gift()], members=70)
    caller, now = make_caller(), clock.now()
    body = RunCreate.model_validate(thanks.draft | {"area_code": area_code})
    draft = await run_drafts.create(session, caller, body=body, now=now)
    await session.execute(text("analyze attendances"))
    await session.execute(text(setting))
    await payout_runs.calculate(session, caller, run_id=draft.id, expected=1, now=now)
    run, _ = await payout_runs.lock(session, caller, run_id=draft.id)

    lines = await payouts.lines_of(session, run, range(1, 141))

    assert list(lines) == list(range(1, 141))
    places = [(line.member_id, line.rule_id) for line in lines.values()]
    assert places == sorted(places)


async def test_a_group_gives_once_though_a_better_rule_is_met_later(
    session: AsyncSession,
) -> None:
    before = await make_round(session, 1, status="closed", closed_at=clock.now())
    ranked = {"exclusive_group": "gifts"}
    small = make_gift("small", priority=1, **ranked)
    big = make_gift("big", priority=2, min_streak=2, **ranked)
    thanks = await make_thanks(session, [small, big, make_cash()], members=2, sequence=2)
    first = await make_granted_run(session, thanks)
    event = await make_event(session, before)
    for member in thanks.members:
        await make_attendance(session, event, member)
    second = await make_granted_run(session, thanks)

    assert (first.payout_count, second.payout_count) == (4, 0)
    await session.execute(text("delete from payouts where member_id = :id"), _of(thanks.members[0]))
    third = await make_granted_run(session, thanks)
    granted = await session.execute(
        text(
            "select i.code from payouts p join incentive_rules i using (rule_id) where run_id = :id"
        ),
        _of(third),
    )
    assert set(granted.scalars()) == {"big", "subsidy"}


def _of(record: Record) -> dict[str, UUID]:
    return {"id": record.id}


async def test_a_yearly_cap_holds_over_two_rounds_calculated_at_once(
    session: AsyncSession, database: Database
) -> None:
    thanks = await make_thanks(session, [make_cash(yearly_cap_fen=1500)])
    other = replace(thanks, round=await _repeat(session, thanks, 2))
    await session.commit()

    async def calculate_the_other() -> int:
        async with transaction(database, make_caller().scope.district_wide()) as own:
            return (await make_granted_run(own, other)).payout_count

    async with transaction(database, make_caller().scope.district_wide()) as own:
        first = await make_granted_run(own, thanks)
        second = asyncio.create_task(calculate_the_other())
        await asyncio.wait([second], timeout=0.5)

    assert (first.payout_count, await second) == (2, 0)


async def _repeat(session: AsyncSession, thanks: Thanks, sequence: int) -> ExamRound:
    """Hold another round to which the same members come."""
    held = await make_round(session, sequence, status="closed", closed_at=clock.now())
    event = await make_event(session, held)
    for member in thanks.members:
        await make_attendance(session, event, member)
    return held
