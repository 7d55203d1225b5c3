"""What the tables of bank files never hold: too many lines, account numbers kept too long."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database_errors import constraint_name
from app.models.channels.bank_files import BankFile
from app.models.disbursement.payout_runs import PayoutRun
from tests.factories.channels.bank_files import make_bank_file, make_bank_run
from tests.factories.disbursement.payout_runs import make_thanks


async def _file(session: AsyncSession) -> tuple[PayoutRun, BankFile]:
    run = await make_bank_run(session, await make_thanks(session, members=1))
    return run, await make_bank_file(session, run, content_sealed=b"x")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("format = 'mt101'", "ck_bank_files_format"),
        ("number = 0", "ck_bank_files_number"),
        ("lines = '{}'", "ck_bank_files_lines"),
        ("lines = (select array_agg(n) from generate_series(1, 10001) n)", "ck_bank_files_lines"),
        ("amount_fen = 0", "ck_bank_files_amount"),
        ("sha256 = 'x'", "ck_bank_files_sha256"),
        ("answered_at = now()", "ck_bank_files_content"),
        ("discarded_at = now()", "ck_bank_files_discarded"),
        (
            "answered_at = now(), content_sealed = null, rejected_at = now()",
            "ck_bank_files_rejected",
        ),
        ("rejected_at = now(), status_reason = 'x'", "ck_bank_files_rejected"),
        ("status_reason = 'x'", "ck_bank_files_rejected"),
        ("run_id = gen_random_uuid()", "fk_bank_files_payout_run"),
    ],
)
async def test_a_file_is_what_the_bank_was_given(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await _file(session)
    await _breaks(session, constraint, f"update bank_files set {change}")


async def _breaks(session: AsyncSession, constraint: str, sql: str, **params: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql), params)
    assert constraint_name(caught.value) == constraint


async def test_no_two_files_of_a_run_have_one_number(session: AsyncSession) -> None:
    run, _ = await _file(session)
    with pytest.raises(IntegrityError) as caught:
        await make_bank_file(session, run)
    assert constraint_name(caught.value) == "uq_bank_files_number"


async def test_a_banks_file_is_taken_in_once(session: AsyncSession) -> None:
    run, _ = await _file(session)
    taken = (
        "insert into bank_results select district_code, id, repeat('a', 64), 'csv', 1, now(), 'c'"
        " from payout_runs where id = :id"
    )
    await session.execute(text(taken), {"id": run.id})
    await _breaks(session, "pk_bank_results", taken, id=run.id)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [("format = 'x'", "ck_bank_results_format"), ("sha256 = 'x'", "ck_bank_results_sha256")],
)
async def test_a_receipt_names_the_file_and_how_it_was_written(
    session: AsyncSession, change: str, constraint: str
) -> None:
    run, _ = await _file(session)
    taken = (
        "insert into bank_results select district_code, id, repeat('a', 64), 'csv', 1, now(), 'c'"
        " from payout_runs where id = :id"
    )
    await session.execute(text(taken), {"id": run.id})
    await _breaks(session, constraint, f"update bank_results set {change}")
