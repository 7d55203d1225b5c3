"""Roster files as personnel offices send them."""

import csv
import io
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Any

import xlsxwriter

from app import clock, worker
from app.crypto import Keyring
from app.database import Database
from app.models.membership.members import Member
from tests.factories.callers import Client, idempotency_key
from tests.factories.membership.members import make_id_number, make_phone

TITLES = ("序号", "姓名", "身份证号码", "手机号", "工号", "入会日期", "知情同意日期")
_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨"
_GIVEN = "小明大山春华秋实天宇海燕文静建国"


def make_person(seed: int, **facts: Any) -> dict[str, Any]:
    """Give one row by title; the facts replace cells."""
    row = {
        "序号": seed + 1,
        "姓名": _SURNAMES[seed % 16] + _GIVEN[seed // 16 % 14] + _GIVEN[seed // 224 % 14],
        "身份证号码": make_id_number(seed),
        "手机号": make_phone(seed),
        "工号": f"G{seed:06}",
        "入会日期": date(2025, 1 + seed % 12, 1),
        "知情同意日期": date(2025, 12, 1),
    }
    return row | facts


def make_people(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Give rows of different people."""
    return [make_person(seed) for seed in range(start, start + count)]


def _cells(rows: Sequence[dict[str, Any]]) -> list[list[Any]]:
    titles = list(rows[0]) if rows else list(TITLES)
    return [titles, *([row.get(title, "") for title in titles] for row in rows)]


def make_csv(rows: Sequence[dict[str, Any]], *, encoding: str = "utf-8-sig") -> bytes:
    """Write rows as a .csv file."""
    target = io.StringIO()
    csv.writer(target).writerows(_cells(rows))
    return target.getvalue().encode(encoding)


def make_xlsx(rows: Sequence[dict[str, Any]], *, title: str | None = None) -> bytes:
    """Write rows as an .xlsx file with date cells, below a line of title if one is given."""
    target = io.BytesIO()
    workbook = xlsxwriter.Workbook(target, {"in_memory": True})
    sheet = workbook.add_worksheet("花名册")
    as_date = workbook.add_format({"num_format": "yyyy-mm-dd"})
    first = 0
    if title is not None:
        sheet.merge_range(0, 0, 0, 6, title)
        first = 1
    for number, cells in enumerate(_cells(rows), first):
        for column, cell in enumerate(cells):
            if isinstance(cell, date):
                sheet.write_datetime(number, column, cell, as_date)
            else:
                sheet.write(number, column, cell)
    workbook.close()
    return target.getvalue()


async def import_phone(
    caller: Client,
    database: Database,
    keyring: Keyring,
    member: Member,
    phone: str,
    *,
    meanwhile: Callable[[], Awaitable[object]] | None = None,
    **facts: Any,
) -> tuple[str, list[tuple[str, str]]]:
    """Send a roster that says a member's phone; gives its row's outcome and notes.

    `meanwhile` happens after the file was sent, before its import begins.
    """
    person = make_person(0, 姓名=member.name, 工号="", 身份证号码="", 手机号=phone)
    operation = await caller.ok(
        "POST",
        "/v1/members/import",
        status=202,
        files={"file": ("r.csv", make_csv([person]))},
        data={"association_id": str(member.association_id), "dry_run": "false"} | facts,
        headers=idempotency_key(clock.new_id()),
    )
    if meanwhile is not None:
        await meanwhile()
    assert await worker.run_next(database, keyring)
    rows = await caller.ok("GET", f"/v1/operations/{operation['id']}/rows")
    (row,) = rows["items"]
    return row["outcome"], [(note["column"], note["code"]) for note in row["notes"]]
