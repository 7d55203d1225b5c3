"""A new grant keeps what earlier ones of its subject say: whom she works for, what she ended."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.membership.members import Member
from tests.factories.callers import VILLAGE, Client, idempotency_key, if_match
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, verify
from tests.factories.membership.members import make_phone
from tests.factories.organisation.associations import make_association

_PATH = "/v1/grants"
_PHONE = make_phone(1)


async def _give(by: Client, **facts: Any) -> dict[str, Any]:
    headers = idempotency_key(clock.new_id())
    given: dict[str, Any] = await by.ok("POST", _PATH, status=201, headers=headers, json=facts)
    return given


async def _event(session: AsyncSession, mode: str) -> tuple[UUID, UUID]:
    """Store an association and an event of it in a round, and give their ids."""
    association = await make_association(session, area_code=VILLAGE, mode=mode)
    held = await make_round(session)
    facts = {"area_code": VILLAGE, "association_id": association.id}
    event = await make_event(session, held, **facts)
    await session.commit()
    return association.id, event.id


async def test_who_staffs_an_employers_event_need_not_be_of_its_side(
    officer: Client, session: AsyncSession
) -> None:
    _, event_id = await _event(session, "independent")
    staff = {"role": "event_staff", "event_ids": [str(event_id)]}
    assert (await _give(officer, subject="nurse", **staff))["employer_linked"] is False
    linked = await _give(officer, subject="clerk", employer_linked=True, **staff)
    assert linked["employer_linked"] is True


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    """A member with a phone."""
    association = await make_association(session, area_code=VILLAGE)
    made = await make_member_with_phone(session, keyring, association, _PHONE)
    await session.commit()
    return made


@pytest.fixture
async def signed(
    app: FastAPI, client: Callable[..., Client], inbox: Inbox, member: Member
) -> dict[str, str]:
    """Give the header of a member who has just logged in."""
    assert member.phone_index
    login = await ask(client(None), _PHONE)
    await app.state.messenger.idle()
    outcome = await verify(client(None), login, await inbox.code(_PHONE))
    return {"Authorization": f"Bearer {outcome['token']['access_token']}"}


async def test_a_token_that_was_signed_out_stays_out_under_a_new_grant(
    app: FastAPI, client: Callable[..., Client], officer: Client, signed: dict[str, str]
) -> None:
    nobody = client(None)
    await nobody.ok("POST", "/v1/me/sign-out", status=204, headers=signed)
    (grant,) = (await officer.ok("GET", _PATH, params={"role": "member"}))["items"]
    path, body = f"{_PATH}/{grant['id']}/revoke", {"reason": "手机丢失"}
    await officer.ok("POST", path, json=body, headers=if_match(grant))
    facts = {name: grant[name] for name in ("subject", "role", "member_id")}
    await _give(officer, **facts)
    app.state.admit.__self__._known.clear()
    problem = await nobody.refused(
        "GET", "/v1/me", status=401, code="unauthenticated", headers=signed
    )
    assert "out" in problem["detail"]
