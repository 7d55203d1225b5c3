"""Payouts: found by the lines of their run, listed, and marked paid or failed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.payout_runs import Channel, PayoutRun, RunStatus
from app.models.payouts import (
    ANCHOR_EVERY,
    LineProblem,
    PayoutFilters,
    PayoutOutcome,
    PayoutRead,
    PayoutStatus,
    ResultLine,
    ResultRead,
    ResultsRead,
    ResultStatus,
    RunPayoutFilters,
    payout_id_sql,
    run_and_line,
)
from app.models.transfers import EntriesRead
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import FieldError, Invalid, NotFound, Problem, field_error
from app.services import calculations, payout_runs, reservations, transfers

STATEMENT = "协会福利"
"""What every payout is for, to all who read it: it never says what was attended."""

_SHOWN = (
    f"{payout_id_sql('p')} as id, p.run_id,"
    " p.line_no, p.round_sequence, p.member_id, p.association_id, p.rule_id, i.code as rule_code,"
    " p.streak, p.amount_fen, i.gift_item, p.quantity, p.status, p.failure_reason,"
    f" {instant('p.settled_at')}, '{STATEMENT}' as statement"
)
# Every payout has its run and its rule. Of an inner join the planner would expect next to nothing
# of a million rows, and read them all for one page.
RULE = (
    " left join payout_runs r on r.district_code = p.district_code and r.id = p.run_id"
    " left join incentive_rules i on i.district_code = r.district_code"
    " and i.policy_id = r.policy_id and i.number = r.policy_number and i.rule_id = p.rule_id"
)
"""The rule `i` of the payouts `p`, in the version that their run used."""

_WITHIN = (
    "(p.association_id in (select a.id from associations a"
    " where a.district_code = :district_code and {})) is true"
)
_BY_MEMBER = (
    Key("member_id", "p.member_id", "uuid"),
    Key("rule_id", "p.rule_id", "uuid"),
    Key("run_id", "p.run_id", "uuid"),
)
LISTING = Listing(
    columns=_SHOWN,
    source=f"payouts p{RULE}",
    order=(Key("round_sequence", "p.round_sequence", "int"), *_BY_MEMBER),
    hides_cursor=True,
    about="member_id",
)
OF_RUN = Listing(columns=_SHOWN, source=f"payouts p{RULE}", order=_BY_MEMBER[:2], about="member_id")
# Only the first of some lines is indexed: from it a line is a few steps along the primary key.
LINES = (
    " unnest(cast(:lines as int[])) l(line_no)"
    " join payouts anchor on anchor.district_code = :district_code and anchor.run_id = :run_id"
    f" and anchor.line_no % {ANCHOR_EVERY} = 1"
    f" and anchor.line_no = (l.line_no - 1) / {ANCHOR_EVERY} * {ANCHOR_EVERY} + 1"
    " cross join lateral (select * from payouts p where p.district_code = :district_code"
    " and p.round_sequence = anchor.round_sequence and p.run_id = :run_id"
    " and (p.member_id, p.rule_id) >= (anchor.member_id, anchor.rule_id)"
    " and p.line_no = l.line_no order by p.member_id, p.rule_id limit 1) p"
)
"""The payouts `p` of a run by its line numbers."""

_FIND = (
    f"select row_to_json(item)::text, item.member_id from (select {_SHOWN} from {LINES}{RULE}"
    f" where p.district_code = :district_code and {_WITHIN}) item"
)
_STANDING = text(
    "select p.line_no, p.member_id, p.rule_id, p.status, p.failure_reason, p.amount_fen,"
    f" p.quantity, p.association_id from {LINES} order by l.line_no"
)
_RECORD = text(
    "update payouts p set status = l.status, failure_reason = l.reason, settled_at = :now"
    " from unnest(cast(:members as uuid[]), cast(:rules as uuid[]), cast(:statuses as text[]),"
    " cast(:reasons as text[])) l(member_id, rule_id, status, reason)"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.member_id = l.member_id and p.rule_id = l.rule_id and p.run_id = :run_id"
    " and p.status = 'pending'"
)


_RETURN = text(
    "update payouts p set status = 'returned', failure_reason = :reason, settled_at = :now"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.member_id = :member_id and p.rule_id = :rule_id and p.run_id = :run_id"
    " and p.status = 'paid'"
)


class PayoutNotPaid(Problem):
    """Only what was paid can come back."""

    code, status = "payout_not_paid", 409


class PayoutContradiction(Problem):
    """The line already has another result."""

    code, status = "payout_contradiction", 409


class PayoutHeld(Problem):
    """The payout waits for a person, and is not handed out before."""

    code, status = "payout_held", 409


class PayoutSending(Problem):
    """The payout was given to a bank or a provider, which has not told yet what became of it."""

    code, status = "payout_sending", 409


_IN_BETWEEN: Mapping[str, type[Problem]] = {
    PayoutStatus.HELD: PayoutHeld,
    PayoutStatus.SENDING: PayoutSending,
    PayoutStatus.UNKNOWN: PayoutSending,
}


@dataclass(frozen=True)
class Line:
    """A payout as its run's list shows it."""

    line_no: int
    member_id: UUID
    rule_id: UUID
    status: str
    failure_reason: str | None
    amount_fen: int
    quantity: int
    association_id: UUID

    def money(self) -> dict[str, Any]:
        """Give what its payment takes from the funds."""
        names = ("line_no", "rule_id", "association_id", "amount_fen")
        return {name: getattr(self, name) for name in names}


async def list_payouts(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: PayoutFilters
) -> Slice:
    """Give a page of the payouts within reach, by round and member."""
    where = _within(caller, filters)
    where.equal("p.member_id", "member_id", filters.member_id)
    if filters.member_id is not None:
        where.add(
            "p.round_sequence in (select sequence from exam_rounds"
            " where district_code = :district_code)"
        )
    if filters.run_id is not None:
        await _narrow_to_run(statements, caller, where, filters.run_id)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def list_run_payouts(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    run_id: UUID,
    filters: RunPayoutFilters,
) -> Slice:
    """Give a page of a run's payouts in the order of their lines."""
    run = await payout_runs.find(statements, caller, run_id=run_id)
    where = _within(caller, filters)
    where.equal("p.member_id", "member_id", filters.member_id)
    where.add(
        "p.round_sequence = :sequence and p.run_id = :run_id",
        sequence=run.round_sequence,
        run_id=run_id,
    )
    return await OF_RUN.page(statements.showing(run_id), keyring, filters=filters, where=where)


def _within(caller: Caller, filters: PayoutFilters | RunPayoutFilters) -> Where:
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    where = Where({"district_code": caller.district_code})
    where.add("p.district_code = :district_code")
    where.add(_WITHIN.format(condition), **params)
    where.equal("p.status", "status", filters.status)
    where.equal("p.association_id", "association_id", filters.association_id)
    return where


async def _narrow_to_run(
    statements: Statements, caller: Caller, where: Where, run_id: UUID
) -> None:
    """Name the run's round too, so that its payouts are found along the primary key."""
    sequence = await statements.district_wide().fetch_value(
        "select round_sequence from payout_runs where district_code = :district_code and id = :id",
        {"district_code": caller.district_code, "id": run_id},
    )
    where.add(
        "p.round_sequence = :sequence and p.run_id = :run_id",
        sequence=0 if sequence is None else sequence,
        run_id=run_id,
    )


async def find(statements: Statements, caller: Caller, *, payout_id: UUID) -> PayoutRead:
    """Give one payout within reach, or refuse with NotFound."""
    run_id, line_no = run_and_line(payout_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    params |= {"district_code": caller.district_code, "run_id": run_id, "lines": [line_no]}
    found = await statements.district_wide().fetch_value(
        _FIND.format(condition), params, about="member_id"
    )
    if found is None:
        raise NotFound
    return PayoutRead.model_validate_json(found)


async def list_entries(statements: Statements, caller: Caller, *, payout_id: UUID) -> EntriesRead:
    """Give the entries of a payout within reach, or refuse with NotFound."""
    await find(statements, caller, payout_id=payout_id)
    return EntriesRead(items=await transfers.of_payout(statements, caller, payout_id=payout_id))


async def enter_results(
    session: AsyncSession,
    caller: Caller,
    *,
    run_id: UUID,
    results: Sequence[ResultLine],
    now: datetime,
) -> ResultsRead:
    """Note which payouts of a run were paid and which failed; a repeat changes nothing.

    A line that has another result already, or is not of this run, is answered as rejected. Money
    that goes by another channel has no result here; gifts of such a run do.
    """
    _check_reasons(results)
    run, _ = await payout_runs.lock(session, caller, run_id=run_id)
    payout_runs.require_state(run, RunStatus.DISBURSING)
    lines = await lines_of(session, run, [result.line_no for result in results])
    if any(line.amount_fen for line in lines.values()):
        payout_runs.require_channel(run, Channel.CASH_LIST)
    return await record(session, caller, run, lines=lines, results=results, now=now)


async def take_back(
    session: AsyncSession, caller: Caller, *, payout_id: UUID, reason: str, now: datetime
) -> None:
    """Note that a payout came back: the fen return to their funds, the grant becomes free.

    Raises NotFound or PayoutNotPaid.
    """
    run_id, line_no = run_and_line(payout_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    run, _ = await payout_runs.lock(session, caller, run_id=run_id)
    payout_runs.require_state(run, RunStatus.DISBURSING, RunStatus.SETTLED)
    line = (await lines_of(session, run, [line_no])).get(line_no)
    if line is None:
        raise NotFound
    if line.status != PayoutStatus.PAID:
        raise PayoutNotPaid
    params = _place(run) | {"member_id": line.member_id, "rule_id": line.rule_id}
    await session.execute(_RETURN, params | {"reason": reason, "now": now})
    async with district_wide(session):
        await reservations.take_back(
            session, run, line_no=line_no, subject=caller.subject, reason=reason, now=now
        )
        if run.status == RunStatus.SETTLED:
            await calculations.release_failed(session, run)


def _place(run: PayoutRun) -> dict[str, Any]:
    return {
        "district_code": run.district_code,
        "sequence": run.round_sequence,
        "run_id": run.id,
    }


def _check_reasons(results: Iterable[ResultLine]) -> None:
    errors: list[FieldError] = []
    for number, result in enumerate(results):
        if result.outcome is PayoutOutcome.FAILED and result.reason is None:
            errors.append(field_error(f"/results/{number}/reason", "result_needs_reason"))
        if result.outcome is PayoutOutcome.PAID and result.reason is not None:
            errors.append(field_error(f"/results/{number}/reason", "result_paid_has_no_reason"))
    if errors:
        raise Invalid(errors=errors[:100])


async def record(
    session: AsyncSession,
    caller: Caller,
    run: PayoutRun,
    *,
    lines: Mapping[int, Line],
    results: Sequence[ResultLine],
    now: datetime,
) -> ResultsRead:
    """Note results of a disbursing run that the transaction holds; answer them in order.

    What was reserved for those paid is spent in the same transaction.
    """
    standing = {number: (line.status, line.failure_reason) for number, line in lines.items()}
    answers, changed = [], {}
    for result in results:
        answer = _answer(result, standing)
        if answer.status is ResultStatus.RECORDED:
            standing[result.line_no] = (result.outcome.value, result.reason)
            changed[result.line_no] = result
        answers.append(answer)
    if changed:
        await _store(session, run, lines, changed, now)
        paid = [
            lines[number].money()
            for number, result in changed.items()
            if result.outcome is PayoutOutcome.PAID
        ]
        async with district_wide(session):
            await reservations.pay(session, run, lines=paid, subject=caller.subject, now=now)
    return ResultsRead(items=answers)


def _answer(result: ResultLine, standing: Mapping[int, tuple[str, str | None]]) -> ResultRead:
    known = standing.get(result.line_no)
    if known is None:
        return _rejected(result, NotFound)
    status, reason = known
    if status == PayoutStatus.PENDING:
        return ResultRead(ref=result.line_no, status=ResultStatus.RECORDED, problem=None)
    if (status, reason) == (result.outcome.value, result.reason):
        return ResultRead(ref=result.line_no, status=ResultStatus.UNCHANGED, problem=None)
    return _rejected(result, _IN_BETWEEN.get(status, PayoutContradiction))


def _rejected(result: ResultLine, problem: type[Problem]) -> ResultRead:
    return ResultRead(
        ref=result.line_no,
        status=ResultStatus.REJECTED,
        problem=LineProblem(status=problem.status, code=problem.code),
    )


async def lines_of(
    session: AsyncSession, run: PayoutRun, numbers: Sequence[int]
) -> dict[int, Line]:
    """Give the lines of a run by their numbers; those it does not have are left out."""
    params = {
        "district_code": run.district_code,
        "run_id": run.id,
        "lines": sorted(set(numbers)),
    }
    rows = (await session.execute(_STANDING, params)).mappings()
    return {row["line_no"]: Line(**row) for row in rows}


async def _store(
    session: AsyncSession,
    run: PayoutRun,
    lines: Mapping[int, Line],
    changed: Mapping[int, ResultLine],
    now: datetime,
) -> None:
    params = _place(run) | {
        "now": now,
        "members": [lines[number].member_id for number in changed],
        "rules": [lines[number].rule_id for number in changed],
        "statuses": [result.outcome.value for result in changed.values()],
        "reasons": [result.reason for result in changed.values()],
    }
    await session.execute(_RECORD, params)
