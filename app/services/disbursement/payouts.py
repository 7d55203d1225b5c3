"""Payouts: found by the lines of their run, listed, and marked paid or failed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import district_wide, named
from app.identity import Caller
from app.models.disbursement.payout_runs import Channel, PayoutRun, RunStatus
from app.models.disbursement.payouts import (
    ANCHOR_EVERY,
    PayoutOutcome,
    PayoutStatus,
    ResultLine,
    ResultRead,
    ResultsRead,
    ResultStatus,
    SettledPayout,
    payout_id,
)
from app.problems import (
    FieldError,
    Invalid,
    LineProblem,
    NotFound,
    Problem,
    field_error,
    render_line,
)
from app.services.disbursement import payout_runs, voucher_lines
from app.services.disbursement.voucher_lines import PayoutByVoucher
from app.services.finance import reservations
from app.services.goods import gift_reservations
from app.services.lucky_draws import draw_tickets
from app.wording import Language

STATEMENT = "协会福利"
"""What every payout is for, to all who read it: it never says what was attended."""

# Every payout has its run and its rule. Of an inner join the planner would expect next to nothing
# of a million rows, and read them all for one page.
RULE = (
    " left join payout_runs r on r.district_code = p.district_code and r.id = p.run_id"
    " left join incentive_rules i on i.district_code = r.district_code"
    " and i.policy_id = r.policy_id and i.number = r.policy_number and i.rule_id = p.rule_id"
)
"""The rule `i` of the payouts `p`, in the version that their run used."""

# Only the first of some lines is indexed: from its member on a line is a few steps along the
# primary key. Lines follow the members; nothing is said of the lines of one.
LINES = (
    " unnest(cast(:lines as int[])) l(line_no)"
    " join payouts anchor on anchor.district_code = :district_code and anchor.run_id = :run_id"
    f" and anchor.line_no % {ANCHOR_EVERY} = 1"
    f" and anchor.line_no = (l.line_no - 1) / {ANCHOR_EVERY} * {ANCHOR_EVERY} + 1"
    " cross join lateral (select * from payouts p where p.district_code = :district_code"
    " and p.round_sequence = anchor.round_sequence and p.run_id = :run_id"
    " and p.member_id >= anchor.member_id"
    " and p.line_no = l.line_no order by p.member_id, p.rule_id limit 1) p"
)
"""The payouts `p` of a run by its line numbers."""

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
        """Give what its payment takes: from funds, from a depot, or as tickets of a draw."""
        names = (
            "line_no", "member_id", "rule_id", "association_id", "amount_fen", "quantity",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


async def enter_results(
    session: AsyncSession,
    caller: Caller,
    *,
    run_id: UUID,
    results: Sequence[ResultLine],
    now: datetime,
    language: Language = "zh",
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
    return await record(
        session, caller, run, lines=lines, results=results, now=now, language=language
    )


def name_members(session: AsyncSession, lines: Iterable[Line]) -> None:
    """Have the act's entry name whose payouts these are: by its answer a line is a number."""
    named(session.info.get("act")).reach(line.member_id for line in lines)


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
    language: Language = "zh",
) -> ResultsRead:
    """Note results of a disbursing run that the transaction holds; answer them in order.

    What was reserved for those paid is spent, or handed out, in the same transaction, and tickets
    that waited go into the draw. Raises draw_tickets.DrawNotOpen.
    """
    name_members(session, [lines[each.line_no] for each in results if each.line_no in lines])
    standing = {number: (line.status, line.failure_reason) for number, line in lines.items()}
    vouchers = await voucher_lines.rules_of(session, run)
    redeemed = {number for number, line in lines.items() if line.rule_id in vouchers}
    answers, changed = [], {}
    for result in results:
        told = PayoutByVoucher if result.line_no in redeemed else _taken(result, standing)
        if told is ResultStatus.RECORDED:
            standing[result.line_no] = (result.outcome.value, result.reason)
            changed[result.line_no] = result
        answers.append(_answer(run, result, told, language))
    if changed:
        await _store(session, run, lines, changed, now)
        paid = [
            lines[number].money()
            for number, result in changed.items()
            if result.outcome is PayoutOutcome.PAID
        ]
        async with district_wide(session):
            for step in (reservations.pay, gift_reservations.hand_out):
                await step(session, run, lines=paid, subject=caller.subject, now=now)
            await draw_tickets.issue_lines(session, run, lines=paid, now=now)
    return ResultsRead(items=answers)


def _taken(
    result: ResultLine, standing: Mapping[int, tuple[str, str | None]]
) -> ResultStatus | type[Problem]:
    known = standing.get(result.line_no)
    if known is None:
        return NotFound
    status, reason = known
    if status == PayoutStatus.PENDING:
        return ResultStatus.RECORDED
    if (status, reason) == (result.outcome.value, result.reason):
        return ResultStatus.UNCHANGED
    return _IN_BETWEEN.get(status, PayoutContradiction)


def _answer(
    run: PayoutRun, result: ResultLine, told: ResultStatus | type[Problem], language: Language
) -> ResultRead:
    if not isinstance(told, ResultStatus):
        return ResultRead(
            ref=result.line_no,
            status=ResultStatus.REJECTED,
            resource=None,
            problem=LineProblem(**render_line(told(), language=language)),
        )
    payout = SettledPayout(
        id=payout_id(run.id, result.line_no),
        line_no=result.line_no,
        status=PayoutStatus(result.outcome.value),
        failure_reason=result.reason,
    )
    return ResultRead(ref=result.line_no, status=told, resource=payout, problem=None)


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
    params = run.place | {
        "now": now,
        "members": [lines[number].member_id for number in changed],
        "rules": [lines[number].rule_id for number in changed],
        "statuses": [result.outcome.value for result in changed.values()],
        "reasons": [result.reason for result in changed.values()],
    }
    await session.execute(_RECORD, params)
