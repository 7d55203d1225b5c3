"""Whether an answer is about persons, and about whom: what the audit must have noted of it."""

import json
from collections.abc import Container, Iterator
from typing import Any, get_args
from uuid import UUID

from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError

from app import problems
from app.database_errors import constraint_name

_OF_THE_REQUEST = (
    problems.Invalid,
    problems.Busy,
    problems.IdempotencyInFlight,
    problems.IdempotencyKeyReused,
)
"""Refusals that say something of the request alone, or of its moment."""


def is_about_persons(route: APIRoute) -> bool:
    """Tell whether a route answers what is about persons; a file to download always may be."""
    declared = route.responses.get(200, {}).get("content", {})
    is_file = any(media.get("schema", {}).get("format") == "binary" for media in declared.values())
    return is_file or any(_declares(model) for model in _models(route.response_model))


def says_what_is_stored(refusal: Exception) -> bool:
    """Tell whether a refusal tells the caller how things are: an answer, though a short one."""
    if isinstance(refusal, problems.Problem):
        return refusal.status in {409, 422} and not isinstance(refusal, _OF_THE_REQUEST)
    return constraint_name(refusal) is not None


def _declares(model: type[BaseModel]) -> bool:
    return getattr(model, "person", None) is not None


def _models(declared: Any) -> Iterator[type[BaseModel]]:
    """Walk the shapes of an answer, those within lists, pages and properties too."""
    for inner in get_args(declared):
        yield from _models(inner)
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        yield declared
        for field in declared.model_fields.values():
            yield from _models(field.annotation)


def persons_in(answer: Any) -> Iterator[UUID]:
    """Walk the ids of the persons whom an answer of ours is about."""
    if isinstance(answer, list):
        for each in answer:
            yield from persons_in(each)
    elif isinstance(answer, BaseModel):
        person = getattr(answer, "person", None)
        if person and (identity := getattr(answer, person)) is not None:
            yield identity
        for name in type(answer).model_fields:
            yield from persons_in(getattr(answer, name))


def persons_in_body(route: APIRoute, body: bytes) -> Iterator[UUID]:
    """Walk the ids of the persons whom an answer of a route was about, when it was kept as JSON."""
    if not body or not is_about_persons(route):
        return
    try:
        yield from persons_in(TypeAdapter(route.response_model).validate_json(body))
    except ValidationError:
        # The version before kept it, in a shape of its own: rather name one too many.
        named = {each.person for each in _models(route.response_model) if hasattr(each, "person")}
        yield from _persons_by_name(json.loads(body), named)


def _persons_by_name(answer: Any, named: Container[str]) -> Iterator[UUID]:
    parts = answer if isinstance(answer, list) else []
    if isinstance(answer, dict):
        parts = list(answer.values())
        yield from (UUID(value) for name, value in answer.items() if value and name in named)
    for part in parts:
        yield from _persons_by_name(part, named)
