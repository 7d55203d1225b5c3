"""What banks and signed lists bring back, with a person in every field that anybody fills."""

import csv
import io
from collections.abc import Iterator
from itertools import cycle

from app import bank_sandbox
from app.services.channels.bank_orders import HEADER
from tests.contract.canaries import ALL, CARD, ID_NUMBER, NAME, NUMBERS, PHONE, WORDS

ORDER = {
    "execution_on": "2100-01-01",
    "debtor_name": WORDS,
    "debtor_account": "8002-0001",
    "debtor_bank_code": "105588000018",
}
_PERSON = (
    f"<Cdtr><Pty><Nm>{NAME}</Nm></Pty></Cdtr><CdtrAcct><Id><Othr><Id>{CARD}</Id></Othr></Id>"
    f"</CdtrAcct><RmtInf><Ustrd>{WORDS} {PHONE}</Ustrd></RmtInf>"
)
_TOLD = f"<AddtlInf>{NAME} {ID_NUMBER} {PHONE}</AddtlInf></StsRsnInf>"


def right_answer(content: bytes) -> bytes:
    """Have the bank refuse each payment of an order, and tell of a person in all its words."""
    rejected = dict.fromkeys(bank_sandbox.Order(content).ids, "AC04")
    report = bank_sandbox.status_report(content, rejected=rejected).decode()
    report = report.replace("</StsRsnInf>", _TOLD).replace(
        "</Amt></OrgnlTxRef>", f"</Amt>{_PERSON}</OrgnlTxRef>"
    )
    assert NAME in report
    assert CARD in report
    return report.encode()


def wrong_answers(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Put a person where ids, codes, amounts and days stand, in each message and in the table."""
    report = bank_sandbox.status_report(content).decode()
    order = bank_sandbox.Order(content)
    for number, right in enumerate((order.message, order.ids[0], "ACSC", order.total, "CNY")):
        for told in (NAME, NUMBERS[number % 3]):
            yield f"{told}.xml", report.replace(right, told).encode()
    for notice in (
        bank_sandbox.notification(content),
        bank_sandbox.notification(content, kind="camt.053"),
    ):
        yield f"{PHONE}.xml", notice.decode().replace(order.ids[0], CARD).encode()
        yield f"{NAME}.xml", notice.decode().replace("CNY", ID_NUMBER).encode()
    yield f"{CARD}.xml", f"<{NAME}>{PHONE}</{NAME}>".encode()
    turns = cycle(ALL)
    for column in range(len(HEADER)):
        cells = ["1", NAME, CARD, WORDS, "1.00", WORDS, "失败", "账号有误"]
        cells[column] = next(turns)
        yield f"{ID_NUMBER}.csv", _csv([list(HEADER), cells, ["文件号", PHONE], ["校验值", CARD]])


def signed_lists(sheet: str) -> Iterator[tuple[str, bytes]]:
    """Put a person into each cell of the first line of a list to sign, and into its totals."""
    rows = list(csv.reader(io.StringIO(sheet.removeprefix("\ufeff"))))
    first = next(number for number, row in enumerate(rows) if row and row[0] == "1")
    for column in range(len(rows[first])):
        for told in (NAME, *NUMBERS):
            line = list(rows[first])
            line[8:10] = "未领", "人未到"
            line[column] = told
            yield f"{told}.csv", _csv([*rows[:first], line, *rows[first + 1 :]])
    for number, row in enumerate(rows):
        if row and number != first:
            told = ALL[number % len(ALL)]
            yield f"{WORDS}.csv", _csv([*rows[:number], [row[0], told], *rows[number + 1 :]])


def _csv(rows: list[list[str]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()
