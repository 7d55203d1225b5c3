"""Spreadsheets: .xlsx and .csv files read as rows of cells within limits, written as texts."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import count
from typing import Literal

import xlsxwriter

from app.apart import Reader, ReaderLost
from app.problems import Problem

Format = Literal["xlsx", "csv"]
Cell = object
MEDIA_TYPES: dict[Format, str] = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv",
}
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,5})$")
_MAX_LINE = 1024 * 1024
_ENCODINGS = ("utf-8-sig", "gb18030")


class FileUnreadable(Problem):
    """The file is neither an .xlsx nor a .csv file, or is damaged."""

    code, status = "file_unreadable", 422


class FileTooLarge(Problem):
    """The file unpacks to more than the service reads."""

    code, status = "file_too_large", 422


@dataclass(frozen=True)
class Table:
    """One sheet: its rows from the first line of the file on, and about how many there are."""

    rows: Iterator[Sequence[Cell]]
    height: int
    again: Callable[[], Iterator[Sequence[Cell]]]
    """Begins anew with the first line."""


def format_of(content: bytes, name: str | None = None) -> Format:
    """Tell the format by the first bytes; raises FileUnreadable for others, or if the name lies."""
    found = _found(content)
    suffix = _SUFFIX.search(name or "")
    if suffix is not None and suffix[1].lower() != found:
        raise FileUnreadable
    return found


def _found(content: bytes) -> Format:
    if content.startswith(b"PK\x03\x04"):
        return "xlsx"
    is_text = content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" not in content[:4096]
    if not content.strip() or not is_text or content.startswith(b"\xd0\xcf\x11\xe0"):
        raise FileUnreadable
    return "csv"


def read(content: bytes, *, max_rows: int, name: str | None = None) -> Iterator[Table]:
    """Give the sheets one after the other; raises FileUnreadable or FileTooLarge."""
    if format_of(content, name) == "csv":
        yield _read_csv(content)
        return
    yield from _read_workbook(content, max_rows)


def _read_workbook(content: bytes, max_rows: int) -> Iterator[Table]:
    reader = Reader(content, max_rows=max_rows)
    try:
        while True:
            reader.ask()
            sheet = json.loads(_frame(reader))
            if sheet is None:
                return
            rows = _Rows(reader)
            yield Table(iter(rows), sheet["height"], rows.__iter__)
            rows.take_all()
    finally:
        reader.finish()


class _Rows:
    """The rows of a sheet as the reader told them, to be gone through more than once."""

    def __init__(self, reader: Reader) -> None:
        self._reader: Reader | None = reader
        self._taken: list[bytes] = []

    def __iter__(self) -> Iterator[Sequence[Cell]]:
        for number in count():
            if number == len(self._taken) and not self._take():
                return
            yield from json.loads(self._taken[number], object_hook=_moment)

    def take_all(self) -> None:
        while self._take():
            pass

    def _take(self) -> bool:
        """Take some rows more; False when there are none."""
        if self._reader is None:
            return False
        frame = _frame(self._reader)
        if frame == b"null":
            self._reader = None
            return False
        self._taken.append(frame)
        return True


def _frame(reader: Reader) -> bytes:
    """Give the next answer of the reader; raises FileUnreadable or FileTooLarge."""
    try:
        frame = reader.take()
    except ReaderLost:
        raise FileUnreadable from None
    if frame.startswith(b'{"too_large"'):
        raise FileTooLarge(**json.loads(frame)["too_large"])
    if frame.startswith(b'{"unreadable"'):
        raise FileUnreadable
    return frame


def _moment(told: dict[str, str]) -> date:
    """Read a cell with a date, or with a date and a time."""
    ((kind, text),) = told.items()
    return date.fromisoformat(text) if kind == "date" else datetime.fromisoformat(text)


def _read_csv(content: bytes) -> Table:
    encoding = _encoding_of(content)
    start = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="").read(4096)
    delimiter = max(",;\t", key=start.count)

    def again() -> Iterator[list[str]]:
        lines = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="")
        return _rows_of(lines, delimiter)

    return Table(again(), content.count(b"\n") + 1, again)


def _rows_of(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    length = 0

    def bounded() -> Iterator[str]:
        nonlocal length
        for line in lines:
            length += len(line)
            # Each delimiter makes a cell, which takes far more memory than it.
            if length > _MAX_LINE:
                raise FileTooLarge
            yield line

    try:
        for row in csv.reader(bounded(), delimiter=delimiter):
            length = 0
            yield row
    except csv.Error:
        raise FileUnreadable from None


def _encoding_of(content: bytes) -> str:
    """Find an encoding in which the whole file can be read; raises FileUnreadable."""
    is_wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if is_wide else _ENCODINGS:
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    raise FileUnreadable


def text_of(cell: Cell) -> str:
    """Give what a person sees in a cell; a whole number has no fraction."""
    if type(cell) is not str:
        return _written(cell)
    text = cell.strip()
    return text[1:] if text[:1] == "'" and text[1:2] in _DANGEROUS else text


def _written(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime | date):
        return cell.isoformat(" ") if isinstance(cell, datetime) else cell.isoformat()
    return str(cell).strip()


def inert(text: str) -> str:
    """Keep a spreadsheet program from running a cell of a .csv file as a formula."""
    return f"'{text}" if text.startswith(_DANGEROUS) else text


def write(file_format: Format, rows: Iterable[Sequence[str]]) -> bytes:
    """Write rows of texts; none is ever taken for a formula."""
    return _write_xlsx(rows) if file_format == "xlsx" else _write_csv(rows)


def _write_xlsx(rows: Iterable[Sequence[str]]) -> bytes:
    target = io.BytesIO()
    workbook = xlsxwriter.Workbook(target, {"in_memory": True})
    sheet = workbook.add_worksheet()
    as_text = workbook.add_format({"num_format": "@"})
    for number, row in enumerate(rows):
        for column, value in enumerate(row):
            sheet.write_string(number, column, value, as_text)
    workbook.close()
    return target.getvalue()


def _write_csv(rows: Iterable[Sequence[str]]) -> bytes:
    target = io.StringIO()
    writer = csv.writer(target)
    for row in rows:
        writer.writerow([inert(value) for value in row])
    return target.getvalue().encode("utf-8-sig")
