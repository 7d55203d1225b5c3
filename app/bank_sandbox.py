"""A stand-in for a bank: answers a pain.001.001.09 with pain.002.001.10 and camt.054.001.08.

It moves no money and keeps nothing: each answer is made from the order alone, so that tests and
development have a bank that does as it is told.
"""

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from app import plain_xml
from app.plain_xml import Element

_ISO = "urn:iso:std:iso:20022:tech:xsd:"
_PAIN_001 = f"{_ISO}pain.001.001.09"


class _Payment(NamedTuple):
    end_to_end_id: str
    amount: str


class Order:
    """An order as a bank reads it."""

    def __init__(self, content: bytes) -> None:
        """Read it; raises ValueError for what is no pain.001.001.09."""
        namespace, root = plain_xml.read(content)
        order = root.at("CstmrCdtTrfInitn")
        if namespace != _PAIN_001 or order is None:
            raise ValueError("no pain.001.001.09")
        self.message = _text(order, "GrpHdr/MsgId")
        self.made_at = _text(order, "GrpHdr/CreDtTm")
        self.count = _text(order, "GrpHdr/NbOfTxs")
        self.total = _text(order, "GrpHdr/CtrlSum")
        self.part = _text(order, "PmtInf/PmtInfId")
        self.account = _text(order, "PmtInf/DbtrAcct/Id/Othr/Id")
        self.payments = [
            _Payment(_text(each, "PmtId/EndToEndId"), _text(each, "Amt/InstdAmt"))
            for each in order.all("PmtInf/CdtTrfTxInf")
        ]
        amounts = sum(Decimal(payment.amount) for payment in self.payments)
        if int(self.count) != len(self.payments) or Decimal(self.total) != amounts:
            raise ValueError("control totals")

    @property
    def ids(self) -> list[str]:
        """The end-to-end ids of its payments, in their order."""
        return [payment.end_to_end_id for payment in self.payments]


def _text(element: Element, path: str) -> str:
    found = element.text_at(path)
    if not found:
        raise ValueError(path)
    return found


def status_report(
    content: bytes,
    *,
    rejected: Mapping[str, str] | None = None,
    status: str = "ACSC",
    group: str | None = None,
    reason: str = "AM04",
) -> bytes:
    """Write a pain.002.001.10: what is in `rejected` fails by its code, the rest has `status`.

    With `group`, only the order as a whole has a status, and with RJCT the reason.
    """
    order, rejected = Order(content), rejected or {}
    body = (
        f"<OrgnlMsgId>{order.message}</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>"
        f"<OrgnlNbOfTxs>{order.count}</OrgnlNbOfTxs><OrgnlCtrlSum>{order.total}</OrgnlCtrlSum>"
    )
    if group is not None:
        why = _why(reason) if group == "RJCT" else ""
        body = f"<OrgnlGrpInfAndSts>{body}<GrpSts>{group}</GrpSts>{why}</OrgnlGrpInfAndSts>"
    else:
        counts = {status: len(order.payments) - len(rejected), "RJCT": len(rejected)}
        body = f"<OrgnlGrpInfAndSts>{body}</OrgnlGrpInfAndSts>"
        body += "".join(_transactions(order, counts, rejected, status))
    header = f"<GrpHdr><MsgId>S{order.message[:30]}</MsgId><CreDtTm>{order.made_at}</CreDtTm>"
    report = f"<CstmrPmtStsRpt>{header}</GrpHdr>{body}</CstmrPmtStsRpt>"
    return _document("pain.002.001.10", report)


def _transactions(
    order: Order, counts: Mapping[str, int], rejected: Mapping[str, str], status: str
) -> Iterator[str]:
    yield f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{order.part}</OrgnlPmtInfId>"
    for each, number in counts.items():
        if number:
            yield (
                f"<NbOfTxsPerSts><DtldNbOfTxs>{number}</DtldNbOfTxs><DtldSts>{each}</DtldSts>"
                "</NbOfTxsPerSts>"
            )
    for payment in order.payments:
        code = rejected.get(payment.end_to_end_id)
        word, why = (status, "") if code is None else ("RJCT", _why(code))
        yield (
            f"<TxInfAndSts><OrgnlEndToEndId>{payment.end_to_end_id}</OrgnlEndToEndId>"
            f"<TxSts>{word}</TxSts>{why}"
            f'<OrgnlTxRef><Amt><InstdAmt Ccy="CNY">{payment.amount}</InstdAmt></Amt></OrgnlTxRef>'
            "</TxInfAndSts>"
        )
    yield "</OrgnlPmtInfAndSts>"


def notification(
    content: bytes,
    *,
    booked: Collection[str] | None = None,
    returned: Mapping[str, str] | None = None,
    kind: str = "camt.054",
) -> bytes:
    """Write a camt.054.001.08, or a camt.053: debits of what was booked, credits of what returned.

    Without `booked` all payments are that are not in `returned`.
    """
    order, returned = Order(content), returned or {}
    chosen = set(order.ids) - set(returned) if booked is None else set(booked)
    entries = [_entry(each, "DBIT") for each in order.payments if each.end_to_end_id in chosen]
    entries += [
        _entry(each, "CRDT", returned[each.end_to_end_id])
        for each in order.payments
        if each.end_to_end_id in returned
    ]
    both = [each for each in order.payments if each.end_to_end_id in chosen]
    both += [each for each in order.payments if each.end_to_end_id in returned]
    total = sum(Decimal(each.amount) for each in both)
    body, part = _REPORTS[kind]
    summary = (
        f"<TxsSummry><TtlNtries><NbOfNtries>{len(entries)}</NbOfNtries><Sum>{total}</Sum>"
        "</TtlNtries></TxsSummry>"
    )
    report = (
        f"<{body}><GrpHdr><MsgId>N{order.message[:30]}</MsgId><CreDtTm>{order.made_at}</CreDtTm>"
        f"</GrpHdr><{part}><Id>N{order.message[:30]}</Id><Acct><Id><Othr><Id>{order.account}</Id>"
        f"</Othr></Id></Acct>{_BALANCE if part == 'Stmt' else ''}{summary}{''.join(entries)}"
        f"</{part}></{body}>"
    )
    return _document(f"{kind}.001.08", report)


_REPORTS = {
    "camt.053": ("BkToCstmrStmt", "Stmt"),
    "camt.054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn"),
}
_BALANCE = (
    "<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp>"
    '<Amt Ccy="CNY">1000000.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>'
    "<Dt><Dt>2026-12-01</Dt></Dt></Bal>"
)


def _entry(payment: _Payment, side: str, code: str | None = None) -> str:
    back = "<RvslInd>true</RvslInd>" if code is not None else ""
    family = "RRTN" if code is not None else "DMCT"
    why = f"<RtrInf><Rsn><Cd>{code}</Cd></Rsn></RtrInf>" if code is not None else ""
    amount = f'<Amt Ccy="CNY">{payment.amount}</Amt><CdtDbtInd>{side}</CdtDbtInd>'
    return (
        f"<Ntry>{amount}{back}<Sts><Cd>BOOK</Cd></Sts>"
        f"<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>ICDT</Cd><SubFmlyCd>{family}</SubFmlyCd></Fmly>"
        f"</Domn></BkTxCd><NtryDtls><TxDtls><Refs><EndToEndId>{payment.end_to_end_id}</EndToEndId>"
        f"</Refs>{amount}{why}</TxDtls></NtryDtls></Ntry>"
    )


def _why(code: str) -> str:
    return f"<StsRsnInf><Rsn><Cd>{code}</Cd></Rsn></StsRsnInf>"


def _document(name: str, body: str) -> bytes:
    declared = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{declared}\n<Document xmlns="{_ISO}{name}">{body}</Document>'.encode()
