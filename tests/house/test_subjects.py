"""Under which names the service itself acts: all stand in `app.identity`, so nobody is granted one.

Who acts is named where a scope or a caller is made, and where something is told to be done by her.
"""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from app.identity import DEMO, is_reserved

_ELSEWHERE = re.compile(r"migrations/|models/|__main__")
"""Migrations write what once was, and models examples."""
_APP = sorted(path for path in Path("app").rglob("*.py") if not _ELSEWHERE.search(str(path)))
_PLACES = {"Scope": 2, "Caller": 0}
"""Which argument by position names who acts."""
_NAMED = re.compile(r"subject|\w+_by")
_IN_SQL = re.compile(r"\b\w+_by (=|<>) '\w")
_COLUMN = re.compile(r"\w+_at")
_TO_TRY = f"{DEMO}-"
"""How those begin who are granted the demo's roles."""


def _actors(tree: ast.AST) -> Iterator[ast.expr]:
    """Find what is told to be who acts, however it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            place = _PLACES.get(getattr(node.func, "id", ""), len(node.args))
            yield from node.args[place : place + 1]
            yield from (each.value for each in node.keywords if _NAMED.fullmatch(each.arg or ""))
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and _NAMED.fullmatch(str(key.value)):
                    yield value
        if isinstance(node, ast.arguments):
            yield from (
                value
                for each, value in zip(node.kwonlyargs, node.kw_defaults, strict=True)
                if value is not None and _NAMED.fullmatch(each.arg)
            )


def _said(expression: ast.expr, module: Any) -> str | None:
    """Give the name that an expression writes or that a constant of the module holds."""
    if isinstance(expression, ast.Constant):
        return expression.value if isinstance(expression.value, str) else None
    *owners, name = ast.unparse(expression).split(".")
    if not name.isupper() or not name.isidentifier():
        return None
    for owner in owners:
        module = getattr(module, owner, None)
    return str(getattr(module, name, name))


def _breaches(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    module = import_module(".".join(path.with_suffix("").parts))
    for actor in _actors(tree):
        said = _said(actor, module)
        if said is None or said.startswith(_TO_TRY) or _COLUMN.fullmatch(said):
            continue
        if isinstance(actor, ast.Constant) or not is_reserved(said):
            yield f"{path}:{actor.lineno}: {said!r}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and _IN_SQL.search(str(node.value)):
            yield f"{path}:{node.lineno}: {node.value!r}"


def test_the_service_acts_under_no_name_that_somebody_could_be_granted() -> None:
    breaches = [each for path in _APP for each in _breaches(path)]
    assert not breaches, f"{breaches}: name who acts in app/identity.py, among those reserved"


def test_who_acts_under_a_name_is_found() -> None:
    written = (
        "Scope(Acting.DISTRICT, code, 'a')",
        "Caller('a', role)",
        "Caller(subject='a')",
        "make(granted_by='a')",
        "{'created_by': 'a'}",
        "def note(*, subject='a'): ...",
    )
    for each in written:
        assert [_said(actor, None) for actor in _actors(ast.parse(each))] == ["a"], each
    assert _IN_SQL.search("update grants set revoked_by = 'a'")
