"""Each requirement of OWASP ASVS 5.0, levels 1 and 2, has a test, a reason or a duty."""

import ast
import csv
import hashlib
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest

_ROWS = list(csv.DictReader(Path("docs/asvs.csv").read_text("utf-8").splitlines()))
# How many requirements each chapter has at level 1, and at level 2 besides.
_CHAPTERS = {
    "V1": (8, 19), "V2": (4, 7), "V3": (8, 11), "V4": (2, 8), "V5": (4, 5), "V6": (13, 22),
    "V7": (6, 12), "V8": (4, 3), "V9": (4, 3), "V10": (5, 24), "V11": (3, 11), "V12": (3, 6),
    "V13": (1, 12), "V14": (2, 7), "V15": (3, 10), "V16": (0, 16), "V17": (0, 7),
}  # fmt: skip
_STATUSES = {"test", "not_applicable", "deployment", "gap"}


def _with(status: str) -> list[dict[str, str]]:
    return [row for row in _ROWS if row["status"] == status]


# Of the lines `id,level` of the standard's own list, version 5.0.0, levels 1 and 2.
_IDS = "ee09334faed652b38563b1e97ecb77f218e04b0e8d73fa9ca3197b185404c8cd"
_DEMANDS = {"refused", "_refused", "ok", "raises", "_breaks", "call_and_validate", "_verify"}
"""What a test calls that fails by itself, where it asserts nothing."""


@lru_cache
def _tests_in(path: str) -> dict[str, ast.AST]:
    """Give the tests of a file by their names, those of a class as `Class::test`."""
    source = Path(path)
    if not source.is_file():
        return {}
    found: dict[str, ast.AST] = {}
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            inner = (each for each in node.body if hasattr(each, "name"))
            found |= {f"{node.name}::{each.name}": each for each in inner}
    return found


def _demands(test: ast.AST) -> bool:
    """Tell whether a test can fail by what it found."""
    return any(
        isinstance(node, ast.Assert)
        or (isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in _DEMANDS)
        for node in ast.walk(test)
    )


def _is_left_out(test: ast.AST) -> bool:
    marks = getattr(test, "decorator_list", [])
    return any(re.search(r"mark\.(skip|xfail)\b", ast.unparse(mark)) for mark in marks)


def test_each_requirement_stands_once() -> None:
    found = Counter((row["chapter"], row["level"]) for row in _ROWS)
    assert {
        chapter: (found[chapter, "1"], found[chapter, "2"]) for chapter in _CHAPTERS
    } == _CHAPTERS
    assert len(_ROWS) == 253
    lines = "".join(f"{row['id']},{row['level']}\n" for row in _ROWS)
    assert hashlib.sha256(lines.encode()).hexdigest() == _IDS
    ids = [row["id"] for row in _ROWS]
    assert [each for each, count in Counter(ids).items() if count > 1] == []
    numbers = [tuple(map(int, each.removeprefix("V").split("."))) for each in ids]
    assert numbers == sorted(numbers)
    assert all(row["id"].startswith(f"{row['chapter']}.") for row in _ROWS)


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row["id"])
def test_a_requirement_has_its_evidence(row: dict[str, str]) -> None:
    assert row["status"] in _STATUSES
    assert 1 <= len(row["subject"].split()) <= 9, "a few words of our own"
    assert row["evidence"].strip() == row["evidence"] != ""


@pytest.mark.parametrize("row", _with("test"), ids=lambda row: row["id"])
def test_a_test_that_is_named_exists(row: dict[str, str]) -> None:
    for each in row["evidence"].split(";"):
        path, _, name = each.partition("::")
        assert name.rpartition("::")[2].startswith("test_"), each
        test = _tests_in(path).get(name)
        assert test is not None, f"{row['id']}: there is no {each}"
        assert _demands(test), f"{row['id']}: {each} cannot fail"
        assert not _is_left_out(test), f"{row['id']}: {each} is not run"


@pytest.mark.parametrize("row", _with("not_applicable"), ids=lambda row: row["id"])
def test_what_does_not_apply_says_why(row: dict[str, str]) -> None:
    assert re.fullmatch(r"[A-Z][^\n]{20,200}\.", row["evidence"])


@pytest.mark.parametrize("row", _with("deployment"), ids=lambda row: row["id"])
def test_a_duty_stands_in_the_handbook(row: dict[str, str]) -> None:
    """Its heading is there, and below it most of the words in which the duty is told."""
    heading, _, duty = row["evidence"].partition(": ")
    handbook = Path("docs/operations.md").read_text("utf-8")
    below = re.search(
        rf"^## {re.escape(heading)}\n+(\S.*?)(?=^## |\Z)", handbook, re.MULTILINE | re.DOTALL
    )
    assert below is not None, heading
    assert re.fullmatch(r"\S.{10,200}\.", duty)
    words = {word[:5] for word in re.findall(r"[a-z]{5,}", duty.lower())}
    unsaid = {word for word in words if word not in below[1].lower()}
    assert len(unsaid) <= len(words) / 4, f"{row['id']}: {heading} does not speak of {unsaid}"


def test_nothing_is_left_open() -> None:
    assert [row["id"] for row in _with("gap")] == []
