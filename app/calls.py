"""Calls to other services over HTTP: the one place that knows the client library."""

import asyncio
import json
import ssl
from types import TracebackType
from typing import Any, Self

import httpx

from app import crashes

_SECONDS = 5
_MAX_ANSWER_BYTES = 1_048_576


class CallFailed(Exception):
    """The other service did not answer, or refused; `status` is what it answered, if it did.

    `why` is a fixed word for the log: `status`, `tls`, `timeout`, `connection`, `too_large` or
    `unreadable`.
    """

    def __init__(self, status: int | None = None, *, why: str = "unreadable") -> None:
        """Keep the HTTP status; the text never holds what was sent."""
        super().__init__("no answer" if status is None else str(status))
        self.status = status
        self.why = why

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.status is None or self.status == 429 or self.status >= 500


def _tls() -> ssl.SSLContext:
    """Trust whom the machine trusts, and speak TLS 1.2 or newer whatever it would allow."""
    context = httpx.create_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Peer:
    """Another service, by its address; its connections live until the block ends.

    Its address comes from the settings alone. It is called over verified TLS where the address says
    https, has `seconds` for a whole answer of up to 1 MiB, and sends us nowhere else. Its name is
    that of its crash points.
    """

    def __init__(
        self, address: str, *, name: str, bearer: str | None = None, seconds: float = _SECONDS
    ) -> None:
        """Call under an address, with a bearer token if it wants one."""
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        self._address = address
        self._name = name
        self._seconds = seconds
        self._client = httpx.AsyncClient(
            headers=headers, timeout=seconds, follow_redirects=False, verify=_tls()
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def get(self, path: str = "") -> Any:
        """Give the JSON at a path; raises CallFailed."""
        return await self._call("GET", path)

    async def post(self, path: str, body: Any, *, key: str) -> Any:
        """Send JSON under an idempotency key and give the answer's; raises CallFailed."""
        return await self._call("POST", path, json=body, headers={"Idempotency-Key": key})

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        crashes.reach(self._name, "before_call")
        try:
            return await self._answer(method, path, **options)
        finally:
            crashes.reach(self._name, "after_call")

    async def _answer(self, method: str, path: str, **options: Any) -> Any:
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._client.stream(method, self._address + path, **options) as answer,
            ):
                if not answer.is_success:
                    raise CallFailed(answer.status_code, why="status")
                content = bytearray()
                async for piece in answer.aiter_bytes():
                    content += piece
                    if len(content) > _MAX_ANSWER_BYTES:
                        raise CallFailed(why="too_large")
                return json.loads(content)
        except (TimeoutError, httpx.TimeoutException):
            raise CallFailed(why="timeout") from None
        except httpx.HTTPError as error:
            raise CallFailed(why="tls" if _is_of_tls(error) else "connection") from None
        except (httpx.InvalidURL, ValueError, RecursionError):
            raise CallFailed from None


def _is_of_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None
