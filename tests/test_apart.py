"""The reader of workbooks: it dies alone, is given nothing of ours, and is left nowhere."""

import gc
import io
import random
import zipfile
from pathlib import Path

import pytest

from app import apart, sheets
from app.apart import Reader, ReaderLost
from app.sheets import FileUnreadable
from tests.factories.membership.rosters import make_people, make_xlsx

_MIB = 1024 * 1024


def _of_many_texts() -> bytes:
    """Give a workbook that keeps to every count, of texts that each take the reader some memory."""
    target = io.BytesIO(make_xlsx(make_people(2)))
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/noise.bin", random.Random(5).randbytes(200_000))
    copy = io.BytesIO()
    with zipfile.ZipFile(target) as source, zipfile.ZipFile(copy, "w", 8) as archive:
        for info in source.infolist():
            content = source.read(info)
            if info.filename == "xl/sharedStrings.xml":
                content = content.replace(b"</sst>", b"<si/>" * 6_000_000 + b"</sst>")
            archive.writestr(info, content)
    return copy.getvalue()


def _names(content: bytes) -> list[str]:
    return [
        str(row[1]) for table in sheets.read(content, max_rows=1_000) for row in table.rows if row
    ]


def test_a_reader_out_of_memory_dies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    content = _of_many_texts()
    assert len(_names(content)) == 3
    monkeypatch.setattr(apart, "_MAX_MEMORY", 128 * _MIB)
    with pytest.raises(FileUnreadable):
        _names(content)
    assert len(_names(make_xlsx(make_people(2)))) == 3


def test_a_reader_out_of_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_MAX_SECONDS", 1)
    crowd = b"<worksheet><sheetData>" + b'<row><c t="n"/></row>' * 900_000
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", 8) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", crowd)
        archive.writestr("xl/media/noise.bin", random.Random(5).randbytes(200_000))
    reader = Reader(target.getvalue(), max_rows=1_000_000)
    with pytest.raises(ReaderLost):
        reader.take()
    assert reader._process.wait(10) < 0


def test_a_silent_reader_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_SILENCE_SECONDS", 0.2)
    reader = Reader(make_xlsx(make_people(2)), max_rows=10)
    with pytest.raises(ReaderLost):
        reader.take()
    assert reader._process.wait(10) < 0


def test_a_reader_whom_nobody_asks_any_more_ends() -> None:
    content = make_xlsx(make_people(20_000))
    for is_asked in (False, True):
        reader = Reader(content, max_rows=100_000)
        if is_asked:
            reader.ask()
            reader.take()
        process = reader._process
        del reader
        gc.collect()
        assert process.wait(10) is not None


def test_rows_outlive_the_search_for_their_sheet() -> None:
    table = next(sheets.read(make_xlsx(make_people(2_000)), max_rows=10_000))
    gc.collect()
    assert len(list(table.rows)) == len(list(table.again())) == 2_001


def test_a_reader_is_given_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIXIE_ROOT_KEY", "a secret of the deployment")
    reader = Reader(make_xlsx(make_people(2)), max_rows=10)
    reader.ask()
    reader.take()
    about = Path("/proc") / str(reader._process.pid)
    given = (about / "environ").read_bytes()
    assert b"PYTHONPATH" in given
    assert b"JIXIE" not in given
    assert len(list((about / "fd").iterdir())) == 3
