"""Answering a correction is one right, and changing the member by it another."""

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.roles import Role
from tests.factories.callers import Client, if_match
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_phone
from tests.factories.organisation.associations import make_association


async def test_who_may_only_answer_puts_no_value_in_place(
    client: Callable[..., Client], officer: Client, session: AsyncSession, keyring: Keyring
) -> None:
    association = await make_association(session)
    member = await make_member_with_phone(session, keyring, association, make_phone(1))
    asked = await make_correction(session, keyring, member)
    await session.commit()
    answering = client(Role.TOWN_OFFICER, scope="corrections:read corrections:answer")
    path, of_member = f"/v1/corrections/{asked.id}", f"/v1/members/{member.id}"
    name = (await officer.ok("GET", of_member))["name"]
    headers = if_match(await answering.ok("GET", path))
    refused = f"{path}/accept"
    await answering.refused("POST", refused, json={}, headers=headers, status=403, code="forbidden")
    assert (await answering.ok("GET", path))["status"] == "open"
    assert (await officer.ok("GET", of_member))["name"] == name
    body = {"reason": "与身份证一致"}
    answered = await answering.ok("POST", f"{path}/refuse", json=body, headers=headers)
    assert answered["status"] == "refused"
