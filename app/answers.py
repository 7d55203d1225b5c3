"""What wraps every answer: request id, limits, metrics, one log line, and failures as problems."""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, cast

import asyncpg
import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import clock, logging, metrics, problems, wording
from app.database_errors import constraint_name, sqlstate
from app.identifiers import holds_personal_number
from app.identity import Caller
from app.problems import FieldError, Invalid, Problem, Within, field_error
from app.roles import Role
from app.settings import Settings
from app.wording import Language

_log = structlog.get_logger()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
# Limits that a text may name; whatever else pydantic reports could repeat the input.
_SAFE_FACTS = ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern", "expected")
_CHOICE = re.compile(r"'([^']*)'")
_MAX_TARGET_BYTES = 8_192
_MAX_HEADERS, _MAX_HEADER_BYTES = 100, 32_768
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"strict-transport-security", b"max-age=63072000; includeSubDomains"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_POLICY = (
    b"content-security-policy",
    (
        b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        b" object-src 'none'; sandbox"
    ),
)
"""For browsers that are shown an answer by itself: nothing in it runs, loads or is framed."""
_NOTEWORTHY = {401, 403, 429}
_PROBLEM_OF_STATUS: Mapping[int, type[Problem]] = {
    400: problems.Malformed,
    404: problems.RouteNotFound,
    405: problems.MethodNotAllowed,
    408: problems.BodyTooSlow,
    413: problems.BodyTooLarge,
}
_PROBLEM_OF_SQLSTATE: Mapping[str, type[Problem]] = {
    "55P03": problems.Busy,
    "40P01": problems.Busy,
    "40001": problems.Busy,
    "57014": problems.Unavailable,
}


class Envelope:
    """The outermost layer: gives each request an id, bounds its body, counts and logs it."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        """Wrap an application."""
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        if is_head:
            # The server leaves the body out; for the rest it is a GET (RFC 9110, 9.3.2).
            scope = {**scope, "method": "GET"}
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        identity = _request_id(headers.get("x-request-id", ""))
        logging.request_id.set(identity)
        # Who calls is kept here too: whatever a server does, no request sees another's.
        scope["state"] = {**scope.get("state", {}), "request_id": identity, "is_head": is_head}
        started, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *_common_headers(scope, headers, message["headers"], identity),
                ]
            await send(message)

        metrics.IN_FLIGHT.inc()
        try:
            await self._serve(scope, self._bounded(receive, headers), send_with_id)
        except Exception as error:
            answer = _unexpected(Request(scope), error)
            if status:
                raise
            await answer(scope, receive, send_with_id)
        finally:
            metrics.IN_FLIGHT.dec()
            _record(scope, status or 500, time.perf_counter() - started)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal_of_size(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await send_problem(Request(scope), refusal)(scope, receive, send)

    def _bounded(self, receive: Receive, headers: Mapping[str, str]) -> Receive:
        is_upload = headers.get("content-type", "").startswith("multipart/form-data")
        limit = self._settings.max_upload_bytes if is_upload else self._settings.max_body_bytes
        return _bounded(receive, headers, limit, seconds=self._settings.body_seconds)


def _request_id(given: str) -> str:
    # It is logged and echoed, so no person's number passes for one.
    is_plain = _REQUEST_ID.fullmatch(given) and not holds_personal_number(given)
    return given if is_plain else str(clock.new_id())


def _unexpected(request: Request, error: Exception) -> Response:
    # The message could hold personal data; the type and the frames do not.
    _log.error("unexpected_failure", error=type(error).__name__, frames=logging.frames_of(error))
    return send_problem(request, problems.Internal())


def _refusal_of_size(scope: Scope) -> Problem | None:
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _MAX_TARGET_BYTES:
        return problems.TargetTooLong(limit=_MAX_TARGET_BYTES)
    headers = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > _MAX_HEADERS or size > _MAX_HEADER_BYTES:
        return problems.HeadersTooLarge(most=_MAX_HEADERS, limit=_MAX_HEADER_BYTES)
    return None


def _common_headers(
    scope: Scope,
    headers: Mapping[str, str],
    given: Iterable[tuple[bytes, bytes]],
    identity: str,
) -> list[tuple[bytes, bytes]]:
    common = [(b"x-request-id", identity.encode()), *_HEADERS]
    if all(name != _POLICY[0] for name, _ in given):
        common.append(_POLICY)
    if _TRACE.fullmatch(headers.get("traceparent", "")):
        common.append((b"traceparent", headers["traceparent"].encode()))
    if scope["path"].startswith("/v1/"):
        common.append((b"cache-control", b"no-store"))
    return common


def _bounded(
    receive: Receive, headers: Mapping[str, str], limit: int, *, seconds: float
) -> Receive:
    declared = headers.get("content-length", "0")
    deadline = asyncio.get_running_loop().time() + seconds
    taken, is_whole = 0, False

    async def bounded() -> Message:
        nonlocal taken, is_whole
        if is_whole:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, headers={"Connection": "close"}) from None
        is_whole = not message.get("more_body", False)
        taken += len(message.get("body", b""))
        if taken > limit or (declared.isdigit() and int(declared[:18]) > limit):
            raise HTTPException(413, detail=str(limit))
        return message

    return bounded


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unknown")
    method = scope["method"] if len(scope["method"]) < 10 else "OTHER"
    answered, took = metrics.of_request(method, route, status)
    answered.inc()
    took.observe(seconds)
    write = _log.warning if status in _NOTEWORTHY else _log.info
    write(
        "request",
        method=method,
        route=route,
        status=status,
        ms=round(seconds * 1000, 1),
        **_refused(scope["state"]),
    )


def _refused(state: Mapping[str, Any]) -> dict[str, object]:
    """Say of a refusal why, and under which grant of an office it was tried; of a member, no more.

    A grant's id tells who it was to those who may read grants.
    """
    problem: Problem | None = state.get("refusal")
    if problem is None:
        return {}
    facts: dict[str, object] = {"code": problem.code}
    if isinstance(problem, problems.Unauthenticated):
        facts["reason"] = problem.facts["reason"]
    caller: Caller | None = state.get("caller")
    if caller is not None:
        facts["role"] = caller.role.value
        if caller.role is not Role.MEMBER:
            facts["grant"] = str(caller.grant_id)
    return facts


def send_problem(request: Request, problem: Problem) -> Response:
    """Answer with a problem document in the caller's language."""
    language = wording.language_of(request.headers.get("accept-language"))
    state = request.scope.setdefault("state", {})
    state["refusal"] = problem
    identity = state.get("request_id", "-")
    document = problems.render(
        problem, language=language, instance=f"urn:request:{identity}", request_id=identity
    )
    headers = {**problem.headers, "Content-Language": language, "Vary": "Accept-Language"}
    return JSONResponse(
        document, status_code=problem.status, headers=headers, media_type=problems.MEDIA_TYPE
    )


def of_unreadable(headers: Iterable[tuple[bytes, bytes]], problem: Problem) -> Response:
    """Answer what never became a request of the application as the application would."""
    identity = str(clock.new_id())
    scope = {"type": "http", "path": "/v1/", "headers": list(headers)}
    answer = send_problem(Request(scope | {"state": {"request_id": identity}}), problem)
    answer.raw_headers += _common_headers(scope, {}, (), identity)
    return answer


async def _preferred_language(request: Request) -> Language:
    return wording.language_of(request.headers.get("accept-language"))


PreferredLanguage = Annotated[Language, Depends(_preferred_language)]


async def _gives_body(request: Request) -> bool:
    return not request.scope["state"].get("is_head", False)


GivesBody = Annotated[bool, Depends(_gives_body)]
"""Whether the caller gets the body of an answer, too: of a HEAD she gets its headers only."""


async def _settings(request: Request) -> Settings:
    return cast("Settings", request.app.state.settings)


Configured = Annotated[Settings, Depends(_settings)]


def install(app: FastAPI) -> None:
    """Turn every failure into a problem document."""

    @app.exception_handler(Problem)
    async def _(request: Request, problem: Problem) -> Response:
        return send_problem(request, problem)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        return send_problem(request, problem_of_validation(error))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        return send_problem(request, _problem_of_http(request, error))

    @app.exception_handler(DBAPIError)
    @app.exception_handler(asyncpg.PostgresError)
    @app.exception_handler(PoolTimeout)
    @app.exception_handler(OSError)
    @app.exception_handler(asyncpg.InterfaceError)
    @app.exception_handler(asyncpg.InternalClientError)
    async def _(request: Request, error: Exception) -> Response:
        problem = problem_of_database(error)
        if problem.status >= 500:
            _log.error("database_failure", error=type(error).__name__, sqlstate=sqlstate(error))
        return send_problem(request, problem)


def _problem_of_http(request: Request, error: HTTPException) -> Problem:
    cls = _PROBLEM_OF_STATUS.get(error.status_code, problems.Internal)
    if error.status_code == 405:
        return cls(headers={"Allow": ", ".join(sorted(_methods(request)))})
    if error.status_code == 413:
        return cls(limit=error.detail)
    return cls(headers=error.headers)


def _methods(request: Request) -> set[str]:
    methods: set[str] = set()
    for route in all_routes(request.app.router.routes):
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return methods | ({"HEAD"} if "GET" in methods else set())


def all_routes(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Walk routes, those of included routers too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from all_routes(included.routes)


def problem_of_validation(error: RequestValidationError) -> Problem:
    """Name the wrong fields by pointer, without what was sent."""
    entries = error.errors()
    if any(entry["type"] == "json_invalid" for entry in entries):
        return problems.Malformed(errors=[field_error("", "json_invalid")])
    return Invalid(errors=[_field_of(entry) for entry in entries[:100]])


def _field_of(entry: Mapping[str, Any]) -> FieldError:
    where, *path = entry["loc"]
    within: Within = where if where in {"query", "path", "header"} else "body"
    if entry["type"] == "extra_forbidden" and path:
        path[-1] = problems.shown_name(path[-1])
    pointer = "".join(f"/{part}" for part in path) if within == "body" else "/".join(map(str, path))
    facts = {key: value for key, value in (entry.get("ctx") or {}).items() if key in _SAFE_FACTS}
    if choices := _CHOICE.findall(str(facts.get("expected", ""))):
        # As pydantic lists them the last one stands after an English word.
        facts["expected"] = ", ".join(choices)
    return field_error(pointer, entry["type"], within=within, **facts)


def problem_of_database(error: BaseException) -> Problem:
    """Give the refusal that a violated constraint or a failing connection means."""
    state = sqlstate(error)
    if state is None:
        return problems.Unavailable(headers={"Retry-After": "5"})
    if state in _PROBLEM_OF_SQLSTATE:
        return _PROBLEM_OF_SQLSTATE[state](headers={"Retry-After": "1"})
    if not state.startswith(("22", "23")):
        return problems.Unavailable(headers={"Retry-After": "5"})
    if (refusal := problems.of_constraint(constraint_name(error))) is not None:
        return refusal()
    return Invalid() if state.startswith("22") else problems.Conflict()
