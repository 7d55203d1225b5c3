"""What every answer has in common, whatever the resource."""

from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app import answers
from tests.contract.operations import NOWHERE
from tests.factories.callers import Client


async def test_an_unknown_path_is_a_problem(officer: Client) -> None:
    problem = await officer.refused("GET", "/v1/nothing", status=404, code="route_not_found")
    assert problem["instance"] == f"urn:request:{problem['request_id']}"
    await officer.refused("GET", "/nowhere/at/all", status=404, code="route_not_found")


async def test_a_wrong_method_names_all_that_are_allowed(officer: Client) -> None:
    answer = await officer.request("DELETE", "/v1/areas")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["code"] == "method_not_allowed"


async def test_what_can_be_read_can_be_asked_about_by_head(officer: Client) -> None:
    read, asked = await officer.get("/v1/areas"), await officer.head("/v1/areas")
    assert asked.status_code == read.status_code == 200
    assert asked.headers["content-length"] == read.headers["content-length"]
    step = await officer.head(f"/v1/associations/{NOWHERE}/activate")
    assert step.status_code == 405


async def test_texts_are_chinese_unless_english_is_asked_for(officer: Client) -> None:
    chinese = await officer.get("/v1/areas/1", headers={"Accept-Language": "fr"})
    english = await officer.get("/v1/areas/1")
    assert chinese.headers["content-language"] == "zh"
    assert chinese.json()["title"] == "输入有误"
    assert english.headers["content-language"] == "en"


async def test_the_callers_request_id_is_echoed_when_it_is_harmless(officer: Client) -> None:
    kept = await officer.get("/livez", headers={"X-Request-Id": "abc-1"})
    replaced = await officer.get("/livez", headers={"X-Request-Id": "a b\tc"})
    assert kept.headers["x-request-id"] == "abc-1"
    assert replaced.headers["x-request-id"] != "a b\tc"


_SETTING = "/v1/areas/440605000000/settings/independent_min_staff"


async def test_a_body_in_another_format_is_415(officer: Client) -> None:
    await officer.refused(
        "PUT",
        _SETTING,
        content=b"<a/>",
        headers={"Content-Type": "application/xml"},
        status=415,
        code="unsupported_media_type",
    )


async def test_a_body_that_cannot_be_read_is_400(officer: Client) -> None:
    for content in (b"{", b"\xff\xfe", b"[" * 200_000):
        await officer.refused(
            "PUT",
            _SETTING,
            content=content,
            headers={"Content-Type": "application/json"},
            status=400,
            code="malformed",
        )


async def test_a_body_over_the_limit_is_413(officer: Client) -> None:
    answer: httpx.Response = await officer.put(
        _SETTING, content=b" " * 1_100_000, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


async def test_control_characters_in_a_parameter_are_named(officer: Client) -> None:
    await officer.refused(
        "GET", "/v1/areas", params={"cursor": "a\x00"}, status=422, code="invalid"
    )


async def test_health_speaks_without_a_token(officer: Client) -> None:
    assert (await officer.ok("GET", "/livez"))["status"] == "pass"
    assert (await officer.ok("GET", "/readyz"))["status"] == "pass"
    health = await officer.ok("GET", "/healthz")
    assert set(health["checks"]) == {"database", "schema", "database_log", "pool"}
    assert "jixie_requests_total" in (await officer.get("/metrics")).text


async def test_the_docs_need_no_internet(officer: Client) -> None:
    page = (await officer.get("/docs")).text
    assert "https://" not in page
    assert (await officer.get("/static/swagger-ui/swagger-ui.css")).status_code == 200


async def test_what_a_caller_names_a_request_by_tells_of_nobody(officer: Client) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    kept = await officer.get("/livez", headers={"traceparent": trace})
    assert kept.headers["traceparent"] == trace
    for name in ("13800000000", "440605197001010082"):
        answer = await officer.get("/livez", headers={"X-Request-Id": name, "traceparent": name})
        assert answer.headers["x-request-id"] != name
        assert "traceparent" not in answer.headers


async def test_the_name_of_an_unknown_part_is_repeated_only_if_it_is_a_plain_word(
    officer: Client,
) -> None:
    answer = await officer.get(
        "/v1/areas", params={"unheard": "x", "p13800000000": "x", "姓名": "x"}
    )
    named = [error["pointer"] for error in answer.json()["errors"]]
    assert named == ["unheard", "parameter 2", "parameter 3"]
    body = {"phone": "13800000000", "x13800000000": 1, "x": 2}
    answer = await officer.post("/v1/members/search", json=body)
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/…", "/x"}


async def test_what_is_kept_in_clear_takes_no_number_of_a_person(officer: Client) -> None:
    for words in ("见 13800000000", "证件440605197001010082", "卡号 6225880137465283"):
        answer = await officer.post(
            "/v1/exam-rounds",
            json={"name": words, "starts_on": "2030-01-01", "ends_on": "2030-03-31"},
        )
        assert [error["code"] for error in answer.json()["errors"]] == ["personal_number"]


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("got result for unknown protocol state 3"),
        ConnectionRefusedError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_database_that_is_going_away_is_not_our_failure(error: Exception) -> None:
    app = FastAPI()
    answers.install(app)

    @app.get("/")
    async def fail() -> None:
        raise error

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "5"


async def test_a_request_knows_nothing_of_the_one_before(app: FastAPI, officer: Client) -> None:
    kept: dict[str, Any] = {}

    async def with_one_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": kept}, receive, send)

    token = {"Authorization": officer.headers["Authorization"]}
    transport = httpx.ASGITransport(app=with_one_state)
    async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as client:
        assert (await officer.get("/v1/areas")).status_code == 200
        assert (await client.get("/v1/areas", headers=token)).status_code == 200
        assert (await client.get("/v1/areas")).status_code == 401
    assert kept == {}
