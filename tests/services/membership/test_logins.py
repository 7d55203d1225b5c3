"""A login says who a member is; what she may do is granted, and taken back."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, granting, retaining
from app.crypto import IndexKey, Keyring
from app.database import Database, Door
from app.roles import Role
from app.services.access.admission import Admission
from app.services.privacy import blind_indexes
from app.tokens import subject_of
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT, Client, idempotency_key, if_match
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, verify
from tests.factories.membership.members import make_phone
from tests.factories.organisation.associations import make_association

_PHONE = make_phone(1)
_MISSING: dict[str, Any] = {"status": 403, "code": "grant_missing"}


@dataclass
class Holder:
    """A member with her phone in her hand."""

    member_id: UUID
    app: FastAPI
    client: Client
    inbox: Inbox
    owner: Database

    @property
    def subject(self) -> str:
        """How her tokens name her."""
        return subject_of(self.member_id)

    async def ask(self) -> dict[str, Any]:
        """Ask for a code, however often she did before."""
        await self.owner.pool.execute("truncate code_limits")
        await self.inbox.empty()
        login = await ask(self.client, _PHONE)
        await self.app.state.messenger.idle()
        return login

    async def log_in(self) -> dict[str, str]:
        """Log in and give the header of her token."""
        outcome = await verify(self.client, await self.ask(), await self.inbox.code(_PHONE))
        return {"Authorization": f"Bearer {outcome['token']['access_token']}"}

    async def is_herself(self, headers: dict[str, str]) -> None:
        """Expect that she sees her own record."""
        me = await self.client.ok("GET", "/v1/me", headers=headers)
        assert me["member_id"] == str(self.member_id)


@pytest.fixture
async def holder(
    app: FastAPI,
    session: AsyncSession,
    client: Callable[..., Client],
    inbox: Inbox,
    owner: Database,
) -> Holder:
    """A member whose phone is known."""
    association = await make_association(session)
    member = await make_member_with_phone(session, app.state.keyring, association, _PHONE)
    await session.commit()
    return Holder(member.id, app, client(None), inbox, owner)


class Clock:
    """The clock by which what was granted grows stale."""

    at = 0.0

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.at += seconds


@pytest.fixture
def passing(app: FastAPI) -> Iterator[Clock]:
    """Have the service remember grants by a clock of the test's own."""
    clock, before = Clock(), app.state.admit
    app.state.admit = Admission(app.state.database, seconds=lambda: clock.at).admit
    yield clock
    app.state.admit = before


async def _grant_of(officer: Client, holder: Holder) -> dict[str, Any]:
    listed = await officer.ok("GET", "/v1/grants", params={"subject": holder.subject})
    (grant,) = listed["items"]
    return dict(grant)


async def _is_refused(holder: Holder) -> None:
    """The right code gives no token that is good for nothing."""
    login = await holder.ask()
    code = {"code": await holder.inbox.code(_PHONE)}
    path, refusal = f"/v1/logins/{login['id']}/verify", "login_taken_back"
    await holder.client.refused("POST", path, status=403, code=refusal, json=code)


async def test_the_first_login_grants_her_to_be_herself_and_later_ones_nothing(
    holder: Holder, officer: Client
) -> None:
    for _ in range(2):
        await holder.is_herself(await holder.log_in())
    grant = await _grant_of(officer, holder)
    assert (grant["role"], grant["member_id"]) == ("member", str(holder.member_id))
    assert (grant["areas"], grant["employer_linked"], grant["ends_at"]) == ([], False, None)


async def test_what_is_taken_back_ends_within_five_seconds_and_no_login_brings_it_back(
    holder: Holder, officer: Client, passing: Clock, owner: Database
) -> None:
    headers = await holder.log_in()
    await holder.is_herself(headers)
    grant = await _grant_of(officer, holder)
    path, body = f"/v1/grants/{grant['id']}/revoke", {"reason": "手机遗失"}
    await officer.ok("POST", path, json=body, headers=if_match(grant))
    passing.pass_by(5)
    await holder.client.refused("GET", "/v1/me", headers=headers, **_MISSING)
    await _is_refused(holder)
    again = granting.Order(Role.MEMBER, holder.subject, member_id=holder.member_id)
    await granting.provide(owner, again)
    passing.pass_by(5)
    await holder.is_herself(headers)
    await owner.pool.execute("delete from code_limits")
    await holder.is_herself(await holder.log_in())


async def test_an_officer_takes_a_login_back_and_gives_it_again(
    holder: Holder, officer: Client, passing: Clock
) -> None:
    await holder.is_herself(await holder.log_in())
    facts = {"role": "member", "subject": holder.subject}
    refused: dict[str, Any] = {"status": 409, "code": "login_stands", "json": facts}
    await officer.refused("POST", "/v1/grants", headers=idempotency_key("1"), **refused)
    await holder.is_herself(await holder.log_in())
    grant = await _grant_of(officer, holder)
    path, body = f"/v1/grants/{grant['id']}/revoke", {"reason": "手机遗失"}
    await officer.ok("POST", path, json=body, headers=if_match(grant))
    passing.pass_by(5)
    await _is_refused(holder)
    again = {"headers": idempotency_key("2"), "json": facts}
    await officer.ok("POST", "/v1/grants", status=201, **again)
    passing.pass_by(5)
    await holder.is_herself(await holder.log_in())


async def test_what_was_taken_back_years_ago_comes_back_by_no_login(
    holder: Holder, officer: Client, passing: Clock, owner: Database, database: Database
) -> None:
    await holder.log_in()
    grant = await _grant_of(officer, holder)
    path, body = f"/v1/grants/{grant['id']}/revoke", {"reason": "手机遗失"}
    await officer.ok("POST", path, json=body, headers=if_match(grant))
    await owner.pool.execute(
        "update grants set created_at = created_at - interval '1200 days',"
        " starts_at = starts_at - interval '1200 days',"
        " revoked_at = revoked_at - interval '1200 days' where id = $1",
        UUID(grant["id"]),
    )
    await retaining.run(Door(database), district_code=DISTRICT, night_on=None, now=clock.now())
    await owner.pool.execute("delete from code_limits")
    passing.pass_by(5)
    await _is_refused(holder)


async def test_whoever_is_erased_is_logged_out_within_five_seconds(
    holder: Holder, officer: Client, passing: Clock
) -> None:
    headers = await holder.log_in()
    await holder.is_herself(headers)
    path = f"/v1/members/{holder.member_id}"
    version = if_match(await officer.ok("GET", path))
    await officer.ok("POST", f"{path}/erase", headers=version)
    passing.pass_by(5)
    await holder.client.refused("GET", "/v1/me", headers=headers, **_MISSING)
    assert (await _grant_of(officer, holder))["revoke_reason"] is not None


async def test_a_code_is_worth_nothing_to_whoever_is_erased_meanwhile(
    holder: Holder, officer: Client
) -> None:
    login = await holder.ask()
    code = {"code": await holder.inbox.code(_PHONE)}
    path = f"/v1/members/{holder.member_id}"
    version = if_match(await officer.ok("GET", path))
    await officer.ok("POST", f"{path}/erase", headers=version)
    verifying = f"/v1/logins/{login['id']}/verify"
    await holder.client.refused("POST", verifying, status=403, code="code_refused", json=code)


async def test_a_login_by_phone_gives_no_office_whatever_its_subject_was_granted(
    holder: Holder, session: AsyncSession
) -> None:
    office = await make_grant(session, subject=holder.subject)
    await session.commit()
    headers = await holder.log_in()
    await holder.is_herself(headers)
    chosen = headers | {"Jixie-Grant": str(office.id)}
    await holder.client.refused("GET", "/v1/areas", headers=chosen, **_MISSING)


async def test_logins_at_once_leave_one_grant(holder: Holder) -> None:
    logins = [(await holder.ask(), await holder.inbox.code(_PHONE)) for _ in range(4)]
    await asyncio.gather(*(verify(holder.client, login, code) for login, code in logins))
    held = "select count(*) from grants where member_id = $1"
    assert await holder.owner.pool.fetchval(held, holder.member_id) == 1


async def test_a_login_and_an_officer_who_gives_it_at_once_leave_one_grant(
    holder: Holder, officer: Client
) -> None:
    login, code = await holder.ask(), await holder.inbox.code(_PHONE)
    facts = {"role": "member", "subject": holder.subject}
    given, _ = await asyncio.gather(
        officer.post("/v1/grants", headers=idempotency_key("at once"), json=facts),
        verify(holder.client, login, code),
    )
    assert given.status_code in {201, 409}, given.text
    await _grant_of(officer, holder)
    await holder.is_herself(await holder.log_in())


async def test_a_phone_is_found_while_the_index_key_is_being_replaced(
    holder: Holder, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = keyring._indexes
    second = IndexKey(2, bytes(32), first.profile)
    monkeypatch.setattr(keyring, "_indexes", (second, first))
    await holder.is_herself(await holder.log_in())
    login = await holder.ask()
    async with Door(holder.app.state.database).transaction(DISTRICT) as session:
        await blind_indexes.refill_some(session, keyring, district_code=DISTRICT, limit=9)
    code = await holder.inbox.code(_PHONE)
    assert (await verify(holder.client, login, code))["token"] is not None


async def test_signing_out_ends_every_token_within_five_seconds_and_no_later_one(
    holder: Holder, passing: Clock
) -> None:
    first, second = await holder.log_in(), await holder.log_in()
    answer = await holder.client.post("/v1/me/sign-out", headers=first)
    assert answer.status_code == 204
    passing.pass_by(5)
    for headers in (first, second):
        problem = await holder.client.refused(
            "GET", "/v1/me", headers=headers, status=401, code="unauthenticated"
        )
        assert "signed_out" in problem["detail"]
    later = await holder.log_in()
    passing.pass_by(5)
    await holder.is_herself(later)


async def test_signing_out_leaves_others_in(
    holder: Holder, session: AsyncSession, client: Callable[..., Client], passing: Clock
) -> None:
    association = await make_association(session)
    other = await make_member_with_phone(
        session, holder.app.state.keyring, association, make_phone(2)
    )
    await session.commit()
    hers = client(Role.MEMBER, member_id=other.id)
    await hers.ok("GET", "/v1/me")
    await holder.client.post("/v1/me/sign-out", headers=await holder.log_in())
    passing.pass_by(5)
    await hers.ok("GET", "/v1/me")


async def test_signing_out_twice_is_once(holder: Holder) -> None:
    headers = await holder.log_in()
    for _ in range(2):
        answer = await holder.client.post("/v1/me/sign-out", headers=headers)
        assert answer.status_code in {204, 401}
