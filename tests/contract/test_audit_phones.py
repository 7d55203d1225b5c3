"""What is done by a code from a message leaves its entries, and without them tells nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, errands
from app.crypto import Keyring
from app.database import Database, Door
from app.models.membership.members import Member
from app.roles import Role
from app.services.audit.audit_seals import UNSEALED
from app.settings import Settings
from tests.factories.callers import Client, idempotency_key, if_match
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, verify, wrong
from tests.factories.membership.members import make_phone
from tests.factories.membership.payout_accounts import make_account
from tests.factories.organisation.associations import make_association

OLD, NEW = make_phone(1), make_phone(2)
_ENTRIES = (
    f"select act, subject, role, object_kind, person_ids from ({UNSEALED}) e"
    " where act <> 'get_my_phone' order by id"
)
_ROLES = "jixie_staff, jixie_member, jixie_platform, jixie_district"


@pytest.fixture
async def members(session: AsyncSession, keyring: Keyring) -> list[Member]:
    """Two members who share a phone."""
    association = await make_association(session)
    made = [await make_member_with_phone(session, keyring, association, OLD) for _ in range(2)]
    await session.commit()
    return made


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    """A member with a phone of her own."""
    made = await make_member_with_phone(session, keyring, await make_association(session), OLD)
    await session.commit()
    return made


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    """That member, logged in."""
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


async def _noted(owner: Database) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await owner.pool.fetch(_ENTRIES)]


@asynccontextmanager
async def _no_entry(owner: Database) -> AsyncIterator[None]:
    await owner.pool.execute(f"revoke insert on audit_unsealed from {_ROLES}")
    try:
        yield
    finally:
        await owner.pool.execute(f"grant insert on audit_unsealed to {_ROLES}")


async def _code(app: FastAPI, her: Client, inbox: Inbox) -> dict[str, Any]:
    issued = await her.ok(
        "POST",
        "/v1/me/phone/codes",
        status=202,
        json={"phone": NEW},
        headers=idempotency_key(clock.new_id()),
    )
    await app.state.messenger.idle()
    return {"phone": NEW, "code_id": issued["id"], "code": await inbox.code(NEW)}


async def test_a_login_names_her_and_the_grant_that_it_gives(
    app: FastAPI, client: Callable[..., Client], inbox: Inbox, owner: Database, member: Member
) -> None:
    nobody = client(None)
    for grants in (["provide_grant"], []):
        await owner.pool.execute("truncate audit_unsealed, code_limits")
        login = await ask(nobody, OLD)
        await app.state.messenger.idle()
        await verify(nobody, login, await inbox.code(OLD))
        noted = await _noted(owner)
        assert [act for act, *_ in noted] == ["create_login", "verify_login", *grants]
        assert {tuple(entry[1:3]) for entry in noted} == {("phone-login", "member")}
        assert [entry[4] for entry in noted] == [[], *[[member.id]] * (1 + len(grants))]


async def test_who_asks_for_a_code_leaves_the_same_entry_whosever_phone_it_is(
    client: Callable[..., Client], inbox: Inbox, owner: Database, member: Member
) -> None:
    assert member.phone_index is not None
    assert await inbox.texts(OLD) == []
    for phone in (OLD, NEW):
        await ask(client(None), phone)
    known, unknown = await _noted(owner)
    assert known == unknown


async def test_all_who_share_a_phone_are_named_and_then_the_one_who_was_chosen(
    app: FastAPI,
    client: Callable[..., Client],
    inbox: Inbox,
    owner: Database,
    members: list[Member],
) -> None:
    nobody = client(None)
    login = await ask(nobody, OLD)
    await app.state.messenger.idle()
    outcome = await verify(nobody, login, await inbox.code(OLD))
    body = {"ticket": outcome["ticket"], "member_id": str(members[1].id)}
    await nobody.ok("POST", f"/v1/logins/{login['id']}/choose", json=body)
    noted = {act: persons for act, *_, persons in await _noted(owner)}
    assert set(noted["verify_login"]) == {each.id for each in members}
    assert noted["choose_login"] == noted["provide_grant"] == [members[1].id]


async def test_without_its_entry_nobody_gets_a_code_a_token_or_a_choice(
    app: FastAPI,
    client: Callable[..., Client],
    inbox: Inbox,
    owner: Database,
    members: list[Member],
) -> None:
    nobody = client(None)
    async with _no_entry(owner):
        asked = await nobody.post("/v1/logins", json={"phone": OLD})
        await app.state.messenger.idle()
    assert (asked.status_code, await inbox.texts(OLD)) == (503, [])
    login = await ask(nobody, OLD)
    await app.state.messenger.idle()
    body = {"code": await inbox.code(OLD)}
    async with _no_entry(owner):
        refused = await nobody.post(f"/v1/logins/{login['id']}/verify", json=body)
    assert refused.status_code == 503
    assert str(members[0].id) not in refused.text
    assert "ticket" not in refused.text


async def _hold_over(app: FastAPI, owner: Database) -> None:
    """Let the clock tell the phone on file and, three days later, put the change in force."""
    state = app.state
    for _ in range(2):
        await errands.run(
            Door(state.database), state.keyring, state.settings, state.messenger.provider
        )
        await owner.pool.execute(
            "update held_changes set requested_at = requested_at - interval '72 hours',"
            " in_force_at = in_force_at - interval '72 hours',"
            " noticed_at = noticed_at - interval '72 hours' where applied_at is null"
        )


async def test_each_step_of_a_change_of_account_is_noted_those_of_the_clock_too(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database, member: Member
) -> None:
    assert await inbox.texts(OLD) == []
    headers = {"If-Match": '"1"'}
    await her.ok("PATCH", "/v1/me/payout-account", json=make_account(), headers=headers)
    await _hold_over(app, owner)
    noted = await _noted(owner)
    assert [entry[:4] for entry in noted] == [
        ("update_my_payout_account", "her", "member", "me"),
        ("tell_of_new_payout_account", "clock", "operations", "held_changes"),
        ("put_payout_account_in_force", "clock", "operations", "held_changes"),
    ]
    assert all(entry[4] == [member.id] for entry in noted)


async def test_each_step_of_a_change_of_phone_is_noted_those_of_the_clock_too(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database, member: Member
) -> None:
    version = if_match(await her.ok("GET", "/v1/me/phone"))
    body = await _code(app, her, inbox)
    await her.ok("PATCH", "/v1/me/phone", json=body, headers=version)
    await _hold_over(app, owner)
    noted = await _noted(owner)
    assert [entry[:4] for entry in noted] == [
        ("create_phone_code", "her", "member", "phone"),
        ("update_my_phone", "her", "member", "me"),
        ("tell_old_phone", "clock", "operations", "held_changes"),
        ("put_phone_in_force", "clock", "operations", "held_changes"),
    ]
    assert all(entry[4] == [member.id] for entry in noted)


async def test_without_its_entry_no_phone_is_changed_and_none_is_sent_a_code(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    version = if_match(await her.ok("GET", "/v1/me/phone"))
    async with _no_entry(owner):
        asked = await her.post(
            "/v1/me/phone/codes", json={"phone": NEW}, headers=idempotency_key("k")
        )
        await app.state.messenger.idle()
    assert (asked.status_code, await inbox.texts(NEW)) == (503, [])
    body = await _code(app, her, inbox)
    async with _no_entry(owner):
        changed = await her.patch("/v1/me/phone", json=body, headers=version)
    assert changed.status_code == 503
    assert (await her.ok("GET", "/v1/me/phone"))["pending"] is None
    assert NEW not in changed.text


_REFUSED = (
    f"select act, refusal, person_ids from ({UNSEALED}) e where refusal is not null order by id"
)


async def _refusals(owner: Database) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await owner.pool.fetch(_REFUSED)]


async def _guess(client: Client, login_id: object, code: str) -> None:
    path = f"/v1/logins/{login_id}/verify"
    await client.refused("POST", path, status=403, code="code_refused", json={"code": code})


async def test_a_wrong_code_is_noted_with_her_whose_phone_it_was_for_and_without_it(
    app: FastAPI, client: Callable[..., Client], inbox: Inbox, owner: Database, member: Member
) -> None:
    nobody = client(None)
    known = await ask(nobody, OLD)
    await app.state.messenger.idle()
    code = wrong(await inbox.code(OLD))
    await _guess(nobody, known["id"], code)
    await _guess(nobody, (await ask(nobody, NEW))["id"], "123456")
    assert await _refusals(owner) == [
        ("verify_login", "code_refused", [member.id]),
        ("verify_login", "code_refused", []),
    ]
    entries = await owner.pool.fetch("select entry from audit_unsealed")
    assert not any(code in row["entry"] or OLD in row["entry"] for row in entries)


async def test_who_asks_for_codes_too_often_is_noted(
    client: Callable[..., Client], owner: Database, member: Member
) -> None:
    nobody = client(None)
    for phone in (OLD, NEW):
        await ask(nobody, phone)
        await nobody.refused(
            "POST", "/v1/logins", status=429, code="too_many_codes", json={"phone": phone}
        )
    assert await _refusals(owner) == [
        ("create_login", "too_many_codes", [member.id]),
        ("create_login", "too_many_codes", []),
    ]


async def test_a_refused_choice_and_a_pause_are_noted(
    client: Callable[..., Client],
    owner: Database,
    config: Settings,
    member: Member,
) -> None:
    nobody = client(None)
    login = await ask(nobody, OLD)
    body = {"ticket": "x" * 43, "member_id": str(member.id)}
    path = f"/v1/logins/{login['id']}"
    await nobody.refused("POST", f"{path}/choose", status=403, code="code_refused", json=body)
    await owner.pool.execute(
        "insert into code_limits values ($1, 'wrong', '', $2, $2, $3)",
        member.district_code,
        clock.now(),
        config.wrong_codes_hourly_limit,
    )
    await nobody.refused(
        "POST", f"{path}/verify", status=503, code="codes_paused", json={"code": "123456"}
    )
    assert await _refusals(owner) == [
        ("choose_login", "code_refused", [member.id]),
        ("verify_login", "codes_paused", [member.id]),
    ]


async def test_nobody_fills_the_audit_from_before_the_door_nor_hides_a_guess_in_the_crowd(
    app: FastAPI, client: Callable[..., Client], inbox: Inbox, owner: Database, member: Member
) -> None:
    nobody = client(None)
    for _ in range(12):
        await _guess(nobody, clock.new_id(), "123456")
    assert len(await _refusals(owner)) == 10
    login = await ask(nobody, OLD)
    await app.state.messenger.idle()
    await _guess(nobody, login["id"], wrong(await inbox.code(OLD)))
    assert (await _refusals(owner))[10:] == [("verify_login", "code_refused", [member.id])]
