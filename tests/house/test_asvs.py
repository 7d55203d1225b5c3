"""Each requirement of OWASP ASVS 5.0, levels 1 and 2, has a test, a reason or a duty."""

import ast
import csv
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


@lru_cache
def _tests_in(path: str) -> frozenset[str]:
    source = Path(path)
    if not source.is_file():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.parse(source.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_each_requirement_stands_once() -> None:
    found = Counter((row["chapter"], row["level"]) for row in _ROWS)
    assert {
        chapter: (found[chapter, "1"], found[chapter, "2"]) for chapter in _CHAPTERS
    } == _CHAPTERS
    assert len(_ROWS) == 253
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
        assert name.startswith("test_"), each
        assert name in _tests_in(path), f"{row['id']}: there is no {each}"


@pytest.mark.parametrize("row", _with("not_applicable"), ids=lambda row: row["id"])
def test_what_does_not_apply_says_why(row: dict[str, str]) -> None:
    assert re.fullmatch(r"[A-Z][^\n]{20,200}\.", row["evidence"])


@pytest.mark.parametrize("row", _with("deployment"), ids=lambda row: row["id"])
def test_a_duty_stands_in_the_handbook(row: dict[str, str]) -> None:
    heading, _, duty = row["evidence"].partition(": ")
    handbook = Path("docs/operations.md").read_text("utf-8")
    assert re.search(rf"^## {re.escape(heading)}\n+\S", handbook, re.MULTILINE), heading
    assert re.fullmatch(r"\S.{10,200}\.", duty)


def test_nothing_is_left_open() -> None:
    assert [row["id"] for row in _with("gap")] == []
