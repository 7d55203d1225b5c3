"""Nothing here could hold what a health check found: no table, field, value or text names it."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel

from app import schema

_TELLING = re.compile(
    r"pregnan|contracep|sterili[sz]|abortion|fertilit|gyna?ec|menstru|ultrasound|\biuds?\b|intrauterine"
    r"|diagnos|(?:exam|check|test|lab|health)_?(?:result|finding|status)|positive_?result"
    r"|孕|妊娠|避孕|绝育|节育|结扎|流产(?!业)|妇科|妇检|环(?![境节保市])|手术|检查结果|诊断|阳性|阴性",
    re.IGNORECASE,
)
_JUSTIFIED = {
    "只有查环查孕健康检查有连续期数；其他活动请留空或填 1。": (
        "Told to the officer who writes a policy; 查环查孕 is what the rounds are called by law."
    ),
    "查环查孕期次 Numbered periods for health checks, and excuses.": (
        "Read by who builds upon the API; 查环查孕 is what the rounds are called by law."
    ),
}
"""What says such a word all the same, and why; each must still be said."""
_OF_THE_GUARD = Path("app/telling.py")
"""The words that are refused."""
Found = Iterator[tuple[str, str]]
"""Where words stand, and the words."""


def _names_of_tables() -> Found:
    assert schema.head()
    for table in SQLModel.metadata.tables.values():
        yield "tables", table.name
        for column in table.columns:
            yield table.name, column.name
        for constraint in table.constraints:
            for words in (str(constraint.name), str(getattr(constraint, "sqltext", ""))):
                yield f"{table.name}: {constraint.name}", words


def _words_of(document: Any, place: str = "") -> Found:
    """Give each key and each text of a document, with its JSON pointer."""
    if isinstance(document, dict):
        for name, value in document.items():
            yield f"{place}/{name}", name
            yield from _words_of(value, f"{place}/{name}")
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from _words_of(value, f"{place}/{number}")
    elif isinstance(document, str):
        yield place, document


def _openapi() -> Found:
    document = json.loads(Path("openapi/openapi.json").read_text("utf-8"))
    yield from _words_of(document)


def _texts() -> Found:
    for file in sorted(Path("app/texts").rglob("*.toml")):
        for place, words in _words_of(tomllib.loads(file.read_text("utf-8"))):
            yield f"{file}{place}", words


def _source() -> Found:
    """Give each name and each text of the code, but what is explained to its readers alone."""
    for file in sorted(Path("app").rglob("*.py")):
        if file == _OF_THE_GUARD:
            continue
        tree = ast.parse(file.read_text("utf-8"))
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from () if id(node) in told else ((f"{file}:{node.lineno}", node.value),)
            for name in ("id", "arg", "attr", "name"):
                if isinstance(words := getattr(node, name, None), str):
                    yield str(file), words


def _data() -> Found:
    for file in (*Path("app/data").glob("*.toml"), *Path("app/data").glob("*.csv")):
        if not file.name.startswith("areas"):
            for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
                yield f"{file}:{number}", line


def test_no_name_and_no_text_tells_of_a_result() -> None:
    found = {
        words: where
        for source in (_names_of_tables, _openapi, _texts, _source, _data)
        for where, words in source()
        if _TELLING.search(words)
    }
    assert found.keys() == _JUSTIFIED.keys(), found


@pytest.mark.parametrize(
    "words",
    [
        "pregnancy_status",
        "contraceptive",
        "exam_result",
        "healthStatus",
        "上环",
        "检查结果：",
        "IUD",
    ],
)
def test_the_scan_would_see_one(words: str) -> None:
    assert _TELLING.search(words)


@pytest.mark.parametrize("words", ["检查环境卫生", "下一环节", "物流产业园", "result", "status"])
def test_the_scan_lets_innocent_words_pass(words: str) -> None:
    assert not _TELLING.search(words)
