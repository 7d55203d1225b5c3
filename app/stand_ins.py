"""What stand-ins for other services share: whom they serve, and how they refuse."""

import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from app.problems import MEDIA_TYPE


class Refused(Exception):
    """A request that is answered with a problem document."""

    def __init__(self, status: int, code: str) -> None:
        """Answer with a status, and with a code to branch on."""
        super().__init__(code)
        self.status, self.code = status, code


def admitting(key: str) -> Callable[..., Awaitable[None]]:
    """Make the dependency that refuses who does not know the key."""

    async def admit(authorization: Annotated[str | None, Header()] = None) -> None:
        given = (authorization or "").encode()
        if not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise Refused(401, "unauthenticated")

    return admit


def handle_failures(app: FastAPI) -> None:
    """Answer refusals and what cannot be read with problem documents."""

    @app.exception_handler(Refused)
    async def _(_request: Request, refused: Refused) -> Response:
        return _problem(refused.status, refused.code)

    @app.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> Response:
        fields = ["/".join(map(str, each["loc"])) for each in error.errors()]
        return _problem(422, "invalid", fields=fields)


def _problem(status: int, code: str, **extra: Any) -> Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if status in {429, 503}:
        headers["Retry-After"] = "1"
    document = {"type": f"/problems/{code}", "title": code, "status": status, "code": code}
    return JSONResponse(document | extra, status, headers, MEDIA_TYPE)
