"""Which lines a bank's file tells of, and whether its totals are those that the bank was given."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app.models.channels.bank_files import BankFile
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import run_and_line
from app.problems import FieldError, Problem
from app.services.channels.bank_answers import Answer, differs, mismatch
from app.services.channels.cash_lists import control_totals
from app.services.disbursement import payouts
from app.services.disbursement.payouts import Line


class BankAnswerForeign(Problem):
    """The file answers a message that is none of this run's files."""

    code, status = "bank_answer_foreign", 409


async def file_of(session: AsyncSession, run: PayoutRun, answer: Answer) -> BankFile:
    """Give the file that is answered; raises BankAnswerForeign."""
    found = await session.scalar(
        select(BankFile).where(
            col(BankFile.district_code) == run.district_code,
            col(BankFile.run_id) == run.id,
            col(BankFile.id) == answer.message,
        )
    )
    if found is None:
        raise BankAnswerForeign
    return found


async def found(
    session: AsyncSession, run: PayoutRun, answer: Answer, file: BankFile | None
) -> tuple[Answer, dict[int, Line]]:
    """Give an answer by ids as they are inside, and the lines it tells of or its file has."""
    given = set() if file is None else set(file.lines)
    ids = [each for said in answer.said for each in (said.payout, said.written)]
    lines = await payouts.lines_of(session, run, sorted(given | _numbers(ids, run.id)))
    known = _plain_where_none(answer, lines.keys() if file is None else given, run.id)
    told = given | _numbers([said.payout for said in known.said], run.id)
    return known, {number: line for number, line in lines.items() if number in told}


def line_no_of(payout: UUID | None, run_id: UUID) -> int | None:
    """Give the line of this run that a payout is, if it is one."""
    if payout is None:
        return None
    run, line_no = run_and_line(payout)
    return line_no if run == run_id and 0 < line_no < 2**31 else None


def check(answer: Answer, file: BankFile | None, lines: Mapping[int, Line], run_id: UUID) -> None:
    """Compare totals and amounts with what the bank was given; raises BankAnswerMismatch."""
    errors = [] if file is None else list(_totals(answer, file, lines))
    given = lines.keys() if file is None else set(file.lines)
    for said in answer.said:
        line = lines.get(line_no_of(said.payout, run_id) or 0)
        if (
            line is not None
            and line.line_no in given
            and said.amount_fen not in {None, line.amount_fen}
        ):
            errors.append(differs(f"row {said.row}", "bank_amount_differs"))
    if errors:
        raise mismatch(*errors)


def _numbers(ids: Collection[UUID | None], run_id: UUID) -> set[int]:
    return set(filter(None, (line_no_of(each, run_id) for each in ids)))


def _plain_where_none(answer: Answer, given: Collection[int], run_id: UUID) -> Answer:
    """Take an id that leads to no line for the line's own, if it is one.

    Files made before ids were shown by another number gave the bank these. That an id of now is
    taken for one by chance is as likely as one of the lines among 2**40 numbers.
    """
    said = [
        replace(each, payout=each.written)
        if line_no_of(each.payout, run_id) not in given
        and line_no_of(each.written, run_id) in given
        else each
        for each in answer.said
    ]
    return replace(answer, said=said)


def _totals(answer: Answer, file: BankFile, lines: Mapping[int, Line]) -> Iterator[FieldError]:
    if any(count != len(file.lines) for count in answer.counts):
        yield differs("count", "bank_count_differs")
    if any(total != file.amount_fen for total in answer.sums):
        yield differs("sum", "bank_sum_differs")
    given = [lines[number] for number in file.lines if number in lines]
    if answer.sha256 not in {None, control_totals(file.run_id, given).sha256}:
        yield differs("hash", "bank_hash_differs")
