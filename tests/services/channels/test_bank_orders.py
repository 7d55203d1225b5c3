"""Orders for a bank: true to ISO 20022's own schema, exact to the fen, safe in a spreadsheet."""

import csv
import io
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
import xmlschema

from app import bank_sandbox, plain_xml
from app.models.channels.bank_files import BankFormat
from app.models.disbursement.payouts import payout_id
from app.services.channels import bank_orders
from app.services.channels.bank_orders import Order, Payment
from app.services.channels.cash_lists import Totals
from app.services.privacy.person_data import PayoutAccount
from tests.factories.membership.payout_accounts import make_card_number

_RUN = UUID("0195d5c1-6f00-7000-8000-0a0000000000")
# The schema as ISO publishes it, which a library of the tests ships.
_SCHEMA = xmlschema.XMLSchema(str(files("sepaxml") / "schemas" / "pain.001.001.09.xsd"))
_HOLDERS = ("张小样", "欧阳甪霨", "A & B <公司>", '"引号"\'', "𠮷野家", "＝SUM(A1)")


def _order(amounts: tuple[int, ...] = (12_345, 1, 9_007_199_254_740)) -> Order:
    payments = [
        Payment(
            number,
            payout_id(_RUN, number),
            amount,
            PayoutAccount(
                "bank_card",
                make_card_number(number),
                f"示例银行 & <{number}>",
                _HOLDERS[number % len(_HOLDERS)],
            ),
        )
        for number, amount in enumerate(amounts, 1)
    ]
    return Order(
        id=UUID("0195d5c1-6f00-7000-8000-00000000000a"),
        run_id=_RUN,
        made_at=datetime(2026, 12, 1, 16, 30, tzinfo=UTC),
        execution_on=date(2026, 12, 3),
        debtor_name="南海区计生协会 & <协会>",
        debtor_account="80020000001234567",
        debtor_bank_code="105588000018",
        payments=payments,
        totals=Totals(len(payments), sum(amounts), "0" * 64),
    )


def _xml(order: Order) -> bytes:
    return bank_orders.written(order, BankFormat.PAIN_001)


def test_an_order_holds_to_the_schema_of_iso_20022() -> None:
    _SCHEMA.validate(_xml(_order()).decode())
    _SCHEMA.validate(_xml(_order(tuple(range(1, 500)))).decode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<PmtMtd>TRF</PmtMtd>", ""),
        ("<NbOfTxs>3</NbOfTxs>", "<NbOfTxs>3.5</NbOfTxs>"),
        ('Ccy="CNY"', 'Ccy="RMBY"'),
        ("<EndToEndId>", "<EndToEndId>" + "x" * 35),
    ],
)
def test_the_schema_refuses_what_is_none(before: str, after: str) -> None:
    order = _xml(_order()).decode()
    assert before in order
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        _SCHEMA.validate(order.replace(before, after, 1))


def test_an_order_says_what_is_to_be_paid_and_nothing_else() -> None:
    _, root = plain_xml.read(_xml(_order()))
    order = root.at("CstmrCdtTrfInitn")
    assert order is not None
    for totals in ("GrpHdr", "PmtInf"):
        assert order.text_at(f"{totals}/NbOfTxs") == "3"
        assert order.text_at(f"{totals}/CtrlSum") == "90071992670.86"
    assert order.text_at("GrpHdr/CreDtTm") == "2026-12-02T00:30:00+08:00"
    assert order.text_at("GrpHdr/InitgPty/Nm") == "南海区计生协会 & <协会>"
    second = list(order.all("PmtInf/CdtTrfTxInf"))[1]
    assert second.text_at("PmtId/EndToEndId") == payout_id(_RUN, 2).hex
    assert second.text_at("Amt/InstdAmt") == "0.01"
    assert second.text_at("Cdtr/Nm") == "A & B <公司>"
    assert second.text_at("CdtrAgt/FinInstnId/Nm") == "示例银行 & <2>"
    assert second.text_at("CdtrAcct/Id/Othr/Id") == make_card_number(2)
    assert {each.text for each in order.all("PmtInf/CdtTrfTxInf/RmtInf/Ustrd")} == {"协会福利"}


@pytest.mark.parametrize("form", BankFormat)
def test_an_order_is_written_the_same_each_time(form: BankFormat) -> None:
    assert bank_orders.written(_order(), form) == bank_orders.written(_order(), form)


def test_a_bank_reads_the_order_and_its_totals() -> None:
    order = bank_sandbox.Order(_xml(_order()))
    assert (order.count, order.total, len(order.ids)) == ("3", "90071992670.86", 3)
    with pytest.raises(ValueError, match="control totals"):
        bank_sandbox.Order(_xml(_order()).replace(b">0.01<", b">0.02<"))
    with pytest.raises(ValueError, match="no pain"):
        bank_sandbox.Order(b"<Document/>")


def _table(order: Order) -> list[list[str]]:
    content = bank_orders.written(order, BankFormat.CSV)
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def _as_a_spreadsheet_takes_it(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell


def test_no_spreadsheet_takes_an_account_for_a_number_or_a_name_for_a_formula() -> None:
    header, *rows = _table(_order((1, 2, 3, 4, 5)))
    assert tuple(header) == bank_orders.HEADER
    for number, row in enumerate(rows[:5], 1):
        account = _as_a_spreadsheet_takes_it(row[2])
        assert isinstance(account, str)
        assert account.replace(" ", "") == make_card_number(number)
    assert rows[4][1] == "'＝SUM(A1)"
    footer = {row[0]: row[1] for row in rows[5:]}
    assert all(
        isinstance(_as_a_spreadsheet_takes_it(footer[name]), str)
        for name in ("文件号", "付款账号", "付款行号")
    )
    assert (footer["合计笔数"], footer["合计金额(元)"]) == ("5", "0.15")
