"""What callers send is of the type that the document says, and not of one that reads like it."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, BeforeValidator

from app import models
from app.models.shapes import Day, Id, Input, Instant
from app.paging import DIGITS, Filters, YesNoParam

_REMEDY = {
    "int": "Whole in a body, DIGITS in a parameter",
    "bool": "YesNo in a body, YesNoParam in a parameter",
    "date": "Day",
    "datetime": "Instant",
    "float": "Whole: nothing is accounted in floats",
    "uuid": "Id",
    "decimal": "Whole: nothing is accounted in fractions",
}


def _guards(*types: Any) -> set[object]:
    """Give the functions that these types look through before pydantic takes a value."""
    parts = [part for declared in types for part in get_args(declared)]
    return {part.func for part in parts if isinstance(part, BeforeValidator)}


_GUARDS = _guards(Day, Id, Instant, YesNoParam) | {DIGITS.func}


def models_below(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Give a model and all that are made from it."""
    yield base
    for model in base.__subclasses__():
        yield from models_below(model)


def inputs() -> list[type[BaseModel]]:
    """Give all that callers send, bodies and parameters."""
    for module in pkgutil.walk_packages(models.__path__, f"{models.__name__}."):
        importlib.import_module(module.name)
    found = {*models_below(Input), *models_below(Filters)}
    return sorted(found, key=lambda model: (model.__module__, model.__name__))


def _lax(schema: Any, *, guarded: bool = False) -> Iterator[str]:
    """Walk what pydantic made of a model, for plain types that it may convert to."""
    if isinstance(schema, list):
        for part in schema:
            yield from _lax(part)
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if kind in _REMEDY and not guarded and not schema.get("strict"):
        yield _REMEDY[kind]
    guards = kind == "function-before" and schema["function"]["function"] in _GUARDS
    for name, part in schema.items():
        if name != "metadata":
            yield from _lax(part, guarded=guards and name == "schema")


@pytest.mark.parametrize("model", inputs(), ids=lambda model: model.__name__)
def test_an_input_takes_nothing_for_what_it_is_not(model: type[BaseModel]) -> None:
    schema = model.__pydantic_core_schema__
    found = list(_lax(schema))
    assert not found, f"declare in {model.__module__}.{model.__name__}: {found}"


def _patterns(schema: Any) -> Iterator[str]:
    """Walk the patterns of what pydantic made of a model."""
    for part in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(part, dict | list):
            yield from _patterns(part)
    if isinstance(schema, dict) and isinstance(pattern := schema.get("pattern"), str):
        yield pattern


@pytest.mark.parametrize("model", inputs(), ids=lambda model: model.__name__)
def test_a_pattern_takes_no_digits_of_other_scripts(model: type[BaseModel]) -> None:
    found = [each for each in _patterns(model.__pydantic_core_schema__) if "\\d" in each]
    assert not found, f"write [0-9] in {model.__module__}.{model.__name__}: {found}"


@pytest.mark.parametrize("kind", ["int", "bool", "float", "date", "datetime", "uuid"])
def test_a_bare_type_is_found(kind: str) -> None:
    field = {"type": "model-field", "schema": {"type": "nullable", "schema": {"type": kind}}}
    assert list(_lax({"type": "model-fields", "fields": {"a": field}})) == [_REMEDY[kind]]
