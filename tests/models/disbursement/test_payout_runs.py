"""What the table of payout runs never holds, and the ids of runs."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database_errors import constraint_name
from app.models.disbursement.payout_runs import RunStatus, run_id_of
from app.models.disbursement.payouts import payout_id, run_and_line
from tests.factories.disbursement.payout_runs import make_run, make_thanks


async def _breaks(session: AsyncSession, constraint: str, sql: str, **params: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql), params)
    assert constraint_name(caught.value) == constraint


@pytest.mark.parametrize(
    ("status", "change", "constraint"),
    [
        (RunStatus.SETTLED, "status = 'paid'", "ck_payout_runs_status"),
        (RunStatus.DRAFT, "status = 'calculated'", "ck_payout_runs_calculated"),
        (RunStatus.CALCULATED, "policy_number = null", "ck_payout_runs_calculated"),
        (RunStatus.CALCULATED, "calculated_at = null", "ck_payout_runs_calculated"),
        (RunStatus.CALCULATED, "status = 'submitted'", "ck_payout_runs_submitted"),
        (RunStatus.SUBMITTED, "submitted_by = null", "ck_payout_runs_submitted"),
        (RunStatus.SUBMITTED, "submitted_at = null", "ck_payout_runs_submitted"),
        (RunStatus.SUBMITTED, "status = 'approved'", "ck_payout_runs_approved"),
        (RunStatus.SUBMITTED, "status = 'rejected'", "ck_payout_runs_rejected"),
        (RunStatus.APPROVED, "approved_at = null", "ck_payout_runs_approved"),
        (
            RunStatus.APPROVED,
            "created_by = 'clerk-1', approved_by = submitted_by",
            "ck_payout_runs_maker_is_not_checker",
        ),
        (
            RunStatus.APPROVED,
            "submitted_by = 'clerk-1', approved_by = created_by",
            "ck_payout_runs_creator_is_not_checker",
        ),
        (RunStatus.DISBURSING, "approved_by = null", "ck_payout_runs_approved"),
        (RunStatus.DISBURSING, "status = 'settled'", "ck_payout_runs_settled"),
        (RunStatus.SETTLED, "status = 'closed'", "ck_payout_runs_closed"),
        (RunStatus.SETTLED, "closed_by = 'x', closed_at = now()", "ck_payout_runs_closed"),
        (RunStatus.CLOSED, "settled_at = null", "ck_payout_runs_settled"),
        (RunStatus.CLOSED, "approved_by = null", "ck_payout_runs_approved"),
        (RunStatus.CLOSED, "closed_by = created_by", "ck_payout_runs_maker_is_not_closer"),
        (
            RunStatus.CLOSED,
            "created_by = 'clerk-1', closed_by = submitted_by",
            "ck_payout_runs_maker_is_not_closer",
        ),
        (RunStatus.CALCULATED, "failed_of = id", "ck_payout_runs_failed_of"),
        (RunStatus.CALCULATED, "failed_of = policy_id", "fk_payout_runs_failed_run"),
        (RunStatus.DRAFT, "failed_of = policy_id", "ck_payout_runs_failed_of"),
        (RunStatus.DRAFT, "channel = 'pocket'", "ck_payout_runs_channel"),
        (RunStatus.DRAFT, "amount_fen = -1", "ck_payout_runs_totals"),
        (RunStatus.DRAFT, "payout_count = -1", "ck_payout_runs_totals"),
        (RunStatus.DRAFT, "area_code = '999999999999'", "fk_payout_runs_area"),
        (RunStatus.DRAFT, "round_sequence = 2", "fk_payout_runs_round"),
        (RunStatus.DRAFT, "policy_id = id", "fk_payout_runs_policy"),
        (RunStatus.CALCULATED, "policy_number = 2", "fk_payout_runs_version"),
    ],
)
async def test_a_run_holds_only_what_its_step_allows(
    session: AsyncSession, status: RunStatus, change: str, constraint: str
) -> None:
    thanks = await make_thanks(session, members=0)
    await make_run(session, thanks.round, thanks.policy, status)
    await _breaks(session, constraint, f"update payout_runs set {change}")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("update exam_rounds set sequence = 7", "fk_payout_runs_round"),
        ("delete from policy_versions", "fk_payout_runs_version"),
    ],
)
async def test_what_a_run_was_calculated_from_stays(
    session: AsyncSession, change: str, constraint: str
) -> None:
    thanks = await make_thanks(session, members=0)
    await make_run(session, thanks.round, thanks.policy)
    await session.execute(text("delete from service_events"))
    await session.execute(text("delete from incentive_rules"))
    await _breaks(session, constraint, change)


def test_runs_made_within_a_millisecond_have_different_ids() -> None:
    ids = [run_id_of(clock.new_id()) for _ in range(1000)]
    # Of 22 random bits a few in a thousand may coincide, not most.
    assert len(set(ids)) > 990


def test_the_id_of_a_line_gives_back_its_run_and_number() -> None:
    run_id = run_id_of(clock.new_id())
    for line_no in (1, 2**31 - 1, 2**40 - 1):
        assert run_and_line(payout_id(run_id, line_no)) == (run_id, line_no)
    assert run_id.version == 7
