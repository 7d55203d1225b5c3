"""Ids of payouts have the number of a line: they go out and come in as they are known outside."""

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app import services
from app.answers import all_routes
from app.models.disbursement.payouts import payout_id_sql
from app.models.shapes import Output
from app.numbered_ids import IN_PATHS
from app.paging import Listing, Page

_OF_NOBODY = {"create_stock_movement"}
"""What a document moves is nobody's payout."""
_WRITTEN = "lpad(to_hex("
_SHOWN = re.compile(r"numbered_ids\.shown_in[(,]")


def _shapes(of: type[Any] = Output) -> Iterator[type[Any]]:
    for shape in of.__subclasses__():
        yield shape
        yield from _shapes(shape)


def _holds_number(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.values()
        return bool(getattr(annotation, "numbered", ())) or any(
            _holds_number(field.annotation) for field in fields
        )
    return any(_holds_number(each) for each in get_args(annotation))


def _routes(app: FastAPI) -> list[APIRoute]:
    return [route for route in all_routes(app.router.routes) if isinstance(route, APIRoute)]


def _modules() -> Iterator[ModuleType]:
    for module in pkgutil.walk_packages(services.__path__, "app.services."):
        if not module.ispkg:
            yield import_module(module.name)


def _built_within(module: ModuleType) -> Iterator[dict[str, ast.expr]]:
    """Walk the lists that a module's functions build: what each part of one is written as."""
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Listing":
                    yield {each.arg or "": each.value for each in call.keywords}


def _texts_in(module: ModuleType, written: ast.expr) -> Iterator[str]:
    """Walk the texts of the names that an expression holds, and its own."""
    yield ast.unparse(written)
    for each in ast.walk(written):
        if isinstance(each, ast.Name):
            yield str(getattr(module, each.id, ""))


def test_each_shape_says_that_its_payout_id_has_a_number() -> None:
    for shape in _shapes():
        assert set(shape.numbered) <= set(shape.model_fields), shape
        assert "payout_id" not in shape.model_fields or "payout_id" in shape.numbered, shape


def test_each_answer_with_one_is_given_as_known_outside(app: FastAPI) -> None:
    found = 0
    for route in _routes(app):
        answer = route.response_model
        if isinstance(answer, type) and issubclass(answer, Page):
            continue
        if _holds_number(answer) and route.name not in _OF_NOBODY:
            found += 1
            assert _SHOWN.search(inspect.getsource(route.endpoint)), route.name
    assert found > 10


def test_each_list_with_one_is_given_as_known_outside() -> None:
    assert _WRITTEN in payout_id_sql("x")
    for module in _modules():
        for value in vars(module).values():
            if isinstance(value, Listing) and _WRITTEN in value.columns:
                assert value.numbered, module.__name__


def test_each_list_that_a_function_builds_with_one_is_too() -> None:
    found = 0
    for module in _modules():
        for parts in _built_within(module):
            texts = list(_texts_in(module, parts["columns"]))
            if any(_WRITTEN in each or "payout_id_sql" in each for each in texts):
                found += 1
                assert "numbered" in parts, module.__name__
    assert found > 0


def test_each_path_with_one_is_opened(app: FastAPI) -> None:
    named = [route for route in _routes(app) if any(f"{{{n}}}" in route.path for n in IN_PATHS)]
    assert len(named) > 8
    for route in named:
        assert "numbered_ids.opened(" in inspect.getsource(route.endpoint), route.name
