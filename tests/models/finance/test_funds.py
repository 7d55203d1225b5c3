"""What the tables of funds and transfers never hold, whoever writes."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from app.database_errors import constraint_name
from app.models.disbursement.payout_runs import RunStatus
from app.scopes import Acting, Scope
from tests.factories.callers import DISTRICT
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.finance.funds import make_fund, make_receipt, make_share
from tests.factories.organisation.associations import make_association


async def _breaks(session: AsyncSession, constraint: str, sql: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql))
    assert constraint_name(caught.value) == constraint


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("source = 'bank'", "ck_funds_source"),
        ("status = 'empty', available_fen = 0, spent_fen = 1000", "ck_funds_status"),
        ("fiscal_year = 1999", "ck_funds_fiscal_year"),
        ("area_code = '440606000000'", "ck_funds_area_range"),
        ("available_fen = -1, spent_fen = 1001", "ck_funds_available"),
        ("reserved_fen = -1, spent_fen = 1", "ck_funds_reserved"),
        ("spent_fen = -1, reserved_fen = 1", "ck_funds_spent"),
        ("available_fen = 1001", "ck_funds_balanced"),
        ("received_fen = -1, available_fen = 0, spent_fen = 0", "ck_funds_balanced"),
        ("allocated_in_fen = 1", "ck_funds_balanced"),
        ("status = 'closed', closed_at = now(), closed_by = 'x'", "ck_funds_closed"),
        ("closed_by = 'x'", "ck_funds_closed"),
        ("association_id = area_id()", "fk_funds_association"),
    ],
)
async def test_a_fund_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_fund(session, 1000)
    change = change.replace("area_id()", "'00000000-0000-0000-0000-000000000007'")
    await _breaks(session, constraint, f"update funds set {change}")


async def test_a_scope_has_one_fund(session: AsyncSession) -> None:
    await make_fund(session)
    with pytest.raises(IntegrityError) as caught:
        await make_fund(session)
    assert constraint_name(caught.value) == "uq_funds_scope"


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("debit = 'spent'", "ck_transfers_sides"),
        ("amount_fen = 0", "ck_transfers_amount"),
        ("document_no = null", "ck_transfers_document"),
        ("line_no = 1", "ck_transfers_payout"),
        ("kind = 'allocate', credit = 'available'", "ck_transfers_funds"),
        ("kind = 'reserve', debit = 'reserved', credit = 'available'", "ck_transfers_document"),
    ],
)
async def test_a_transfer_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_fund(session, 1000)
    await _breaks(session, constraint, f"update transfers set {change}")


@pytest.mark.parametrize("kind", ["pay", "reserve"])
async def test_a_payout_is_paid_once_and_a_run_reserved_once(
    session: AsyncSession, kind: str
) -> None:
    thanks = await make_thanks(session)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING)
    debit, credit = ("spent", "reserved") if kind == "pay" else ("reserved", "available")
    facts = {
        "kind": kind,
        "debit": debit,
        "credit": credit,
        "run_id": run.id,
        "line_no": 1 if kind == "pay" else None,
        "document_no": None,
    }
    if kind == "pay":
        session.add(make_receipt(thanks.fund, 1, **facts))
        await session.flush()
    session.add(make_receipt(thanks.fund, 1, **facts))
    with pytest.raises(IntegrityError) as caught:
        await session.flush()
    wanted = "uq_transfers_payout" if kind == "pay" else "uq_transfers_run"
    assert constraint_name(caught.value) == wanted


async def test_the_same_document_is_not_entered_twice(session: AsyncSession) -> None:
    fund = await make_fund(session, 1000)
    session.add(make_receipt(fund, 5))
    with pytest.raises(IntegrityError) as caught:
        await session.flush()
    assert constraint_name(caught.value) == "uq_transfers_document"


@pytest.mark.parametrize("change", ["from_bp = -1", "to_bp = 10001", "from_bp = 10000"])
async def test_a_share_is_a_part(session: AsyncSession, change: str) -> None:
    thanks = await make_thanks(session)
    run = await make_granted_run(session, thanks, RunStatus.CALCULATED)
    session.add(make_share(run, await make_association(session, name="另一协会"), thanks.fund))
    await session.flush()
    await _breaks(session, "ck_run_shares_points", f"update run_shares set {change}")


@pytest.mark.parametrize("acting", list(Acting))
@pytest.mark.parametrize("table", ["transfers", "run_shares", "fund_budgets", "published_accounts"])
@pytest.mark.parametrize("act", ["delete from {}", "update {} set district_code = district_code"])
async def test_nobody_changes_or_deletes_what_is_in_the_books(
    owner: Database, session: AsyncSession, acting: Acting, table: str, act: str
) -> None:
    await make_fund(session, 1000)
    await session.commit()
    async with owner.pool.acquire() as connection:
        await connection.execute(f"begin; {Scope(acting, DISTRICT, 'x').entry}")
        with pytest.raises(Exception, match="permission denied"):
            await connection.execute(act.format(table))
        await connection.execute("rollback")
