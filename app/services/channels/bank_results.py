"""What a bank's file says of a run's payouts: checked against what it was given, then entered."""

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import district_wide
from app.identity import Caller
from app.models.channels.bank_files import BankFile, BankResult, BankResultRead, BankResultsRead
from app.models.disbursement.payout_runs import Channel, PayoutRun, RunStatus
from app.models.disbursement.payouts import (
    PayoutStatus,
    ResultStatus,
    SettledPayout,
    payout_id,
)
from app.problems import LineProblem, NotFound, Problem, render_line
from app.services.channels import answered_lines, bank_answers, bank_tables, payout_returns
from app.services.channels.answered_lines import line_no_of
from app.services.channels.bank_answers import Answer, Said, in_words
from app.services.disbursement import payout_runs, payouts
from app.services.disbursement.payouts import Line, PayoutContradiction
from app.services.finance import reservations
from app.services.privacy.bank_discards import NEVER_SENT
from app.wording import Language

_PENDING, _SENDING, _PAID, _FAILED, _RETURNED, _UNKNOWN = (
    PayoutStatus.PENDING,
    PayoutStatus.SENDING,
    PayoutStatus.PAID,
    PayoutStatus.FAILED,
    PayoutStatus.RETURNED,
    PayoutStatus.UNKNOWN,
)
_SAYS_NOTHING_NEW = {
    _PENDING: {_PENDING, _SENDING, _FAILED},
    _SENDING: {_SENDING},
    _PAID: {_PAID, _SENDING},
    _FAILED: {_FAILED, _SENDING, _PENDING},
    _RETURNED: {_RETURNED, _PAID, _SENDING},
}
"""What a file may say of a payout in each state without a change, and without contradicting it."""
_CHANGES = {
    _SENDING: {_PAID, _FAILED, _RETURNED, _PENDING},
    _PAID: {_RETURNED},
}
_REFUSED_BY_BANK, _RETURNED_BY_BANK = "银行拒付", "银行退回"
_MARKS = b"\xef\xbb\xbf \t\r\n"

_ENTER = text(
    "update payouts p set status = l.status, failure_reason = l.reason,"
    " settled_at = case when l.status <> 'pending' then cast(:now as timestamptz) end"
    " from unnest(cast(:members as uuid[]), cast(:rules as uuid[]), cast(:statuses as text[]),"
    " cast(:reasons as text[])) l(member_id, rule_id, status, reason)"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.member_id = l.member_id and p.rule_id = l.rule_id and p.run_id = :run_id"
    " and p.status = 'sending'"
)
_ANSWERED = text(
    "update bank_files f set answered_at = coalesce(answered_at, cast(:now as timestamptz)),"
    " content_sealed = null where district_code = :district_code and run_id = :run_id"
    f" and rejected_at is null and not {NEVER_SENT}"
    " and (id = :id or lines && cast(:lines as int[]))"
)
_REJECTED = text(
    "update bank_files set rejected_at = :now, status_reason = :reason"
    " where district_code = :district_code and run_id = :run_id and id = :id"
)


class BankEntryUnclear(Problem):
    """The bank's word for this payment does not say what became of it; a person looks into it."""

    code, status = "bank_entry_unclear", 409


class BankEntryRepeated(Problem):
    """The statement books this payment twice; a person asks the bank."""

    code, status = "bank_entry_repeated", 409


@dataclass
class _Taken:
    """What a file changes, and the answers to what it says."""

    standing: dict[int, PayoutStatus]
    lines: Mapping[int, Line]
    run_id: UUID
    language: Language
    settled: dict[int, tuple[PayoutStatus, str | None]] = field(default_factory=dict)
    returned: dict[int, str] = field(default_factory=dict)
    items: list[BankResultRead] = field(default_factory=list)

    def payout(self, number: int) -> SettledPayout:
        """Give a payout as the file leaves it."""
        line = self.lines[number]
        status, reason = self.settled.get(number, (line.status, line.failure_reason))
        if number in self.returned:
            status, reason = _RETURNED, self.returned[number]
        return SettledPayout(
            id=payout_id(self.run_id, number),
            line_no=number,
            status=PayoutStatus(status),
            failure_reason=reason,
        )

    def took_nothing(self) -> None:
        """Answer as for a file that was taken in before, and is not again."""
        self.settled, self.returned = {}, {}
        for each in self.items:
            if each.line_no is not None and each.status is ResultStatus.RECORDED:
                each.status, each.resource = ResultStatus.UNCHANGED, self.payout(each.line_no)


async def take(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    run_id: UUID,
    content: bytes,
    now: datetime,
    name: str | None = None,
    language: Language = "zh",
) -> BankResultsRead:
    """Enter what a bank's file says; the same file again changes nothing and says so.

    Raises BankAnswerUnreadable, Invalid, BankAnswerForeign and BankAnswerMismatch, each of which
    leaves everything as it is.
    """
    answer = await asyncio.to_thread(_read, keyring, content, name, run_id)
    run, _ = await payout_runs.lock(session, caller, run_id=run_id)
    payout_runs.require_state(run, RunStatus.DISBURSING, RunStatus.SETTLED)
    payout_runs.require_channel(run, Channel.BANK_FILE)
    digest = hashlib.sha256(content).hexdigest()
    repeated = await session.get(BankResult, (run.district_code, run.id, digest)) is not None
    file = None if answer.is_statement else await answered_lines.file_of(session, run, answer)
    answer, lines = await answered_lines.found(session, run, answer, file)
    answered_lines.check(answer, file, lines, run_id)
    taken = _Taken(_standing(file, lines), lines, run_id, language)
    _judge(taken, answer, file)
    told = {each.line_no for each in taken.items}
    payouts.name_members(session, (line for number, line in lines.items() if number in told))
    if repeated:
        taken.took_nothing()
    else:
        await _enter(session, caller, run, lines=lines, taken=taken, now=now)
        await _mark(session, run, file, lines=lines, taken=taken, reason=answer.reason, now=now)
        session.add(_receipt(caller, run, answer, digest=digest, items=taken.items, now=now))
        await session.flush()
    return BankResultsRead(
        format=answer.format, repeated=repeated, ignored=answer.ignored, items=taken.items
    )


def _receipt(
    caller: Caller,
    run: PayoutRun,
    answer: Answer,
    *,
    digest: str,
    items: Iterable[BankResultRead],
    now: datetime,
) -> BankResult:
    return BankResult(
        district_code=run.district_code,
        run_id=run.id,
        sha256=digest,
        format=answer.format.value,
        recorded=sum(each.status is ResultStatus.RECORDED for each in items),
        taken_at=now,
        taken_by=caller.subject,
    )


def _read(keyring: Keyring, content: bytes, name: str | None, run_id: UUID) -> Answer:
    if content[:100].lstrip(_MARKS).startswith(b"<"):
        return bank_answers.read_xml(content).opened(keyring)
    return bank_tables.read(content, name=name, run_id=run_id)


def _judge(taken: _Taken, answer: Answer, file: BankFile | None) -> None:
    """Decide what each thing that is said changes, in the order in which it is said."""
    booked = set[int]()
    for said in answer.said:
        number = line_no_of(said.payout, taken.run_id)
        problem = _problem(taken, said, number)
        if problem is None and answer.is_statement and said.outcome is _PAID:
            problem = BankEntryRepeated if number in booked else None
            booked.add(number or 0)
        known = number if number in taken.lines else None
        taken.items.append(_answered(taken, said, known, problem))
    if file is not None and answer.whole in {_PAID, _PENDING}:
        told = {line_no_of(said.payout, taken.run_id) for said in answer.said}
        # One that is unknown may be any of the file's: the whole's status is then no line's.
        if told <= taken.standing.keys():
            _judge_whole(taken, answer.whole, file, told=told)


def _is_over(file: BankFile) -> bool:
    """Tell whether another file may have taken its place: it was rejected, or never left."""
    was_never_sent = file.discarded_at is not None and file.given_at is None
    return file.rejected_at is not None or was_never_sent


def _standing(file: BankFile | None, lines: Mapping[int, Line]) -> dict[int, PayoutStatus]:
    """Give the states against which is held what is said.

    What is said of a file that is over says nothing of the one that took its place.
    """
    standing = {number: PayoutStatus(line.status) for number, line in lines.items()}
    if file is None:
        return standing
    moved_on = {_SENDING, _PAID, _RETURNED} if _is_over(file) else set()
    return {
        number: _PENDING if standing[number] in moved_on else standing[number]
        for number in file.lines
        if number in standing
    }


def _judge_whole(
    taken: _Taken, outcome: PayoutStatus, file: BankFile, *, told: Collection[int | None]
) -> None:
    """Decide on the payments of which is said only what became of all.

    A bank that has paid some of them did not do nothing: none is freed to be paid again.
    """
    has_paid = any(status in {_PAID, _RETURNED} for status in taken.standing.values())
    for number in file.lines:
        if number in told or number not in taken.standing:
            continue
        said = Said(None, payout_id(file.run_id, number), outcome)
        problem = _problem(taken, said, number)
        if outcome is _PENDING and has_paid:
            problem = PayoutContradiction
        taken.items.append(_answered(taken, said, number, problem))


def _problem(taken: _Taken, said: Said, number: int | None) -> type[Problem] | None:
    if number is None or number not in taken.standing:
        return NotFound
    if said.outcome is _UNKNOWN:
        return BankEntryUnclear
    status = taken.standing[number]
    known = _SAYS_NOTHING_NEW.get(status, set()) | _CHANGES.get(status, set())
    return None if said.outcome in known else PayoutContradiction


def _answered(
    taken: _Taken, said: Said, line_no: int | None, problem: type[Problem] | None
) -> BankResultRead:
    """Note what a payment becomes, and answer for it."""
    status, refusal = ResultStatus.UNCHANGED, None
    if problem is not None:
        status = ResultStatus.REJECTED
        refusal = LineProblem(**render_line(problem(), language=taken.language))
    elif line_no is not None and said.outcome in _CHANGES.get(taken.standing[line_no], ()):
        status = ResultStatus.RECORDED
        _change(taken, line_no, said)
    return BankResultRead(
        ref=said.row,
        line_no=line_no,
        outcome=said.outcome,
        status=status,
        resource=None if line_no is None or problem is not None else taken.payout(line_no),
        problem=refusal,
    )


def _change(taken: _Taken, number: int, said: Said) -> None:
    if said.outcome is _RETURNED:
        if taken.standing[number] is _SENDING:
            taken.settled[number] = (_PAID, None)
        taken.returned[number] = in_words(said.reason, otherwise=_RETURNED_BY_BANK)
    else:
        failed = said.outcome is _FAILED
        reason = in_words(said.reason, otherwise=_REFUSED_BY_BANK) if failed else None
        taken.settled[number] = (said.outcome, reason)
    taken.standing[number] = said.outcome


async def _enter(
    session: AsyncSession,
    caller: Caller,
    run: PayoutRun,
    *,
    lines: Mapping[int, Line],
    taken: _Taken,
    now: datetime,
) -> None:
    """Write what changed, and move the money with it."""
    if taken.settled:
        params = run.place | {
            "now": now,
            "members": [lines[number].member_id for number in taken.settled],
            "rules": [lines[number].rule_id for number in taken.settled],
            "statuses": [status.value for status, _ in taken.settled.values()],
            "reasons": [reason for _, reason in taken.settled.values()],
        }
        await session.execute(_ENTER, params)
        paid = [
            lines[number].money()
            for number, (status, _) in taken.settled.items()
            if status is _PAID
        ]
        async with district_wide(session):
            await reservations.pay(session, run, lines=paid, subject=caller.subject, now=now)
    for reason in dict.fromkeys(taken.returned.values()):
        back = [lines[number] for number, why in taken.returned.items() if why == reason]
        await payout_returns.give_back(session, caller, run, lines=back, reason=reason, now=now)


async def _mark(
    session: AsyncSession,
    run: PayoutRun,
    file: BankFile | None,
    *,
    lines: Iterable[int],
    taken: _Taken,
    reason: str | None,
    now: datetime,
) -> None:
    """Note on the files that they were answered: what they held of accounts is needed no more."""
    if file is not None and _is_over(file):
        return
    key = {"district_code": run.district_code, "run_id": run.id, "now": now}
    key["id"] = None if file is None else file.id
    numbers = list(lines) if file is None else []
    await session.execute(_ANSWERED, key | {"lines": numbers})
    if any(status is _PENDING for status, _ in taken.settled.values()):
        why = in_words(reason, otherwise=_REFUSED_BY_BANK)
        await session.execute(_REJECTED, key | {"reason": why})
