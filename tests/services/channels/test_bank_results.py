"""Our own table for a bank, sent back as spreadsheet programs save it, and edited."""

import csv
import io
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
import xlsxwriter
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database, Statements, transaction
from app.models.channels.bank_files import BankFileCreate, BankFileRead, BankFormat, BankResultsRead
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.problems import Invalid, Problem
from app.roles import Role
from app.services.channels import bank_files, bank_results
from app.services.channels.answered_lines import BankAnswerForeign
from app.services.channels.bank_answers import BankAnswerMismatch, BankAnswerUnreadable
from app.services.disbursement.payout_runs import OtherChannel, RunStateForbids
from tests.factories.callers import make_act, make_caller
from tests.factories.channels.bank_files import make_bank_run, make_bank_thanks, make_order
from tests.factories.disbursement.payout_runs import Thanks, make_run
from tests.factories.finance.funds import agree

Rows = list[list[Any]]
_ACCOUNT, _AMOUNT, _RESULT, _REASON = 2, 4, 6, 7
_CLERK = make_caller(Role.FINANCE_CLERK)


class Desk:
    """A clerk's desk: a run of three payments, its table, and the way back."""

    def __init__(
        self, database: Database, keyring: Keyring, thanks: Thanks, run: PayoutRun
    ) -> None:
        self.database, self.keyring = database, keyring
        self.thanks, self.run = thanks, run
        self.file: BankFileRead | None = None

    async def rows(self) -> Rows:
        """Make the file, and give it as rows of texts."""
        body = BankFileCreate.model_validate(make_order(format=BankFormat.CSV))
        act = make_act(_CLERK)
        async with transaction(self.database, _CLERK.scope, act) as session:
            made = await bank_files.create(
                session, _CLERK, self.keyring, run_id=self.run.id, body=body, now=clock.now()
            )
        assert made.file is not None
        self.file = made.file
        statements = Statements(self.database.pool, _CLERK.scope, make_act(_CLERK))
        sheet = await bank_files.content(
            statements,
            _CLERK,
            self.keyring,
            run_id=self.run.id,
            file_id=made.file.id,
            is_given=True,
            now=clock.now(),
        )
        assert sheet.media_type == "text/csv"
        return list(csv.reader(io.StringIO(sheet.content.decode("utf-8-sig"), newline="")))

    async def bring(self, content: bytes, name: str | None = None) -> BankResultsRead:
        """Take a table in, in a transaction of its own."""
        self.act = make_act(_CLERK)
        async with transaction(self.database, _CLERK.scope, self.act) as session:
            return await bank_results.take(
                session,
                _CLERK,
                self.keyring,
                run_id=self.run.id,
                content=content,
                now=clock.now(),
                name=name,
            )

    async def refused(self, content: bytes, problem: type[Problem]) -> list[tuple[str, str]]:
        """Expect a refusal that changes nothing; give what it names."""
        before = await self.standing()
        with pytest.raises(problem) as caught:
            await self.bring(content)
        assert await self.standing() == before
        return [(error.pointer, error.code) for error in caught.value.errors]

    async def members(self, lines: set[int | None]) -> set[UUID]:
        """Give whose the payouts of these lines are."""
        statements = Statements(self.database.pool, _CLERK.scope.district_wide(), make_act(_CLERK))
        found = await statements.fetch("select * from payouts", {})
        return {row["member_id"] for row in found if row["line_no"] in lines}

    async def standing(self) -> list[tuple[str, str | None]]:
        """Give status and reason of each payment of money."""
        statements = Statements(self.database.pool, _CLERK.scope.district_wide(), make_act(_CLERK))
        sql = "select * from payouts where amount_fen > 0 order by line_no"
        return [(row["status"], row["failure_reason"]) for row in await statements.fetch(sql, {})]


@pytest_asyncio.fixture
async def desk(session: AsyncSession, database: Database, keyring: Keyring) -> Any:
    thanks = await make_bank_thanks(session, keyring)
    run = await make_bank_run(session, thanks)
    await session.commit()
    yield Desk(database, keyring, thanks, run)
    await agree(database)


def _filled(rows: Rows, *results: tuple[str, str]) -> Rows:
    filled = [list(row) for row in rows]
    for row, (result, reason) in zip(filled[1:], results, strict=False):
        row[_RESULT], row[_REASON] = result, reason
    return filled


def _csv(rows: Rows, encoding: str = "utf-8-sig", delimiter: str = ",") -> bytes:
    target = io.StringIO(newline="")
    csv.writer(target, delimiter=delimiter).writerows(rows)
    return target.getvalue().encode(encoding)


def _taken_for_numbers(rows: Rows) -> Rows:
    """Make numbers of all that looks like one, as spreadsheet programs do."""

    def cell(text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            return text or None

    return [[cell(text) for text in row] for row in rows]


def _xlsx(rows: Rows) -> bytes:
    target = io.BytesIO()
    with xlsxwriter.Workbook(target, {"in_memory": True}) as book:
        sheet = book.add_worksheet("Sheet1")
        for number, row in enumerate(_taken_for_numbers(rows)):
            sheet.write_row(number, 0, row)
    return target.getvalue()


def _in_scientific_notation(rows: Rows) -> Rows:
    """Ruin the account numbers, as a program does that was told that they are numbers."""
    ruined = [list(row) for row in rows]
    for row in ruined[1:4]:
        row[_ACCOUNT] = f"{float(row[_ACCOUNT].replace(' ', '')):.2E}"
    return ruined


_SAVED: dict[str, Callable[[Rows], bytes]] = {
    "csv": _csv,
    "csv of a Chinese Windows": lambda rows: _csv(rows, "gbk"),
    "semicolons": lambda rows: _csv(rows, "utf-8", ";"),
    "xlsx with floats": _xlsx,
    "accounts as numbers": lambda rows: _csv(_in_scientific_notation(rows)),
    "without accounts": lambda rows: _csv(
        [rows[0], *([*row[:2], "", *row[3:]] for row in rows[1:])]
    ),
    "sorted anew": lambda rows: _csv([rows[0], *reversed(rows[1:])]),
}


@pytest.mark.parametrize("program", _SAVED)
async def test_a_table_is_read_as_any_program_saves_it(desk: Desk, program: str) -> None:
    rows = _filled(await desk.rows(), ("成功", ""), ("失败", "账号有误"), ("处理中", ""))
    name = "back.xlsx" if "xlsx" in program else "back.csv"
    answers = await desk.bring(_SAVED[program](rows), name)
    assert sorted((each.outcome, each.status) for each in answers.items) == [
        ("failed", "recorded"),
        ("paid", "recorded"),
        ("sending", "unchanged"),
    ]
    assert sorted(map(str, await desk.standing())) == [
        "('failed', '没有收款账户')",
        "('failed', '账号有误')",
        "('paid', None)",
        "('sending', None)",
    ]


async def test_a_payment_that_bounces_is_returned(desk: Desk) -> None:
    rows = await desk.rows()
    await desk.bring(_csv(_filled(rows, ("成功", ""), ("成功", ""), ("", ""))))
    back = _csv(_filled(rows, ("退票", "账户已销户"), ("成功", ""), ("失败", "")))
    answers = await desk.bring(back)
    assert [each.status for each in answers.items] == ["recorded", "unchanged", "recorded"]
    standing = await desk.standing()
    assert ("returned", "账户已销户") in standing
    assert ("failed", "银行拒付") in standing
    again = await desk.bring(back)
    assert again.repeated
    # What a file says is known already is read of her all the same.
    assert set(desk.act.persons) == await desk.members({each.line_no for each in again.items})
    assert {each.status for each in again.items} == {"unchanged"}
    assert await desk.standing() == standing


_EDITS: dict[str, tuple[Callable[[Rows], Rows], set[str]]] = {
    "an amount": (lambda rows: _with(rows, 1, _AMOUNT, "123.46"), {"bank_amount_differs"}),
    "a lost row": (lambda rows: [*rows[:2], *rows[3:]], {"bank_count_differs"}),
    "a repeated row": (lambda rows: [*rows[:2], rows[1], *rows[2:]], {"bank_count_differs"}),
    "the count": (lambda rows: _footed(rows, "合计笔数", "4"), {"bank_count_differs"}),
    "the sum": (lambda rows: _footed(rows, "合计金额(元)", "370.34"), {"bank_sum_differs"}),
    "the hash": (lambda rows: _footed(rows, "校验值", "0" * 64), {"bank_hash_differs"}),
}


def _with(rows: Rows, row: int, column: int, value: str) -> Rows:
    rows[row][column] = value
    return rows


def _footed(rows: Rows, name: str, value: str) -> Rows:
    next(row for row in rows if row[0] == name)[1] = value
    return rows


@pytest.mark.parametrize("what", _EDITS)
async def test_a_table_that_was_edited_is_refused_whole(desk: Desk, what: str) -> None:
    edit, codes = _EDITS[what]
    rows = edit(_filled(await desk.rows(), ("成功", ""), ("成功", ""), ("成功", "")))
    named = await desk.refused(_csv(rows), BankAnswerMismatch)
    assert codes <= {code for _, code in named}


async def test_a_reason_that_tells_of_health_is_refused_at_its_row(desk: Desk) -> None:
    rows = _filled(await desk.rows(), ("失败", "怀孕住院"), ("成功", ""), ("成功", ""))
    assert await desk.refused(_csv(rows), Invalid) == [("row 2", "telling_words")]


async def test_all_wrong_cells_are_named_by_their_rows(desk: Desk) -> None:
    rows = _filled(await desk.rows(), ("好", ""), ("失败", "卡号62" + "0" * 200), ("成功", ""))
    rows[3][_AMOUNT] = "十"
    assert await desk.refused(_csv(rows), Invalid) == [
        ("row 2", "bank_result_word"),
        ("row 3", "string_too_long"),
        ("row 4", "cash_list_number"),
    ]
    rows = _filled(rows, ("失败", "持卡人 6225880137465283"))
    rows[2][_REASON], rows[3][_AMOUNT] = "", "123.45"
    assert await desk.refused(_csv(rows), Invalid) == [("row 2", "personal_number")]


async def test_a_table_of_another_file_or_of_none_is_refused(desk: Desk) -> None:
    rows = await desk.rows()
    await desk.refused(_csv(_footed(rows, "文件号", str(clock.new_id()))), BankAnswerForeign)
    await desk.refused(_csv(_footed(rows, "文件号", "1")), BankAnswerUnreadable)
    await desk.refused(_csv(rows[:-1]), BankAnswerUnreadable)
    await desk.refused(_csv([["姓名"]]), BankAnswerUnreadable)


@pytest.mark.parametrize(
    "status", sorted(set(RunStatus) - {RunStatus.DISBURSING, RunStatus.SETTLED})
)
async def test_results_are_taken_only_from_when_a_run_is_handed_out(
    desk: Desk, session: AsyncSession, status: RunStatus
) -> None:
    content = _csv(_filled(await desk.rows(), ("成功", "")))
    channel = desk.run.channel
    thanks = desk.thanks
    desk.run = await make_run(session, thanks.round, thanks.policy, status, channel=channel)
    await session.commit()
    await desk.refused(content, RunStateForbids)


async def test_a_run_that_is_paid_in_cash_takes_no_banks_file(
    desk: Desk, session: AsyncSession
) -> None:
    content = _csv(_filled(await desk.rows(), ("成功", "")))
    desk.run = await make_run(session, desk.thanks.round, desk.thanks.policy)
    await session.commit()
    await desk.refused(content, OtherChannel)
