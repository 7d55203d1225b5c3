"""Spreadsheets from outside: read within limits, never unpacked to disk, never run."""

import csv
import io
import zipfile
from pathlib import Path

import pytest

from app import sheets
from app.sheets import FileTooLarge, FileUnreadable
from tests.factories.rosters import make_csv, make_people, make_xlsx

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


def _cells(content: bytes) -> list[str]:
    return [
        sheets.text_of(cell)
        for table in sheets.read(content, max_rows=1_000)
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


def test_a_member_with_a_path_of_its_own_is_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("../../outside.txt", "/tmp/outside-of-jixie.txt", "..\\outside.txt")  # noqa: S108  (a name in an archive)
    assert len(_cells(_with(**dict.fromkeys(names, b"x")))) > 10
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent.parent / "outside.txt").exists()
    assert not Path(names[1]).exists()


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
