"""What reaches the process over the wire: bounded in size and time, and of one meaning."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from app.main import create_app
from app.roles import Role
from app.serving import Server
from app.settings import Settings
from tests.processes import Service


@contextmanager
def _connected(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as wire:
        yield wire


def _said(wire: socket.socket) -> bytes:
    said = b""
    while piece := wire.recv(65_536):
        said += piece
    return said


def _heads(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 6\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ],
)
def test_a_message_of_two_lengths_has_no_second_request_in_it(
    service: Service, head: bytes
) -> None:
    hidden = b"GET /v1/hidden HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    body = b"0\r\n\r\n" + hidden
    with _connected(service) as wire:
        wire.sendall(b"POST /v1/logins HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n" + body)
        wire.shutdown(socket.SHUT_WR)
        answers = _heads(_said(wire))
    assert answers[0] in {400, 422, 501}
    assert len(answers) == 1


_FINE = b"Host: a\r\nAccept-Language: en\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"FOO /v1/members HTTP/1.1\r\n" + _FINE, 501, "method_unknown"),
        (b"GET /v1/members HTTP/9.9\r\n" + _FINE, 400, "bad_request"),
        (b"GET /v1/\xff HTTP/1.1\r\n" + _FINE, 400, "bad_request"),
        (b"GET /v1/members HTTP/1.1\r\n" + _FINE + b"X-A: \x00\r\n", 400, "bad_request"),
        (b"GET /v1/members HTTP/1.1\r\n" + _FINE + b"no field\r\n", 400, "bad_request"),
        (b"POST /v1/logins HTTP/1.1\r\n" + _FINE + b"Content-Length: x\r\n", 400, "bad_request"),
        (b"GET /v1/members\r\n", 401, "unauthenticated"),
        (b"\x16\x03\x01\x02\x00", 501, "method_unknown"),
        (b"CONNECT a:443 HTTP/1.1\r\n" + _FINE, 400, "bad_request"),
        (b"OPTIONS * HTTP/1.1\r\n" + _FINE, 404, "route_not_found"),
        (b"PROPFIND /v1/members HTTP/1.1\r\n" + _FINE, 405, "method_not_allowed"),
        (
            b"GET /v1/members HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n" + _FINE,
            401,
            "unauthenticated",
        ),
    ],
)
def test_what_is_no_request_is_a_problem_too(
    service: Service, sent: bytes, status: int, code: str
) -> None:
    with _connected(service) as wire:
        wire.sendall(sent + b"\r\n")
        wire.shutdown(socket.SHUT_WR)
        head, _, body = _said(wire).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (status, code)
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert fields[b"content-type"] == b"application/problem+json"
    assert fields[b"x-content-type-options"] == b"nosniff"
    assert fields[b"x-request-id"].decode() == problem["request_id"]
    assert int(fields[b"content-length"]) == len(body)
    if status in {400, 501}:
        assert fields[b"connection"] == b"close"


def test_header_fields_are_bounded_in_number_and_size(service: Service) -> None:
    with httpx.Client(base_url=service.url) as client:
        many = client.get("/livez", headers={f"X-{n}": "1" for n in range(200)})
        long = client.get("/livez", headers={"X-Long": "x" * 40_000})
        target = client.get("/livez", params={"x": "y" * 9_000})
    for answer, status, code in (
        (many, 431, "headers_too_large"),
        (long, 431, "headers_too_large"),
        (target, 414, "target_too_long"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_body_that_drips_is_given_up(config: Settings) -> None:
    app = create_app(config.model_copy(update={"body_seconds": 2.0}))

    @app.post("/v1/bodies")
    async def take(request: Request) -> int:
        return len(await request.body())

    asked = 0
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.25)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/bodies",
        "raw_path": b"/v1/bodies",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    begun = time.monotonic()
    await app(scope, receive, send)
    assert time.monotonic() - begun < 20
    assert 1 <= asked <= 9
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["code"] == "body_too_slow"


def test_the_callers_address_is_not_the_callers_to_choose(
    config: Settings, database_url: str
) -> None:
    seen: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["client"][0])

    server = Server(config, database_url)
    assert server.config.proxy_headers
    server.config.app = app
    server.config.load()
    forged = [(b"x-forwarded-for", b"192.0.2.1, 198.51.100.7")]

    async def call(client: str) -> None:
        scope = {"type": "http", "client": (client, 1), "headers": forged, "scheme": "http"}
        await server.config.loaded_app(scope, None, None)

    asyncio.run(call("203.0.113.9"))
    asyncio.run(call("127.0.0.1"))
    assert seen == ["203.0.113.9", "198.51.100.7"]


def test_what_is_served_in_production_has_no_debugging(app: FastAPI, service: Service) -> None:
    assert not app.debug
    with httpx.Client(
        base_url=service.url, headers=service.bearer(Role.DISTRICT_OFFICER)
    ) as client:
        assert client.request("TRACE", "/v1/areas").status_code == 405
        assert "server" not in client.get("/livez").headers
