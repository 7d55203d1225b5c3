"""A stand-in for the SMS provider on loopback: keeps what it is sent, and fails when told to."""

import asyncio
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from app import clock
from app.sms import Delivery
from app.stand_ins import Refused, admitting, handle_failures

_PHONE = r"^\+[1-9][0-9]{6,14}$"


class Outcome(StrEnum):
    """What a receipt says once a message was accepted."""

    DELIVERED = "delivered"
    FAILED = "failed"


class Behaviour(BaseModel):
    """How the sandbox answers from now on."""

    model_config = ConfigDict(extra="forbid")

    fail_next: int = Field(default=0, ge=0, description="How many messages are refused first.")
    fail_status: int = Field(default=503, ge=400, le=599, description="With which status.")
    slow_ms: int = Field(default=0, ge=0, le=60_000, description="How long each answer takes.")
    delivery: Outcome = Outcome.DELIVERED


class Text(BaseModel):
    """A message as a client sends it."""

    model_config = ConfigDict(extra="forbid")

    to: str = Field(pattern=_PHONE)
    text: str = Field(min_length=1, max_length=500)
    reference: str = Field(min_length=1, max_length=100)


class Sent(Text):
    """A message as the sandbox keeps it."""

    id: str
    at: str
    status: Delivery


class Desk:
    """What one sandbox remembers."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.sent: dict[str, Sent] = {}
        self._by_key: dict[str, Sent] = {}

    def take(self, text: Text, key: str) -> Sent:
        """Keep a message once for its key, unless told to fail."""
        known = self._by_key.get(key)
        if known is not None:
            if known.model_dump(include=set(Text.model_fields)) != text.model_dump():
                raise Refused(422, "idempotency_key_reused")
            return known
        if self.behaviour.fail_next > 0:
            self.behaviour.fail_next -= 1
            raise Refused(self.behaviour.fail_status, "told_to_fail")
        status = Delivery(self.behaviour.delivery)
        sent = Sent(
            **text.model_dump(), id=str(clock.new_id()), at=clock.now().isoformat(), status=status
        )
        self.sent[sent.id] = self._by_key[key] = sent
        return sent

    def empty(self) -> None:
        """Forget everything and behave again."""
        self.sent.clear()
        self._by_key.clear()
        self.behaviour = Behaviour()


def create_sandbox(key: str) -> FastAPI:
    """Make the sandbox of a provider that knows its client by a key."""
    app = FastAPI(title="SMS sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    desk = Desk()
    handle_failures(app)
    _serve_provider(app, desk, key)
    _serve_control(app, desk)
    return app


def _serve_provider(app: FastAPI, desk: Desk, key: str) -> None:
    client = Depends(admitting(key))

    @app.post("/sms/messages", status_code=202, dependencies=[client])
    async def send(
        text: Text,
        response: Response,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> dict[str, str]:
        if not idempotency_key:
            raise Refused(400, "idempotency_key_required")
        seconds = desk.behaviour.slow_ms / 1000
        try:
            sent = desk.take(text, idempotency_key)
        finally:
            await asyncio.sleep(seconds)
        response.headers["Location"] = f"/sms/messages/{sent.id}"
        return {"id": sent.id, "status": Delivery.ACCEPTED}

    @app.get("/sms/messages/{message_id}", dependencies=[client])
    async def receipt(message_id: str) -> dict[str, str]:
        sent = desk.sent.get(message_id)
        if sent is None:
            raise Refused(404, "not_found")
        return {"id": sent.id, "status": sent.status, "at": sent.at, "reference": sent.reference}


def _serve_control(app: FastAPI, desk: Desk) -> None:
    @app.get("/sandbox/messages")
    async def messages(to: str | None = None) -> list[Sent]:
        return [sent for sent in desk.sent.values() if to in {None, sent.to}]

    @app.delete("/sandbox/messages", status_code=204)
    async def empty() -> None:
        desk.empty()

    @app.put("/sandbox/behaviour")
    async def behave(behaviour: Behaviour) -> Behaviour:
        desk.behaviour = behaviour
        return behaviour
