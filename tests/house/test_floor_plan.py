"""The house rules that linters cannot state, each with what to do about a breach."""

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

_APP = sorted(path for path in Path("app").rglob("*.py") if "migrations/versions" not in str(path))
_MAX_FILE = 400
_MAX_FUNCTION = 40
_JUNK = {"utils", "helpers", "common", "misc", "base", "manager"}
# A router that serves no concept of its own, or a part that needs no URL or table.
_WITHOUT_TWIN = {"health"}


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", _APP, ids=str)
def test_a_file_stays_within_400_lines(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= _MAX_FILE, f"{path} has {lines} lines: find the second concept in it"


@pytest.mark.parametrize("path", _APP, ids=str)
def test_a_function_stays_within_40_lines(path: Path) -> None:
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in _functions(path)
        if node.end_lineno is not None and node.end_lineno - node.lineno + 1 > _MAX_FUNCTION
    }
    assert not long, f"{path}: name the steps of {long} as functions of their own"


@pytest.mark.parametrize("path", _APP, ids=str)
def test_a_module_opens_with_a_sentence(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert text, f"{path}: say in one sentence what the module is for"
    assert text.splitlines()[0].endswith((".", "?")), f"{path}: the first line is a whole sentence"


def _concepts(tree: str) -> set[str]:
    root = Path("app") / tree
    files = (path for path in root.rglob("*.py") if path.stem != "__init__")
    return {path.relative_to(root).with_suffix("").as_posix() for path in files}


def test_there_is_no_junk_drawer() -> None:
    junk = [str(path) for path in _APP if path.stem in _JUNK]
    assert not junk, f"{junk}: name each thing by its subject"


def test_each_router_has_its_service_under_the_same_name() -> None:
    missing = _concepts("routers") - _concepts("services") - _WITHOUT_TWIN
    assert not missing, f"routers without a service of the same name and chapter: {missing}"


def test_a_concept_is_in_one_chapter_in_all_trees() -> None:
    places: dict[str, set[str]] = {}
    for concept in chain.from_iterable(map(_concepts, ("routers", "services", "models"))):
        *chapter, name = concept.split("/")
        places.setdefault(name, set()).add("/".join(chapter))
    scattered = {name: where for name, where in places.items() if len(where) > 1}
    assert not scattered, f"a newcomer looks in one room: {scattered}"


def test_services_do_not_commit() -> None:
    breaches = [
        f"{path}:{node.lineno}"
        for path in Path("app/services").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
    ]
    assert not breaches, f"{breaches}: one request is one transaction, see app/database.py"


def test_comments_are_few() -> None:
    lines = [line.strip() for path in _APP for line in path.read_text("utf-8").splitlines()]
    comments = sum(line.startswith("#") for line in lines)
    assert comments <= 0.03 * len(lines), "let names say what, and comments only why"


def test_every_suppression_gives_its_reason() -> None:
    bare = [
        f"{path}:{number}"
        for path in [*_APP, *Path("tests").rglob("*.py")]
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for mark in ("# noqa", "# type: ignore")
        if mark in line and path != Path(__file__).relative_to(Path.cwd())
        if not line.split(mark, 1)[1].partition("  ")[2].strip()
    ]
    assert not bare, f"{bare}: say why, two spaces after the code"
