"""The operations of the API as its OpenAPI document describes them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from app.main import create_app
from app.settings import Settings

METHODS = ("get", "post", "put", "patch", "delete")
NOWHERE = "018f0000-0000-7000-8000-000000000000"


@lru_cache
def document() -> dict[str, Any]:
    """Give the OpenAPI document that the code describes."""
    return create_app(Settings(log_level="error")).openapi()


@dataclass(frozen=True)
class Operation:
    """One operation, with what a test needs to call it."""

    method: str
    path: str
    spec: dict[str, Any] = field(hash=False, compare=False)

    def __str__(self) -> str:
        """Name the operation in a test's id."""
        return str(self.spec.get("operationId", f"{self.method} {self.path}"))

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """Give all parameters."""
        return list(self.spec.get("parameters", []))

    @property
    def query(self) -> set[str]:
        """Give the names of the query parameters."""
        return {p["name"] for p in self.parameters if p["in"] == "query"}

    @property
    def required_query(self) -> dict[str, str]:
        """Give a value for each query parameter that must be there."""
        return {
            p["name"]: NOWHERE for p in self.parameters if p["in"] == "query" and p.get("required")
        }

    @property
    def body(self) -> dict[str, Any] | None:
        """Give the schema of the JSON body, if it takes one."""
        content = self.spec.get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema")
        return None if schema is None else resolve(schema)

    def url(self) -> str:
        """Give a path that fits the template and names nothing that exists."""
        names = {"code": "440605000000", "key": "independent_min_staff", "name": "event-kinds"}
        return re.sub(r"{(\w+)}", lambda match: names.get(match[1], NOWHERE), self.path)

    def headers(self) -> dict[str, str]:
        """Give the headers without which the operation is refused."""
        wanted = {p["name"] for p in self.parameters if p["in"] == "header"}
        given = {"If-Match": '"1"', "Idempotency-Key": "contract"}
        return {name: value for name, value in given.items() if name in wanted}


def resolve(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference, and look behind an optional."""
    while "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    alternatives = [part for part in schema.get("anyOf", ()) if part.get("type") != "null"]
    return resolve(alternatives[0]) if len(alternatives) == 1 else schema


def operations() -> Iterator[Operation]:
    """Walk every operation."""
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(method, path, item[method])


def resources() -> list[Operation]:
    """Give the operations under `/v1`."""
    return [operation for operation in operations() if operation.path.startswith("/v1/")]


def lists() -> list[Operation]:
    """Give the operations that answer a page."""
    return [operation for operation in resources() if "cursor" in operation.query]


def writes() -> list[Operation]:
    """Give the operations that take a JSON body."""
    return [operation for operation in resources() if operation.body is not None]
