"""Calculations of runs: what holds whatever plan the database chooses."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.payout_runs import RunCreate
from app.services import payout_runs, payouts
from tests.factories.callers import DISTRICT, SHISHAN, make_caller
from tests.factories.incentive_policies import make_cash, make_gift
from tests.factories.payout_runs import make_thanks

_HASHED = "set local enable_sort = off"
_SORTED = "set local enable_hashagg = off"


@pytest.mark.parametrize("area_code", [DISTRICT, SHISHAN])
@pytest.mark.parametrize("setting", [_HASHED, _SORTED])
async def test_every_line_is_found_by_its_number_under_any_plan(
    session: AsyncSession, area_code: str, setting: str
) -> None:
    thanks = await make_thanks(session, [make_cash(), make_gift()], members=70)
    caller, now = make_caller(), clock.now()
    body = RunCreate(exam_round_id=thanks.round.id, policy_id=thanks.policy.id, area_code=area_code)
    draft = await payout_runs.create(session, caller, body=body, now=now)
    await session.execute(text("analyze attendances"))
    await session.execute(text(setting))
    await payout_runs.calculate(session, caller, run_id=draft.id, expected=1, now=now)
    run, _ = await payout_runs.lock(session, caller, run_id=draft.id)

    lines = await payouts.lines_of(session, run, range(1, 141))

    assert list(lines) == list(range(1, 141))
    places = [(line.member_id, line.rule_id) for line in lines.values()]
    assert places == sorted(places)
