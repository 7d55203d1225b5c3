"""Cash lists sent back: as spreadsheet programs save them, repeated, edited, and damaged."""

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
from app.database import Database, Statements, transaction
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.disbursement.payouts import ResultsRead
from app.problems import Invalid, NotFound, Problem
from app.roles import Role
from app.services.channels import cash_lists, signed_cash_lists
from app.services.channels.signed_cash_lists import CashListUnreadable, ControlTotalsMismatch
from app.services.disbursement import calculations
from app.services.disbursement.payout_runs import RunStateForbids
from app.sheets import FileUnreadable
from tests.factories.callers import GUICHENG, SHISHAN, make_act, make_caller
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

Rows = list[list[Any]]
_RESULT, _REASON, _AMOUNT, _GIFT = 8, 9, 5, 6
_CLERK = make_caller(Role.FINANCE_CLERK)


class Desk:
    """A clerk's desk: a disbursing run of four lines, its list, and the way back."""

    def __init__(self, database: Database, thanks: Thanks, run: PayoutRun) -> None:
        self.database = database
        self.statements = Statements(database.pool, _CLERK.scope.district_wide(), make_act(_CLERK))
        self.thanks = thanks
        self.run = run

    async def rows(self, association_id: UUID | None = None) -> Rows:
        """Give the printed list as rows of texts."""
        sheet = await cash_lists.print_list(
            self.statements, _CLERK, run_id=self.run.id, association_id=association_id, form="csv"
        )
        return list(csv.reader(io.StringIO(sheet.content.decode("utf-8-sig"), newline="")))

    async def bring(self, content: bytes) -> ResultsRead:
        """Import a list in a transaction of its own."""
        self.act = make_act(_CLERK)
        async with transaction(self.database, _CLERK.scope, self.act) as session:
            return await signed_cash_lists.take_back(
                session, _CLERK, run_id=self.run.id, content=content, now=clock.now()
            )

    async def refused(self, content: bytes, problem: type[Problem]) -> list[tuple[str, str]]:
        """Expect a refusal that changes nothing; give the rows it names with their codes."""
        before = await self.standing()
        with pytest.raises(problem) as caught:
            await self.bring(content)
        assert await self.standing() == before
        return [(error.pointer, error.code) for error in caught.value.errors]

    async def members(self, *lines: int) -> set[UUID]:
        """Give whose the payouts of these lines are."""
        found = await self.statements.fetch("select * from payouts", {})
        return {row["member_id"] for row in found if row["line_no"] in lines}

    async def standing(self) -> list[tuple[str, str | None]]:
        """Give status and reason of each line."""
        found = await self.statements.fetch("select * from payouts order by line_no", {})
        return [(line["status"], line["failure_reason"]) for line in found]


@pytest_asyncio.fixture
async def desk(session: AsyncSession, database: Database) -> Desk:
    rules = [make_cash(amount_fen=1000), make_gift(), make_cash("meal", amount_fen=550)]
    thanks = await make_thanks(session, rules)
    run = await make_granted_run(session, thanks)
    await session.commit()
    return Desk(database, thanks, run)


def _filled(rows: Rows, results: dict[int, tuple[str, str]]) -> Rows:
    """Write results and reasons beside the lines of these numbers."""
    filled = [list(row) for row in rows]
    for line_no, (result, reason) in results.items():
        filled[line_no][_RESULT], filled[line_no][_REASON] = result, reason
    return filled


def _csv(rows: Rows, encoding: str = "utf-8-sig", delimiter: str = ",") -> bytes:
    target = io.StringIO(newline="")
    csv.writer(target, delimiter=delimiter).writerows(rows)
    return target.getvalue().encode(encoding)


def _as_floats(rows: Rows) -> Rows:
    """Turn numbers into floats and drop blanks, as spreadsheet programs do."""

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
        for number, row in enumerate(_as_floats(rows)):
            sheet.write_row(number, 0, row)
    return target.getvalue()


def _short_numbers(rows: Rows) -> Rows:
    """Show numbers as a program in its general format does: 10.00 as 10, 5.50 as 5.5."""
    return [[f"{c:g}" if isinstance(c, float) else c for c in row] for row in _as_floats(rows)]


_SAVED: dict[str, Callable[[Rows], bytes]] = {
    "csv": _csv,
    "csv of a Chinese Windows": lambda rows: _csv(_short_numbers(rows), "gbk"),
    "csv with rare characters": lambda rows: _csv(rows, "gb18030"),
    "csv without a mark": lambda rows: _csv(_short_numbers(rows), "utf-8"),
    "semicolons": lambda rows: _csv(rows, "utf-8", ";"),
    "Unicode text": lambda rows: _csv(rows, "utf-16", "\t"),
    "xlsx with floats": _xlsx,
    "blank lines": lambda rows: _csv([rows[0], [], *rows[1:], ["", "", ""]]),
    "sorted anew": lambda rows: _csv([rows[0], *reversed(rows[1:])]),
    "wider": lambda rows: _csv([[*row, "", "备注"] for row in rows]),
}


@pytest.mark.parametrize("program", _SAVED)
async def test_a_list_is_read_as_any_program_saves_it(desk: Desk, program: str) -> None:
    rows = _filled(await desk.rows(), {1: ("已领", ""), 2: ("未领", "本人未到"), 6: ("已领", "")})
    answers = await desk.bring(_SAVED[program](rows))

    assert {(a.ref, a.status.value) for a in answers.items} == {
        (1, "recorded"),
        (2, "recorded"),
        (6, "recorded"),
    }
    assert await desk.standing() == [
        ("paid", None),
        ("failed", "本人未到"),
        ("pending", None),
        ("pending", None),
        ("pending", None),
        ("paid", None),
    ]


async def test_the_printed_spreadsheet_itself_is_read_back(desk: Desk) -> None:
    sheet = await cash_lists.print_list(
        desk.statements, _CLERK, run_id=desk.run.id, association_id=None, form="xlsx"
    )
    assert (await desk.bring(sheet.content)).items == []


async def test_the_same_file_again_changes_nothing_and_says_so(desk: Desk) -> None:
    filled = _csv(_filled(await desk.rows(), {1: ("已领", ""), 2: ("未领", "本人  未到")}))
    await desk.bring(filled)
    before = await desk.statements.fetch("select * from payouts order by line_no", {})
    again = await desk.bring(filled)
    printed = await desk.bring(_csv(await desk.rows()))

    assert [answer.status.value for answer in again.items] == ["unchanged"] * 2
    assert [answer.status.value for answer in printed.items] == ["unchanged"] * 2
    assert await desk.statements.fetch("select * from payouts order by line_no", {}) == before


async def test_whom_the_results_are_about_is_named_to_the_audit(desk: Desk) -> None:
    rows = await desk.rows()
    for result in (("已领", ""), ("未领", "本人未到")):
        await desk.bring(_csv(_filled(rows, {1: result})))
        assert set(desk.act.persons) == await desk.members(1)


async def test_another_result_for_a_line_is_rejected_and_the_others_are_taken(desk: Desk) -> None:
    rows = await desk.rows()
    await desk.bring(_csv(_filled(rows, {1: ("已领", "")})))
    answers = await desk.bring(_csv(_filled(rows, {1: ("未领", "名单有误"), 2: ("已领", "")})))

    first, second = answers.items
    assert first.problem is not None
    assert (first.status.value, first.problem.code) == ("rejected", "payout_contradiction")
    assert (second.status.value, second.problem) == ("recorded", None)
    assert (await desk.standing())[:2] == [("paid", None), ("paid", None)]


async def test_lists_of_associations_come_back_one_by_one(
    desk: Desk, session: AsyncSession
) -> None:
    other = await make_association(session, "village")
    member = await make_member(session, other)
    await make_attendance(session, desk.thanks.event, member)
    await calculations.grant(session, desk.run, now=clock.now())
    await session.commit()
    whole, theirs = await desk.rows(), await desk.rows(other.id)
    answers = await desk.bring(_csv(_filled(theirs, {1: ("已领", "")})))

    assert (len(whole), len(theirs)) == (16, 10)
    assert [answer.ref for answer in answers.items] == [int(theirs[1][0])]


def _swapped(rows: Rows) -> Rows:
    """Exchange the amounts of two lines, which leaves the sum as it was."""
    one, other = (next(r for r in rows if r[_AMOUNT] == amount) for amount in ("10.00", "5.50"))
    one[_AMOUNT], other[_AMOUNT] = other[_AMOUNT], one[_AMOUNT]
    return rows


def _moved(*columns: int) -> Callable[[Rows], Rows]:
    """Move the cells of columns to the line of another member, as sorting one alone does."""

    def edit(rows: Rows) -> Rows:
        for column in columns:
            rows[1][column], rows[4][column] = rows[4][column], rows[1][column]
        return rows

    return edit


def _with(rows: Rows, cell: tuple[int, int], value: str) -> Rows:
    rows[cell[0]][cell[1]] = value
    return rows


def _first(rows: Rows, column: int, text: str) -> int:
    return next(number for number, row in enumerate(rows) if row[column].startswith(text))


_EDITS: dict[str, tuple[Callable[[Rows], Rows], set[str]]] = {
    "an amount": (
        lambda rows: _with(rows, (_first(rows, _AMOUNT, "10"), _AMOUNT), "100.00"),
        {"cash_list_amount_changed"},
    ),
    "an amount by one fen": (
        lambda rows: _with(rows, (_first(rows, _AMOUNT, "10"), _AMOUNT), "10.01"),
        {"cash_list_amount_changed"},
    ),
    "two amounts exchanged": (_swapped, {"cash_list_amount_changed"}),
    "an amount for a gift": (
        lambda rows: _with(rows, (_first(rows, _GIFT, "毛巾"), _AMOUNT), "20"),
        {"cash_list_amount_changed"},
    ),
    "more gifts": (
        lambda rows: _with(rows, (_first(rows, _GIFT, "毛巾"), _GIFT), "毛巾 × 2"),
        {"cash_list_gift_changed"},
    ),
    "two names exchanged": (_moved(1), {"cash_list_person_changed"}),
    "two numbers exchanged": (_moved(2), {"cash_list_person_changed"}),
    "two persons exchanged": (_moved(1, 2, 3), {"cash_list_person_changed"}),
    "a name of nobody": (lambda rows: _with(rows, (1, 1), "林蓝样"), {"cash_list_person_changed"}),
    "another association": (
        lambda rows: _with(rows, (1, 3), "别协会"),
        {"cash_list_person_changed"},
    ),
    "another purpose": (lambda rows: _with(rows, (1, 4), "工资"), {"cash_list_person_changed"}),
    "names of an older list": (lambda rows: _moved(1)(rows[:-1]), {"cash_list_person_changed"}),
    "a lost row": (lambda rows: [*rows[:3], *rows[4:]], set()),
    "the last row lost": (lambda rows: [*rows[:6], *rows[7:]], set()),
    "an invented row": (
        lambda rows: [*rows[:7], ["7", *rows[6][1:]], *rows[7:]],
        {"cash_list_line_unknown"},
    ),
    "another number": (lambda rows: _with(rows, (3, 0), "9"), {"cash_list_line_unknown"}),
    "the count": (lambda rows: _with(rows, (7, 1), "7"), set()),
    "the sum": (lambda rows: _with(rows, (8, 1), "31.01"), set()),
    "the hash": (lambda rows: _with(rows, (11, 1), "0" * 64), set()),
}


@pytest.mark.parametrize("what", _EDITS)
async def test_a_list_that_was_edited_is_refused_whole(desk: Desk, what: str) -> None:
    edit, codes = _EDITS[what]
    rows = edit(_filled(await desk.rows(), {1: ("已领", ""), 2: ("已领", "")}))
    named = await desk.refused(_csv(rows), ControlTotalsMismatch)
    assert {code for _, code in named} == codes


async def test_the_rows_and_the_column_of_moved_names_are_told(desk: Desk) -> None:
    rows = _moved(1)(_filled(await desk.rows(), {1: ("已领", "")}))
    with pytest.raises(ControlTotalsMismatch) as caught:
        await desk.bring(_csv(rows))
    assert [(error.pointer, getattr(error, "facts", None)) for error in caught.value.errors] == [
        ("row 2", {"column": "姓名"}),
        ("row 5", {"column": "姓名"}),
    ]


@pytest.mark.parametrize("last", [None, -1], ids=["with its hash", "of an older list"])
async def test_a_member_renamed_since_the_printing_is_known_by_either_name(
    desk: Desk, session: AsyncSession, last: int | None
) -> None:
    rows = _filled(await desk.rows(), {1: ("已领", "")})
    printed, others = rows[1][1], rows[4][1]
    member = next(m for m in desk.thanks.members if m.name == printed)
    session.add(member)
    member.name = "林 蓝样"
    await session.commit()
    presently = [[("林蓝样" if c == printed else c) for c in row] for row in rows]
    moved = [[("林蓝样" if c == others else c) for c in row] for row in rows]

    named = await desk.refused(_csv(moved), ControlTotalsMismatch)
    assert {code for _, code in named} == {"cash_list_person_changed"}
    assert (await desk.bring(_csv(presently[:last]))).items[0].status.value == "recorded"
    if last is None:
        assert (await desk.bring(_csv(rows))).items[0].status.value == "unchanged"


async def test_what_is_to_be_handed_out_is_no_control_total(desk: Desk) -> None:
    rows = _filled(await desk.rows(), {1: ("已领", "")})
    assert [rows[9], rows[10]] == [["其中待发笔数", "6"], ["其中待发金额(元)", "31.00"]]
    await desk.bring(_csv(rows))
    later = await desk.rows()
    assert later[7:9] == rows[7:9]
    assert later[9] == ["其中待发笔数", "5"]
    for sheet in (rows, later, [*rows[:9], *rows[11:]]):
        assert (await desk.bring(_csv(sheet))).items is not None


async def test_width_and_blanks_of_names_do_not_count(desk: Desk) -> None:
    rows = _filled(await desk.rows(), {1: ("已领", "")})
    for row in rows[1:7]:
        row[1:3] = [f" {row[1][:1]}\u3000{row[1][1:]} ", row[2].lstrip("0")]
        row[1] = row[1].replace("1", "１")
    assert (await desk.bring(_csv(rows))).items[0].status.value == "recorded"


async def test_the_list_of_another_run_is_refused(desk: Desk, session: AsyncSession) -> None:
    theirs = _csv(_filled(await desk.rows(), {1: ("已领", "")}))
    desk.run = await make_granted_run(session, await make_thanks(session, sequence=2))
    await session.commit()
    await desk.refused(theirs, ControlTotalsMismatch)


async def test_all_wrong_cells_are_named_by_their_rows(desk: Desk) -> None:
    rows = _filled(
        await desk.rows(),
        {
            1: ("领了", ""),
            2: ("未领", ""),
            3: ("已领", "家属代领"),
            4: ("", "本人未到"),
            5: ("未领", "长" * 201),
        },
    )
    rows[6][_AMOUNT] = "拾元"
    rows.insert(7, ["3000000000", *rows[6][1:_AMOUNT], "10", *rows[6][_GIFT:]])
    rows.insert(8, list(rows[1]))
    rows[8][_RESULT] = "已领"
    assert await desk.refused(_csv(rows), Invalid) == [
        ("row 2", "cash_list_result"),
        ("row 3", "result_needs_reason"),
        ("row 4", "result_paid_has_no_reason"),
        ("row 5", "cash_list_result"),
        ("row 6", "string_too_long"),
        ("row 7", "cash_list_number"),
        ("row 8", "cash_list_number"),
    ]


async def test_a_reason_that_tells_of_health_is_refused_at_its_row(desk: Desk) -> None:
    rows = _filled(await desk.rows(), {1: ("未领", "怀孕停检，绝育手术住院")})
    assert await desk.refused(_csv(rows), Invalid) == [("row 2", "telling_words")]


async def test_a_line_that_stands_twice_is_named(desk: Desk) -> None:
    rows = await desk.rows()
    twice = [*rows[:2], rows[1], *rows[2:]]
    assert await desk.refused(_csv(twice), Invalid) == [("row 3", "cash_list_line_repeated")]


async def test_a_reason_written_on_two_lines_becomes_one(desk: Desk) -> None:
    rows = _filled(await desk.rows(), {1: ("未领", "本人未到\r\n电话不通")})
    await desk.bring(_csv(rows))
    assert (await desk.standing())[0] == ("failed", "本人未到 电话不通")
    rows = _filled(rows, {2: ("未领", "响\x07铃")})
    assert await desk.refused(_csv(rows), Invalid) == [("row 3", "control_character")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"%PDF-1.7\x00\x01", FileUnreadable),
        (b"", FileUnreadable),
        (b"PK\x03\x04 no archive", FileUnreadable),
        (b"\xff\xfe" + b"\x00\xd8\x00\xd8" * 5, FileUnreadable),
        ("姓名,金额\r\n张三,10\r\n".encode(), CashListUnreadable),
        (",".join(cash_lists.HEADER).encode(), CashListUnreadable),
    ],
)
async def test_what_is_no_cash_list_is_refused(
    desk: Desk, content: bytes, problem: type[Problem]
) -> None:
    await desk.refused(content, problem)


async def test_a_list_without_its_totals_is_refused(desk: Desk) -> None:
    rows = await desk.rows()
    await desk.refused(_csv(rows[:-2]), CashListUnreadable)
    rows[7][1] = "六"
    await desk.refused(_csv(rows), CashListUnreadable)


@pytest.mark.parametrize("status", sorted(set(RunStatus) - {RunStatus.DISBURSING}))
async def test_results_are_taken_only_while_the_run_is_handed_out(
    desk: Desk, session: AsyncSession, status: RunStatus
) -> None:
    content = _csv(_filled(await desk.rows(), {1: ("已领", "")}))
    desk.run = await make_run(session, desk.thanks.round, desk.thanks.policy, status)
    await session.commit()
    await desk.refused(content, RunStateForbids)


async def test_a_run_beyond_reach_takes_no_list(desk: Desk, session: AsyncSession) -> None:
    content = _csv(await desk.rows())
    for areas in ((GUICHENG,), (SHISHAN,)):
        clerk = make_caller(Role.FINANCE_CLERK, areas=areas)
        with pytest.raises(NotFound):
            await signed_cash_lists.take_back(
                session, clerk, run_id=desk.run.id, content=content, now=clock.now()
            )


@pytest.mark.parametrize(
    ("written", "fen"),
    [
        ("10.00", 1000),
        ("10", 1000),
        ("0.57", 57),
        ("0.57000000000000001", 57),
        ("1,234.50", 123450),
        ("１０", 1000),
        ("10.005", None),
        ("10.004", None),
        ("12,34", None),
        ("-1", None),
        ("NaN", None),
        ("sNaN", None),
        ("Infinity", None),
        ("1e999999", None),
        ("1e15", None),
        ("", None),
        ("十", None),
    ],
)
def test_a_number_is_whole_fen_or_none(written: str, fen: int | None) -> None:
    assert signed_cash_lists.whole_number(written, scale=100) == fen
