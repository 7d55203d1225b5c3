"""A phone that an office takes away: it lets nobody in, is told, and what follows it waits."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, errands
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Database, Door
from app.models.membership.members import Member
from app.roles import Role
from app.services.audit.audit_seals import UNSEALED
from tests.factories.callers import Client, if_match, pointers
from tests.factories.membership.consents import a_day_after
from tests.factories.membership.logins import (
    Inbox,
    ask,
    make_member_with_phone,
    status_of,
    token_of,
)
from tests.factories.membership.members import make_phone
from tests.factories.membership.rosters import import_phone
from tests.factories.organisation.associations import make_association
from tests.factories.privacy.held_changes import pass_by, run_errands

OLD, NEW = make_phone(1), make_phone(2)
FOLLOWER, MINE = "138****0002", "/v1/me/phone"
_VALUES = "select value_sealed from held_changes where value_sealed is not null"


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
    """Herself, who logs in without her phone once the office has acted."""
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


@pytest.fixture
def employers(client: Callable[..., Client], member: Member) -> Client:
    """A secretary of her association whom the employer sent."""
    bound = {"associations": [str(member.association_id)], "subject": "employers"}
    return client(Role.SECRETARY, employer_linked=True, **bound)


async def _patch(caller: Client, path: str, **body: Any) -> dict[str, Any]:
    headers = if_match(await caller.ok("GET", path))
    changed: dict[str, Any] = await caller.ok("PATCH", path, json=body, headers=headers)
    return changed


async def _phone(caller: Client, path: str) -> str | None:
    phone: str | None = (await caller.ok("GET", path))["phone_masked"]
    return phone


async def _withdraw(caller: Client, path: str, owner: Database) -> None:
    await caller.ok("POST", f"{path}/consents/withdraw", json={"purpose": "contact"})
    await a_day_after(owner)
    body = {"purpose": "contact", "method": "paper"}
    await caller.ok("POST", f"{path}/consents", json=body, status=201)


@pytest.mark.usefixtures("forgetful")
async def test_it_is_gone_at_once_with_what_was_logged_in_by_it_and_is_told(
    *, app: FastAPI, officer: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    token = await token_of(app, officer, inbox, OLD)
    assert await status_of(app, token) == 200
    await inbox.empty()
    assert (await _patch(officer, path, phone=None))["has_phone"] is False
    assert await status_of(app, token) == 401
    for _ in range(2):
        await run_errands(app)
    (notice,) = await inbox.texts(OLD)
    assert "注销" in notice
    assert "138" not in notice
    assert await owner.pool.fetch(_VALUES) == []
    assert await owner.pool.fetchval("select count(*) from data_keys") == 0


@pytest.mark.usefixtures("forgetful")
async def test_a_sign_in_by_the_issuer_ends_with_it_too(
    officer: Client, her: Client, path: str
) -> None:
    await her.ok("GET", "/v1/me")
    await _patch(officer, path, phone=None)
    await her.refused("GET", "/v1/me", status=401, code="unauthenticated")


async def test_a_code_from_before_lets_nobody_in(
    app: FastAPI, officer: Client, path: str, inbox: Inbox
) -> None:
    login = await ask(officer, OLD)
    await app.state.messenger.idle()
    code = {"code": await inbox.code(OLD)}
    await _patch(officer, path, phone=None)
    verifying = f"/v1/logins/{login['id']}/verify"
    await officer.refused("POST", verifying, status=403, code="code_refused", json=code)


async def test_what_is_entered_within_72_hours_waits_for_the_rest_of_them(
    *, app: FastAPI, officer: Client, her: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    await _patch(officer, path, phone=None)
    await run_errands(app)
    await pass_by(owner, hours=40)
    entered = await _patch(officer, path, phone=NEW)
    assert (entered["has_phone"], entered["phone_confirmed"]) == (False, None)
    pending = (await her.ok("GET", MINE))["pending"]
    assert pending["phone_masked"] == FOLLOWER
    assert entered["phone_pending_until"] == pending["in_force_at"]
    await run_errands(app)
    await ask(officer, NEW)
    await app.state.messenger.idle()
    assert await inbox.texts(NEW) == []
    await pass_by(owner, hours=31)
    await run_errands(app)
    assert await _phone(officer, path) is None
    await pass_by(owner, hours=1)
    await run_errands(app)
    assert await _phone(officer, path) == FOLLOWER
    await owner.pool.execute("truncate code_limits")
    assert await status_of(app, await token_of(app, officer, inbox, NEW)) == 200


async def test_what_is_entered_later_is_hers_at_once(
    app: FastAPI, officer: Client, path: str, owner: Database
) -> None:
    await _patch(officer, path, phone=None)
    await run_errands(app)
    await pass_by(owner)
    assert (await _patch(officer, path, phone=NEW))["phone_masked"] == FOLLOWER


async def test_72_hours_count_from_when_it_was_told(
    *, app: FastAPI, officer: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    await _patch(officer, path, phone=None)
    await _patch(officer, path, phone=NEW)
    for _ in range(2):
        await pass_by(owner)
        await inbox.behave(fail_next=1, fail_status=503)
        await run_errands(app)
        assert await _phone(officer, path) is None
    await run_errands(app)
    assert len(await inbox.texts(OLD)) == 1
    await run_errands(app)
    assert await _phone(officer, path) is None
    await pass_by(owner)
    await run_errands(app)
    assert await _phone(officer, path) == FOLLOWER


async def test_nothing_is_entered_at_once_while_it_was_not_told(
    *, app: FastAPI, officer: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    await _patch(officer, path, phone=None)
    await inbox.behave(fail_next=1, fail_status=503)
    await run_errands(app)
    await pass_by(owner)
    assert (await _patch(officer, path, phone=NEW))["has_phone"] is False


async def test_where_nothing_is_sent_it_ends_after_72_hours(
    app: FastAPI, officer: Client, path: str, owner: Database
) -> None:
    await _patch(officer, path, phone=None)
    await _patch(officer, path, phone=NEW)
    state = app.state
    for hours, expected in ((0, None), (72, FOLLOWER)):
        await pass_by(owner, hours=hours)
        for _ in range(2):
            await errands.run(Door(state.database), state.keyring, state.settings, None)
        assert await _phone(officer, path) == expected


async def test_where_nothing_is_sent_a_phone_follows_another_after_72_hours(
    app: FastAPI, officer: Client, path: str, owner: Database
) -> None:
    await _patch(officer, path, phone=NEW)
    state = app.state
    for hours, expected in ((71, "138****0001"), (1, FOLLOWER)):
        await pass_by(owner, hours=hours)
        await errands.run(Door(state.database), state.keyring, state.settings, None)
        assert await _phone(officer, path) == expected
    assert await owner.pool.fetch(_VALUES) == []
    acts = f"select act from ({UNSEALED}) e where object_kind = 'held_changes'"
    assert await owner.pool.fetchval(acts) == "put_untold_phone_in_force"


async def test_what_waits_is_replaced_and_given_up_by_the_office(
    officer: Client, her: Client, path: str
) -> None:
    await _patch(officer, path, phone=None)
    await _patch(officer, path, phone=OLD)
    await _patch(officer, path, phone=NEW)
    assert (await her.ok("GET", MINE))["pending"]["phone_masked"] == FOLLOWER
    await _patch(officer, path, phone=None)
    assert (await her.ok("GET", MINE))["pending"] is None


async def test_the_employers_side_enters_none_in_its_place(
    *, officer: Client, employers: Client, path: str, member: Member, database: Database,
    keyring: Keyring,
) -> None:  # fmt: skip
    await _patch(officer, path, phone=None)
    headers = if_match(await employers.ok("GET", path))
    refused: dict[str, Any] = {"status": 422, "code": "invalid", "headers": headers}
    problem = await employers.refused("PATCH", path, json={"phone": NEW}, **refused)
    assert pointers(problem) == ["/phone"]
    noted = [("phone", "phone_on_file_stays")]
    assert await import_phone(employers, database, keyring, member, NEW) == ("updated", noted)
    assert await import_phone(employers, database, keyring, member, NEW) == ("unchanged", noted)


async def test_a_file_brings_a_phone_that_waits_alike(
    *,
    app: FastAPI,
    officer: Client,
    her: Client,
    path: str,
    member: Member,
    database: Database,
    keyring: Keyring,
    owner: Database,
) -> None:
    await _patch(officer, path, phone=None)
    expected = ("updated", [("phone", "phone_waits")])
    tried = await import_phone(officer, database, keyring, member, NEW, dry_run="true")
    assert tried == expected
    assert (await her.ok("GET", MINE))["pending"] is None
    assert await import_phone(officer, database, keyring, member, NEW) == expected
    assert await _phone(officer, path) is None
    assert (await her.ok("GET", MINE))["pending"]["phone_masked"] == FOLLOWER
    await run_errands(app)
    await pass_by(owner)
    await run_errands(app)
    assert await _phone(officer, path) == FOLLOWER


@pytest.mark.usefixtures("forgetful")
async def test_a_consent_taken_back_in_her_name_is_no_way_to_another_phone(
    *, app: FastAPI, officer: Client, her: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    token = await token_of(app, officer, inbox, OLD)
    await inbox.empty()
    await _withdraw(officer, path, owner)
    assert await status_of(app, token) == 401
    await app.state.messenger.idle()
    (notice,) = await inbox.texts(OLD)
    assert "注销" in notice
    assert await owner.pool.fetch(_VALUES) == []
    assert await owner.pool.fetchval("select count(*) from data_keys") == 0
    assert (await _patch(officer, path, phone=NEW))["has_phone"] is False
    assert (await her.ok("GET", MINE))["pending"]["phone_masked"] == FOLLOWER
    await run_errands(app)
    assert await _phone(officer, path) is None
    await pass_by(owner)
    await run_errands(app)
    assert await _phone(officer, path) == FOLLOWER


async def test_what_was_taken_away_and_not_told_yet_is_told_by_a_consent_taken_back_next(
    *, app: FastAPI, officer: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    await _patch(officer, path, phone=None)
    await pass_by(owner, hours=70)
    await _withdraw(officer, path, owner)
    await app.state.messenger.idle()
    (notice,) = await inbox.texts(OLD)
    assert "注销" in notice
    assert await owner.pool.fetch(_VALUES) == []
    assert (await _patch(officer, path, phone=NEW))["has_phone"] is False
    for hours, expected in ((71, None), (1, FOLLOWER)):
        await pass_by(owner, hours=hours)
        await run_errands(app)
        assert await _phone(officer, path) == expected
    assert len(await inbox.texts(OLD)) == 1


async def test_what_was_taken_away_and_told_is_not_told_again(
    *, app: FastAPI, officer: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    await _patch(officer, path, phone=None)
    await run_errands(app)
    await _withdraw(officer, path, owner)
    await app.state.messenger.idle()
    assert len(await inbox.texts(OLD)) == 1


@pytest.mark.usefixtures("forgetful")
async def test_what_she_takes_back_herself_signs_nobody_out_and_makes_what_follows_wait(
    *, app: FastAPI, officer: Client, her: Client, path: str, inbox: Inbox, owner: Database
) -> None:
    await her.ok("POST", "/v1/me/consents/withdraw", json={"purpose": "contact"})
    await her.ok("GET", "/v1/me")
    assert await owner.pool.fetch(_VALUES) == []
    await a_day_after(owner)
    body = {"purpose": "contact", "method": "paper"}
    await officer.ok("POST", f"{path}/consents", json=body, status=201)
    assert (await _patch(officer, path, phone=NEW))["has_phone"] is False
    assert (await her.ok("GET", MINE))["pending"]["phone_masked"] == FOLLOWER
    for hours, expected in ((71, None), (1, FOLLOWER)):
        await pass_by(owner, hours=hours)
        await run_errands(app)
        assert await _phone(officer, path) == expected
    assert await inbox.texts(OLD) == []


async def test_what_was_taken_away_untold_and_then_taken_back_by_herself_waits_anew(
    *, app: FastAPI, officer: Client, her: Client, path: str, owner: Database
) -> None:
    await _patch(officer, path, phone=None)
    await pass_by(owner)
    await her.ok("POST", "/v1/me/consents/withdraw", json={"purpose": "contact"})
    await run_errands(app)
    await a_day_after(owner)
    on = civil_date(clock.now()).isoformat()
    assert (await _patch(officer, path, phone=NEW, consented_on=on))["has_phone"] is False


async def test_a_file_brings_a_phone_that_waits_after_a_consent_taken_back(
    *, officer: Client, path: str, member: Member, database: Database, keyring: Keyring,
    owner: Database,
) -> None:  # fmt: skip
    await officer.ok("POST", f"{path}/consents/withdraw", json={"purpose": "contact"})
    await owner.pool.execute("update consents set acted_on = '2025-02-01'")
    expected = ("updated", [("phone", "phone_waits")])
    assert await import_phone(officer, database, keyring, member, NEW) == expected


@pytest.mark.parametrize("by_herself", [True, False])
async def test_no_office_gives_a_consent_on_the_day_on_which_it_was_taken_back(
    *, officer: Client, her: Client, path: str, owner: Database, by_herself: bool
) -> None:
    who, where = (her, "/v1/me") if by_herself else (officer, path)
    await who.ok("POST", f"{where}/consents/withdraw", json={"purpose": "contact"})
    today = civil_date(clock.now()).isoformat()
    refused: dict[str, Any] = {"status": 422, "code": "invalid"}
    phone = {"phone": NEW, "consented_on": today}
    headers = if_match(await officer.ok("GET", path))
    problem = await officer.refused("PATCH", path, json=phone, headers=headers, **refused)
    form = {"purpose": "contact", "method": "paper"}
    told = await officer.refused("POST", f"{path}/consents", json=form, **refused)
    for each, pointer in ((problem, "/consented_on"), (told, "/given_on")):
        named = [(error["pointer"], error["code"]) for error in each["errors"]]
        assert named == [(pointer, "withdrawn_since")]
    give = {"purpose": "contact", "notice_number": 1, "language": "zh"}
    await her.ok("POST", "/v1/me/consents", json=give, status=201)
    assert (await _patch(officer, path, phone=NEW))["has_phone"] is False
    await pass_by(owner)
    assert (await _patch(officer, path, phone=NEW))["phone_masked"] == FOLLOWER
