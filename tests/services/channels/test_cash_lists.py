"""Cash lists: what is printed to sign, for whom, and with which control totals."""

import csv
import hashlib
import io
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from python_calamine import CalamineWorkbook
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Statements
from app.models.disbursement.payout_runs import RunStatus
from app.problems import NotAcceptable, NotFound
from app.roles import Role
from app.services.channels import cash_lists
from app.services.channels.cash_lists import CashListTooLong
from app.services.disbursement.payout_runs import RunStateForbids
from app.sheets import MEDIA_TYPES, Format
from tests.factories.callers import GUICHENG, SHISHAN, Client, make_caller
from tests.factories.disbursement.payout_runs import make_granted_run, make_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association


async def _printed(statements: Statements, run_id: UUID, **options: Any) -> list[list[str]]:
    facts = {"association_id": None, "form": "csv"} | options
    sheet = await cash_lists.print_list(
        statements, make_caller(Role.FINANCE_CLERK), run_id=run_id, **facts
    )
    return list(csv.reader(io.StringIO(sheet.content.decode("utf-8-sig"), newline="")))


async def test_a_list_shows_what_each_line_is_signed_for_and_nothing_of_health(
    session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, [make_cash(amount_fen=1005), make_gift(quantity=2)])
    run = await make_granted_run(session, thanks)
    await session.commit()
    header, *lines, _, _, _, _, _, _ = await _printed(statements, run.id)

    assert header == [
        "序号", "姓名", "工号", "协会", "项目", "金额(元)", "礼品", "签名", "结果", "原因",
    ]  # fmt: skip
    assert [line[0] for line in lines] == ["1", "2", "3", "4"]
    common = ["测试计生协会", "协会福利"]
    assert sorted(line[1:] for line in lines) == [
        ["会员1", "0001", *common, "", "毛巾 × 2", "", "", ""],
        ["会员1", "0001", *common, "10.05", "", "", "", ""],
        ["会员2", "0002", *common, "", "毛巾 × 2", "", "", ""],
        ["会员2", "0002", *common, "10.05", "", "", "", ""],
    ]


async def test_count_sum_and_hash_of_the_lines_travel_with_the_list(
    session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, [make_cash(amount_fen=1005), make_gift()])
    run = await make_granted_run(session, thanks)
    await session.commit()
    *_, count, amount, _, _, digest, _ = await _printed(statements, run.id)

    lines = await statements.fetch("select * from payouts order by line_no", {})
    facts = ("run_id", "line_no", "member_id", "rule_id", "amount_fen", "quantity")
    written = "".join("|".join(str(line[name]) for name in facts) + "\n" for line in lines)
    assert count == ["合计笔数", "4"]
    assert amount == ["合计金额(元)", "20.10"]
    assert digest == ["校验值", hashlib.sha256(written.encode()).hexdigest()]


async def test_a_spreadsheet_holds_amounts_as_numbers_that_add_up(
    session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, [make_cash(amount_fen=1005)], members=3)
    run = await make_granted_run(session, thanks)
    await session.commit()
    sheet = await cash_lists.print_list(
        statements,
        make_caller(Role.FINANCE_CLERK),
        run_id=run.id,
        association_id=None,
        form="xlsx",
    )
    book = CalamineWorkbook.from_filelike(io.BytesIO(sheet.content))
    rows = book.get_sheet_by_index(0).to_python()

    assert sheet.media_type == MEDIA_TYPES["xlsx"]
    assert sheet.name == f"cash-list-{run.id}.xlsx"
    assert [row[5] for row in rows[1:4]] == [10.05] * 3
    assert rows[5][:2] == ["合计金额(元)", 30.15]


@pytest.mark.parametrize("form", ["csv", "xlsx"])
async def test_no_name_is_run_as_a_formula(
    session: AsyncSession, statements: Statements, form: Format
) -> None:
    thanks = await make_thanks(session, members=1)
    thanks.members[0].name = "=1+1"
    run = await make_granted_run(session, thanks)
    await session.commit()
    sheet = await cash_lists.print_list(
        statements, make_caller(Role.AUDITOR), run_id=run.id, association_id=None, form=form
    )

    if form == "csv":
        assert "'=1+1" in sheet.content.decode("utf-8-sig")
        return
    book = CalamineWorkbook.from_filelike(io.BytesIO(sheet.content))
    assert book.get_sheet_by_index(0).to_python()[1][1] == "=1+1"


async def test_the_list_of_one_association_has_totals_of_its_own(
    session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session)
    other = await make_association(session, "village", name="狮山村协会")
    member = await make_member(session, other, name="村民")
    await make_attendance(session, thanks.event, member)
    run = await make_granted_run(session, thanks)
    await session.commit()
    _, line, count, amount, _, _, digest, _ = await _printed(
        statements, run.id, association_id=other.id
    )
    whole = await _printed(statements, run.id)

    assert (line[1], line[3]) == ("村民", "狮山村协会")
    assert (count[1], amount[1]) == ("1", "10.00")
    assert (whole[-6][1], whole[-5][1]) == ("3", "30.00")
    assert whole[-2] != digest
    empty = await _printed(statements, run.id, association_id=clock.new_id())
    assert empty[1] == ["合计笔数", "0"]


async def test_a_list_printed_again_shows_what_became_of_each_line(
    session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, members=1)
    run = await make_granted_run(session, thanks)
    await session.commit()
    before = await _printed(statements, run.id)
    await statements.fetch(
        "update payouts set status = 'failed', failure_reason = '本人未到', settled_at = :now",
        {"now": clock.now()},
    )
    after = await _printed(statements, run.id)

    assert after[1][8:] == ["未领", "本人未到"]
    assert after[-6:-4] == before[-6:-4]
    assert after[-2:] == before[-2:]


async def test_the_list_tells_what_to_hand_out_now_beside_what_the_run_has(
    session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, [make_cash(amount_fen=1005)], members=5)
    run = await make_granted_run(session, thanks)
    await session.commit()
    states = ("pending", "held", "failed", "paid", "pending")
    for line_no, status in enumerate(states, 1):
        await statements.fetch(
            "update payouts set status = :status,"
            " settled_at = case when :status in ('paid', 'failed') then cast(:now as timestamptz)"
            " end, failure_reason = case when :status = 'failed' then '本人未到' end"
            " where line_no = :line_no",
            {"status": status, "line_no": line_no, "now": clock.now()},
        )
    *lines, count, amount, open_count, open_amount, _, _ = await _printed(statements, run.id)

    assert [line[8] for line in lines[1:]] == ["", "暂缓", "未领", "已领", ""]
    assert (count, amount) == (["合计笔数", "5"], ["合计金额(元)", "50.25"])
    assert open_count == ["其中待发笔数", "2"]
    assert open_amount == ["其中待发金额(元)", "20.10"]


@pytest.mark.parametrize("status", RunStatus)
async def test_only_an_approved_run_has_a_list(
    session: AsyncSession, statements: Statements, status: RunStatus
) -> None:
    thanks = await make_thanks(session, members=0)
    run = await make_run(session, thanks.round, thanks.policy, status)
    await session.commit()

    if status in {
        RunStatus.APPROVED,
        RunStatus.DISBURSING,
        RunStatus.SETTLED,
        RunStatus.CLOSED,
    }:
        assert len(await _printed(statements, run.id)) == 7
        return
    with pytest.raises(RunStateForbids):
        await _printed(statements, run.id)


async def test_a_list_too_long_to_sign_is_asked_for_by_association(
    session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, members=1)
    run = await make_granted_run(session, thanks)
    run.payout_count = 50_001
    await session.commit()

    with pytest.raises(CashListTooLong):
        await _printed(statements, run.id)
    assert len(await _printed(statements, run.id, association_id=thanks.association.id)) == 8


async def test_a_list_beyond_reach_is_not_found(
    session: AsyncSession, statements: Statements
) -> None:
    thanks = await make_thanks(session, area_code=SHISHAN)
    run = await make_granted_run(session, thanks)
    await session.commit()
    for areas, found in (((SHISHAN,), True), ((GUICHENG,), False)):
        clerk = make_caller(Role.FINANCE_CLERK, areas=areas)
        printing = cash_lists.print_list(
            statements, clerk, run_id=run.id, association_id=None, form="csv"
        )
        if found:
            assert (await printing).content
            continue
        with pytest.raises(NotFound):
            await printing


async def test_a_list_is_printed_for_who_has_just_signed_in(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    run = await make_granted_run(session, await make_thanks(session, [make_cash()]))
    await session.commit()
    path, code = f"/v1/payout-runs/{run.id}/cash-list", "insufficient_user_authentication"
    stale = client(Role.FINANCE_CLERK, step_up=False, subject="clerk")
    await stale.refused("GET", path, status=401, code=code)
    fresh = client(Role.FINANCE_CLERK, subject="clerk")
    assert (await fresh.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("asked", "accept", "chosen"),
    [
        (None, None, "xlsx"),
        (None, "*/*", "xlsx"),
        (None, "text/csv;q=0.9", "csv"),
        (None, "text/*", "csv"),
        (None, "application/json, text/csv", "csv"),
        ("csv", MEDIA_TYPES["xlsx"], "csv"),
    ],
)
def test_the_format_is_the_one_asked_for_else_one_accepted(
    asked: Format | None, accept: str | None, chosen: str
) -> None:
    assert cash_lists.choose_format(asked, accept) == chosen


def test_a_format_that_nobody_prints_is_refused() -> None:
    with pytest.raises(NotAcceptable):
        cash_lists.choose_format(None, "application/pdf, image/png")
