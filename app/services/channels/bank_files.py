"""Bank files: the next payouts of a run put into one, listed, and given again to be sent."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, identifiers, numbered_ids
from app.crypto import Keyring
from app.database import Statements, district_wide, named, note
from app.identity import Caller
from app.models.channels.bank_files import (
    BankFile,
    BankFileCreate,
    BankFileFilters,
    BankFileMade,
    BankFileRead,
    BankFormat,
)
from app.models.disbursement.payout_runs import Channel, PayoutRun, RunStatus
from app.models.disbursement.payouts import PayoutStatus, payout_id
from app.models.membership.payout_accounts import AccountKind
from app.models.privacy.reveals import RevealField, RevealPurpose
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.services.channels.bank_orders import MEDIA_TYPES, Order, Payment, written
from app.services.channels.cash_lists import Sheet, control_totals
from app.services.disbursement import payout_runs, voucher_lines
from app.services.disbursement.payouts import LINES, Line
from app.services.privacy import data_keys, person_data
from app.services.privacy.person_data import PayoutAccount

NO_ACCOUNT = "没有收款账户"
NO_CARD = "收款账户不是银行账户"
LISTING = Listing(
    columns=(
        "f.id, f.run_id, f.number, f.format, f.execution_on, f.debtor_name,"
        " f.debtor_account_masked, f.debtor_bank_code, cardinality(f.lines) as line_count,"
        f" f.amount_fen, f.sha256, {instant('f.created_at')}, f.created_by,"
        f" {instant('f.answered_at')}, {instant('f.rejected_at')}, f.status_reason,"
        f" {instant('f.given_at')}, {instant('f.discarded_at')}"
    ),
    source="bank_files f",
    order=(Key("number", "f.number", "int"),),
)
_FIND = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from {LISTING.source}"
    " where f.district_code = :district_code and f.run_id = :run_id and f.id = :id) item"
)
# Locked, the row that is answered is the one that a withdrawal has not reached.
_CONTENT = (
    "update bank_files f set given_at ="
    " case when f.content_sealed is null or not :is_given::boolean then f.given_at"
    " else coalesce(f.given_at, :now) end"
    " where f.district_code = :district_code and f.run_id = :run_id and f.id = :id"
    " returning f.number, f.format, f.lines, f.content_sealed, f.discarded_at"
)
_PAYEES = f"select p.member_id from {LINES} order by l.line_no"
_NEXT = text(
    "select p.line_no, p.member_id, p.rule_id, p.status, p.failure_reason, p.amount_fen,"
    f" p.quantity, p.association_id, m.payout_account_sealed, {data_keys.COLUMNS} from payouts p"
    " join members m on m.district_code = p.district_code and m.id = p.member_id"
    f" {data_keys.JOIN.format('p.member_id')}"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.run_id = :run_id and p.status = 'pending' and p.amount_fen > 0"
    f" and {voucher_lines.OTHERWISE}"
    " order by p.member_id, p.rule_id limit :limit"
)
_SEND = text(
    "update payouts p set status = l.status, failure_reason = l.reason,"
    " settled_at = case when l.status = 'failed' then cast(:now as timestamptz) end"
    " from unnest(cast(:members as uuid[]), cast(:rules as uuid[]), cast(:statuses as text[]),"
    " cast(:reasons as text[])) l(member_id, rule_id, status, reason)"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.member_id = l.member_id and p.rule_id = l.rule_id and p.run_id = :run_id"
    " and p.status = 'pending'"
)
_NUMBER = text(
    "select coalesce(max(number), 0) + 1 from bank_files"
    " where district_code = :district_code and run_id = :run_id"
)


class NothingToSend(Problem):
    """No payout of the run waits to be paid by a bank."""

    code, status = "nothing_to_send", 409


class BankFileForgotten(Problem):
    """The file's content is gone: the bank has answered it, or it is too old."""

    code, status = "bank_file_forgotten", 409


class BankFileDiscarded(Problem):
    """The content was discarded: an account in it is not to be used, or nobody fetched it."""

    code, status = "bank_file_discarded", 410


@dataclass(frozen=True)
class _Payee:
    """A payout, and the account that it goes to, or why it cannot be paid."""

    line: Line
    account: PayoutAccount | None
    reason: str | None


async def create(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    run_id: UUID,
    body: BankFileCreate,
    now: datetime,
) -> BankFileMade:
    """Put the next payouts of a run into a file, and count them as on their way.

    Those of members without a bank account fail. Raises NotFound, RunStateForbids, OtherChannel or
    NothingToSend.
    """
    if body.execution_on < clock.civil_date(now):
        raise Invalid.at("/execution_on", "execution_in_the_past")
    run, _ = await payout_runs.lock(session, caller, run_id=run_id)
    payout_runs.require_state(run, RunStatus.DISBURSING)
    payout_runs.require_channel(run, Channel.BANK_FILE)
    async with district_wide(session):
        payees = await _next(session, keyring, run, limit=body.max_lines)
        if not payees:
            raise NothingToSend
        paid = [payee for payee in payees if payee.reason is None]
        await _send(session, run, payees, now)
        file = None
        if paid:
            order = await asyncio.to_thread(_order, keyring, run, body, paid, now)
            file = await _keep(session, caller, keyring, order, body.format)
        _account_for(session, payees, file)
    shown = None if file is None else _shown(file)
    return BankFileMade(file=shown, without_account_count=len(payees) - len(paid))


async def _next(
    session: AsyncSession, keyring: Keyring, run: PayoutRun, *, limit: int
) -> list[_Payee]:
    vouchers = list(await voucher_lines.rules_of(session, run))
    params = run.place | {"limit": limit, "vouchers": vouchers}
    rows = (await session.execute(_NEXT, params)).mappings().all()
    return await asyncio.to_thread(lambda: [_payee(keyring, row) for row in rows])


def _payee(keyring: Keyring, row: Mapping[Any, Any]) -> _Payee:
    line = Line(**{name: row[name] for name in Line.__dataclass_fields__})
    key = data_keys.opened_or_none(keyring, row)
    sealed = row["payout_account_sealed"]
    account = person_data.opened(key, line.member_id, None, None, sealed).account
    if account is None:
        return _Payee(line, None, NO_ACCOUNT)
    is_card = account.kind == AccountKind.BANK_CARD
    return _Payee(line, account, None if is_card else NO_CARD)


async def _send(
    session: AsyncSession, run: PayoutRun, payees: Sequence[_Payee], now: datetime
) -> None:
    status = {True: PayoutStatus.SENDING.value, False: PayoutStatus.FAILED.value}
    params = run.place | {
        "now": now,
        "members": [payee.line.member_id for payee in payees],
        "rules": [payee.line.rule_id for payee in payees],
        "statuses": [status[payee.reason is None] for payee in payees],
        "reasons": [payee.reason for payee in payees],
    }
    await session.execute(_SEND, params)


def _order(
    keyring: Keyring,
    run: PayoutRun,
    body: BankFileCreate,
    paid: Sequence[_Payee],
    now: datetime,
) -> Order:
    return Order(
        id=clock.new_id(),
        run_id=run.id,
        made_at=now,
        execution_on=body.execution_on,
        debtor_name=body.debtor_name,
        debtor_account=body.debtor_account,
        debtor_bank_code=body.debtor_bank_code,
        payments=[
            _payment(keyring, run, payee.line, payee.account)
            for payee in paid
            if payee.account is not None
        ],
        totals=control_totals(run.id, [payee.line for payee in paid]),
    )


def _payment(keyring: Keyring, run: PayoutRun, line: Line, account: PayoutAccount) -> Payment:
    reference = numbered_ids.shown(keyring, payout_id(run.id, line.line_no))
    return Payment(line.line_no, reference, line.amount_fen, account)


async def _keep(
    session: AsyncSession, caller: Caller, keyring: Keyring, order: Order, form: BankFormat
) -> BankFile:
    """Store a file; its content is sealed, as it is given again until the bank answers."""
    content = await asyncio.to_thread(written, order, form)
    place: dict[str, Any] = {"district_code": caller.district_code, "run_id": order.run_id}
    file = BankFile(
        **place,
        id=order.id,
        number=await session.scalar(_NUMBER, place),
        format=form.value,
        execution_on=order.execution_on,
        debtor_name=order.debtor_name,
        debtor_account_masked=identifiers.mask_account(order.debtor_account),
        debtor_bank_code=order.debtor_bank_code,
        lines=[payment.line_no for payment in order.payments],
        amount_fen=order.totals.amount_fen,
        sha256=hashlib.sha256(content).hexdigest(),
        content_sealed=keyring.encrypt_bytes(content, place=_sealed_at(order.id)),
        created_at=order.made_at,
        created_by=caller.subject,
        answered_at=None,
        rejected_at=None,
        status_reason=None,
        given_at=None,
        discarded_at=None,
    )
    session.add(file)
    await session.flush()
    return file


def _sealed_at(file_id: UUID) -> str:
    return f"bank_files.content_sealed:{file_id}"


def _account_for(session: AsyncSession, payees: Sequence[_Payee], file: BankFile | None) -> None:
    """Tell the audit whose accounts were used, and for which file."""
    act = named(session.info.get("act"))
    act.fields, act.purpose = (RevealField.PAYOUT_ACCOUNT.value,), RevealPurpose.PAYOUT.value
    if file is not None:
        act.object_ids = (*act.object_ids, str(file.id))
    note(session, [payee.line.member_id for payee in payees])


def _shown(file: BankFile) -> BankFileRead:
    facts = file.model_dump(exclude={"district_code", "lines", "content_sealed"})
    return BankFileRead(**facts, line_count=len(file.lines))


async def list_files(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    run_id: UUID,
    filters: BankFileFilters,
) -> Slice:
    """Give a page of the bank files of a run within reach, the first one first."""
    await payout_runs.find(statements, caller, run_id=run_id)
    where = Where({"district_code": caller.district_code, "run_id": run_id})
    where.add("f.district_code = :district_code and f.run_id = :run_id")
    return await LISTING.page(statements.showing(run_id), keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, *, run_id: UUID, file_id: UUID
) -> BankFileRead:
    """Give one bank file of a run within reach, or refuse with NotFound."""
    await payout_runs.find(statements, caller, run_id=run_id)
    params = {"district_code": caller.district_code, "run_id": run_id, "id": file_id}
    found = await statements.showing(run_id).fetch_value(_FIND, params)
    if found is None:
        raise NotFound
    return BankFileRead.model_validate_json(found)


async def content(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    run_id: UUID,
    file_id: UUID,
    is_given: bool,
    now: datetime,
) -> Sheet:
    """Give a file to send, byte for byte as it was made, and note that it was given out if it is.

    Raises NotFound, BankFileDiscarded or BankFileForgotten.
    """
    await payout_runs.find(statements, caller, run_id=run_id)
    params = {"district_code": caller.district_code, "run_id": run_id, "id": file_id}
    statements = statements.showing(run_id)
    row = await statements.fetch_row(_CONTENT, params | {"is_given": is_given, "now": now})
    if row is None:
        raise NotFound
    if row["discarded_at"] is not None:
        raise BankFileDiscarded
    if row["content_sealed"] is None:
        raise BankFileForgotten
    act = named(statements.act)
    act.fields, act.purpose = (RevealField.PAYOUT_ACCOUNT.value,), RevealPurpose.PAYOUT.value
    await statements.fetch(_PAYEES, params | {"lines": row["lines"]}, about="member_id")
    opened = keyring.decrypt_bytes(row["content_sealed"], place=_sealed_at(file_id))
    form = BankFormat(row["format"])
    suffix = "csv" if form is BankFormat.CSV else "xml"
    return Sheet(opened, MEDIA_TYPES[form], f"bank-file-{run_id}-{row['number']}.{suffix}")
