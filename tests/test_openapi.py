"""What the document says about itself: its examples, its servers, its problems."""

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from tests.contract.operations import document, operations


def _examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    for name, schema in document()["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            yield name, schema, example
    for operation in operations():
        contents = [
            response.get("content", {}) for response in operation.spec["responses"].values()
        ]
        contents.append(operation.spec.get("requestBody", {}).get("content", {}))
        for kind, media in (
            (kind, media) for content in contents for kind, media in content.items()
        ):
            if "example" in media and "schema" in media:
                yield f"{operation} {kind}", media["schema"], media["example"]


@pytest.mark.parametrize(
    ("schema", "example"), [pytest.param(*case, id=where) for where, *case in _examples()]
)
def test_an_example_fits_its_schema(schema: dict[str, Any], example: Any) -> None:
    known = {"components": document()["components"]}
    errors = [error.message for error in OAS31Validator(known | schema).iter_errors(example)]
    assert not errors


def test_it_is_tried_where_it_was_read() -> None:
    first, second = (server["url"] for server in document()["servers"])
    assert (first, second) == ("/", "http://127.0.0.1:8000")


def test_it_has_a_licence_and_describes_each_tag() -> None:
    assert document()["info"]["license"] == {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    described = {tag["name"] for tag in document()["tags"] if tag["description"]}
    used = {tag for operation in operations() for tag in operation.spec["tags"]}
    assert used == described


@pytest.mark.parametrize("operation", list(operations()), ids=str)
def test_an_operation_says_how_it_refuses(operation: Any) -> None:
    assert any(status.startswith("4") for status in operation.spec["responses"])
