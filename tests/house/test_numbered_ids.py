"""Ids of payouts have the number of a line: they go out and come in as they are known outside."""

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from app import services
from app.answers import all_routes
from app.models.disbursement.payouts import payout_id_sql
from app.models.shapes import Output
from app.paging import Listing, Page

_NUMBERED = ("payout_id", "voucher_id")
_OF_NOBODY = {"create_stock_movement"}
"""What a document moves is nobody's payout."""
_WRITTEN = "lpad(to_hex("


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


def test_each_shape_says_that_its_payout_id_has_a_number(app: FastAPI) -> None:
    assert app is not None
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
            assert "numbered_ids.shown_in(" in inspect.getsource(route.endpoint), route.name
    assert found > 10


def test_each_list_with_one_is_given_as_known_outside() -> None:
    assert _WRITTEN in payout_id_sql("x")
    for module in pkgutil.walk_packages(services.__path__, "app.services."):
        if module.ispkg:
            continue
        for value in vars(import_module(module.name)).values():
            if isinstance(value, Listing) and _WRITTEN in value.columns:
                assert value.numbered, module.name


def test_each_path_with_one_is_opened(app: FastAPI) -> None:
    named = [route for route in _routes(app) if any(f"{{{n}}}" in route.path for n in _NUMBERED)]
    assert len(named) > 8
    for route in named:
        assert "numbered_ids.opened(" in inspect.getsource(route.endpoint), route.name
