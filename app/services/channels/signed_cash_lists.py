"""The cash list sent back: read from the sheet that was signed, checked, and entered as results."""

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import sheets
from app.database import district_wide
from app.identity import Caller
from app.models.disbursement.payout_runs import Channel, PayoutRun, RunStatus
from app.models.disbursement.payouts import PayoutOutcome, ResultLine, ResultsRead
from app.problems import FieldError, Invalid, Problem, field_error
from app.services.channels.cash_lists import (
    COUNT,
    HASH,
    HEADER,
    IDENTITY,
    MAX_LINES,
    OPEN_COUNT,
    OPEN_SUM,
    PERSONS,
    RESULT_WORDS,
    STATE_WORDS,
    SUM,
    CashListTooLong,
    Totals,
    comparable,
    control_totals,
    gift_text,
    identity,
    persons_hash,
)
from app.services.disbursement import payout_runs, payouts
from app.services.disbursement.payouts import Line
from app.sheets import Cell
from app.wording import Language

_OTHER_ROWS = 100
"""How many rows of a sheet may be no payouts: its header, its totals, blank ones."""
_OUTCOME = {word: PayoutOutcome(status.value) for status, word in RESULT_WORDS.items()}
_FOOTER = frozenset({COUNT, SUM, OPEN_COUNT, OPEN_SUM, HASH, PERSONS})
_LINE_BREAKS = re.compile(r"[\r\n\t]+")
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")
_TOLERANCE = Decimal("0.001")
"""How far from a whole number of units a spreadsheet's float may be."""

_GIFTS = text(
    "select rule_id, gift_item from incentive_rules where district_code = :district_code"
    " and policy_id = :policy_id and number = :number"
)
# Whom the run thanked may have moved beyond the reach of who brings the list.
_PERSONS = text(
    "select l.line_no, m.name, m.employee_no, a.name as association_name"
    " from unnest(cast(:lines as int[]), cast(:members as uuid[]), cast(:associations as uuid[]))"
    " l(line_no, member_id, association_id)"
    " join members m on m.district_code = :district_code and m.id = l.member_id"
    " join associations a on a.district_code = :district_code and a.id = l.association_id"
)


class CashListUnreadable(Problem):
    """The file is not a cash list of this service."""

    code, status = "cash_list_unreadable", 422


class ControlTotalsMismatch(Problem):
    """Count, sum or hash of the sheet are not those of the run: lines were changed."""

    code, status = "control_totals_mismatch", 409


@dataclass(frozen=True)
class Returned:
    """One line of a list sent back, and the row of the sheet in which it stands."""

    row: int
    line_no: int
    identity: Sequence[str]
    amount_fen: int
    gift: str
    result: ResultLine | None


async def take_back(
    session: AsyncSession,
    caller: Caller,
    *,
    run_id: UUID,
    content: bytes,
    now: datetime,
    name: str | None = None,
    language: Language = "zh",
) -> ResultsRead:
    """Enter the results that a list sent back states; lines without a result stay open.

    Raises CashListUnreadable, Invalid with the rows of wrong cells, and ControlTotalsMismatch
    when the sheet's lines are no longer those that were printed. A line is its person's under
    the name that was printed, by the sheet's own hash, or else under her present one.
    """
    returned, stated, as_printed = await asyncio.to_thread(_read, content, name)
    run, _ = await payout_runs.lock(session, caller, run_id=run_id)
    payout_runs.require_state(run, RunStatus.DISBURSING)
    payout_runs.require_channel(run, Channel.CASH_LIST)
    lines = await payouts.lines_of(session, run, [each.line_no for each in returned])
    changed = list(_changed(returned, lines, await _gifts(session, run)))
    if not as_printed:
        changed += _exchanged(returned, await _persons(session, run, lines))
    if changed or len(lines) != len(returned) or control_totals(run_id, lines.values()) != stated:
        raise ControlTotalsMismatch(errors=changed[:100], lines=len(returned))
    results = [each.result for each in returned if each.result is not None]
    return await payouts.record(
        session, caller, run, lines=lines, results=results, now=now, language=language
    )


async def _gifts(session: AsyncSession, run: PayoutRun) -> dict[UUID, str | None]:
    params = {
        "district_code": run.district_code,
        "policy_id": run.policy_id,
        "number": run.policy_number,
    }
    rows = (await session.execute(_GIFTS, params)).all()
    return {row.rule_id: row.gift_item for row in rows}


def _changed(
    returned: Iterable[Returned], lines: Mapping[int, Line], gifts: Mapping[UUID, str | None]
) -> Iterator[FieldError]:
    for each in returned:
        line = lines.get(each.line_no)
        if line is None:
            yield _at(each.row, "cash_list_line_unknown")
        elif each.amount_fen != line.amount_fen:
            yield _at(each.row, "cash_list_amount_changed")
        elif each.gift != gift_text(gifts[line.rule_id], line.quantity):
            yield _at(each.row, "cash_list_gift_changed")


async def _persons(
    session: AsyncSession, run: PayoutRun, lines: Mapping[int, Line]
) -> dict[int, Sequence[str]]:
    params = {
        "district_code": run.district_code,
        "lines": list(lines),
        "members": [line.member_id for line in lines.values()],
        "associations": [line.association_id for line in lines.values()],
    }
    async with district_wide(session):
        rows = (await session.execute(_PERSONS, params)).mappings()
        return {row["line_no"]: identity(dict(row)) for row in rows}


def _exchanged(
    returned: Iterable[Returned], persons: Mapping[int, Sequence[str]]
) -> Iterator[FieldError]:
    """Name every cell that tells of another person than the line's, if it has one."""
    for each in returned:
        printed = persons.get(each.line_no, each.identity)
        for column, cell, own in zip(HEADER[IDENTITY], each.identity, printed, strict=True):
            if comparable(cell) != comparable(own):
                yield _at(each.row, "cash_list_person_changed", column=column)


def _at(row: int, code: str, **facts: object) -> FieldError:
    return field_error(f"row {row}", code, within="file", **facts)


def _read(content: bytes, name: str | None) -> tuple[list[Returned], Totals, bool]:
    """Give the lines of a list sent back, its control totals, and whether its persons are as then.

    Raises CashListUnreadable, CashListTooLong, or Invalid with all errors.
    """
    most = MAX_LINES + _OTHER_ROWS
    table = next(sheets.read(content, max_rows=most, name=name), None)
    rows = [] if table is None else list(islice(table.rows, most + 1))
    if not rows or [sheets.text_of(cell) for cell in rows[0][: len(HEADER)]] != list(HEADER):
        raise CashListUnreadable
    if len(rows) > most:
        raise CashListTooLong(limit=MAX_LINES)
    returned, footer, errors = _sorted_out(rows)
    if errors:
        raise Invalid(errors=errors[:100])
    persons = footer.pop(PERSONS, None)
    if not {COUNT, SUM, HASH} <= set(footer):
        raise CashListUnreadable
    count, amount = whole_number(footer[COUNT], scale=1), whole_number(footer[SUM], scale=100)
    if count is None or amount is None:
        raise CashListUnreadable
    printed = persons_hash((each.line_no, *each.identity) for each in returned)
    return returned, Totals(count, amount, footer[HASH]), persons == printed


def _sorted_out(
    rows: Sequence[Sequence[Cell]],
) -> tuple[list[Returned], dict[str, str], list[FieldError]]:
    """Tell lines from control totals, and both from what is wrong."""
    returned: dict[int, Returned] = {}
    footer: dict[str, str] = {}
    errors: list[FieldError] = []
    for number, row in enumerate(rows[1:], 2):
        cells = [sheets.text_of(cell) for cell in row] + [""] * (len(HEADER) - len(row))
        if cells[0] in _FOOTER:
            footer[cells[0]] = cells[1]
        elif cells[0]:
            line = _line_of(number, cells)
            if isinstance(line, FieldError):
                errors.append(line)
            elif line.line_no in returned:
                errors.append(_at(number, "cash_list_line_repeated"))
            else:
                returned[line.line_no] = line
    return list(returned.values()), footer, errors


def _line_of(row: int, cells: Sequence[str]) -> Returned | FieldError:
    line_no, amount = whole_number(cells[0], scale=1), whole_number(cells[5] or "0", scale=100)
    if line_no is None or amount is None or not 1 <= line_no < 2**31:
        return _at(row, "cash_list_number")
    word, reason = cells[8], _LINE_BREAKS.sub(" ", cells[9])
    outcome = _OUTCOME.get(word)
    if wrong := _wrong_result(word, outcome, reason):
        return _at(row, wrong)
    result = None
    if outcome is not None:
        try:
            result = ResultLine(line_no=line_no, outcome=outcome, reason=reason or None)
        except ValidationError as error:
            found = error.errors()[0]
            return _at(row, found["type"], **found.get("ctx", {}))
    return Returned(row, line_no, cells[IDENTITY], amount, cells[6], result)


def _wrong_result(word: str, outcome: PayoutOutcome | None, reason: str) -> str | None:
    if outcome is None and (word not in STATE_WORDS.values() or (reason and not word)):
        return "cash_list_result"
    if outcome is PayoutOutcome.FAILED and not reason:
        return "result_needs_reason"
    if outcome is PayoutOutcome.PAID and reason:
        return "result_paid_has_no_reason"
    return None


def whole_number(written: str, *, scale: int) -> int | None:
    """Read a whole number of units, as text or as a spreadsheet's float; None when it is none."""
    plain = written.replace(",", "") if _GROUPED.fullmatch(written) else written
    try:
        value = Decimal(plain) * scale
    except ArithmeticError:
        return None
    if not value.is_finite() or not 0 <= value < 2**53:
        return None
    whole = value.to_integral_value()
    return int(whole) if abs(value - whole) <= _TOLERANCE else None
