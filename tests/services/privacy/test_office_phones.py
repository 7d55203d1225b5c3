"""Phones that offices enter: the first at once; another waits, and is not the employer's."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.membership.members import Member
from app.roles import Role
from app.services.privacy import held_changes
from tests.factories.access.grants import make_grant
from tests.factories.callers import Client, if_match, pointers
from tests.factories.membership.consents import a_day_after
from tests.factories.membership.logins import (
    Inbox,
    ask,
    make_member_with_phone,
    status_of,
    token_of,
)
from tests.factories.membership.members import make_member, make_phone
from tests.factories.membership.rosters import import_phone
from tests.factories.organisation.associations import make_association
from tests.factories.privacy.held_changes import pass_by, run_errands

OLD, NEW = make_phone(1), make_phone(2)
HELD, MINE = "138****0001", "/v1/me/phone"


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    made = await make_member_with_phone(session, keyring, await make_association(session), OLD)
    await session.commit()
    return made


@pytest.fixture
def path(member: Member) -> str:
    return f"/v1/members/{member.id}"


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


@pytest.fixture
def employers(client: Callable[..., Client], member: Member) -> Client:
    """A secretary of her association whom the employer sent."""
    bound = {"associations": [str(member.association_id)], "subject": "employers"}
    return client(Role.SECRETARY, employer_linked=True, **bound)


async def _patch(caller: Client, path: str, **body: Any) -> dict[str, Any]:
    read = await caller.ok("GET", path)
    changed: dict[str, Any] = await caller.ok("PATCH", path, json=body, headers=if_match(read))
    return changed


async def _refused(caller: Client, path: str, **body: Any) -> None:
    headers = if_match(await caller.ok("GET", path))
    refused: dict[str, Any] = {"status": 422, "code": "invalid", "headers": headers}
    problem = await caller.refused("PATCH", path, json=body, **refused)
    assert pointers(problem) == ["/phone"]
    assert problem["errors"][0]["code"] == "phone_on_file_stays"


@pytest.mark.usefixtures("forgetful")
async def test_another_phone_waits_is_told_to_the_old_one_and_ends_its_tokens(
    *, app: FastAPI, officer: Client, her: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    old = await token_of(app, her, inbox, OLD)
    await inbox.empty()
    await owner.pool.execute("truncate code_limits")
    changed = await _patch(officer, path, name="李四", phone=NEW, consented_on="2026-01-02")
    assert (changed["name"], changed["phone_masked"], changed["version"]) == ("李四", HELD, 2)
    assert (await her.ok("GET", MINE))["pending"]["phone_masked"] == "138****0002"
    await run_errands(app)
    (notice,) = await inbox.texts(OLD)
    assert "更换" in notice
    await ask(her, NEW)
    await app.state.messenger.idle()
    assert await inbox.texts(NEW) == []
    assert await status_of(app, old) == 200
    await pass_by(owner)
    await run_errands(app)
    assert (await officer.ok("GET", path))["phone_masked"] == "138****0002"
    assert await status_of(app, old) == 401


async def test_an_office_sees_that_a_phone_waits_and_until_when_and_the_employers_side_does_not(
    *, app: FastAPI, officer: Client, employers: Client, her: Client, path: str, owner: Database
) -> None:
    assert (await officer.ok("GET", path))["phone_pending_until"] is None
    changed = await _patch(officer, path, phone=NEW)
    until = (await her.ok("GET", MINE))["pending"]["in_force_at"]
    assert changed["phone_pending_until"] == until
    shown = await officer.ok("GET", path)
    assert (shown["phone_masked"], shown["phone_pending_until"]) == (HELD, until)
    body = {"phone": OLD}
    (found,) = (await officer.ok("POST", "/v1/members/search", json=body))["items"]
    assert found["phone_pending_until"] == until
    assert (await employers.ok("GET", path))["phone_pending_until"] is None
    body = {"left_on": "2026-01-05"}
    left = await officer.ok("POST", f"{path}/leave", json=body, headers=if_match(shown))
    assert left["phone_pending_until"] == until
    for _ in range(2):
        await run_errands(app)
        await pass_by(owner)
    await run_errands(app)
    assert (await officer.ok("GET", path))["phone_pending_until"] is None


async def test_she_gives_up_what_an_office_changed(
    officer: Client, her: Client, path: str, owner: Database
) -> None:
    await _patch(officer, path, phone=NEW)
    pending = await her.ok("GET", MINE)
    kept = await her.ok("POST", f"{MINE}/cancel", headers=if_match(pending))
    assert (kept["phone_masked"], kept["pending"]) == (HELD, None)
    assert await owner.pool.fetchval("select value_sealed from held_changes") is None


async def test_the_phone_on_file_sent_again_is_no_change(
    officer: Client, employers: Client, path: str
) -> None:
    for caller in (officer, employers):
        assert (await _patch(caller, path, phone=OLD))["version"] == 1


async def test_the_employers_side_neither_changes_nor_takes_a_phone_away(
    employers: Client, her: Client, path: str
) -> None:
    await _refused(employers, path, phone=NEW)
    await _refused(employers, path, phone=NEW, consented_on="2026-01-02", name="李四")
    await _refused(employers, path, phone=None)
    shown = await her.ok("GET", MINE)
    assert (shown["phone_masked"], shown["pending"]) == (HELD, None)
    assert (await _patch(employers, path, name="李四"))["name"] == "李四"


async def test_the_employers_side_enters_no_phone_after_a_withdrawal(
    employers: Client, officer: Client, path: str, owner: Database
) -> None:
    await officer.ok("POST", f"{path}/consents/withdraw", json={"purpose": "contact"})
    await a_day_after(owner)
    body = {"purpose": "contact", "method": "paper"}
    await officer.ok("POST", f"{path}/consents", json=body, status=201)
    await _refused(employers, path, phone=NEW)
    await pass_by(owner)
    await _refused(employers, path, phone=NEW)
    assert (await _patch(officer, path, phone=NEW))["phone_masked"] == "138****0002"


async def test_a_first_phone_is_in_force_at_once(
    employers: Client, session: AsyncSession, member: Member
) -> None:
    association = await make_association(session)
    other = await make_member(session, association, association_id=member.association_id)
    await session.commit()
    path = f"/v1/members/{other.id}"
    changed = await _patch(employers, path, phone=NEW, consented_on="2026-01-02")
    assert changed["phone_masked"] == "138****0002"


async def test_a_phone_that_is_cleared_gives_up_what_it_could_not_be_told_of(
    officer: Client, path: str, owner: Database
) -> None:
    await _patch(officer, path, phone=NEW)
    assert (await _patch(officer, path, phone=None))["has_phone"] is False
    assert await owner.pool.fetchval("select value_sealed from held_changes") is None


async def test_a_file_leaves_the_phone_on_file_and_says_so(
    officer: Client, path: str, member: Member, database: Database, keyring: Keyring
) -> None:
    noted = [("phone", "phone_on_file_stays")]
    assert await import_phone(officer, database, keyring, member, NEW) == ("updated", noted)
    assert await import_phone(officer, database, keyring, member, NEW) == ("unchanged", noted)
    assert (await officer.ok("GET", path))["phone_masked"] == HELD


async def _withdraw_contact(caller: Client, path: str, owner: Database) -> None:
    await caller.ok("POST", f"{path}/consents/withdraw", json={"purpose": "contact"})
    # The file's consent is from after the withdrawal, so that only who sends it stands against it.
    await owner.pool.execute("alter table consents disable trigger user")
    await owner.pool.execute("update consents set acted_on = '2025-02-01'")
    await owner.pool.execute("alter table consents enable trigger user")


async def test_a_file_of_the_employers_brings_no_phone_after_a_withdrawal(
    *,
    employers: Client,
    officer: Client,
    path: str,
    member: Member,
    database: Database,
    keyring: Keyring,
    owner: Database,
) -> None:
    await _withdraw_contact(officer, path, owner)
    noted = [("consented_on", "consent_withdrawn")]
    assert await import_phone(employers, database, keyring, member, NEW) == ("unchanged", noted)
    shown = await officer.ok("GET", path)
    assert (shown["has_phone"], "contact" in shown["consents"]) == (False, False)
    await pass_by(owner)
    assert await import_phone(officer, database, keyring, member, NEW) == ("updated", [])


async def test_a_file_of_who_came_to_work_for_the_employer_meanwhile_is_the_employers(
    *,
    officer: Client,
    path: str,
    member: Member,
    database: Database,
    keyring: Keyring,
    owner: Database,
    session: AsyncSession,
) -> None:
    await _withdraw_contact(officer, path, owner)

    async def link() -> None:
        await make_grant(session, subject="district_officer-1", role="guide", employer_linked=True)
        await session.commit()

    row = await import_phone(officer, database, keyring, member, NEW, meanwhile=link)
    assert row == ("unchanged", [("consented_on", "consent_withdrawn")])


@pytest.mark.usefixtures("forgetful")
async def test_who_logs_in_by_the_old_phone_while_the_errands_run_is_signed_out(
    *,
    app: FastAPI,
    officer: Client,
    path: str,
    member: Member,
    inbox: Inbox,
    owner: Database,
    session: AsyncSession,
) -> None:
    await _patch(officer, path, phone=NEW)
    await run_errands(app)
    await pass_by(owner, 73)
    begun = clock.now() - timedelta(minutes=1)
    await inbox.empty()
    token = await token_of(app, officer, inbox, OLD)
    assert await status_of(app, token) == 200
    change = {"change_id": await owner.pool.fetchval("select id from held_changes"), "now": begun}
    place = {"district_code": member.district_code, **change}
    assert await held_changes.put_in_force(session, app.state.keyring, **place)
    await session.commit()
    assert await status_of(app, token) == 401
