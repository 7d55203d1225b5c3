"""What a bank answers, read: pain.002.001.10, camt.053 and camt.054.001.08, or our own table."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from uuid import UUID

from app import numbered_ids, plain_xml
from app.crypto import Keyring
from app.models.channels.bank_files import MAX_LINES, BankResultFormat
from app.models.disbursement.payouts import PayoutStatus
from app.plain_xml import Element, XmlRefused
from app.problems import FieldError, Problem, field_error

_ISO = "urn:iso:std:iso:20022:tech:xsd:"
_HEX_ID = re.compile(r"[0-9a-f]{32}")
_CODE = re.compile(r"[A-Z0-9]{2,8}")
_AMOUNT = re.compile(r"[0-9]{1,13}(\.[0-9]{1,5})?")
_COUNT = re.compile(r"[0-9]{1,15}")
_CURRENCY = "CNY"

# The external code sets of ISO 20022: payment (transaction) status, status and return reason.
_DONE = {"ACSC", "ACCC"}
_REFUSED = {"RJCT", "CANC"}
_ON_ITS_WAY = {
    "ACCP", "ACFC", "ACIS", "ACPD", "ACSP", "ACTC", "ACWC", "ACWP", "BLCK", "PART", "PATC",
    "PDNG", "PRES", "RCVD",
}  # fmt: skip
_REASONS = {
    "AC01": "收款账号不正确",
    "AC02": "付款账号不正确",
    "AC03": "收款账号不正确",
    "AC04": "收款账户已销户",
    "AC06": "收款账户被冻结",
    "AC07": "收款账户已销户",
    "AG01": "该账户不允许此类交易",
    "AM04": "付款账户余额不足",
    "AM05": "重复的付款",
    "BE01": "户名与账号不符",
    "BE06": "查无此收款人",
    "MD07": "收款人已故",
    "MS02": "收款人拒收",
    "RC01": "银行行号不正确",
    "RR04": "监管原因",
}


class BankAnswerUnreadable(Problem):
    """The file is no message of those that are taken in, or is damaged."""

    code, status = "bank_answer_unreadable", 422


class BankAnswerMismatch(Problem):
    """Count, sum, hash or amounts are not those of the file that was given to the bank."""

    code, status = "bank_answer_mismatch", 409


@dataclass(frozen=True)
class Said:
    """What a file says of one payment; `payout` is its id, None if it is none of ours.

    `written` is the id that the bank wrote, where ids are known to it by another number.
    """

    row: int | None
    payout: UUID | None
    outcome: PayoutStatus
    amount_fen: int | None = None
    reason: str | None = None
    written: UUID | None = None


@dataclass
class Answer:
    """What a file says: of the message that it answers, if it does, and of each payment."""

    format: BankResultFormat
    message: UUID | None = None
    counts: list[int] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    sha256: str | None = None
    whole: PayoutStatus | None = None
    reason: str | None = None
    said: list[Said] = field(default_factory=list)
    ignored: int = 0

    @property
    def is_statement(self) -> bool:
        """Whether it tells of an account, whatever was ordered."""
        return self.format in {BankResultFormat.CAMT_053, BankResultFormat.CAMT_054}

    def opened(self, keyring: Keyring) -> "Answer":
        """Give it with the ids of payouts as they are inside, not as the bank was given them."""
        said = [
            each
            if each.payout is None
            else replace(
                each, payout=numbered_ids.opened(keyring, each.payout), written=each.payout
            )
            for each in self.said
        ]
        return replace(self, said=said)


def in_words(reason: str | None, *, otherwise: str) -> str:
    """Write why something was not paid; a code without words of its own goes with the others."""
    if reason is None:
        return otherwise
    return f"{otherwise}{reason}" if reason.startswith("（") else reason


def read_xml(content: bytes) -> Answer:
    """Read a message; raises BankAnswerUnreadable, and BankAnswerMismatch if it contradicts itself.

    Only codes are taken over: what a bank writes in words could tell of a person.
    """
    try:
        namespace, root = plain_xml.read(content)
    except XmlRefused:
        raise BankAnswerUnreadable from None
    reader = _READERS.get(namespace)
    if reader is None or root.name != "Document":
        raise BankAnswerUnreadable
    return reader(root)


def mismatch(*errors: FieldError) -> BankAnswerMismatch:
    """Make the refusal of a file that names what differs."""
    return BankAnswerMismatch(errors=list(errors)[:100])


def differs(where: str, code: str) -> FieldError:
    """Name a part of the file that differs."""
    return field_error(where, code, within="file")


def _pain_002(root: Element) -> Answer:
    group = root.at("CstmrPmtStsRpt/OrgnlGrpInfAndSts")
    if group is None:
        raise BankAnswerUnreadable
    answer = Answer(BankResultFormat.PAIN_002, message=_id_of(group.text_at("OrgnlMsgId")))
    _judge_group(answer, group, "GrpSts")
    for part in root.all("CstmrPmtStsRpt/OrgnlPmtInfAndSts"):
        # An order has one part, named like its message.
        if answer.message not in {None, _id_of(part.text_at("OrgnlPmtInfId"))}:
            raise mismatch(differs("OrgnlPmtInfId", "bank_file_differs"))
        _judge_group(answer, part, "PmtInfSts")
        listed = [each.text_at("TxSts") for each in part.all("TxInfAndSts")]
        _check_counts(part, Counter(listed))
        for transaction in part.all("TxInfAndSts"):
            answer.said.append(_status(transaction, len(answer.said) + 1))
    if len(answer.said) > 2 * MAX_LINES:
        raise BankAnswerUnreadable
    return answer


def _judge_group(answer: Answer, group: Element, status: str) -> None:
    count, total = group.text_at("OrgnlNbOfTxs"), group.text_at("OrgnlCtrlSum")
    if count is not None:
        answer.counts.append(_count(count))
    if total is not None:
        answer.sums.append(_fen(total))
    word = group.text_at(status)
    if word is not None:
        outcome = _outcome(word)
        # The bank did nothing of a whole that it rejected.
        answer.whole = PayoutStatus.PENDING if outcome is PayoutStatus.FAILED else outcome
        answer.reason = _reason(group, "StsRsnInf/Rsn")


def _check_counts(part: Element, listed: Mapping[str | None, int]) -> None:
    """Compare how many are listed of a status, where any are, with how many there should be."""
    for told in part.all("NbOfTxsPerSts"):
        number = listed.get(told.text_at("DtldSts"), 0)
        if number and number != _count(told.text_at("DtldNbOfTxs")):
            raise mismatch(differs("NbOfTxsPerSts", "bank_count_differs"))


def _status(transaction: Element, row: int) -> Said:
    amount = transaction.at("OrgnlTxRef/Amt/InstdAmt")
    return Said(
        row,
        _id_of(transaction.text_at("OrgnlEndToEndId")),
        _outcome(transaction.text_at("TxSts") or ""),
        None if amount is None else _money(amount),
        _reason(transaction, "StsRsnInf/Rsn"),
    )


def _outcome(word: str) -> PayoutStatus:
    if word in _DONE:
        return PayoutStatus.PAID
    if word in _REFUSED:
        return PayoutStatus.FAILED
    return PayoutStatus.SENDING if word in _ON_ITS_WAY else PayoutStatus.UNKNOWN


def _reason(of: Element, path: str) -> str | None:
    code = of.text_at(f"{path}/Cd", f"{path}/Prtry") or ""
    return f"{_REASONS.get(code, '')}（{code}）" if _CODE.fullmatch(code) else None


def _statement(kind: BankResultFormat, body: str, report: str) -> Callable[[Element], Answer]:
    def read(root: Element) -> Answer:
        if root.at(body) is None:
            raise BankAnswerUnreadable
        answer = Answer(kind)
        for each in root.all(f"{body}/{report}"):
            entries = list(each.all("Ntry"))
            _check_entries(each, entries)
            for entry in entries:
                _booked(answer, entry)
        return answer

    return read


def _check_entries(report: Element, entries: list[Element]) -> None:
    """Compare the entries with the totals that the report states of them."""
    stated = report.at("TxsSummry/TtlNtries")
    if stated is None:
        return
    count, total = stated.text_at("NbOfNtries"), stated.text_at("Sum")
    if count is not None and _count(count) != len(entries):
        raise mismatch(differs("NbOfNtries", "bank_count_differs"))
    if total is not None and _amount(total) != sum(map(_entry_amount, entries)):
        raise mismatch(differs("Sum", "bank_sum_differs"))


def _entry_amount(entry: Element) -> Decimal:
    amount = entry.at("Amt")
    return Decimal(0) if amount is None else _amount(amount.text)


def _booked(answer: Answer, entry: Element) -> None:
    """Read an entry: one payment, or several that were booked together."""
    details = list(entry.all("NtryDtls/TxDtls"))
    ours = [_id_of(each.text_at("Refs/EndToEndId")) for each in details]
    if not any(ours):
        answer.ignored += 1
        return
    alone = entry.at("Amt") if len(details) == 1 else None
    amounts = [each.at("Amt") or alone for each in details]
    known = [_money(each) for each in amounts if each is not None]
    whole = _entry_amount(entry) * 100
    if len(known) < len(details) or (len(known) > 1 and sum(known) != whole):
        raise mismatch(differs("Ntry", "bank_sum_differs"))
    for payout, amount, detail in zip(ours, known, details, strict=True):
        row = len(answer.said) + 1
        outcome = _booking(entry, detail)
        reason = _reason(detail, "RtrInf/Rsn")
        if payout is None:
            answer.ignored += 1
        else:
            answer.said.append(Said(row, payout, outcome, amount, reason))


def _booking(entry: Element, detail: Element) -> PayoutStatus:
    if entry.text_at("Sts/Cd", "Sts/Prtry") != "BOOK":
        return PayoutStatus.SENDING
    side = detail.text_at("CdtDbtInd") or entry.text_at("CdtDbtInd")
    if side == "CRDT":
        return PayoutStatus.RETURNED
    is_reversal = entry.text_at("RvslInd") in {"true", "1"}
    return PayoutStatus.PAID if side == "DBIT" and not is_reversal else PayoutStatus.UNKNOWN


def _id_of(written: str | None) -> UUID | None:
    return UUID(written) if written is not None and _HEX_ID.fullmatch(written) else None


def _count(written: str | None) -> int:
    if written is None or not _COUNT.fullmatch(written):
        raise BankAnswerUnreadable
    return int(written)


def _money(amount: Element) -> int:
    if amount.attributes.get("Ccy") != _CURRENCY:
        raise mismatch(differs("Ccy", "bank_currency_differs"))
    return _fen(amount.text)


def _fen(written: str) -> int:
    """Read yuan as fen, exactly; a part of a fen is in no order of ours."""
    fen = _amount(written) * 100
    if fen != fen.to_integral_value():
        raise mismatch(differs("Amt", "bank_sum_differs"))
    return int(fen)


def _amount(written: str) -> Decimal:
    written = written.strip()
    if not _AMOUNT.fullmatch(written):
        raise BankAnswerUnreadable
    return Decimal(written)


_READERS: Mapping[str, Callable[[Element], Answer]] = {
    f"{_ISO}pain.002.001.10": _pain_002,
    f"{_ISO}camt.053.001.08": _statement(BankResultFormat.CAMT_053, "BkToCstmrStmt", "Stmt"),
    f"{_ISO}camt.054.001.08": _statement(
        BankResultFormat.CAMT_054, "BkToCstmrDbtCdtNtfctn", "Ntfctn"
    ),
}
