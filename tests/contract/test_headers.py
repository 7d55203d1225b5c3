"""What a browser is told in every answer, whatever became of the request."""

import re
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.answers import all_routes
from app.main import create_app
from app.roles import Role
from app.settings import Settings
from tests.contract.operations import NOWHERE
from tests.factories.callers import Client

_ANSWERS = [
    ("GET", "/v1/areas", 200),
    ("HEAD", "/v1/areas", 200),
    ("GET", f"/v1/members/{NOWHERE}", 404),
    ("GET", "/v1/nothing", 404),
    ("DELETE", "/v1/areas", 405),
    ("TRACE", "/v1/areas", 405),
    ("OPTIONS", "/v1/areas", 405),
    ("GET", "/v1/areas?unknown=1", 422),
    ("POST", "/v1/members", 422),
    ("GET", "/livez", 200),
    ("GET", "/metrics", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 200),
    ("GET", "/static/favicon.svg", 200),
    ("GET", "/static/", 404),
    ("GET", "/static/..%2Fmain.py", 404),
    ("GET", "/.git/config", 404),
    ("GET", "/v1/areas?" + "x" * 9_000, 414),
]
_MEDIA_TYPES = re.compile(
    r"application/(problem\+json|json|health\+json|javascript)|image/svg\+xml"
    r"|text/(html|plain|css|javascript|csv); .*charset=utf-8"
)


def require_headers(answer: httpx.Response) -> None:
    """Demand the headers that every answer has, and none that it may not have."""
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    lasts = re.fullmatch(r"max-age=(\d+); includeSubDomains", headers["strict-transport-security"])
    assert lasts is not None
    assert int(lasts[1]) >= 31_536_000
    policy = headers["content-security-policy"]
    for directive in ("default-src", "base-uri", "frame-ancestors", "object-src", "form-action"):
        assert f"{directive} 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src" not in policy or "'unsafe-inline'" not in policy.partition("style-src")[0]
    assert "set-cookie" not in headers
    assert not [name for name in headers if name.startswith("access-control-")]
    assert not {"server", "x-powered-by"} & set(headers)


@pytest.mark.parametrize(("method", "path", "status"), _ANSWERS)
async def test_an_answer_tells_browsers_to_keep_it_to_itself(
    officer: Client, method: str, path: str, status: int
) -> None:
    body: dict[str, str] | None = {} if method == "POST" else None
    answer = await officer.request(method, path, headers={"Origin": "https://a.example"}, json=body)
    assert answer.status_code == status
    require_headers(answer)
    assert answer.headers["x-request-id"]
    if answer.content:
        assert _MEDIA_TYPES.fullmatch(answer.headers["content-type"])
    if path.startswith("/v1/"):
        assert answer.headers["cache-control"] == "no-store"


async def test_what_fails_unexpectedly_is_an_answer_like_any_other(config: Settings) -> None:
    app = create_app(config)

    @app.get("/v1/broken")
    async def broken() -> None:
        raise LookupError("13800000000 select secret from members")

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as client:
        answer = await client.get("/v1/broken", headers={"X-Request-Id": "abc-1"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    require_headers(answer)
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "abc-1"
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"138|select|Lookup|Trace|\.py", answer.text)


async def test_a_cookie_or_a_parameter_names_nobody(client: Callable[..., Client]) -> None:
    officer = client(Role.DISTRICT_OFFICER)
    await officer.ok("GET", "/v1/areas")
    token = officer.headers.pop("Authorization").removeprefix("Bearer ")
    for headers, params in (
        ({"Cookie": f"Authorization={token}; token={token}"}, {}),
        ({"X-User-Id": "district_officer-1", "X-Authorization": f"Bearer {token}"}, {}),
        ({"Authorization": f"Basic {token}"}, {}),
        ({}, {"access_token": token}),
    ):
        answer = await officer.get("/v1/areas", headers=headers, params=params)
        assert answer.status_code == (422 if params else 401)


async def test_where_it_was_asked_changes_no_answer(officer: Client) -> None:
    plain = await officer.get("/v1/areas", params={"limit": 2})
    forged = await officer.get(
        "/v1/areas",
        params={"limit": 2},
        headers={
            "Host": "evil.example",
            "X-Forwarded-Host": "evil.example",
            "X-Forwarded-Proto": "gopher",
            "X-Original-URL": "/v1/members",
        },
    )
    assert forged.content == plain.content
    assert "evil" not in str(forged.headers)


async def test_a_parameter_given_twice_is_not_chosen_from(officer: Client) -> None:
    path = "/v1/areas?limit=1&limit=100"
    problem = await officer.refused("GET", path, status=422, code="invalid")
    assert [error["code"] for error in problem["errors"]] == ["repeated_parameter"]
    await officer.ok("GET", "/v1/areas?level=town&level=district")


def test_a_reading_method_changes_nothing() -> None:
    writing = ("create", "update", "delete", "approve", "revoke", "erase", "reveal", "import_")
    wrong = [
        route.name
        for route in all_routes(create_app(Settings(log_level="error")).router.routes)
        if isinstance(route, APIRoute)
        if "GET" in (route.methods or ()) and route.name.startswith(writing)
    ]
    assert not wrong


async def test_the_docs_run_their_own_script_alone(officer: Client, app: FastAPI) -> None:
    assert app.debug is False
    answer = await officer.get("/docs")
    policy = answer.headers["content-security-policy"]
    (sources,) = re.findall(r"script-src ([^;]+);", policy)
    assert re.fullmatch(r"'self' 'sha256-[A-Za-z0-9+/]{43}='", sources)
