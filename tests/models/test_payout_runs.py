"""What the table of payout runs never holds, and the ids of runs."""

from app import clock
from app.models.payout_runs import run_id_of
from app.models.payouts import payout_id, run_and_line


def test_runs_made_within_a_millisecond_have_different_ids() -> None:
    ids = [run_id_of(clock.new_id()) for _ in range(1000)]
    # Of 22 random bits two in a thousand may coincide, not many.
    assert len(set(ids)) > 990


def test_the_id_of_a_line_gives_back_its_run_and_number() -> None:
    run_id = run_id_of(clock.new_id())
    for line_no in (1, 2**31 - 1, 2**40 - 1):
        assert run_and_line(payout_id(run_id, line_no)) == (run_id, line_no)
    assert run_id.version == 7
