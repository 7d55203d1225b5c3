"""Text messages through a provider over HTTP, sent beside the request and never logged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import quote

import structlog
from fastapi import Depends, Request

from app import metrics
from app.calls import CallFailed, Peer
from app.crypto import machine_secret
from app.problems import Problem
from app.settings import Settings

_ATTEMPTS = 2
_PAUSE_SECONDS = 1.0
_QUEUED = 1000
_SENDERS = 4
_log = structlog.get_logger()


class NoProvider(Problem):
    """This deployment has no SMS provider, so nobody logs in by phone."""

    code, status = "no_sms_provider", 503


@dataclass(frozen=True)
class Message:
    """A text for a phone; a repeat under the same reference is not sent twice."""

    phone: str = field(repr=False)
    text: str = field(repr=False)
    reference: str


class Delivery(StrEnum):
    """How far a message has come."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"


class Provider:
    """An SMS provider: `POST /messages` takes one, `GET /messages/{id}` is its receipt."""

    def __init__(self, peer: Peer) -> None:
        """Send through an opened peer."""
        self._peer = peer

    async def send(self, message: Message) -> str:
        """Hand a message over and give the provider's id of it; raises CallFailed."""
        body = {"to": message.phone, "text": message.text, "reference": message.reference}
        answer = await self._peer.post("/messages", body, key=message.reference)
        try:
            return str(answer["id"])
        except (KeyError, TypeError):
            raise CallFailed from None

    async def receipt(self, message_id: str) -> Delivery:
        """Say how far a message has come; raises CallFailed."""
        answer = await self._peer.get(f"/messages/{quote(message_id, safe='')}")
        try:
            return Delivery(answer["status"])
        except (KeyError, TypeError, ValueError):
            raise CallFailed from None


class Messenger:
    """Sends what is submitted, in the background: a request takes as long with or without."""

    def __init__(self, provider: Provider | None) -> None:
        """Send through a provider; without one nothing can be submitted."""
        self.provider = provider
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue(_QUEUED)

    def submit(self, message: Message | None) -> None:
        """Have a message sent soon, or do the same for none; a flood is dropped and counted."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            metrics.MESSAGES.labels("dropped").inc()

    def require_provider(self) -> None:
        """Raise NoProvider where messages cannot be sent."""
        if self.provider is None:
            raise NoProvider

    async def idle(self) -> None:
        """Wait until everything submitted has been dealt with."""
        await self._queue.join()

    async def run(self) -> None:
        """Deal with what is submitted until cancelled."""
        while True:
            message = await self._queue.get()
            try:
                if message is not None and self.provider is not None:
                    await self._send(self.provider, message)
            finally:
                self._queue.task_done()

    async def _send(self, provider: Provider, message: Message) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                await provider.send(message)
            except CallFailed as failure:
                if failure.may_pass and attempt + 1 < _ATTEMPTS:
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                metrics.MESSAGES.labels("failed").inc()
                _log.warning("message_not_sent", why=failure.why, status=failure.status)
                return
            metrics.MESSAGES.labels("sent").inc()
            return


def provider_key(settings: Settings) -> str:
    """Give the key that the provider knows us by; in development one of this machine."""
    if settings.sms_key is not None:
        return settings.sms_key.get_secret_value()
    return machine_secret(Path(settings.data_dir) / "keys" / "sms.key")


@asynccontextmanager
async def provider_of(settings: Settings) -> AsyncIterator[Provider | None]:
    """Open the provider that is set, if one is."""
    async with AsyncExitStack() as stack:
        if settings.sms_url is None:
            yield None
            return
        peer = Peer(
            settings.sms_url,
            name="sms",
            bearer=provider_key(settings),
            seconds=settings.sms_timeout_seconds,
        )
        yield Provider(await stack.enter_async_context(peer))


@asynccontextmanager
async def messenger_of(settings: Settings) -> AsyncIterator[Messenger]:
    """Open the messenger of a process; what it has not sent when the block ends is lost."""
    async with provider_of(settings) as provider:
        messenger = Messenger(provider)
        senders = [asyncio.create_task(messenger.run()) for _ in range(_SENDERS)]
        try:
            yield messenger
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)


async def _messenger(request: Request) -> Messenger:
    return cast("Messenger", request.app.state.messenger)


Messages = Annotated[Messenger, Depends(_messenger)]
