"""Who calls in tests, and how the answers are read."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx

from app.acts import Act
from app.identity import Caller
from app.roles import Role

DISTRICT = "440605000000"
SHISHAN = "440605124000"
GUICHENG = "440605011000"
VILLAGE = "440605124201"


class Client(httpx.AsyncClient):
    """A caller of the API whose expectations fail with the answer's text."""

    async def ok(self, method: str, path: str, *, status: int = 200, **options: Any) -> Any:
        """Send a request, expect a status, give the JSON."""
        answer = await self.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def refused(
        self, method: str, path: str, *, status: int, code: str, **options: Any
    ) -> dict[str, Any]:
        """Send a request, expect a refusal by status and code, give the problem document."""
        answer = await self.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        assert answer.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = answer.json()
        assert document["code"] == code, answer.text
        return document


def make_caller(role: Role = Role.DISTRICT_OFFICER, **facts: Any) -> Caller:
    """Make a caller for tests that call services."""
    facts.setdefault("areas", (DISTRICT,))
    return Caller(subject=f"{role}-1", role=role, district_code=DISTRICT, **facts)


def make_act(caller: Caller | None = None, **facts: Any) -> Act:
    """Make an act for tests that call services which reach what is about persons."""
    caller = caller or make_caller()
    return replace(caller.act("a_test", kind="tests", request_id="test-1"), **facts)


def if_match(record: dict[str, Any]) -> dict[str, str]:
    """Give the header that changes exactly the version that was read."""
    return {"If-Match": f'"{record["version"]}"'}


def pointers(problem: dict[str, Any]) -> list[str]:
    """Give the fields that a refusal names."""
    return [error["pointer"] for error in problem["errors"]]


def idempotency_key(key: str | UUID) -> dict[str, str]:
    """Give the header that lets a POST be repeated."""
    return {"Idempotency-Key": str(key)}
