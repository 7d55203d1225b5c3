"""An order to a bank, written as ISO 20022 pain.001.001.09 or as our own table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from html import escape
from uuid import UUID

from app import sheets
from app.clock import CIVIL_ZONE
from app.models.channels.bank_files import BankFormat
from app.services.channels.cash_lists import COUNT, HASH, SUM, Totals
from app.services.disbursement.payouts import STATEMENT
from app.services.privacy.person_data import PayoutAccount

PAIN_001 = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
MEDIA_TYPES = {BankFormat.PAIN_001: "application/xml", BankFormat.CSV: "text/csv"}
HEADER = ("序号", "收款人", "收款账号", "开户行", "金额(元)", "用途", "结果", "原因")
FILE = "文件号"
_GROUP = 4


@dataclass(frozen=True)
class Payment:
    """One payout of an order, and where it goes; `reference` is its id as known outside."""

    line_no: int
    reference: UUID
    amount_fen: int
    account: PayoutAccount


@dataclass(frozen=True)
class Order:
    """All that a file for the bank says; `totals` are over its lines, as on a cash list."""

    id: UUID
    run_id: UUID
    made_at: datetime
    execution_on: date
    debtor_name: str
    debtor_account: str
    debtor_bank_code: str
    payments: Sequence[Payment]
    totals: Totals


def written(order: Order, form: BankFormat) -> bytes:
    """Write an order, the same bytes each time."""
    return _csv(order) if form is BankFormat.CSV else "\n".join(_pain_001(order)).encode()


def yuan(fen: int) -> Decimal:
    """Give an amount in yuan, exactly."""
    return Decimal(fen).scaleb(-2)


def _pain_001(order: Order) -> Iterator[str]:
    totals = (
        f"<NbOfTxs>{order.totals.count}</NbOfTxs><CtrlSum>{yuan(order.totals.amount_fen)}</CtrlSum>"
    )
    made_at = order.made_at.astimezone(CIVIL_ZONE).isoformat(timespec="seconds")
    name = f"<Nm>{escape(order.debtor_name)}</Nm>"
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<Document xmlns="{PAIN_001}"><CstmrCdtTrfInitn>'
    yield (
        f"<GrpHdr><MsgId>{order.id.hex}</MsgId><CreDtTm>{made_at}</CreDtTm>{totals}"
        f"<InitgPty>{name}</InitgPty></GrpHdr>"
    )
    # Each payment is booked by itself, so that a statement tells of each.
    yield (
        f"<PmtInf><PmtInfId>{order.id.hex}</PmtInfId><PmtMtd>TRF</PmtMtd>"
        f"<BtchBookg>false</BtchBookg>{totals}"
        f"<ReqdExctnDt><Dt>{order.execution_on}</Dt></ReqdExctnDt><Dbtr>{name}</Dbtr>"
        f"<DbtrAcct><Id><Othr><Id>{order.debtor_account}</Id></Othr></Id><Ccy>CNY</Ccy></DbtrAcct>"
        "<DbtrAgt><FinInstnId><ClrSysMmbId><ClrSysId><Cd>CNAPS</Cd></ClrSysId>"
        f"<MmbId>{order.debtor_bank_code}</MmbId></ClrSysMmbId></FinInstnId></DbtrAgt>"
    )
    for payment in order.payments:
        yield _transfer(payment)
    yield "</PmtInf></CstmrCdtTrfInitn></Document>"


def _transfer(payment: Payment) -> str:
    account = payment.account
    return (
        f"<CdtTrfTxInf><PmtId><EndToEndId>{payment.reference.hex}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="CNY">{yuan(payment.amount_fen)}</InstdAmt></Amt>'
        f"<CdtrAgt><FinInstnId><Nm>{escape(account.issuer)}</Nm></FinInstnId></CdtrAgt>"
        f"<Cdtr><Nm>{escape(account.holder)}</Nm></Cdtr>"
        f"<CdtrAcct><Id><Othr><Id>{account.number}</Id></Othr></Id></CdtrAcct>"
        f"<RmtInf><Ustrd>{STATEMENT}</Ustrd></RmtInf></CdtTrfTxInf>"
    )


def _csv(order: Order) -> bytes:
    return sheets.write("csv", [HEADER, *map(_cells, order.payments), *_footer(order)])


def _cells(payment: Payment) -> list[str]:
    account = payment.account
    return [
        str(payment.line_no),
        account.holder,
        _grouped(account.number),
        account.issuer,
        str(yuan(payment.amount_fen)),
        STATEMENT,
        "",
        "",
    ]


def _grouped(number: str) -> str:
    """Write an account's number in groups, which no spreadsheet program takes for a number.

    As a number it would lose its last digits, and pay somebody else.
    """
    return " ".join(number[at : at + _GROUP] for at in range(0, len(number), _GROUP))


def _footer(order: Order) -> list[list[str]]:
    return [
        [FILE, str(order.id)],
        ["付款人", order.debtor_name],
        ["付款账号", _grouped(order.debtor_account)],
        ["付款行号", _grouped(order.debtor_bank_code)],
        ["付款日期", str(order.execution_on)],
        [COUNT, str(order.totals.count)],
        [SUM, str(yuan(order.totals.amount_fen))],
        [HASH, order.totals.sha256],
    ]
