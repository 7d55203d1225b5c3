"""An attempt at a request, whole with its transaction, and a second one after a deadlock."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from fastapi import Request, Response

from app.database_errors import may_retry

_STACK = "fastapi_function_astack"
"""Where FastAPI looks for what is to be left before the answer is sent."""


async def once_more(request: Request, attempt: Callable[[], Awaitable[Response]]) -> Response:
    """Do what a request asks, and once more if the database undid it to let others go on.

    The second attempt begins when nothing of the first is open, noted or held any more. What the
    first committed by itself stays, as a code that was used up: she asks for another one.
    """
    try:
        return await _whole(request, attempt)
    except Exception as error:
        if not may_retry(error):
            raise
    await _renew(request)
    return await _whole(request, attempt)


async def _whole(request: Request, attempt: Callable[[], Awaitable[Response]]) -> Response:
    """Commit what an attempt did, or roll it back, and give its connection back in the end.

    Left to FastAPI, its transaction would outlast it, and end over that of whoever has the
    connection by then.
    """
    outer = request.scope[_STACK]
    try:
        async with AsyncExitStack() as stack:
            request.scope[_STACK] = stack
            response = await attempt()
    finally:
        request.scope[_STACK] = outer
    return response


async def _renew(request: Request) -> None:
    """Make the request as it was when it came: no act is under way, and its files are unread."""
    request.scope["state"].pop("act", None)
    for part in (await request.form()).values():
        if not isinstance(part, str):
            await part.seek(0)
