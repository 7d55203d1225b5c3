"""Our own table sent back by a bank, with each payment's result filled in."""

import re
from collections.abc import Sequence
from itertools import islice
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from app import sheets
from app.models.channels.bank_files import MAX_LINES, BankResultFormat
from app.models.disbursement.payouts import PayoutStatus, payout_id
from app.models.shapes import Line
from app.problems import FieldError, Invalid, field_error
from app.services.channels.bank_answers import Answer, BankAnswerUnreadable, Said
from app.services.channels.bank_orders import FILE, HEADER
from app.services.channels.cash_lists import COUNT, HASH, SUM
from app.services.channels.signed_cash_lists import whole_number

WORDS = {
    "成功": PayoutStatus.PAID,
    "失败": PayoutStatus.FAILED,
    "退票": PayoutStatus.RETURNED,
    "处理中": PayoutStatus.SENDING,
    "": PayoutStatus.SENDING,
}
"""What may stand as the result of a payment."""
_FOOTER = {FILE, COUNT, SUM, HASH}
_OTHER_ROWS = 100
_LINE_BREAKS = re.compile(r"[\r\n\t]+")
_REASON: TypeAdapter[str] = TypeAdapter(Line)


def read(content: bytes, *, name: str | None, run_id: UUID) -> Answer:
    """Read a table of a run's file, .csv or .xlsx.

    A line is found by its number: account numbers are not read, whatever a spreadsheet program
    has made of them. Raises BankAnswerUnreadable, or Invalid with the rows of wrong cells.
    """
    most = MAX_LINES + _OTHER_ROWS
    table = next(sheets.read(content, max_rows=most, name=name), None)
    rows = [] if table is None else list(islice(table.rows, most + 1))
    if not rows or len(rows) > most or _texts(rows[0])[: len(HEADER)] != list(HEADER):
        raise BankAnswerUnreadable
    answer, footer, errors = Answer(BankResultFormat.CSV), dict[str, str](), list[FieldError]()
    for number, row in enumerate(rows[1:], 2):
        cells = _texts(row)
        if cells[0] in _FOOTER:
            footer[cells[0]] = cells[1]
        elif cells[0][:1].isdigit():
            said = _line(number, cells, run_id)
            if isinstance(said, FieldError):
                errors.append(said)
            else:
                answer.said.append(said)
    if errors:
        raise Invalid(errors=errors[:100])
    return _closed(answer, footer)


def _texts(row: Sequence[sheets.Cell]) -> list[str]:
    return [sheets.text_of(cell) for cell in row] + [""] * (len(HEADER) - len(row))


def _closed(answer: Answer, footer: dict[str, str]) -> Answer:
    """Add what the table states of the whole."""
    count = whole_number(footer.get(COUNT, ""), scale=1)
    amount = whole_number(footer.get(SUM, ""), scale=100)
    try:
        answer.message = UUID(footer.get(FILE, ""))
    except ValueError:
        raise BankAnswerUnreadable from None
    if count is None or amount is None or HASH not in footer:
        raise BankAnswerUnreadable
    listed = sum(said.amount_fen or 0 for said in answer.said)
    answer.counts, answer.sums = [count, len(answer.said)], [amount, listed]
    answer.sha256 = footer[HASH]
    return answer


def _line(row: int, cells: Sequence[str], run_id: UUID) -> Said | FieldError:
    line_no, amount = whole_number(cells[0], scale=1), whole_number(cells[4], scale=100)
    if line_no is None or amount is None or not 1 <= line_no < 2**31:
        return _wrong(row, "cash_list_number")
    outcome, reason = WORDS.get(cells[6]), _LINE_BREAKS.sub(" ", cells[7])
    if outcome is None:
        return _wrong(row, "bank_result_word")
    payout = payout_id(run_id, line_no)
    if not reason:
        return Said(row, payout, outcome, amount)
    try:
        return Said(row, payout, outcome, amount, _REASON.validate_python(reason))
    except ValidationError as error:
        found = error.errors()[0]
        return _wrong(row, found["type"], **found.get("ctx", {}))


def _wrong(row: int, code: str, **facts: object) -> FieldError:
    return field_error(f"row {row}", code, within="file", **facts)
