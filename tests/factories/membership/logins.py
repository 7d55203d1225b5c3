"""Phones that receive messages, and members who log in with them."""

import re
from datetime import date
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, identifiers
from app.crypto import Keyring
from app.models.membership.members import Member
from app.models.organisation.associations import Association
from app.services.privacy import data_keys, person_data
from tests.factories.callers import Client
from tests.factories.membership.members import make_member

SMS_KEY = "of-the-tests"


class Inbox:
    """All phones of the sandbox, and how the sandbox behaves."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def texts(self, phone: str) -> list[str]:
        """Give what a phone was sent, the oldest first."""
        answer = await self._client.get(
            "/sandbox/messages", params={"to": identifiers.phone(phone)}
        )
        return [each["text"] for each in answer.raise_for_status().json()]

    async def code(self, phone: str) -> str:
        """Give the last code that a phone was sent."""
        match = re.search(r"\b\d{6}\b", (await self.texts(phone))[-1])
        assert match
        return match[0]

    async def behave(self, **behaviour: Any) -> None:
        """Have the sandbox fail or be slow."""
        (await self._client.put("/sandbox/behaviour", json=behaviour)).raise_for_status()

    async def empty(self) -> None:
        """Forget what was sent, and behave."""
        (await self._client.delete("/sandbox/messages")).raise_for_status()


def wrong(code: str) -> str:
    """Give another code."""
    return f"{(int(code) + 1) % 10**6:06}"


async def make_member_with_phone(
    session: AsyncSession, keyring: Keyring, association: Association, phone: str, **facts: Any
) -> Member:
    """Store a member whose phone is known; the caller commits."""
    e164, member_id = identifiers.phone(phone), clock.new_id()
    key, wrapped = data_keys.make(keyring, member_id)
    member = await make_member(
        session,
        association,
        id=member_id,
        consented_on=date(2025, 1, 1),
        phone_sealed=person_data.seal_phone(key, member_id, e164),
        phone_index=person_data.phone_index(keyring, e164),
        **facts,
    )
    await data_keys.keep(session, member, wrapped)
    return member


async def ask(client: Client, phone: str, **facts: Any) -> dict[str, Any]:
    """Ask for a login code."""
    body = {"phone": phone, **facts}
    login: dict[str, Any] = await client.ok("POST", "/v1/logins", status=202, json=body)
    return login


async def verify(client: Client, login: dict[str, Any], code: str) -> dict[str, Any]:
    """Send the right code."""
    outcome: dict[str, Any] = await client.ok(
        "POST", f"/v1/logins/{login['id']}/verify", json={"code": code}
    )
    return outcome


async def token_of(app: FastAPI, client: Client, inbox: Inbox, phone: str) -> str:
    """Log in by a phone and give the token."""
    login = await ask(client, phone)
    await app.state.messenger.idle()
    outcome = await verify(client, login, await inbox.code(phone))
    return str(outcome["token"]["access_token"])


async def status_of(app: FastAPI, token: str) -> int:
    """Give how a token is answered where a member sees her record."""
    transport, headers = httpx.ASGITransport(app=app), {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as phone:
        return (await phone.get("/v1/me", headers=headers)).status_code
