"""Guesses of one code, a hundred at once over real connections, never exceed its tries."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Database
from app.main import create_app
from app.models.privacy.phone_codes import MAX_TRIES
from app.services.privacy import phone_codes
from app.settings import Settings
from tests.factories.callers import Client
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, wrong
from tests.factories.membership.members import make_phone
from tests.factories.organisation.associations import make_association
from tests.factories.servers import served

_PHONE = make_phone(1)
_AT_ONCE = 100
_READ_THEN_WRITE = f"""
with seen as materialized (
  select district_code, id, tries, pg_sleep(0.05) from phone_codes
  where district_code = :district_code and id = :id and purpose = :purpose
    and tries < {MAX_TRIES} and used_at is null and expires_at > :now
    and member_id is not distinct from :member_id::uuid
)
update phone_codes c set tries = seen.tries + 1,
  used_at = case when c.digest = :digest then :now::timestamptz end
from seen where c.district_code = :district_code and c.id = seen.id
returning c.used_at is not null as is_right, c.phone_index, c.former_index
"""
_LIMITS = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE)


@pytest.fixture(scope="module")
def served_url(app: FastAPI, config: Settings, database_url: str) -> Iterator[str]:
    """Serve the application over HTTP; `app` has prepared the database."""
    assert app.state.database
    with served(create_app(config, database_url=database_url)) as url:
        yield url


@pytest.fixture
async def login(
    app: FastAPI, session: AsyncSession, keyring: Keyring, inbox: Inbox
) -> dict[str, Any]:
    """A login under way, whose code has arrived."""
    association = await make_association(session)
    await make_member_with_phone(session, keyring, association, _PHONE)
    await session.commit()
    assert await inbox.texts(_PHONE) == []
    transport = httpx.ASGITransport(app=app)
    async with Client(transport=transport, base_url="http://jixie.test") as client:
        begun = await ask(client, _PHONE)
    await app.state.messenger.idle()
    return begun


async def _at_once(url: str, login: dict[str, Any], codes: list[str]) -> Counter[int]:
    path = f"/v1/logins/{login['id']}/verify"
    async with httpx.AsyncClient(base_url=url, limits=_LIMITS, timeout=60) as client:
        answers = await asyncio.gather(*(client.post(path, json={"code": code}) for code in codes))
    return Counter(answer.status_code for answer in answers)


async def test_a_hundred_guesses_at_once_take_five_tries(
    served_url: str, login: dict[str, Any], inbox: Inbox, owner: Database
) -> None:
    code = await inbox.code(_PHONE)
    guesses = [each for each in (f"{n:06}" for n in range(_AT_ONCE + 1)) if each != code]
    assert await _at_once(served_url, login, guesses[:_AT_ONCE]) == {403: _AT_ONCE}
    assert await owner.pool.fetchval("select tries from phone_codes") == 5
    counted = "select taken from code_limits where kind = 'wrong' and key = ''"
    assert await owner.pool.fetchval(counted) == 5
    assert await _at_once(served_url, login, [code]) == {403: 1}


async def test_tries_that_were_read_before_they_are_written_would_be_exceeded(
    served_url: str,
    login: dict[str, Any],
    inbox: Inbox,
    owner: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test above can fail: guesses at once meet in what is no single conditional update."""
    monkeypatch.setattr(phone_codes, "_TRY", _READ_THEN_WRITE)
    code = await inbox.code(_PHONE)
    await _at_once(served_url, login, [wrong(code)] * _AT_ONCE)
    counted = "select taken from code_limits where kind = 'wrong' and key = ''"
    assert await owner.pool.fetchval(counted) > MAX_TRIES


async def test_the_right_code_a_hundred_times_at_once_logs_in_once(
    served_url: str, login: dict[str, Any], inbox: Inbox, owner: Database
) -> None:
    code = await inbox.code(_PHONE)
    answers = await _at_once(served_url, login, [code] * _AT_ONCE)
    assert answers == {200: 1, 403: _AT_ONCE - 1}
    assert await owner.pool.fetchval("select tries from phone_codes") == 1


async def test_a_right_code_among_wrong_ones_wins_only_within_the_tries(
    served_url: str, login: dict[str, Any], inbox: Inbox, owner: Database
) -> None:
    code = await inbox.code(_PHONE)
    answers = await _at_once(served_url, login, [wrong(code)] * 50 + [code] * 50)
    tries, used_at = (await owner.pool.fetchrow("select tries, used_at from phone_codes")).values()
    assert 1 <= tries <= 5
    assert answers[200] == (0 if used_at is None else 1)
    assert tries == 5 or used_at is not None


async def test_codes_asked_for_at_once_are_one(
    served_url: str, session: AsyncSession, keyring: Keyring, inbox: Inbox, owner: Database
) -> None:
    association = await make_association(session)
    await make_member_with_phone(session, keyring, association, _PHONE)
    await session.commit()
    async with httpx.AsyncClient(base_url=served_url, limits=_LIMITS, timeout=60) as client:
        answers = await asyncio.gather(
            *(client.post("/v1/logins", json={"phone": _PHONE}) for _ in range(20))
        )
    assert Counter(each.status_code for each in answers) == {202: 1, 429: 19}
    assert await owner.pool.fetchval("select count(*) from phone_codes") == 1
    for _ in range(50):
        if await inbox.texts(_PHONE):
            break
        await asyncio.sleep(0.02)
    assert len(await inbox.texts(_PHONE)) == 1
