"""The OpenAPI document is whole, valid and the one that is committed."""

import json
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from app.problems import MEDIA_TYPE
from tests.contract.operations import Operation, document, operations, resolve, resources, writes

_ALL = list(operations())


def test_the_document_is_valid_openapi() -> None:
    validate(document())


def test_the_committed_document_is_the_one_that_the_code_gives() -> None:
    committed = json.loads(Path("openapi/openapi.json").read_text("utf-8"))
    assert committed == document(), "write it again with `jixie openapi`"


def test_operation_ids_are_unique() -> None:
    names = [operation.spec["operationId"] for operation in _ALL]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("operation", _ALL, ids=str)
def test_an_operation_says_what_it_does(operation: Operation) -> None:
    spec = operation.spec
    assert spec["operationId"].islower()
    assert spec["summary"]
    assert spec["description"]
    assert spec["tags"]


@pytest.mark.parametrize("operation", resources(), ids=str)
def test_an_operation_lists_its_problems(operation: Operation) -> None:
    responses = operation.spec["responses"]
    assert {"401", "403", "422"} <= set(responses)
    for status, response in responses.items():
        if status >= "400":
            assert list(response["content"]) == [MEDIA_TYPE], f"{operation} {status}"
        assert response["description"]


@pytest.mark.parametrize("operation", writes(), ids=str)
def test_a_body_has_an_example_and_refuses_unknown_properties(operation: Operation) -> None:
    schema = operation.body
    assert schema is not None
    assert schema.get("additionalProperties") is False
    assert schema.get("examples"), f"{schema.get('title')}: give an example"


@pytest.mark.parametrize("operation", resources(), ids=str)
def test_an_answer_has_an_example(operation: Operation) -> None:
    answers = [
        media
        for status, response in operation.spec["responses"].items()
        if status < "300"
        for media in response.get("content", {}).values()
    ]
    for media in answers:
        schema = resolve(media.get("schema", {}))
        has_example = "example" in media or "examples" in media or "examples" in schema
        assert has_example, f"{operation}: give its answer an example"


@pytest.mark.parametrize("operation", resources(), ids=str)
def test_what_is_several_is_in_a_page(operation: Operation) -> None:
    """A bare array has no room for a next page, or for anything that is to be said of it."""
    for status, response in operation.spec["responses"].items():
        for media in response.get("content", {}).values() if status < "300" else ():
            schema = resolve(media.get("schema", {}))
            assert schema.get("type") != "array", f"{operation}: answer a Page"
