"""Callers of the application, each with her token and her grant."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from app import clock
from app.database import Database
from app.issuer import DevelopmentIssuer
from app.roles import Role
from app.settings import Settings
from tests.factories.access.grants import store_grant
from tests.factories.callers import DISTRICT, Client

_REACH = {
    "district_code": "district_code",
    "areas": "areas",
    "associations": "association_ids",
    "events": "event_ids",
    "member_id": "member_id",
    "employer_linked": "employer_linked",
}


@asynccontextmanager
async def calling(
    app: FastAPI, config: Settings, owner: Database
) -> AsyncIterator[Callable[..., Client]]:
    """Give what makes callers, as the fixture `client` says, until the block ends."""
    issuer = DevelopmentIssuer(config)
    opened: list[Client] = []

    def open_client(
        role: Role | None, *, subject: str | None = None, step_up: bool = True, **facts: Any
    ) -> Client:
        headers, hooks = {"Accept-Language": "en"}, []
        if role is not None:
            # Who holds one linked grant is linked under all: she is another person than the rest.
            named = subject or f"{role}-{'linked' if facts.get('employer_linked') else 1}"
            facts.setdefault("district_code", DISTRICT)
            facts.setdefault("areas", [facts["district_code"]])
            reach = {new: facts.pop(old) for old, new in _REACH.items() if old in facts}
            grant_id = clock.new_id()
            hooks.append(_once(owner, id=grant_id, subject=named, role=role.value, **reach))
            headers["Authorization"] = f"Bearer {issuer.token(named, step_up=step_up, **facts)}"
            headers["Jixie-Grant"] = str(grant_id)
        client = Client(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
            base_url="http://jixie.test",
            headers=headers,
            event_hooks={"request": hooks},
        )
        opened.append(client)
        return client

    yield open_client
    for each in opened:
        await each.aclose()


def _once(owner: Database, **facts: Any) -> Callable[[httpx.Request], Awaitable[None]]:
    """Make the hook that stores a grant before the first request."""
    turn = asyncio.Lock()
    is_stored = False

    async def store(_request: httpx.Request) -> None:
        nonlocal is_stored
        async with turn:
            if not is_stored:
                await store_grant(owner.pool, **facts)
                is_stored = True

    return store
