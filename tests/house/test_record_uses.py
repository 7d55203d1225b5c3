"""Whatever an act may be about, a member is told of it in words that were chosen for it."""

import ast
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute

import app as package
from app.acting import kind_of
from app.answers import all_routes
from app.errands import _GIVEN_UP, _IN_FORCE, _TOLD, _UNTOLD
from app.models.audit.audit_entries import Use
from app.services.audit.lookups import ABOUT_NOBODY, KINDS, OF_HELD_CHANGES, USES

_NAMING = {"kind", "object_kind"}
_BEGINNING = {"act", "as_clock", "acting", "partial"}


def _of_routes(app: FastAPI) -> Iterator[str]:
    for route in all_routes(app.routes):
        if isinstance(route, APIRoute) and route.path.startswith("/v1/"):
            for method in route.methods or ():
                if not route.name.startswith(("list_", "get_")):
                    yield kind_of(method, route.path, creates=route.status_code == 201)


def _of_code() -> Iterator[str]:
    """Give the kinds that the code writes out where it begins or renames an act."""
    for file in Path(str(package.__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                for given in node.keywords:
                    is_kind = given.arg == "object_kind" or name in _BEGINNING
                    if is_kind and given.arg in _NAMING and isinstance(given.value, ast.Constant):
                        yield str(given.value.value)


def test_every_kind_of_object_is_told_of_on_purpose(app: FastAPI) -> None:
    known = [*chain.from_iterable(KINDS.values()), *ABOUT_NOBODY]
    met = {*_of_routes(app), *_of_code()}
    assert {"bank-files", "vouchers", "held_changes", "payout_runs", "grants"} <= met
    assert met <= set(known), "nothing is a change of a record by accident"
    assert len(known) == len(set(known)), "each kind is told of in one way"


def test_what_the_clock_does_with_a_held_change_is_told_in_one_way() -> None:
    names = {name for of in (_TOLD, _IN_FORCE, _UNTOLD, _GIVEN_UP) for name in of.values()}
    assert sorted(chain.from_iterable(OF_HELD_CHANGES.values())) == sorted(names)


def test_every_use_of_a_kind_is_one_that_is_asked_for() -> None:
    assert set(KINDS) <= {*USES, Use.CHANGED}
    assert {*USES, Use.CHANGED} == set(Use)
