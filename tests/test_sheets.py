"""Spreadsheets from outside: read within limits, never unpacked to disk, never run."""

import csv
import io
import random
import re
import zipfile
from datetime import datetime
from pathlib import Path

import pytest
import xlsxwriter
from python_calamine import CalamineWorkbook

from app import sheets, workbooks
from app.sheets import FileTooLarge, FileUnreadable
from tests.factories.membership.rosters import make_csv, make_people, make_xlsx

_FORMULAS = (
    '=HYPERLINK("http://x.example","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1",
    "＝1+1", "＋1", "－1", "＠SUM(A1)", "{=1+1}", "http://x.example",
)  # fmt: skip


def _with(**members: bytes) -> bytes:
    """Give a workbook with members of its archive added or replaced."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(make_xlsx(make_people(2)))) as source,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for info in source.infolist():
            if info.filename not in members:
                archive.writestr(info, source.read(info))
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def _cells(content: bytes, max_rows: int = 1_000) -> list[str]:
    return [
        sheets.text_of(cell)
        for table in sheets.read(content, max_rows=max_rows)
        for row in table.rows
        for cell in row
    ]


def test_an_archive_that_unpacks_to_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(FileTooLarge):
        _cells(_with(**{"xl/media/image1.bin": bytes(300_000_000)}))


def test_an_archive_of_many_files_is_refused() -> None:
    assert len(_cells(_with(**{f"xl/media/{n}": b"" for n in range(50)}))) > 10
    with pytest.raises(FileTooLarge):
        _cells(_with(**{f"xl/media/{n}": b"" for n in range(2_000)}))


def test_a_rectangle_that_would_fill_the_memory_is_refused() -> None:
    row = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    sheet = (
        b'<worksheet><sheetData><row r="1"><c r="A1"/></row>' + row + b"</sheetData></worksheet>"
    )
    with pytest.raises(FileTooLarge):
        _cells(_with(**{"xl/worksheets/sheet1.xml": sheet}))


_SHEET = "xl/worksheets/sheet1.xml"
_RELATIONS = "xl/_rels/workbook.xml.rels"
_ODS = (
    b'<office:document-content xmlns:office="o" xmlns:table="t" xmlns:text="x"><office:body>'
    b'<office:spreadsheet><table:table table:name="a"><table:table-row>'
    b'<table:table-cell office:value-type="string"><text:p>x</text:p></table:table-cell>'
    b"</table:table-row></table:table></office:spreadsheet></office:body></office:document-content>"
)


def _part(name: str, *changes: tuple[bytes, bytes]) -> bytes:
    """Give a part of a workbook with some words put for others."""
    with zipfile.ZipFile(io.BytesIO(make_xlsx(make_people(2)))) as archive:
        content = archive.read(name)
    for old, new in changes:
        assert old in content
        content = content.replace(old, new)
    return content


@pytest.mark.parametrize(
    "change",
    [
        (b'r="A2"', b'r="ZZZZZZZ2"'),
        (b'r="A2"', b'\nr="ZZZZZ2"'),
        (b'r="A2"', b"r='ZZZZZZZ2'"),
        (b'r="A2"', b't="n" r="ZZZZZ2"'),
        (b'r="A2"', b'r="zzzzzzz2"'),
        (b'r="A2"', b'r="A2" r="ZZZZZZZ2"'),
        (b'r="A2"', b'r="A2"r="ZZZZZZZ2"'),
        (b'r="A2"', b'r="A2"\nr = \'ZZZZZZZ2\''),
        (b'r="A2"', b'r="A2" x="<c " r="ZZZZZZZ2"'),
        (b'r="A2"', b'r="A2"/r="ZZZZZZZ2"'),
        (b'r="A2"', b'r="A2" <row r="ZZZZZZZ2"'),
        (b'r="A2"', b'r="A4000000000"'),
        (b'r="A2"', b'r="XFD900000"'),
        (b'r="A2"', b'r="A99999999999999999999"'),
        (b'r="A2"', b'r="A0"'),
        (b'<row r="2"', b'<row r="-1"><c/></row><row r="2"'),
        (b'<row r="2"', b'<row r="4000000000"><c><v>1</v></c></row><row r="2"'),
        (b'<row r="2"', b"<row>" + b"<c><v>1</v></c>" * 9_000 + b'</row><row r="2"'),
        (b'<row r="2"', b"<x:row>" + b"<x:c><v>1</v></x:c>" * 9_000 + b'</x:row><row r="2"'),
        (b'<row r="2"', b"<row>" * 9_000 + b"<c/>" * 9_000 + b"</row>" * 9_000 + b'<row r="2"'),
    ],
    ids=lambda change: change[1][:30],
)  # fmt: skip
@pytest.mark.parametrize("name", ["worksheets/sheet1.xml", "worksheets/Foo.xml", "media/a.png"])
def test_a_cell_far_away_is_refused_however_it_is_written(
    change: tuple[bytes, bytes], name: str
) -> None:
    sheet = _part(_SHEET, change, (b'r="A1"', b'r="A1"'))
    far = sheet.replace(b"</sheetData>", b'<row r="1000"><c r="A1000"/></row></sheetData>')
    relations = _part(_RELATIONS, (b"worksheets/sheet1.xml", name.encode()))
    with pytest.raises((FileTooLarge, FileUnreadable)):
        _cells(_with(**{f"xl/{name}": far, _RELATIONS: relations}))


@pytest.mark.parametrize(("at", "value"), [(20, 5), (4, 1), (8, 99)])
def test_what_is_read_is_the_archive_that_was_checked(at: int, value: int) -> None:
    inner = bytearray(make_xlsx(make_people(2)))
    # An end that some libraries take for one, and others pass over to find the outer archive.
    inner[len(inner) - 22 + at] = value
    far = _part(_SHEET, (b'r="A2"', b'r="XFD999999"'), (b'r="A3"', b'r="B3"'))
    outer = _with(**{_SHEET: far})[:-2] + len(inner).to_bytes(2, "little")
    assert _cells(outer + bytes(inner)) == _cells(make_xlsx(make_people(2)))


def test_a_member_twice_is_refused() -> None:
    with pytest.raises(FileUnreadable):
        _cells(_with(**{_SHEET.upper(): _part(_SHEET)}))


@pytest.mark.parametrize("break_at", [0, 1, 9, 30])
def test_a_cell_far_away_is_seen_across_the_pieces_of_a_long_sheet(break_at: int) -> None:
    start = _part(_SHEET)[: _part(_SHEET).index(b'<c r="A2"')]
    gap = b'<c r="B2"><v>1</v></c>' * 60_000
    gap += b" " * (1024 * 1024 - break_at - len(start + gap) % (1024 * 1024))
    sheet = start + gap + b'<c r="ZZZZZZZ2"><v>1</v></c></row></sheetData></worksheet>'
    with pytest.raises(FileUnreadable):
        _cells(_with(**{_SHEET: sheet}))


def test_a_sheet_whose_cells_leave_their_places_out_is_read() -> None:
    plain = _cells(make_xlsx(make_people(2)))
    places = [(f' r="{column}{row}"'.encode(), b"") for column in "ABCDEFG" for row in (1, 2, 3)]
    assert _cells(_with(**{_SHEET: _part(_SHEET, *places)})) == plain
    reversed_ = [(f'r="B{row}" t="s"'.encode(), f't="s" r="b{row}"'.encode()) for row in (1, 2, 3)]
    assert _cells(_with(**{_SHEET: _part(_SHEET, *reversed_)})) == plain
    with pytest.raises(FileUnreadable):
        _cells(_with(**{_SHEET: b"<!DOCTYPE a>" + _part(_SHEET, *places).partition(b"?>\n")[2]}))


def test_a_walk_through_a_sheet_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "_MAX_CELLS", 5_000)
    crowd = b'<c t="n" r="A1"/>' * 6_000
    content = _with(**{_SHEET: _part(_SHEET, (b'<c r="A1"', crowd + b'<c r="A1"'))})
    with pytest.raises(workbooks.TooLarge):
        workbooks.checked(content, 1_000)


def test_a_workbook_of_another_kind_does_not_come_in_under_the_ending() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", '<manifest xmlns="m"/>')
        archive.writestr("content.xml", _ODS)
    for content in (target.getvalue(), _with(**{"xl\\Workbook.bin": b""})):
        with pytest.raises(FileUnreadable):
            _cells(content)


def _encrypted() -> bytes:
    content = bytearray(make_xlsx(make_people(2)))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(mark, bytes(content)):
            content[found.start() + flags] |= 1
    return bytes(content)


def _deflated_wrongly() -> bytes:
    content = bytearray(make_xlsx(make_people(200)))
    start = content.index(_SHEET.encode()) + len(_SHEET)
    content[start : start + 200] = bytes(range(200))
    return bytes(content)


def _packed_otherwise() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr(_SHEET, "<worksheet/>")
    return target.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        _encrypted(),
        _deflated_wrongly(),
        _packed_otherwise(),
        make_xlsx(make_people(2))[:-60],
        make_xlsx(make_people(2))[:900],
        _with(**{_SHEET: b""}),
        _with(**{_SHEET: _part(_SHEET)[:-200]}),
        _with(**{_SHEET: _part(_SHEET, (b't="s"', b't="zz"'))}),
        _with(**{_SHEET: _part(_SHEET, (b"<v>0</v>", b"<v>999</v>"))}),
        _with(**{_SHEET: _part(_SHEET, (b'<dimension ref="A1:G3"', b'<dimension ref="x"'))}),
        _with(**{_SHEET: _part(_SHEET).decode().encode("utf-16")}),
        _with(**{_RELATIONS: b"\xff\xfe<x"}),
        _with(**{_RELATIONS: _part(_RELATIONS, (b"sheet1.xml", b"sheet9.xml"))}),
        b"\xff\xfe" + b"\x00\xd8\x00\xd8" * 5,
        make_csv(make_people(2), encoding="utf-16")[:-1],
        b"\xfe\xff\xd8",
        make_csv(make_people(2)) + b"\xff\xff",
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_as_one(content: bytes) -> None:
    with pytest.raises(FileUnreadable):
        _cells(content)


def test_whatever_bytes_go_wrong_the_file_is_read_or_refused() -> None:
    whole, dice = make_xlsx(make_people(5)), random.Random(5)
    refused = 0
    for _ in range(60):
        content = bytearray(whole)
        content[dice.randrange(4, len(content))] = dice.randrange(256)
        try:
            _cells(bytes(content))
        except (FileTooLarge, FileUnreadable):
            refused += 1
    assert refused


def test_a_member_with_a_path_of_its_own_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("../../outside.txt", "/tmp/outside-of-jixie.txt", "..\\outside.txt")  # noqa: S108  (a name in an archive)
    assert len(_cells(_with(**dict.fromkeys(names, b"x")))) > 10
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent.parent / "outside.txt").exists()
    assert not Path(names[1]).exists()


def test_a_text_that_stands_in_every_cell_fills_no_memory() -> None:
    text = b"<sst><si><t>" + b"x" * 30_000 + b"</t></si></sst>"
    rows = b"".join(
        b'<row r="%d"><c r="A%d" t="s"><v>0</v></c></row>' % (row, row) for row in range(1, 10_000)
    )
    sheet = b"<worksheet><sheetData>" + rows + b"</sheetData></worksheet>"
    with pytest.raises(FileTooLarge):
        _cells(_with(**{"xl/sharedStrings.xml": text, _SHEET: sheet}), max_rows=10_000)


@pytest.mark.parametrize("crowd", [b"," * 2_000_000, b'"\n",' * 300_000], ids=["one", "many lines"])
def test_a_row_of_text_without_end_is_refused(crowd: bytes) -> None:
    plain = make_csv(make_people(2))
    assert len(_cells(plain + b"," * 1_000)) == len(_cells(plain)) + 1_001
    with pytest.raises(FileTooLarge):
        _cells(plain + crowd)


def test_each_kind_of_cell_arrives_as_what_it_is() -> None:
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"in_memory": True})
    sheet = book.add_worksheet()
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    sheet.write_row(0, 0, ["张\n三", 1.5, 12, True])
    sheet.write_datetime(0, 4, datetime(2026, 1, 31), day)  # noqa: DTZ001  (a cell has no zone)
    sheet.write_datetime(0, 5, datetime(2026, 1, 31, 8, 30), moment)  # noqa: DTZ001  (the same)
    sheet.write(0, 7, "末")
    book.close()
    (table,) = sheets.read(target.getvalue(), max_rows=10)
    (row,) = table.again()
    workbook = CalamineWorkbook.from_filelike(io.BytesIO(target.getvalue()))
    direct = workbook.get_sheet_by_index(0).to_python()
    assert [row] == direct
    assert [type(cell) for cell in row] == [type(cell) for cell in direct[0]]
    assert {type(cell) for cell in row} >= {str, float, bool, datetime}


@pytest.mark.parametrize(
    "declared",
    [
        '<!DOCTYPE sst [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE sst [<!ENTITY a "ha"><!ENTITY x "&a;&a;&a;&a;">]>',
    ],
    ids=["a file of the machine", "an entity of entities"],
)
def test_entities_of_a_workbook_are_not_followed(declared: str) -> None:
    shared = f'<?xml version="1.0"?>{declared}<sst count="1"><si><t>姓名&x;</t></si></sst>'
    try:
        said = "".join(_cells(_with(**{"xl/sharedStrings.xml": shared.encode()})))
    except FileUnreadable:
        said = ""
    assert "root:" not in said
    assert "haha" not in said


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (make_csv(make_people(1)), "花名册.xlsx"),
        (make_xlsx(make_people(1)), "花名册.csv"),
        (make_csv(make_people(1)), "花名册.exe"),
        (make_xlsx(make_people(1)), "花名册.XLSX.js"),
        (b"\xd0\xcf\x11\xe0" + bytes(100), "花名册.xlsx"),
        (b"%PDF-1.7\x00\x01", "花名册.csv"),
    ],
)
def test_a_file_is_what_its_name_says_or_refused(content: bytes, name: str) -> None:
    with pytest.raises(FileUnreadable):
        sheets.format_of(content, name)


def test_a_name_in_capitals_or_without_an_ending_is_no_lie() -> None:
    for name in ("花名册.CSV", "花名册", "2026.11月", None, ""):
        assert sheets.format_of(make_csv(make_people(1)), name) == "csv"


def test_no_cell_that_we_write_is_run() -> None:
    rows = [[each] for each in _FORMULAS]
    with zipfile.ZipFile(io.BytesIO(sheets.write("xlsx", rows))) as archive:
        assert b"<f>" not in archive.read("xl/worksheets/sheet1.xml")
        assert archive.read("xl/sharedStrings.xml").count(b"<si>") == len(_FORMULAS)
        assert not [name for name in archive.namelist() if "rels" in name and "sheet1" in name]
    written = sheets.write("csv", rows).decode("utf-8-sig")
    (*cells,) = (row[0] for row in csv.reader(io.StringIO(written, newline="")))
    assert len(cells) == len(_FORMULAS)
    assert {cell[0] for cell in cells} == {"'", "{", "h"}
