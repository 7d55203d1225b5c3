"""A new phone is proven, told to the old one, held for 72 hours, and can be given up."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, errands
from app.crypto import Keyring
from app.database import Database
from app.member_issuer import MemberIssuer
from app.models.membership.members import Member
from app.roles import Role
from app.services.privacy import data_keys
from app.telling import tells
from tests.factories.callers import Client, idempotency_key, if_match
from tests.factories.membership.consents import a_day_after
from tests.factories.membership.logins import (
    Inbox,
    ask,
    make_member_with_phone,
    token_of,
    verify,
    wrong,
)
from tests.factories.membership.members import make_phone
from tests.factories.organisation.associations import make_association
from tests.factories.privacy.held_changes import pass_by, run_errands

OLD, NEW, OTHER = make_phone(1), make_phone(2), make_phone(3)
PHONE, CODES, CANCEL = "/v1/me/phone", "/v1/me/phone/codes", "/v1/me/phone/cancel"


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    """A member with a phone."""
    made = await make_member_with_phone(session, keyring, await make_association(session), OLD)
    await session.commit()
    return made


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    """That member, logged in."""
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


async def _ask_code(her: Client, phone: str) -> dict[str, Any]:
    headers = idempotency_key(clock.new_id())
    asked = await her.ok("POST", CODES, status=202, json={"phone": phone}, headers=headers)
    return dict(asked)


async def _code(app: FastAPI, her: Client, inbox: Inbox, phone: str = NEW) -> dict[str, Any]:
    issued = await _ask_code(her, phone)
    await app.state.messenger.idle()
    return {"phone": phone, "code_id": issued["id"], "code": await inbox.code(phone)}


async def _change(app: FastAPI, her: Client, inbox: Inbox, phone: str = NEW) -> dict[str, Any]:
    headers = if_match(await her.ok("GET", PHONE))
    body = await _code(app, her, inbox, phone)
    changed: dict[str, Any] = await her.ok("PATCH", PHONE, json=body, headers=headers)
    return changed


async def test_a_new_phone_waits_72_hours_and_the_old_one_is_told(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    changed = await _change(app, her, inbox)
    assert (changed["phone_masked"], changed["pending"]["phone_masked"]) == (
        "138****0001",
        "138****0002",
    )
    assert await inbox.texts(OLD) == []
    await run_errands(app)
    (notice,) = await inbox.texts(OLD)
    assert "更换" in notice
    assert not tells(notice)
    await pass_by(owner, 71)
    await run_errands(app)
    assert (await her.ok("GET", PHONE))["phone_masked"] == "138****0001"
    await pass_by(owner, 1)
    await run_errands(app)
    phone = await her.ok("GET", PHONE)
    assert (phone["phone_masked"], phone["pending"]) == ("138****0002", None)
    assert len(await inbox.texts(OLD)) == 1


async def test_the_new_phone_logs_in_only_once_it_is_in_force(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    await _change(app, her, inbox)
    await inbox.empty()
    await owner.pool.execute("truncate code_limits")
    for phone in (OLD, NEW):
        await ask(her, phone)
    await run_errands(app)
    await app.state.messenger.idle()
    assert await inbox.texts(NEW) == []
    await pass_by(owner, 72)
    await run_errands(app)
    await owner.pool.execute("truncate code_limits")
    await inbox.empty()
    await ask(her, OLD)
    login = await ask(her, NEW)
    await app.state.messenger.idle()
    assert await inbox.texts(OLD) == []
    assert (await verify(her, login, await inbox.code(NEW)))["token"] is not None


@pytest.mark.usefixtures("forgetful")
async def test_what_was_logged_in_by_the_old_phone_ends_with_it(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    login = await ask(her, OLD)
    await app.state.messenger.idle()
    token = (await verify(her, login, await inbox.code(OLD)))["token"]["access_token"]
    await owner.pool.execute("truncate code_limits")
    await _change(app, her, inbox)
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as phone:
        assert (await phone.get("/v1/me", headers=headers)).status_code == 200
        await run_errands(app)
        await pass_by(owner, 72)
        await run_errands(app)
        assert (await phone.get("/v1/me", headers=headers)).status_code == 401
    assert (await her.ok("GET", PHONE))["phone_masked"] == "138****0002"


async def test_a_phone_is_changed_soon_after_a_login_by_the_old_one(
    app: FastAPI, her: Client, inbox: Inbox, member: Member, owner: Database
) -> None:
    login = await ask(her, OLD)
    await app.state.messenger.idle()
    await verify(her, login, await inbox.code(OLD))
    await owner.pool.execute("truncate code_limits")
    issuer = app.state.settings, app.state.keyring
    transport = httpx.ASGITransport(app=app)
    answers = {}
    for minutes in (14, 16):
        at = clock.now() - timedelta(minutes=minutes)
        token = MemberIssuer(*issuer).token(member_id=member.id, now=at)
        headers = {"Authorization": f"Bearer {token}", **idempotency_key(str(minutes))}
        async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as phone:
            answers[minutes] = await phone.post(CODES, json={"phone": NEW}, headers=headers)
    assert {minutes: each.status_code for minutes, each in answers.items()} == {14: 202, 16: 401}
    assert answers[16].json()["code"] == "login_too_old"
    assert 'max_age="900"' in answers[16].headers["www-authenticate"]


async def test_the_full_copy_is_given_soon_after_a_login_and_the_masked_one_always(
    app: FastAPI, her: Client, inbox: Inbox, member: Member
) -> None:
    await token_of(app, her, inbox, OLD)
    issuer = MemberIssuer(app.state.settings, app.state.keyring)
    path, transport = f"/v1/members/{member.id}/export", httpx.ASGITransport(app=app)
    answers = {}
    for minutes in (14, 16):
        token = issuer.token(member_id=member.id, now=clock.now() - timedelta(minutes=minutes))
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as phone:
            answers[minutes] = await phone.post(path, headers=headers)
            assert (await phone.get(path, headers=headers)).status_code == 200
    assert answers[14].json()["phone"] == f"+86{OLD}"
    assert (answers[16].status_code, answers[16].json()["code"]) == (401, "login_too_old")


async def test_the_hold_counts_from_the_notice(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    await _change(app, her, inbox)
    await inbox.behave(fail_next=1, fail_status=503)
    await run_errands(app)
    await pass_by(owner, 200)
    await run_errands(app)
    assert len(await inbox.texts(OLD)) == 1
    for hours, masked in ((71, "138****0001"), (1, "138****0002")):
        await pass_by(owner, hours)
        await run_errands(app)
        assert (await her.ok("GET", PHONE))["phone_masked"] == masked


async def test_an_old_phone_that_no_provider_takes_holds_nobody_up(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    await _change(app, her, inbox)
    await inbox.behave(fail_next=1, fail_status=422)
    await run_errands(app)
    await pass_by(owner, 72)
    await run_errands(app)
    assert (await her.ok("GET", PHONE))["phone_masked"] == "138****0002"


async def test_a_change_can_be_given_up_and_is_erased(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    changed = await _change(app, her, inbox)
    kept = await her.ok("POST", CANCEL, headers=if_match(changed))
    assert (kept["phone_masked"], kept["pending"]) == ("138****0001", None)
    await pass_by(owner, 100)
    await run_errands(app)
    assert (await her.ok("GET", PHONE))["phone_masked"] == "138****0001"
    assert await inbox.texts(OLD) == []
    assert await owner.pool.fetchval("select value_sealed from held_changes") is None


async def test_a_second_change_takes_the_place_of_the_first(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    await _change(app, her, inbox)
    await _change(app, her, inbox, OTHER)
    await run_errands(app)
    await pass_by(owner, 72)
    await run_errands(app)
    assert (await her.ok("GET", PHONE))["phone_masked"] == "138****0003"
    assert await owner.pool.fetchval("select count(*) from held_changes") == 2


async def test_a_wrong_code_changes_nothing_and_stays_counted(
    app: FastAPI, her: Client, inbox: Inbox
) -> None:
    phone = await her.ok("GET", PHONE)
    right = await _code(app, her, inbox)
    refused: dict[str, Any] = {"status": 403, "code": "code_refused", "headers": if_match(phone)}
    for _ in range(5):
        body = right | {"code": wrong(right["code"])}
        await her.refused("PATCH", PHONE, json=body, **refused)
    await her.refused("PATCH", PHONE, json=right, **refused)
    assert await her.ok("GET", PHONE) == phone


async def test_a_code_is_for_the_phone_and_the_member_that_it_was_sent_for(
    *,
    app: FastAPI,
    her: Client,
    inbox: Inbox,
    session: AsyncSession,
    client: Callable[..., Client],
    keyring: Keyring,
) -> None:
    association = await make_association(session)
    stranger = await make_member_with_phone(session, keyring, association, OTHER)
    await session.commit()
    him = client(Role.MEMBER, member_id=str(stranger.id), subject="him")
    right = await _code(app, her, inbox)
    refused: dict[str, Any] = {
        "status": 403,
        "code": "code_refused",
        "headers": {"If-Match": '"1"'},
    }
    await him.refused("PATCH", PHONE, json=right, **refused)
    await her.refused("PATCH", PHONE, json=right | {"phone": OTHER}, **refused)


async def test_a_mistyped_phone_is_one_try_and_leaves_the_code_to_the_right_one(
    app: FastAPI, her: Client, inbox: Inbox
) -> None:
    right = await _code(app, her, inbox)
    refused: dict[str, Any] = {
        "status": 403,
        "code": "code_refused",
        "headers": {"If-Match": '"1"'},
    }
    for _ in range(4):
        await her.refused("PATCH", PHONE, json=right | {"phone": OTHER}, **refused)
    changed = await her.ok("PATCH", PHONE, json=right, headers=refused["headers"])
    assert changed["pending"]["phone_masked"] == "138****0002"


async def test_mistyped_phones_at_once_are_tries_like_wrong_codes(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    right = await _code(app, her, inbox)
    refused: dict[str, Any] = {
        "status": 403,
        "code": "code_refused",
        "headers": {"If-Match": '"1"'},
    }
    typo = right | {"phone": OTHER}
    await asyncio.gather(*(her.refused("PATCH", PHONE, json=typo, **refused) for _ in range(8)))
    assert await owner.pool.fetchval("select max(tries) from phone_codes") == 5
    await her.refused("PATCH", PHONE, json=right, **refused)


async def test_a_login_code_does_not_change_a_phone(
    app: FastAPI, her: Client, inbox: Inbox
) -> None:
    login = await ask(her, OLD)
    await app.state.messenger.idle()
    body = {"phone": OLD, "code_id": login["id"], "code": await inbox.code(OLD)}
    headers = {"If-Match": '"1"'}
    await her.refused("PATCH", PHONE, status=403, code="code_refused", json=body, headers=headers)
    await verify(her, login, body["code"])


async def test_a_code_for_a_new_phone_does_not_log_in(
    app: FastAPI, her: Client, inbox: Inbox
) -> None:
    body = await _code(app, her, inbox)
    path = f"/v1/logins/{body['code_id']}/verify"
    await her.refused("POST", path, status=403, code="code_refused", json={"code": body["code"]})


async def test_a_member_asks_for_five_codes_a_day(her: Client) -> None:
    for number in range(5):
        await _ask_code(her, make_phone(50 + number))
    body, headers = {"phone": make_phone(60)}, idempotency_key("sixth")
    refused: dict[str, Any] = {"status": 429, "code": "too_many_codes", "headers": headers}
    await her.refused("POST", CODES, json=body, **refused)


async def test_a_repeated_request_sends_one_code(app: FastAPI, her: Client, inbox: Inbox) -> None:
    body, headers = {"phone": NEW}, idempotency_key("once")
    answers = [await her.ok("POST", CODES, status=202, json=body, headers=headers) for _ in "ab"]
    await app.state.messenger.idle()
    assert answers[0] == answers[1]
    assert len(await inbox.texts(NEW)) == 1
    missing: dict[str, Any] = {"status": 400, "code": "idempotency_key_required"}
    await her.refused("POST", CODES, json=body, **missing)


async def test_without_consent_no_phone_is_held(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    await _change(app, her, inbox)
    await run_errands(app)
    await pass_by(owner, 72)
    await owner.pool.execute(
        "update members set contact_consented_on = null, phone_sealed = null, phone_index = null"
    )
    await run_errands(app)
    phone = await her.ok("GET", PHONE)
    assert (phone["phone_masked"], phone["pending"]) == (None, None)
    refused: dict[str, Any] = {"status": 409, "code": "phone_needs_consent"}
    refused |= {"json": {"phone": NEW}, "headers": idempotency_key("without")}
    await her.refused("POST", CODES, **refused)


async def test_withdrawn_consent_gives_a_waiting_change_up_with_the_key_that_sealed_it(
    *, app: FastAPI, her: Client, inbox: Inbox, officer: Client, member: Member, owner: Database
) -> None:
    await _change(app, her, inbox)
    await run_errands(app)
    path = f"/v1/members/{member.id}/consents"
    await officer.ok("POST", f"{path}/withdraw", json={"purpose": "contact"})
    await a_day_after(owner)
    body = {"purpose": "contact", "method": "paper"}
    await officer.ok("POST", path, json=body, status=201)
    phone = await her.ok("GET", PHONE)
    assert (phone["phone_masked"], phone["pending"]) == (None, None)
    # Nobody could be told that it was not she: an office enters her phone.
    refused: dict[str, Any] = {"status": 409, "code": "no_phone_on_file"}
    headers = idempotency_key("untold")
    await her.refused("POST", CODES, json={"phone": OTHER}, headers=headers, **refused)
    body = {"phone": OTHER, "code_id": str(clock.new_id()), "code": "000000"}
    await her.refused("PATCH", PHONE, json=body, headers=if_match(phone), **refused)


async def test_a_waiting_phone_is_sealed_under_the_key_of_its_member(
    app: FastAPI, her: Client, inbox: Inbox, member: Member, owner: Database
) -> None:
    await _change(app, her, inbox)
    row = await owner.pool.fetchrow(
        "select c.id, c.value_sealed, k.* from held_changes c join data_keys k using (member_id)"
    )
    assert row["member_id"] == member.id
    key = data_keys.opened(app.state.keyring, row)
    place = f"phone_changes.phone:{row['id']}"
    assert key.open(row["value_sealed"], place=place).decode() == f"+86{NEW}"


@pytest.mark.parametrize(
    "statement",
    [
        "update held_changes set applied_at = requested_at",
        "update held_changes set applied_at = requested_at, value_sealed = null",
        "update held_changes set in_force_at = requested_at",
        "update held_changes set value_sealed = null",
        "update held_changes set field = 'name'",
        "update phone_codes set tries = 6",
        "update phone_codes set chosen_at = created_at, used_at = null",
        "update phone_codes set purpose = 'login'",
        "update code_limits set taken = -1",
    ],
)
async def test_the_tables_refuse_what_cannot_be(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database, statement: str
) -> None:
    await _change(app, her, inbox)
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.pool.execute(statement)


async def test_errands_run_beside_the_service_until_told_to_stop(
    app: FastAPI, her: Client, inbox: Inbox
) -> None:
    await _change(app, her, inbox)
    state, stop = app.state, asyncio.Event()
    keeping = asyncio.create_task(errands.keep(state.database, state.keyring, state.settings, stop))
    for _ in range(200):
        if await inbox.texts(OLD):
            break
        await asyncio.sleep(0.05)
    stop.set()
    await asyncio.wait_for(keeping, 10)
    assert len(await inbox.texts(OLD)) == 1


async def test_giving_up_and_putting_in_force_at_once_leave_one_end(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    for number in range(8):
        await owner.pool.execute("truncate code_limits")
        await _change(app, her, inbox, make_phone(100 + number))
        await run_errands(app)
        await pass_by(owner, 72)
        before = await her.ok("GET", PHONE)
        cancelling = her.request("POST", CANCEL, headers=if_match(before))
        cancelled, _ = await asyncio.gather(cancelling, run_errands(app))
        phone = await her.ok("GET", PHONE)
        assert phone["pending"] is None
        assert cancelled.status_code in {200, 412}
        assert (phone["phone_masked"] == before["phone_masked"]) == (cancelled.status_code == 200)
