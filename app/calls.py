"""Calls to other services over HTTP: the one place that knows the client library."""

from types import TracebackType
from typing import Any, Self

import httpx

_SECONDS = 5


class CallFailed(Exception):
    """The other service did not answer, or refused; `status` is what it answered, if it did."""

    def __init__(self, status: int | None = None) -> None:
        """Keep the HTTP status; the text never holds what was sent."""
        super().__init__("no answer" if status is None else str(status))
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.status is None or self.status == 429 or self.status >= 500


class Peer:
    """Another service, by its address; its connections live until the block ends."""

    def __init__(
        self, address: str, *, bearer: str | None = None, seconds: float = _SECONDS
    ) -> None:
        """Call under an address, with a bearer token if it wants one."""
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        self._address = address
        self._client = httpx.AsyncClient(headers=headers, timeout=seconds)

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
        try:
            answer = await self._client.request(method, self._address + path, **options)
            if answer.is_error:
                raise CallFailed(answer.status_code)
            return answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            raise CallFailed from None
