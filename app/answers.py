"""What wraps every answer: request id, limits, metrics, one log line, and failures as problems."""

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

from app import clock, logging, metrics, problems
from app.database import constraint_name, sqlstate
from app.problems import FieldError, Invalid, Language, Problem, Within, field_error
from app.settings import Settings

_log = structlog.get_logger()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# Limits that a text may name; whatever else pydantic reports could repeat the input.
_SAFE_FACTS = ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern", "expected")
_PROBLEM_OF_STATUS: Mapping[int, type[Problem]] = {
    400: problems.Malformed,
    404: problems.RouteNotFound,
    405: problems.MethodNotAllowed,
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
        if scope["method"] == "HEAD":
            # The server leaves the body out; for the rest it is a GET (RFC 9110, 9.3.2).
            scope = {**scope, "method": "GET"}
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        given = headers.get("x-request-id", "")
        identity = given if _REQUEST_ID.fullmatch(given) else str(clock.new_id())
        logging.request_id.set(identity)
        scope.setdefault("state", {})["request_id"] = identity
        started, status = time.perf_counter(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *_common_headers(scope, headers, identity),
                ]
            await send(message)

        limit = self._limit(headers.get("content-type", ""))
        metrics.IN_FLIGHT.inc()
        try:
            await self._app(scope, _bounded(receive, headers, limit), send_with_id)
        finally:
            metrics.IN_FLIGHT.dec()
            _record(scope, status, time.perf_counter() - started)

    def _limit(self, content_type: str) -> int:
        if content_type.startswith("multipart/form-data"):
            return self._settings.max_upload_bytes
        return self._settings.max_body_bytes


def _common_headers(
    scope: Scope, headers: Mapping[str, str], identity: str
) -> list[tuple[bytes, bytes]]:
    common = [(b"x-request-id", identity.encode()), (b"x-content-type-options", b"nosniff")]
    if "traceparent" in headers:
        common.append((b"traceparent", headers["traceparent"].encode("latin-1")))
    if scope["path"].startswith("/v1/"):
        common.append((b"cache-control", b"no-store"))
    return common


def _bounded(receive: Receive, headers: Mapping[str, str], limit: int) -> Receive:
    declared = headers.get("content-length", "0")
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit or (declared.isdigit() and int(declared[:18]) > limit):
            raise HTTPException(413, detail=str(limit))
        return message

    return bounded


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unknown")
    method = scope["method"] if len(scope["method"]) < 10 else "OTHER"
    metrics.REQUESTS.labels(method, route, status).inc()
    metrics.SECONDS.labels(method, route).observe(seconds)
    _log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


def send_problem(request: Request, problem: Problem) -> Response:
    """Answer with a problem document in the caller's language."""
    language = problems.language_of(request.headers.get("accept-language"))
    identity = request.scope.get("state", {}).get("request_id", "-")
    document = problems.render(
        problem, language=language, instance=f"urn:request:{identity}", request_id=identity
    )
    headers = {**problem.headers, "Content-Language": language, "Vary": "Accept-Language"}
    return JSONResponse(
        document, status_code=problem.status, headers=headers, media_type=problems.MEDIA_TYPE
    )


async def _preferred_language(request: Request) -> Language:
    return problems.language_of(request.headers.get("accept-language"))


PreferredLanguage = Annotated[Language, Depends(_preferred_language)]


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
    async def _(request: Request, error: Exception) -> Response:
        problem = problem_of_database(error)
        if problem.status >= 500:
            _log.error("database_failure", error=type(error).__name__, sqlstate=sqlstate(error))
        return send_problem(request, problem)

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        # The message could hold personal data; the type and the frames do not.
        _log.error(
            "unexpected_failure", error=type(error).__name__, frames=logging.frames_of(error)
        )
        return send_problem(request, problems.Internal())


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
        # The name of an unknown property is itself input.
        path[-1] = path[-1] if re.fullmatch(r"\w{1,40}", str(path[-1]), re.ASCII) else "…"
    pointer = "".join(f"/{part}" for part in path) if within == "body" else "/".join(map(str, path))
    facts = {key: value for key, value in (entry.get("ctx") or {}).items() if key in _SAFE_FACTS}
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
    name = constraint_name(error)
    for cls in problems.all_problems():
        if name is not None and cls.constraint == name:
            return cls()
    return Invalid() if state.startswith("22") else problems.Conflict()
