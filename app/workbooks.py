"""Workbooks of strangers, read by a process of its own: what they claim is counted, then its rows.

It runs by itself, with little memory and time, and knows nothing of Jixie: a workbook that fills
the memory ends this process alone. `app/apart.py` starts it. It answers in frames of JSON, each
behind its length: of a sheet how many rows it has, some rows at a time, null; after the last sheet
null again, or in place of anything why the workbook is refused.
"""

import io
import json
import re
import resource
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from xml.parsers.expat import ExpatError, ParserCreate

from python_calamine import CalamineError, CalamineWorkbook

LENGTH = struct.Struct(">I")
_MAX_MEMBERS = 1_000
_MAX_UNPACKED = 256 * 1024 * 1024
_MAX_RATIO = 200
_RATIO_COUNTS_FROM = 8 * 1024 * 1024
# A reader holds a rectangle: two far-apart cells can fill the memory of a machine.
_MAX_CELLS = 8_000_000
# What is written once in a file may stand in each of its cells.
MAX_TEXT = _MAX_UNPACKED
MAX_FRAME = 4 * 1024 * 1024
_CELLS_PER_FRAME = 2_000
_CHUNK = 1024 * 1024
_CELLS_BELOW = b"sheetData"
_IN_TWO_BYTES = "sheetData".encode("utf-16-be")[1:]
_COMPRESSIONS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# All the usual programs write a cell so: its place first, and once. The reader is not as strict as
# a reader of XML is, so whatever else may begin a cell is walked through.
_UNPLACED = re.compile(
    rb"<c(?! r=\"[A-Z]{1,3}+[1-9]\d{0,6}+\"(?: (?!r=)[A-Za-z:]++=\"[^\"<>]*+\")*+ ?/?>)[\s/>]"
)
_PREFIXED = re.compile(rb":c[\s/>]")
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


class Unreadable(Exception):
    """It is no workbook, is damaged, or says what the reader would not take as it is meant."""


class TooLarge(Exception):
    """It unpacks to more than is read, or its cells stand too far away."""

    def __init__(self, **facts: int) -> None:
        """Take what is said of it: how many rows are allowed."""
        super().__init__()
        self.facts = facts


def checked(content: bytes, max_rows: int) -> io.BytesIO:
    """Unpack everything once, piece by piece, counting what it holds, and pack it anew.

    Two libraries may find different archives in the same bytes: the reader gets what was counted.
    """
    unpacked, names, target = 0, set[str](), io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as archive,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as fresh,
    ):
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise TooLarge(rows=max_rows)
        for member in archive.infolist():
            name = member.filename.replace("\\", "/").lower()
            if name in _OTHER_KINDS | names or member.compress_type not in _COMPRESSIONS:
                raise Unreadable
            names.add(name)
            with fresh.open(member.filename, "w") as copy:
                for piece in _pieces(archive, member, max_rows):
                    unpacked += len(piece)
                    _refuse_size(unpacked, len(content))
                    copy.write(piece)
    target.seek(0)
    return target


def _pieces(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_rows: int) -> Iterator[bytes]:
    """Give a member in pieces; raises Unreadable or TooLarge for what its cells claim."""
    extent, rest, is_sheet, is_plain = _Extent(max_rows), b"", False, True
    with archive.open(member) as file:
        while piece := file.read(_CHUNK):
            yield piece
            text = rest + piece
            if _IN_TWO_BYTES in text:
                raise Unreadable
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
        if _UNPLACED.search(text) or (b":c" in text and _PREFIXED.search(text)):
            return False
        columns, rows = set(_COLUMN.findall(text)), set(_ROW.findall(text))
        if columns:
            self.reach(max(map(int, rows)), max(map(_number, columns)))
        return True

    def reach(self, row: int, column: int) -> None:
        """Count a cell; raises TooLarge when the rectangle is larger than one may be."""
        self._rows, self._width = max(self._rows, row), max(self._width, column)
        if self._rows > self.max_rows or self._rows * self._width > _MAX_CELLS:
            raise TooLarge(rows=self.max_rows)


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
            raise TooLarge(rows=self._extent.max_rows)
        kind, place = name.rpartition(":")[2], attributes.get("r")
        if kind == "row" and place is not None:
            if not _ROW_NO.fullmatch(place):
                raise Unreadable
            self._row = int(place)
        elif kind == "c":
            row = self._row
            if place is not None:
                found = _PLACE.fullmatch(place)
                if found is None:
                    raise Unreadable
                self._column, row = _number(found[1].upper().encode()), int(found[2])
            self._extent.reach(row, self._column)
            self._column += 1

    def _end(self, name: str) -> None:
        if name.rpartition(":")[2] == "row":
            self._row, self._column = self._row + 1, 1

    def _refuse(self, *_: object) -> None:
        raise Unreadable


def _measure(archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_rows: int) -> None:
    parser = _Walk(_Extent(max_rows)).parser
    with archive.open(member) as file:
        while piece := file.read(_CHUNK):
            parser.Parse(piece, False)
    parser.Parse(b"", True)


def _refuse_size(unpacked: int, packed: int) -> None:
    is_suspicious = unpacked > _RATIO_COUNTS_FROM and unpacked > _MAX_RATIO * packed
    if unpacked > _MAX_UNPACKED or is_suspicious:
        raise TooLarge


def _number(letters: bytes) -> int:
    value = 0
    for letter in letters:
        value = value * 26 + letter - 64
    return value


def main(content: bytes, max_rows: int, more: BinaryIO, answers: BinaryIO) -> None:
    """Answer with the sheets one after the other, the next at each byte of `more`."""
    try:
        for said in _said(content, max_rows, more):
            _write(answers, said)
    except TooLarge as refusal:
        _write(answers, _encoded({"too_large": refusal.facts}))
    except (Unreadable, *_DAMAGED):
        _write(answers, _encoded({"unreadable": {}}))


def _write(answers: BinaryIO, said: bytes) -> None:
    answers.write(LENGTH.pack(len(said)) + said)
    answers.flush()


def _said(content: bytes, max_rows: int, more: BinaryIO) -> Iterator[bytes]:
    workbook = CalamineWorkbook.from_filelike(checked(content, max_rows))
    size = 0
    for title in workbook.sheet_names:
        if not more.read(1):
            return
        sheet = workbook.get_sheet_by_name(title)
        yield _encoded({"height": sheet.total_height})
        rows = sheet.iter_rows()
        count = max(1, _CELLS_PER_FRAME // max(1, sheet.width))
        while some := list(islice(rows, count)):
            for frame in _frames(some):
                size += len(frame)
                if size > MAX_TEXT:
                    raise TooLarge
                yield frame
        yield b"null"
    if more.read(1):
        yield b"null"


def _frames(rows: Sequence[Sequence[object]]) -> Iterator[bytes]:
    """Give rows as one frame, or as one each if they are long."""
    frame = _encoded(rows)
    if len(frame) <= MAX_FRAME:
        yield frame
    elif len(rows) > 1:
        for row in rows:
            yield from _frames([row])
    else:
        raise TooLarge


def _told(cell: object) -> object:
    """Tell what JSON has no word for; times of the day and spans are text as they are written."""
    return {type(cell).__name__: cell.isoformat()} if isinstance(cell, date) else str(cell)


_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), check_circular=False, default=_told
).encode


def _encoded(said: object) -> bytes:
    return _encode(said).encode()


def _be_bounded(memory: int, seconds: int) -> None:
    """Take no more memory and processor time than is given, and leave no image of it behind."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Where the whole machine lacks memory, Linux ends this process before any other.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


if __name__ == "__main__":
    _memory, _seconds, _rows, _length = map(int, sys.argv[1:])
    _be_bounded(_memory, _seconds)
    # Whoever asked may have gone.
    with suppress(BrokenPipeError):
        main(sys.stdin.buffer.read(_length), _rows, sys.stdin.buffer, sys.stdout.buffer)
