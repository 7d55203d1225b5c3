"""Spreadsheets: .xlsx and .csv files read as rows of cells within limits, written as texts."""

import csv
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Literal
from xml.parsers.expat import ExpatError, ParserCreate

import xlsxwriter
from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook

from app.problems import Problem

Format = Literal["xlsx", "csv"]
Cell = object
MEDIA_TYPES: dict[Format, str] = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "csv": "text/csv",
}
_MAX_MEMBERS = 1_000
_MAX_UNPACKED = 256 * 1024 * 1024
_MAX_RATIO = 200
_RATIO_COUNTS_FROM = 8 * 1024 * 1024
# A reader holds a rectangle: two far-apart cells can fill the memory of a machine.
_MAX_CELLS = 8_000_000
_CHUNK = 1024 * 1024
_CELLS_BELOW = b"sheetData"
_IN_TWO_BYTES = "sheetData".encode("utf-16-be")[1:]
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# All the usual programs write a cell so: its place first, and once. The reader is not as strict as
# a reader of XML is, so whatever else may begin a cell is walked through.
_UNPLACED = re.compile(
    rb"<c(?! r=\"[A-Z]{1,3}[1-9]\d{0,6}\"(?: (?!r=)[A-Za-z:]+=\"[^\"<>]*\")* ?/?>)[\s/>]|:c[\s/>]"
)
_COLUMN = re.compile(rb"<c r=\"([A-Z]+)")
_ROW = re.compile(rb"<c r=\"[A-Z]+(\d+)")
_PLACE = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})", re.IGNORECASE)
_ROW_NO = re.compile(r"[1-9][0-9]{0,6}")
# The reader takes these for workbooks of other kinds, whose cells nobody has counted here.
_OTHER_KINDS = {"xl/workbook.bin", "content.xml"}
_DAMAGED = (
    CalamineError, zipfile.BadZipFile, zlib.error, struct.error, ExpatError,
    RuntimeError, ValueError, ArithmeticError, LookupError, EOFError, OSError,
)  # fmt: skip
_DANGEROUS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,5})$")
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
    try:
        workbook = CalamineWorkbook.from_filelike(_checked(content, max_rows))
        for title in workbook.sheet_names:
            sheet = workbook.get_sheet_by_name(title)
            again = partial(_rows_of_sheet, sheet)
            yield Table(again(), sheet.total_height, again)
    except _DAMAGED:
        raise FileUnreadable from None


def _rows_of_sheet(sheet: CalamineSheet) -> Iterator[Sequence[Cell]]:
    try:
        yield from sheet.iter_rows()
    except _DAMAGED:
        raise FileUnreadable from None


def _checked(content: bytes, max_rows: int) -> io.BytesIO:
    """Unpack everything once, piece by piece, counting what it holds, and pack it anew.

    Two libraries may find different archives in the same bytes: the reader gets what was counted.
    """
    unpacked, names, target = 0, set[str](), io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as archive,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as fresh,
    ):
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise FileTooLarge(rows=max_rows)
        for member in archive.infolist():
            name = member.filename.replace("\\", "/").lower()
            if name in _OTHER_KINDS | names or member.compress_type not in _COMPRESSIONS:
                raise FileUnreadable
            names.add(name)
            with fresh.open(member.filename, "w") as copy:
                for piece in _pieces(archive, member, max_rows):
                    unpacked += len(piece)
                    _refuse_size(unpacked, len(content))
                    copy.write(piece)
    target.seek(0)
    return target


def _pieces(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_rows: int) -> Iterator[bytes]:
    """Give a member in pieces; raises FileUnreadable or FileTooLarge for what its cells claim."""
    extent, rest, is_sheet, is_plain = _Extent(max_rows), b"", False, True
    with archive.open(member) as file:
        while piece := file.read(_CHUNK):
            yield piece
            text = rest + piece
            if _IN_TWO_BYTES in text:
                raise FileUnreadable
            # Any member may be named as a sheet; cells stand below this word in each.
            is_sheet = is_sheet or _CELLS_BELOW in text
            whole = text.rfind(b">") + 1 if is_sheet else max(0, len(text) - 20)
            rest = text[whole:]
            if is_sheet and is_plain:
                is_plain = len(rest) < _CHUNK and extent.add(text[:whole])
            if not is_plain:
                rest = b""
    if not is_plain:
        _measure(archive, member, max_rows)


class _Extent:
    """How far the cells of a sheet reach; a reader holds the whole rectangle."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self._rows = self._width = 0

    def add(self, text: bytes) -> bool:
        """Add the cells of a piece; false if one does not say plainly where it stands."""
        if _UNPLACED.search(text):
            return False
        columns, rows = set(_COLUMN.findall(text)), set(_ROW.findall(text))
        if columns:
            self.reach(max(map(int, rows)), max(map(_number, columns)))
        return True

    def reach(self, row: int, column: int) -> None:
        """Count a cell; raises FileTooLarge when the rectangle is larger than one may be."""
        self._rows, self._width = max(self._rows, row), max(self._width, column)
        if self._rows > self.max_rows or self._rows * self._width > _MAX_CELLS:
            raise FileTooLarge(rows=self.max_rows)


class _Walk:
    """Follows the reader from cell to cell of a sheet that leaves places out; slow and exact."""

    def __init__(self, extent: _Extent) -> None:
        self._extent = extent
        self._row, self._column, self._left = 1, 1, _MAX_CELLS
        # Whatever a part says of its encoding: the reader takes its bytes as they are.
        self.parser = ParserCreate("UTF-8")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._left -= 1
        if self._left < 0:
            raise FileTooLarge(rows=self._extent.max_rows)
        kind, place = name.rpartition(":")[2], attributes.get("r")
        if kind == "row" and place is not None:
            if not _ROW_NO.fullmatch(place):
                raise FileUnreadable
            self._row = int(place)
        elif kind == "c":
            row = self._row
            if place is not None:
                found = _PLACE.fullmatch(place)
                if found is None:
                    raise FileUnreadable
                self._column, row = _number(found[1].upper().encode()), int(found[2])
            self._extent.reach(row, self._column)
            self._column += 1

    def _end(self, name: str) -> None:
        if name.rpartition(":")[2] == "row":
            self._row, self._column = self._row + 1, 1

    def _refuse(self, *_: object) -> None:
        raise FileUnreadable


def _measure(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_rows: int) -> None:
    parser = _Walk(_Extent(max_rows)).parser
    with archive.open(member) as file:
        while piece := file.read(_CHUNK):
            parser.Parse(piece, False)
    parser.Parse(b"", True)


def _refuse_size(unpacked: int, packed: int) -> None:
    is_suspicious = unpacked > _RATIO_COUNTS_FROM and unpacked > _MAX_RATIO * packed
    if unpacked > _MAX_UNPACKED or is_suspicious:
        raise FileTooLarge


def _number(letters: bytes) -> int:
    value = 0
    for letter in letters:
        value = value * 26 + letter - 64
    return value


def _read_csv(content: bytes) -> Table:
    encoding = _encoding_of(content)
    start = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="").read(4096)
    delimiter = max(",;\t", key=start.count)

    def again() -> Iterator[list[str]]:
        lines = io.TextIOWrapper(io.BytesIO(content), encoding=encoding, newline="")
        return _rows_of(csv.reader(lines, delimiter=delimiter))

    return Table(again(), content.count(b"\n") + 1, again)


def _rows_of(reader: Iterable[list[str]]) -> Iterator[list[str]]:
    try:
        yield from reader
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
