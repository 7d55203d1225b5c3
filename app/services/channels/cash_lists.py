"""The cash list: what the members of a run sign for, as a sheet with control totals."""

import asyncio
import csv
import hashlib
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import xlsxwriter

from app import reach
from app.database import Statements
from app.identity import Caller
from app.models.disbursement.payout_runs import PROMISED, Channel
from app.models.disbursement.payouts import PayoutStatus
from app.problems import NotAcceptable, Problem
from app.services.disbursement import payout_runs
from app.services.disbursement.payouts import RULE, STATEMENT, Line
from app.services.disbursement.voucher_lines import BY_VOUCHER
from app.sheets import MEDIA_TYPES, Format, inert, text_of

MAX_LINES = 50_000
HEADER = (
    "序号", "姓名", "工号", "协会", "项目", "金额(元)", "礼品", "签名", "结果", "原因",
)  # fmt: skip
_WIDTHS = (8, 12, 14, 28, 12, 10, 18, 16, 8, 20)
IDENTITY = slice(1, 5)
"""The columns that tell whose line it is, and what for."""
COUNT, SUM, HASH = "合计笔数", "合计金额(元)", "校验值"
OPEN_COUNT, OPEN_SUM = "其中待发笔数", "其中待发金额(元)"
"""What is to be handed out now: it changes with every result, so no import compares it."""
PERSONS = "名单校验值"
"""The hash of who stands beside which line number, as printed: a person may be renamed since."""
RESULT_WORDS = {PayoutStatus.PAID: "已领", PayoutStatus.FAILED: "未领"}
"""What a line may be given as its result."""
STATE_WORDS = {
    PayoutStatus.PENDING: "",
    PayoutStatus.HELD: "暂缓",
    PayoutStatus.SENDING: "发送中",
    PayoutStatus.UNKNOWN: "待查",
    PayoutStatus.RETURNED: "已退回",
}
"""How a line that has none, or no longer has it, is shown."""
_WORD = RESULT_WORDS | STATE_WORDS

_ROWS = (
    "select p.line_no, p.member_id, p.rule_id, p.status, p.failure_reason, p.amount_fen,"
    " p.quantity, p.association_id, m.name, m.employee_no, a.name as association_name, i.gift_item"
    f" from payouts p{RULE}"
    " join members m on m.district_code = p.district_code and m.id = p.member_id"
    " join associations a on a.district_code = p.district_code and a.id = p.association_id"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    f" and p.run_id = :run_id and i.reward is distinct from 'draw_ticket' and not {BY_VOUCHER}"
    " and (:association_id::uuid is null"
    " or p.association_id = :association_id::uuid) and {}"
    f" order by p.line_no limit {MAX_LINES + 1}"
)


class CashListTooLong(Problem):
    """The list has too many lines to sign; ask for one association's."""

    code, status = "cash_list_too_long", 422


@dataclass(frozen=True)
class Sheet:
    """A file to send."""

    content: bytes
    media_type: str
    name: str


@dataclass(frozen=True)
class Totals:
    """What travels with a sheet and is checked when it comes back."""

    count: int
    amount_fen: int
    sha256: str


def choose_format(asked: Format | None, accept: str | None) -> Format:
    """Give the format asked for, else the first accepted; refuse with NotAcceptable."""
    if asked is not None:
        return asked
    ranges = [part.partition(";")[0].strip() for part in (accept or "*/*").split(",")]
    for wanted in ranges:
        for name, media_type in MEDIA_TYPES.items():
            if wanted in {media_type, media_type.partition("/")[0] + "/*", "*/*"}:
                return name
    raise NotAcceptable(available=", ".join(MEDIA_TYPES.values()))


async def print_list(
    statements: Statements,
    caller: Caller,
    *,
    run_id: UUID,
    association_id: UUID | None,
    form: Format,
) -> Sheet:
    """Give the list of an approved run to sign, whole or of one association."""
    run = await payout_runs.find(statements, caller, run_id=run_id)
    if run.status not in PROMISED:
        raise payout_runs.RunStateForbids(run_status=run.status.value)
    payout_runs.require_channel(run, Channel.CASH_LIST)
    if association_id is None and run.payout_count > MAX_LINES:
        raise CashListTooLong(limit=MAX_LINES)
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    params |= {
        "district_code": caller.district_code,
        "sequence": run.round_sequence,
        "run_id": run_id,
        "association_id": association_id,
    }
    # Whom the run thanked may have moved beyond the reach of who prints.
    rows = await statements.district_wide().fetch(
        _ROWS.format(condition), params, about="member_id"
    )
    if len(rows) > MAX_LINES:
        raise CashListTooLong(limit=MAX_LINES)
    content = await asyncio.to_thread(_written, rows, run_id, form)
    return Sheet(content, MEDIA_TYPES[form], f"cash-list-{run_id}.{form}")


def _written(rows: Sequence[Mapping[str, Any]], run_id: UUID, form: Format) -> bytes:
    table, lines = [_cells(row) for row in rows], [_line(row) for row in rows]
    footer = [*_footer(run_id, lines), [PERSONS, persons_hash(table)]]
    return _write_csv(table, footer) if form == "csv" else _write_xlsx(table, footer)


def control_totals(run_id: UUID, lines: Iterable[Line]) -> Totals:
    """Give count, sum and SHA-256 over the lines in their order."""
    digest, count, amount = hashlib.sha256(), 0, 0
    for line in sorted(lines, key=lambda line: line.line_no):
        fact = (run_id, line.line_no, line.member_id, line.rule_id, line.amount_fen, line.quantity)
        digest.update("|".join(map(str, fact)).encode() + b"\n")
        count += 1
        amount += line.amount_fen
    return Totals(count, amount, digest.hexdigest())


def persons_hash(table: Iterable[Sequence[Any]]) -> str:
    """Give the SHA-256 over line numbers and identifying cells, in the lines' order."""
    digest = hashlib.sha256()
    for cells in sorted(table, key=lambda cells: int(cells[0])):
        fact = (cells[0], *map(comparable, cells[IDENTITY]))
        digest.update("|".join(map(str, fact)).encode() + b"\n")
    return digest.hexdigest()


def comparable(cell: str) -> str:
    """Give what is left of an identifying cell when a program has saved it in its own way.

    Width and blanks do not count, nor the zeros that a number taken for an amount has lost.
    """
    plain = "".join(unicodedata.normalize("NFKC", text_of(cell)).split())
    return plain.lstrip("0") if plain.isdecimal() else plain


def _line(row: Mapping[str, Any]) -> Line:
    return Line(**{name: row[name] for name in Line.__dataclass_fields__})


def _cells(row: Mapping[str, Any]) -> list[Any]:
    return [
        row["line_no"],
        *identity(row),
        _yuan(row["amount_fen"]) if row["amount_fen"] else "",
        gift_text(row["gift_item"], row["quantity"]),
        "",
        _WORD[PayoutStatus(row["status"])],
        row["failure_reason"] or "",
    ]


def identity(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Write the identifying columns of a line as the list shows them."""
    return row["name"], row["employee_no"] or "", row["association_name"], STATEMENT


def gift_text(item: str | None, quantity: int) -> str:
    """Write a gift as the list shows it."""
    return f"{item} × {quantity}" if item else ""


def _yuan(fen: int) -> Decimal:
    return Decimal(fen).scaleb(-2)


def _footer(run_id: UUID, lines: Sequence[Line]) -> list[list[Any]]:
    totals = control_totals(run_id, lines)
    waiting = [line.amount_fen for line in lines if line.status == PayoutStatus.PENDING]
    return [
        [COUNT, totals.count],
        [SUM, _yuan(totals.amount_fen)],
        [OPEN_COUNT, len(waiting)],
        [OPEN_SUM, _yuan(sum(waiting))],
        [HASH, totals.sha256],
    ]


def _write_csv(table: Sequence[Sequence[Any]], footer: Sequence[Sequence[Any]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for row in [HEADER, *table, *footer]:
        writer.writerow([inert(cell) if isinstance(cell, str) else cell for cell in row])
    # The mark lets spreadsheet programs read the Chinese of a CSV.
    return out.getvalue().encode("utf-8-sig")


def _write_xlsx(table: Sequence[Sequence[Any]], footer: Sequence[Sequence[Any]]) -> bytes:
    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(out, options) as book:
        sheet = book.add_worksheet("签领表")
        framed = book.add_format({"border": 1})
        money = book.add_format({"border": 1, "num_format": "0.00"})
        bold = book.add_format({"border": 1, "bold": True})
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        sheet.freeze_panes(1, 0)
        for column, width in enumerate(_WIDTHS):
            sheet.set_column(column, column, width)
        sheet.write_row(0, 0, HEADER, bold)
        for number, row in enumerate(table, 1):
            for column, cell in enumerate(row):
                sheet.write(number, column, cell, money if isinstance(cell, Decimal) else framed)
        for number, row in enumerate(footer, len(table) + 1):
            sheet.write_row(number, 0, row, money if isinstance(row[1], Decimal) else None)
    return out.getvalue()
