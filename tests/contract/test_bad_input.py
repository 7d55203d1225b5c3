"""Bad input to any operation is a problem that names the field, and never a failure of ours."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from app.roles import Role
from tests.contract.operations import Operation, lists, resolve, resources, writes
from tests.factories.callers import Client

# Between them they may call everything.
_EVERYBODY = (
    Role.DISTRICT_OFFICER,
    Role.FINANCE_CLERK,
    Role.FINANCE_APPROVER,
    Role.AUDITOR,
    Role.GUIDE,
    Role.MEMBER,
)

Callers = list[Client]

# The tests' database knows Nanhai's areas and notices, the callers' grants and whom it refused.
_TOP_LISTS = [operation for operation in lists() if "{" not in operation.path]
_FULL = {"/v1/areas", "/v1/audit-entries", "/v1/code-lists", "/v1/grants", "/v1/privacy-notices"}
_EMPTY_LISTS = [operation for operation in _TOP_LISTS if operation.path not in _FULL]

# What pydantic would take for an id, a whole number, for true or false, or for a day.
_ID_IN_OTHER_FORMS = (
    "018f00000000700080000000000000a1",
    "{018f0000-0000-7000-8000-0000000000a1}",
    "urn:uuid:018f0000-0000-7000-8000-0000000000a1",
    "018f0000-0000-7000-8000-0000000000a١",
)
_READ_ALIKE: dict[str, tuple[Any, ...]] = {
    "integer": (True, "1", 1.0),
    "boolean": (1, 0, "yes", "true"),
    "date": (0, "0", 1767225600, "1767225600", "2026-01-05T00:00:00Z", "2026-1-5", "0001-01-01"),
    "uuid": _ID_IN_OTHER_FORMS,
}
_READ_ALIKE_AS_TEXT = {
    "integer": ("1.0", "1_0", "true", " 1", "9" * 5000),
    "boolean": ("1", "yes", "on", "True"),
    "date": ("0", "1767225600", "2026-01-05T00:00:00", "2026-1-5", "0001-01-01"),
    "uuid": _ID_IN_OTHER_FORMS,
}


def _mistyped_parameters(
    operation: Operation, *, where: str = "query"
) -> Iterator[tuple[str, str]]:
    for parameter in operation.parameters:
        if parameter["in"] == where:
            schema = resolve(parameter["schema"])
            for value in _READ_ALIKE_AS_TEXT.get(_plain(schema), ()):
                yield parameter["name"], value


def _mistyped_paths(operation: Operation) -> Iterator[tuple[str, str]]:
    return _mistyped_parameters(operation, where="path")


def _mistyped_bodies(operation: Operation) -> Iterator[tuple[Any, str]]:
    """Give the example with one value of another type, and the pointer to it."""
    assert operation.body is not None
    return _mistyped(operation.body, operation.body["examples"][0], "")


def _mistyped(schema: dict[str, Any], value: Any, pointer: str) -> Iterator[tuple[Any, str]]:
    schema = resolve(schema)
    for wrong in _READ_ALIKE.get(_plain(schema), ()):
        yield wrong, pointer
    given = value or {}
    for name, declared in schema.get("properties", {}).items():
        for wrong, where in _mistyped(declared, given.get(name), f"{pointer}/{name}"):
            yield {**given, name: wrong}, where
    if schema.get("type") == "array":
        first, *rest = value or [None]
        for wrong, where in _mistyped(schema["items"], first, f"{pointer}/0"):
            yield [wrong, *rest], where


def _plain(schema: dict[str, Any]) -> str:
    form = schema.get("format")
    return str(form if form in {"date", "uuid"} else schema.get("type"))


def _typed(
    among: list[Operation], mistyped: Callable[[Operation], Iterator[Any]]
) -> list[Operation]:
    return [operation for operation in among if any(mistyped(operation))]


@pytest.fixture
def callers(client: Callable[..., Client]) -> Callers:
    """A caller of each role, whose grant is stored once however often she calls."""
    claims = {"member_id": "018f0000-0000-7000-8000-000000000001"}
    return [client(role, **(claims if role is Role.MEMBER else {})) for role in _EVERYBODY]


async def _send(callers: Callers, operation: Operation, **options: Any) -> httpx.Response:
    """Call as the first role that may."""
    headers = {**operation.headers(), **options.pop("headers", {})}
    for caller in callers:
        answer = await caller.request(operation.method, operation.url(), headers=headers, **options)
        if answer.status_code != 403:
            return answer
    pytest.fail(f"no role may call {operation}")


def _whole_body(operation: Operation) -> dict[str, Any]:
    if "multipart/form-data" in operation.spec.get("requestBody", {}).get("content", {}):
        return {"files": {"file": ("a.csv", b"a")}}
    return {} if operation.body is None else {"json": operation.body["examples"][0]}


def _is_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def _worded(answer: httpx.Response) -> list[str]:
    """Give what is named as wrong; a code without words would be told as its own remedy."""
    errors = answer.json()["errors"]
    assert all(error["detail"] != error["code"] for error in errors), errors
    return [error["pointer"] for error in errors]


@pytest.mark.parametrize("operation", resources(), ids=str)
async def test_an_unknown_parameter_is_named(callers: Callers, operation: Operation) -> None:
    params = {**operation.required_query, "colour": "red"}
    answer = await _send(callers, operation, params=params, **_whole_body(operation))
    _is_problem(answer, 422)
    assert answer.json()["errors"][0]["pointer"] == "colour"


@pytest.mark.parametrize("operation", lists(), ids=str)
async def test_a_list_refuses_wrong_pages(callers: Callers, operation: Operation) -> None:
    for limit in ("0", "201", "many", "99999999999999999999999"):
        answer = await _send(
            callers, operation, params={**operation.required_query, "limit": limit}
        )
        _is_problem(answer, 422)
        assert answer.json()["errors"][0]["pointer"] == "limit"


@pytest.mark.parametrize("operation", _EMPTY_LISTS, ids=str)
async def test_a_list_without_matches_is_empty(callers: Callers, operation: Operation) -> None:
    answer = await _send(callers, operation, params={"include_total": "true"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"items": [], "next_cursor": None, "total": 0}


@pytest.mark.parametrize("operation", _TOP_LISTS, ids=str)
async def test_a_list_refuses_foreign_cursors(callers: Callers, operation: Operation) -> None:
    for cursor in ("x", "AAAA", "中文", "%00", "a" * 900):
        answer = await _send(callers, operation, params={"cursor": cursor})
        assert answer.status_code in {400, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("operation", writes(), ids=str)
async def test_a_wrong_body_is_refused_by_field(callers: Callers, operation: Operation) -> None:
    for body, pointer in _wrong_bodies(operation):
        answer = await _send(callers, operation, json=body)
        assert answer.status_code == 422, f"{body}: {answer.status_code} {answer.text}"
        named = [error["pointer"] for error in answer.json()["errors"]]
        assert any(name.startswith(pointer) for name in named), f"{pointer} not in {named}"


@pytest.mark.parametrize("operation", _typed(writes(), _mistyped_bodies), ids=str)
async def test_a_value_of_another_type_is_refused_by_field(
    callers: Callers, operation: Operation
) -> None:
    for body, pointer in _mistyped_bodies(operation):
        answer = await _send(callers, operation, json=body)
        assert answer.status_code == 422, f"{body}: {answer.status_code} {answer.text}"
        named = _worded(answer)
        assert pointer in named, f"{pointer} not in {named} for {body}"


@pytest.mark.parametrize("operation", _typed(resources(), _mistyped_parameters), ids=str)
async def test_a_parameter_of_another_type_is_named(callers: Callers, operation: Operation) -> None:
    for name, value in _mistyped_parameters(operation):
        answer = await _send(callers, operation, params={**operation.required_query, name: value})
        assert answer.status_code == 422, f"{name}={value}: {answer.status_code} {answer.text}"
        assert _worded(answer) == [name]


@pytest.mark.parametrize("operation", _typed(resources(), _mistyped_paths), ids=str)
async def test_a_place_in_the_path_of_another_type_is_named(
    callers: Callers, operation: Operation
) -> None:
    body, params = _whole_body(operation), operation.required_query
    for name, value in _mistyped_paths(operation):
        there = replace(operation, path=operation.path.replace(f"{{{name}}}", value))
        answer = await _send(callers, there, params=params, **body)
        _is_problem(answer, 422)
        assert name in _worded(answer)


@pytest.mark.parametrize("operation", writes(), ids=str)
async def test_a_body_that_is_no_object_is_refused(callers: Callers, operation: Operation) -> None:
    for content in (b"[]", b"null", b'"text"', b"1", b""):
        headers = {"Content-Type": "application/json"}
        answer = await _send(callers, operation, content=content, headers=headers)
        if content in {b"", b"null"} and not operation.spec["requestBody"].get("required"):
            continue
        _is_problem(answer, 422)


def _wrong_bodies(operation: Operation) -> Iterator[tuple[Any, str]]:
    schema = operation.body
    assert schema is not None
    example = schema["examples"][0]
    yield {**example, "colour": "red"}, "/colour"
    for name in schema.get("required", ()):
        yield {key: value for key, value in example.items() if key != name}, f"/{name}"
    for name, declared in schema["properties"].items():
        for value in _wrong_values(resolve(declared)):
            body = copy.deepcopy(example)
            body[name] = value
            yield body, f"/{name}"


def _wrong_values(schema: dict[str, Any]) -> Iterator[Any]:
    kind = schema.get("type")
    yield {"string": 7, "integer": "seven", "boolean": "perhaps", "array": 7}.get(kind or "", 7)
    if kind == "string" and "enum" not in schema and "format" not in schema:
        yield "a\x00b"
        yield "x" * 100_000
    if kind == "string" and "enum" in schema:
        yield "no such code"
    if kind == "string" and schema.get("format"):
        yield "not a date or an id"
    if kind == "integer":
        yield 10**30
        yield 1.5
