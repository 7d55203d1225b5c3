"""Gateway payments: payouts claimed under a lease, and what became of each, recorded once.

Nothing here calls the gateway. What is claimed is committed before the call, so that whoever finds
a lease that is over knows that the gateway may have been asked to pay, and asks before it sends.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, metrics
from app.crypto import Keyring
from app.database import Statements, note
from app.identity import GATEWAY
from app.models.channels.gateway_payments import GatewayState
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.disbursement.payouts import PayoutStatus, payout_id
from app.payment_gateway import Account, DayTotals, Payment
from app.services.disbursement import payouts, voucher_lines
from app.services.finance import reservations
from app.services.privacy import data_keys, person_data

BATCH = 20
"""How many payouts are claimed at once."""
NO_ACCOUNT = "没有收款账户"
"""Why a payout to somebody without an account in force failed."""

_RUNS = (
    "select r.id from payout_runs r where r.district_code = :district_code"
    " and r.status = 'disbursing' and r.channel = 'gateway' order by r.id"
)
_COUNT_UNKNOWN = (
    "select count(*) from gateway_payments g join payout_runs r"
    " on r.district_code = g.district_code and r.id = g.run_id and r.status = 'disbursing'"
    " where g.district_code = :district_code and g.state = 'unknown'"
)
_PAID_ON = (
    "select count(*), coalesce(sum(amount_fen), 0)::bigint as total_fen from gateway_payments"
    " where district_code = :district_code and paid_on = :day"
)
_SILENT = text(
    "select count(*) from gateway_payments where district_code = :district_code"
    " and run_id = :run_id and state = 'sending' and last_answer not in ('processing', 'asked')"
)
_CLAIM_AGAIN = text(
    "with due as (select line_no from gateway_payments where district_code = :district_code"
    " and run_id = :run_id and state = 'sending' and lease_until <= :now"
    " order by lease_until limit :most for update skip locked)"
    " update gateway_payments g set lease_until = :until, attempts = g.attempts + 1"
    " from due where g.district_code = :district_code and g.run_id = :run_id"
    " and g.line_no = due.line_no"
    " returning g.line_no, g.member_id, g.rule_id, g.amount_fen, g.attempts, g.ask_only,"
    " g.last_answer"
)
_ACCOUNT = (
    f" m.payout_account_sealed, {data_keys.COLUMNS} from {{}} p left join members m"
    " on m.district_code = :district_code and m.id = p.member_id"
    f" {data_keys.JOIN.format('p.member_id')}"
)
_CLAIM_NEW = text(
    "with due as materialized (select p.line_no, p.member_id, p.rule_id, p.amount_fen"
    " from payouts p where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.run_id = :run_id and p.status = 'pending' and p.amount_fen > 0"
    f" and {voucher_lines.OTHERWISE}"
    " and (p.member_id, p.rule_id) > (cast(:member_id as uuid), cast(:rule_id as uuid))"
    " order by p.member_id, p.rule_id limit :most for update skip locked)"
    f" select p.line_no, p.member_id, p.rule_id, p.amount_fen,{_ACCOUNT.format('due')}"
    " order by p.member_id, p.rule_id"
)
_ACCOUNTS = text(
    f"select p.member_id,{_ACCOUNT.format('(select unnest(cast(:ids as uuid[])) as member_id)')}"
)
_BEGIN = text(
    "insert into gateway_payments (district_code, run_id, line_no, round_sequence, member_id,"
    " rule_id, amount_fen, state, sent_at, lease_until, attempts, ask_only) select"
    " :district_code, :run_id, l.line_no, :sequence, l.member_id, l.rule_id, l.amount_fen,"
    " 'sending', :now, :until, 1, false from unnest(cast(:lines as int[]),"
    " cast(:members as uuid[]), cast(:rules as uuid[]), cast(:amounts as bigint[]))"
    " l(line_no, member_id, rule_id, amount_fen)"
)
_MOVE = text(
    "update payouts p set status = l.status, failure_reason = l.reason,"
    " settled_at = case when l.status in ('paid', 'failed') then cast(:now as timestamptz) end"
    " from unnest(cast(:members as uuid[]), cast(:rules as uuid[]), cast(:statuses as text[]),"
    " cast(:reasons as text[])) l(member_id, rule_id, status, reason)"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.member_id = l.member_id and p.rule_id = l.rule_id and p.run_id = :run_id"
    " and p.status = :before"
)
_TAKEN = text(
    "select receipt from gateway_payments where district_code = :district_code"
    " and receipt = any(:receipts)"
)
# A payment that somebody else has recorded meanwhile stays as it is.
_RECORD = text(
    "update gateway_payments g set state = l.state, receipt = l.receipt,"
    " paid_on = case when l.state = 'paid' then coalesce(l.paid_on, cast(:today as date)) end,"
    " last_answer = l.answer,"
    " attempts = case when l.answer in ('processing', 'asked') then 0 else g.attempts end,"
    " ask_only = l.state = 'sending' and (g.ask_only or g.state = 'unknown'),"
    " lease_until = case when l.state = 'sending' then cast(:now as timestamptz)"
    " + l.pause * interval '1 second' end"
    " from unnest(cast(:lines as int[]), cast(:states as text[]), cast(:receipts as text[]),"
    " cast(:answers as text[]), cast(:pauses as float8[]), cast(:days as date[]))"
    " l(line_no, state, receipt, answer, pause, paid_on)"
    " where g.district_code = :district_code and g.run_id = :run_id and g.line_no = l.line_no"
    " and g.state = :before returning g.line_no"
)


@dataclass(frozen=True)
class Claimed:
    """A payout that is ours to send or to ask about, until its lease is over."""

    line_no: int
    member_id: UUID
    rule_id: UUID
    amount_fen: int
    attempts: int = 1
    ask_only: bool = False
    last_answer: str | None = None
    is_new: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a payment has come to, and for how long it is left alone if it has come to nothing."""

    state: GatewayState
    answer: str
    receipt: str | None = None
    paid_on: date | None = None
    reason: str | None = None
    pause: float = 0


@dataclass
class Claims:
    """What one claim gives: whom to pay where, what to ask about, and how far it has looked."""

    again: list[Claimed]
    new: list[Claimed]
    accounts: dict[int, Account]
    after: tuple[UUID, UUID] | None = None


async def list_runs(statements: Statements, *, district_code: str) -> list[UUID]:
    """Give the runs of a district that are being paid over the gateway."""
    rows = await statements.fetch(_RUNS, {"district_code": district_code})
    return [row["id"] for row in rows]


async def count_unknown(statements: Statements, *, district_code: str) -> int:
    """Count the payments of a district that wait for a person."""
    return int(await statements.fetch_value(_COUNT_UNKNOWN, {"district_code": district_code}))


async def totals_on(statements: Statements, *, district_code: str, day: date) -> DayTotals:
    """Give how many payments of a district were made on a day, and of how much."""
    params = {"district_code": district_code, "day": day}
    (row,) = await statements.fetch(_PAID_ON, params)
    return DayTotals(row["count"], row["total_fen"])


def reference_of(run_id: UUID, claimed: Claimed) -> str:
    """Give the payment's key, whoever sends it and however often.

    Not the id that is known outside: whatever becomes of the deployment's keys, what was sent must
    be asked about by the key under which it was sent, or it would be paid twice.
    """
    return str(payout_id(run_id, claimed.line_no))


def payment_of(run_id: UUID, claimed: Claimed, account: Account) -> Payment:
    """Write a payment as the gateway gets it; it never says what was attended."""
    reference = reference_of(run_id, claimed)
    return Payment(reference, claimed.amount_fen, payouts.STATEMENT, account)


async def claim(
    session: AsyncSession,
    keyring: Keyring,
    *,
    district_code: str,
    run_id: UUID,
    after: tuple[UUID, UUID] | None,
    now: datetime,
    until: datetime,
) -> Claims:
    """Take some payments whose lease is over, and the next payouts behind a place in the run.

    While a whole batch waits for an answer in vain nothing new is begun. Who has no account fails.
    """
    run = await session.get(PayoutRun, (district_code, run_id))
    if run is None or run.status != RunStatus.DISBURSING:
        return Claims([], [], {})
    place = {**run.place, "now": now, "until": until}
    rows = await session.execute(_CLAIM_AGAIN, place | {"most": BATCH})
    claims = Claims([Claimed(**row) for row in rows.mappings()], [], {})
    most = BATCH - len(claims.again)
    if not most:
        claims.after = after
    elif after is not None and int(await session.scalar(_SILENT, place) or 0) < BATCH:
        params = place | {"most": most, "member_id": after[0], "rule_id": after[1]}
        params["vouchers"] = list(await voucher_lines.rules_of(session, run))
        found = (await session.execute(_CLAIM_NEW, params)).mappings().all()
        if len(found) == most:
            claims.after = found[-1]["member_id"], found[-1]["rule_id"]
        await _begin(session, keyring, run, claims, found=found, place=place)
    return claims


async def _begin(
    session: AsyncSession,
    keyring: Keyring,
    run: PayoutRun,
    claims: Claims,
    *,
    found: Sequence[Mapping[Any, Any]],
    place: dict[str, Any],
) -> None:
    names = ("line_no", "member_id", "rule_id", "amount_fen")
    moved: list[tuple[Claimed, PayoutStatus, str | None]] = []
    for row in found:
        claimed = Claimed(**{name: row[name] for name in names}, is_new=True)
        account = _account(keyring, row)
        if account is None:
            moved.append((claimed, PayoutStatus.FAILED, NO_ACCOUNT))
            metrics.GATEWAY_PAYMENTS.labels("no_account").inc()
            continue
        moved.append((claimed, PayoutStatus.SENDING, None))
        claims.new.append(claimed)
        claims.accounts[claimed.line_no] = account
    if not moved:
        return
    await _move(session, run, moved, before=PayoutStatus.PENDING, now=place["now"])
    await session.execute(_BEGIN, place | _columns(claims.new))
    note(session, [claimed.member_id for claimed, _, _ in moved])


def _account(keyring: Keyring, row: Mapping[Any, Any]) -> Account | None:
    """Decrypt the account in force; a constraint holds that there is none without consent."""
    key = data_keys.opened_or_none(keyring, row)
    sealed = row["payout_account_sealed"]
    found = person_data.opened(key, row["member_id"], None, None, sealed).account
    if found is None:
        return None
    return Account(found.kind, found.number, found.issuer, found.holder)


async def accounts_of(
    session: AsyncSession, keyring: Keyring, *, district_code: str, claimed: Sequence[Claimed]
) -> dict[int, Account]:
    """Give by line the accounts to which payments are sent again; the audit is told of them."""
    ids = [each.member_id for each in claimed]
    rows = await session.execute(_ACCOUNTS, {"district_code": district_code, "ids": ids})
    found = {row["member_id"]: _account(keyring, row) for row in rows.mappings()}
    note(session, ids)
    accounts = ((each.line_no, found[each.member_id]) for each in claimed)
    return {line_no: account for line_no, account in accounts if account is not None}


async def record(
    session: AsyncSession,
    *,
    district_code: str,
    run_id: UUID,
    outcomes: Sequence[tuple[Claimed, Outcome]],
    now: datetime,
    before: GatewayState = GatewayState.SENDING,
    subject: str = GATEWAY,
) -> int:
    """Note what payments have come to, and spend what was reserved for those paid; give how many.

    A receipt that another payment has leaves a payment unknown: one of the two was not made.
    """
    run = await session.get(PayoutRun, (district_code, run_id), with_for_update=True)
    if run is None:
        return 0
    if before is GatewayState.SENDING:
        outcomes = await _without_repeated_receipts(session, run, outcomes)
    params = {**run.place, **_results(outcomes), "now": now, "before": before}
    params["today"] = clock.civil_date(now)
    changed = set((await session.execute(_RECORD, params)).scalars())
    ended = [
        (claimed, PayoutStatus(outcome.state.value), outcome.reason)
        for claimed, outcome in outcomes
        if claimed.line_no in changed and outcome.state is not before
    ]
    if ended:
        await _move(session, run, ended, before=PayoutStatus(before.value), now=now)
        await _pay(session, run, ended, subject=subject, now=now)
        note(session, [claimed.member_id for claimed, _, _ in ended])
    for _, status, _ in ended:
        metrics.GATEWAY_PAYMENTS.labels(status.value).inc()
    return len(ended)


def _results(outcomes: Sequence[tuple[Claimed, Outcome]]) -> dict[str, Any]:
    return {
        "lines": [claimed.line_no for claimed, _ in outcomes],
        "states": [outcome.state.value for _, outcome in outcomes],
        "receipts": [outcome.receipt for _, outcome in outcomes],
        "answers": [outcome.answer for _, outcome in outcomes],
        "pauses": [outcome.pause for _, outcome in outcomes],
        "days": [outcome.paid_on for _, outcome in outcomes],
    }


async def _without_repeated_receipts(
    session: AsyncSession, run: PayoutRun, outcomes: Sequence[tuple[Claimed, Outcome]]
) -> list[tuple[Claimed, Outcome]]:
    receipts = [outcome.receipt for _, outcome in outcomes if outcome.receipt is not None]
    params = {"district_code": run.district_code, "receipts": receipts}
    taken = set((await session.execute(_TAKEN, params)).scalars())
    kept = []
    for claimed, outcome in outcomes:
        if outcome.receipt is not None and outcome.receipt in taken:
            kept.append((claimed, Outcome(GatewayState.UNKNOWN, "repeated_receipt")))
            continue
        kept.append((claimed, outcome))
        taken.add(outcome.receipt)
    return kept


async def _move(
    session: AsyncSession,
    run: PayoutRun,
    moved: Sequence[tuple[Claimed, PayoutStatus, str | None]],
    *,
    before: PayoutStatus,
    now: datetime,
) -> None:
    params = run.place | {
        "now": now,
        "before": before.value,
        "members": [claimed.member_id for claimed, _, _ in moved],
        "rules": [claimed.rule_id for claimed, _, _ in moved],
        "statuses": [status.value for _, status, _ in moved],
        "reasons": [reason for _, _, reason in moved],
    }
    await session.execute(_MOVE, params)


async def _pay(
    session: AsyncSession,
    run: PayoutRun,
    ended: Iterable[tuple[Claimed, PayoutStatus, str | None]],
    *,
    subject: str,
    now: datetime,
) -> None:
    numbers = [claimed.line_no for claimed, status, _ in ended if status is PayoutStatus.PAID]
    if not numbers:
        return
    lines = await payouts.lines_of(session, run, numbers)
    paid = [lines[number].money() for number in numbers]
    await reservations.pay(session, run, lines=paid, subject=subject, now=now)


def _columns(claimed: Sequence[Claimed]) -> dict[str, Any]:
    return {
        "lines": [each.line_no for each in claimed],
        "members": [each.member_id for each in claimed],
        "rules": [each.rule_id for each in claimed],
        "amounts": [each.amount_fen for each in claimed],
    }
