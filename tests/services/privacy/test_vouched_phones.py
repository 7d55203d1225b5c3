"""A phone that only the employer's side entered: it lets nobody in until another office vouches."""

import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.membership.members import Member
from app.roles import Role
from tests.factories.callers import Client, idempotency_key, if_match
from tests.factories.membership.logins import (
    Inbox,
    ask,
    make_member_with_phone,
    status_of,
    token_of,
    verify,
)
from tests.factories.membership.members import make_member, make_phone
from tests.factories.membership.payout_accounts import make_account
from tests.factories.membership.rosters import import_phone
from tests.factories.organisation.associations import make_association
from tests.factories.privacy.held_changes import run_errands

PHONE, UNKNOWN, OTHER = make_phone(1), make_phone(2), make_phone(3)
_UNVOUCHED = "update members set phone_unconfirmed_since = now()"


@pytest.fixture
async def member(session: AsyncSession) -> Member:
    """A member who consents to everything and has no phone."""
    association = await make_association(session)
    made = await make_member(session, association, consented_on=date(2025, 1, 1))
    await session.commit()
    return made


@pytest.fixture
def path(member: Member) -> str:
    return f"/v1/members/{member.id}"


@pytest.fixture
def employers(client: Callable[..., Client], member: Member) -> Client:
    """A secretary of her association whom the employer sent."""
    bound = {"associations": [str(member.association_id)], "subject": "employers"}
    return client(Role.SECRETARY, employer_linked=True, **bound)


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


@pytest.fixture
def nobody(client: Callable[..., Client]) -> Client:
    return client(None)


async def _patch(caller: Client, path: str, **body: Any) -> dict[str, Any]:
    headers = if_match(await caller.ok("GET", path))
    changed: dict[str, Any] = await caller.ok("PATCH", path, json=body, headers=headers)
    return changed


async def _enrol(caller: Client, member: Member, **facts: Any) -> dict[str, Any]:
    body = {"association_id": str(member.association_id), "name": "李四"} | facts
    headers = idempotency_key(clock.new_id())
    made: dict[str, Any] = await caller.ok(
        "POST", "/v1/members", status=201, json=body, headers=headers
    )
    return made


async def _asked(app: FastAPI, nobody: Client, inbox: Inbox) -> list[str]:
    await inbox.empty()
    await ask(nobody, PHONE)
    await app.state.messenger.idle()
    return await inbox.texts(PHONE)


async def test_it_is_kept_and_opens_no_door_but_says_what_to_do(
    *, app: FastAPI, employers: Client, nobody: Client, path: str, inbox: Inbox
) -> None:
    entered = await _patch(employers, path, phone=PHONE)
    assert (entered["phone_masked"], entered["phone_confirmed"]) == ("138****0001", False)
    (told,) = await _asked(app, nobody, inbox)
    assert "确认" in told
    assert re.search(r"\d{4}", told) is None


async def test_it_is_answered_as_a_phone_of_nobody_with_the_same_statements(
    *, database: Database, employers: Client, nobody: Client, path: str
) -> None:
    await _patch(employers, path, phone=PHONE)
    await ask(nobody, OTHER)
    run: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        run.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        unknown = await nobody.request("POST", "/v1/logins", json={"phone": UNKNOWN})
        of_unknown, run[:] = list(run), []
        unvouched = await nobody.request("POST", "/v1/logins", json={"phone": PHONE})
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert run == of_unknown
    shapes = [
        (each.status_code, sorted(each.json()), sorted(each.headers), len(each.content))
        for each in (unknown, unvouched)
    ]
    assert shapes[0] == shapes[1]


async def test_what_it_is_told_counts_in_the_same_limits(
    *, employers: Client, nobody: Client, path: str, owner: Database
) -> None:
    await _patch(employers, path, phone=PHONE)
    await ask(nobody, PHONE)
    await nobody.refused(
        "POST", "/v1/logins", status=429, code="too_many_codes", json={"phone": PHONE}
    )
    taken = await owner.pool.fetch(
        "select kind, taken from code_limits where kind <> 'noted' order by kind"
    )
    assert [tuple(each) for each in taken] == [("address", 1), ("phone", 1), ("sent", 1)]


async def test_not_even_the_right_code_lets_anybody_in(
    *, app: FastAPI, officer: Client, nobody: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    await _patch(officer, path, phone=PHONE)
    login = await ask(nobody, PHONE)
    await app.state.messenger.idle()
    code = {"code": await inbox.code(PHONE)}
    await owner.pool.execute(_UNVOUCHED)
    verifying = f"/v1/logins/{login['id']}/verify"
    await nobody.refused("POST", verifying, status=403, code="code_refused", json=code)


async def test_another_office_vouches_by_entering_it_again(
    *, app: FastAPI, officer: Client, employers: Client, nobody: Client, path: str, inbox: Inbox
) -> None:
    await _patch(employers, path, phone=PHONE)
    again = await _patch(employers, path, phone=PHONE)
    assert (again["phone_confirmed"], again["version"]) == (False, 2)
    vouched = await _patch(officer, path, phone=PHONE)
    assert (vouched["phone_confirmed"], vouched["version"]) == (True, 3)
    assert (await _patch(employers, path, phone=PHONE))["phone_confirmed"] is True
    assert await status_of(app, await token_of(app, nobody, inbox, PHONE)) == 200


async def test_who_enrols_her_decides_and_lists_show_it(
    officer: Client, employers: Client, member: Member
) -> None:
    phone = {"phone": PHONE, "consented_on": "2026-01-05"}
    for caller, facts, expected in (
        (employers, phone, False), (officer, phone, True), (employers, {}, None),
    ):  # fmt: skip
        made = await _enrol(caller, member, **facts)
        assert made["phone_confirmed"] is expected
        read = await officer.ok("GET", f"/v1/members/{made['id']}")
        assert read["phone_confirmed"] is expected
        listed = (await officer.ok("GET", "/v1/members"))["items"]
        assert listed[-1]["phone_confirmed"] is expected
    found = await officer.ok("POST", "/v1/members/search", json={"phone": PHONE})
    assert [each["phone_confirmed"] for each in found["items"]] == [False, True]


async def test_of_several_on_one_phone_only_who_is_vouched_for_is_let_in(
    *, app: FastAPI, officer: Client, employers: Client, nobody: Client, member: Member,
    inbox: Inbox,
) -> None:  # fmt: skip
    phone = {"phone": PHONE, "consented_on": "2026-01-05"}
    hers = await _enrol(officer, member, **phone)
    other = await _enrol(employers, member, **phone)
    login = await ask(nobody, PHONE)
    await app.state.messenger.idle()
    outcome = await verify(nobody, login, await inbox.code(PHONE))
    headers = {"Authorization": f"Bearer {outcome['token']['access_token']}"}
    assert (await nobody.ok("GET", "/v1/me", headers=headers))["member_id"] == hers["id"]
    assert (await officer.ok("GET", f"/v1/members/{other['id']}"))["phone_confirmed"] is False


async def test_nobody_chooses_who_was_not_vouched_for(
    *, app: FastAPI, officer: Client, nobody: Client, member: Member, inbox: Inbox,
    owner: Database,
) -> None:  # fmt: skip
    phone = {"phone": PHONE, "consented_on": "2026-01-05"}
    ids = [(await _enrol(officer, member, **phone))["id"] for _ in range(2)]
    login = await ask(nobody, PHONE)
    await app.state.messenger.idle()
    outcome = await verify(nobody, login, await inbox.code(PHONE))
    await owner.pool.execute(f"{_UNVOUCHED} where id = $1", ids[1])
    choice = {"ticket": outcome["ticket"], "member_id": ids[1]}
    choosing = f"/v1/logins/{login['id']}/choose"
    await nobody.refused("POST", choosing, status=403, code="code_refused", json=choice)
    await nobody.ok("POST", choosing, json=choice | {"member_id": ids[0]})


async def test_a_file_of_the_employers_vouches_for_no_phone_and_another_does(
    *,
    officer: Client,
    employers: Client,
    path: str,
    member: Member,
    database: Database,
    keyring: Keyring,
) -> None:
    async def imported(caller: Client) -> tuple[str, bool]:
        outcome, notes = await import_phone(caller, database, keyring, member, PHONE)
        assert notes == []
        return outcome, (await officer.ok("GET", path))["phone_confirmed"]

    assert await imported(employers) == ("updated", False)
    assert await imported(employers) == ("unchanged", False)
    assert await imported(officer) == ("updated", True)
    assert await imported(officer) == ("unchanged", True)
    assert await imported(employers) == ("unchanged", True)


@pytest.mark.parametrize("is_linked", [True, False])
async def test_whom_a_file_enrols_is_vouched_for_by_who_sends_it(
    *,
    is_linked: bool,
    officer: Client,
    employers: Client,
    member: Member,
    database: Database,
    keyring: Keyring,
) -> None:
    someone = member.model_copy(update={"name": "新会员"})
    caller = employers if is_linked else officer
    await import_phone(caller, database, keyring, someone, PHONE)
    listed = (await officer.ok("GET", "/v1/members", params={"name": "新会员"}))["items"]
    assert [each["phone_confirmed"] for each in listed] == [not is_linked]


async def test_a_file_with_another_phone_vouches_for_none(
    *,
    officer: Client,
    employers: Client,
    path: str,
    member: Member,
    database: Database,
    keyring: Keyring,
) -> None:
    await _patch(employers, path, phone=PHONE)
    _, notes = await import_phone(officer, database, keyring, member, OTHER)
    assert notes == [("phone", "phone_on_file_stays")]
    read = await officer.ok("GET", path)
    assert (read["phone_masked"], read["phone_confirmed"]) == ("138****0001", False)


async def test_another_office_replaces_it_at_once_and_without_a_notice(
    *, app: FastAPI, officer: Client, employers: Client, path: str, inbox: Inbox
) -> None:
    await _patch(employers, path, phone=PHONE)
    replaced = await _patch(officer, path, phone=OTHER)
    assert (replaced["phone_masked"], replaced["phone_confirmed"]) == ("138****0003", True)
    await run_errands(app)
    assert await inbox.texts(PHONE) == []


async def test_taken_away_it_is_told_nothing_and_nothing_waits_for_it(
    *, app: FastAPI, officer: Client, employers: Client, path: str, inbox: Inbox
) -> None:
    await _patch(employers, path, phone=PHONE)
    assert (await _patch(officer, path, phone=None))["phone_confirmed"] is None
    assert (await _patch(officer, path, phone=OTHER))["phone_confirmed"] is True
    await run_errands(app)
    assert await inbox.texts(PHONE) == []


async def test_it_is_no_phone_to_tell_of_a_change(
    employers: Client, her: Client, path: str
) -> None:
    await _patch(employers, path, phone=PHONE)
    refused: dict[str, Any] = {"status": 409, "code": "no_phone_on_file"}
    headers = if_match(await her.ok("GET", "/v1/me/payout-account"))
    await her.refused(
        "PATCH", "/v1/me/payout-account", json=make_account(), headers=headers, **refused
    )
    key = idempotency_key(clock.new_id())
    await her.refused("POST", "/v1/me/phone/codes", json={"phone": OTHER}, headers=key, **refused)


async def test_what_waits_is_not_told_to_it(
    *,
    app: FastAPI,
    client: Callable[..., Client],
    session: AsyncSession,
    keyring: Keyring,
    member: Member,
    inbox: Inbox,
    owner: Database,
) -> None:
    association = await make_association(session)
    other = await make_member_with_phone(session, keyring, association, PHONE)
    await session.commit()
    her = client(Role.MEMBER, member_id=str(other.id), subject=f"not-{member.id}")
    headers = if_match(await her.ok("GET", "/v1/me/payout-account"))
    await her.ok("PATCH", "/v1/me/payout-account", json=make_account(), headers=headers)
    await owner.pool.execute(_UNVOUCHED)
    await run_errands(app)
    assert await inbox.texts(PHONE) == []
    assert (await her.ok("GET", "/v1/me/payout-account"))["pending"] is None
