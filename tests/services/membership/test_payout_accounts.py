"""A payout account needs consent, waits, is told to the phone on file, and is masked everywhere."""

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
from app.database import Database, Door
from app.member_issuer import MemberIssuer
from app.models.membership.members import Member
from app.roles import Role
from app.services.audit.audit_seals import UNSEALED
from app.services.privacy import data_keys, person_data
from app.telling import tells
from tests.factories.callers import GUICHENG, Client, if_match, pointers
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, verify
from tests.factories.membership.members import make_member, make_phone
from tests.factories.membership.payout_accounts import make_account, make_card_number
from tests.factories.organisation.associations import make_association
from tests.factories.privacy.held_changes import pass_by, run_errands

ACCOUNT, CANCEL = "/v1/me/payout-account", "/v1/me/payout-account/cancel"
PHONE, NUMBER = make_phone(1), make_card_number(1)
MASKED = {
    "kind": "bank_card",
    "number_masked": f"****{NUMBER[-4:]}",
    "issuer": "示例银行",
    "holder_masked": "张**",
}


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    made = await make_member_with_phone(session, keyring, await make_association(session), PHONE)
    await session.commit()
    return made


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


async def _change(her: Client, **facts: Any) -> dict[str, Any]:
    headers = if_match(await her.ok("GET", ACCOUNT))
    changed: dict[str, Any] = await her.ok(
        "PATCH", ACCOUNT, json=make_account(**facts), headers=headers
    )
    return changed


async def _in_force(app: FastAPI, her: Client, owner: Database, **facts: Any) -> None:
    await _change(her, **facts)
    await run_errands(app)
    await pass_by(owner)
    await run_errands(app)


async def test_a_new_account_waits_72_hours_and_the_phone_on_file_is_told(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    assert (await her.ok("GET", ACCOUNT))["account"] is None
    changed = await _change(her)
    assert changed["account"] is None
    assert {name: changed["pending"][name] for name in MASKED} == MASKED
    await run_errands(app)
    (notice,) = await inbox.texts(PHONE)
    assert "收款账户" in notice
    assert not tells(notice)
    assert NUMBER not in notice
    await pass_by(owner, 71)
    await run_errands(app)
    assert (await her.ok("GET", ACCOUNT))["account"] is None
    await pass_by(owner, 1)
    await run_errands(app)
    held = await her.ok("GET", ACCOUNT)
    assert (held["account"], held["pending"]) == (MASKED, None)
    assert len(await inbox.texts(PHONE)) == 1


async def test_the_account_in_force_is_not_changed_to_itself(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    assert await inbox.texts(PHONE) == []
    await _in_force(app, her, owner)
    before = await her.ok("GET", ACCOUNT)
    spaced = f"{NUMBER[:4]} {NUMBER[4:]}"
    assert await _change(her, number=spaced) == before
    await _change(her, seed=2)
    await _change(her, seed=3)
    pending = (await her.ok("GET", ACCOUNT))["pending"]
    assert pending["number_masked"] == f"****{make_card_number(3)[-4:]}"
    open_changes = "select count(*) from held_changes where value_sealed is not null"
    assert await owner.pool.fetchval(open_changes) == 1


async def test_a_change_can_be_given_up_within_the_hold(
    app: FastAPI, her: Client, owner: Database
) -> None:
    changed = await _change(her)
    kept = await her.ok("POST", CANCEL, headers=if_match(changed))
    assert (kept["account"], kept["pending"]) == (None, None)
    await her.refused("POST", CANCEL, headers=if_match(kept), status=409, code="no_account_change")
    await pass_by(owner, 100)
    await run_errands(app)
    assert (await her.ok("GET", ACCOUNT))["account"] is None
    assert await owner.pool.fetchval("select value_sealed from held_changes") is None


async def test_phone_and_account_wait_beside_each_other(her: Client, owner: Database) -> None:
    await _change(her)
    await owner.pool.execute(
        "insert into held_changes (district_code, id, member_id, field, value_sealed,"
        " requested_at, in_force_at) select district_code, member_id, member_id, 'phone',"
        " value_sealed, requested_at, in_force_at from held_changes"
    )
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.pool.execute(
            "insert into held_changes (district_code, id, member_id, field, value_sealed,"
            " requested_at, in_force_at) select district_code, gen_random_uuid(), member_id,"
            " field, value_sealed, requested_at, in_force_at from held_changes limit 1"
        )


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"number": NUMBER[:-1] + str((int(NUMBER[-1]) + 1) % 10)}, "card_check_digit"),
        ({"number": "123456"}, "card_form"),
        ({"number": "six two two two"}, "card_form"),
        ({"number": "1"}, "string_too_short"),
        ({"kind": "cash"}, "enum"),
        ({"issuer": ""}, "string_too_short"),
        ({"holder": None}, "string_type"),
    ],
)
async def test_what_is_no_account_is_named(her: Client, facts: dict[str, Any], code: str) -> None:
    headers = {"If-Match": '"1"'}
    body = make_account(**facts)
    refused: dict[str, Any] = {"status": 422, "code": "invalid", "headers": headers, "json": body}
    problem = await her.refused("PATCH", ACCOUNT, **refused)
    assert pointers(problem) == [f"/{next(iter(facts))}"]
    assert problem["errors"][0]["code"] == code


async def test_it_is_changed_soon_after_a_login_by_the_phone(
    app: FastAPI, her: Client, inbox: Inbox, member: Member
) -> None:
    login = await ask(her, PHONE)
    await app.state.messenger.idle()
    await verify(her, login, await inbox.code(PHONE))
    issuer = MemberIssuer(app.state.settings, app.state.keyring)
    answers = {}
    for minutes in (14, 16):
        token = issuer.token(member_id=member.id, now=clock.now() - timedelta(minutes=minutes))
        headers = {"Authorization": f"Bearer {token}", **if_match(await her.ok("GET", ACCOUNT))}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://jixie.test") as phone:
            answers[minutes] = await phone.patch(ACCOUNT, json=make_account(), headers=headers)
    assert {minutes: each.status_code for minutes, each in answers.items()} == {14: 200, 16: 401}
    assert answers[16].json()["code"] == "login_too_old"
    assert 'max_age="900"' in answers[16].headers["www-authenticate"]


async def test_another_electronic_account_needs_no_check_digit(
    app: FastAPI, her: Client, owner: Database
) -> None:
    await _in_force(app, her, owner, kind="electronic", number="someone@pay", issuer="示例支付")
    account = (await her.ok("GET", ACCOUNT))["account"]
    assert (account["kind"], account["number_masked"]) == ("electronic", "****@pay")


async def test_without_consent_there_is_no_account(
    app: FastAPI, her: Client, officer: Client, member: Member, owner: Database
) -> None:
    await _in_force(app, her, owner)
    await _change(her, seed=2)
    await her.ok("POST", "/v1/me/consents/withdraw", json={"purpose": "payment"})
    held = await her.ok("GET", ACCOUNT)
    assert (held["account"], held["pending"]) == (None, None)
    sealed = "select payout_account_sealed, payout_account_index from members where id = $1"
    assert tuple(await owner.pool.fetchrow(sealed, member.id)) == (None, None)
    waiting = "select count(*) from held_changes where value_sealed is not null"
    assert await owner.pool.fetchval(waiting) == 0
    refused: dict[str, Any] = {"status": 409, "code": "account_needs_consent"}
    await her.refused("PATCH", ACCOUNT, json=make_account(), headers=if_match(held), **refused)
    path = f"/v1/members/{member.id}/reveal"
    body = {"field": "payout_account", "purpose": "payout"}
    await officer.refused("POST", path, json=body, status=409, code="nothing_to_reveal")
    assert (await her.ok("GET", "/v1/me"))["phone_masked"] == "138****0001"


async def test_consent_that_ends_otherwise_is_seen_when_the_hold_ends(
    app: FastAPI, her: Client, owner: Database
) -> None:
    await _change(her)
    await run_errands(app)
    await pass_by(owner)
    await owner.pool.execute("update members set payment_consented_on = null")
    await run_errands(app)
    held = await her.ok("GET", ACCOUNT)
    assert (held["account"], held["pending"]) == (None, None)


async def test_with_no_phone_to_tell_no_account_is_changed(
    app: FastAPI, her: Client, owner: Database
) -> None:
    await _change(her)
    await her.ok("POST", "/v1/me/consents/withdraw", json={"purpose": "contact"})
    held = await her.ok("GET", ACCOUNT)
    assert held["pending"] is None
    refused: dict[str, Any] = {"status": 409, "code": "no_phone_on_file"}
    await her.refused("PATCH", ACCOUNT, json=make_account(), headers=if_match(held), **refused)
    await run_errands(app)
    await pass_by(owner)
    await run_errands(app)
    assert (await her.ok("GET", ACCOUNT))["account"] is None


_NO_PHONE = "update members set phone_sealed = null, phone_index = null"


async def test_a_notice_that_nobody_could_be_sent_is_none(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    await _change(her)
    await owner.pool.execute(_NO_PHONE)
    await run_errands(app)
    row = await owner.pool.fetchrow(
        "select noticed_at, cancelled_at, value_sealed from held_changes"
    )
    assert (row["noticed_at"], row["value_sealed"]) == (None, None)
    assert row["cancelled_at"] is not None
    acts = f"select act from ({UNSEALED}) e where object_kind = 'held_changes'"
    assert await owner.pool.fetchval(acts) == "give_up_untold_payout_account"
    assert await inbox.texts(PHONE) == []


async def test_a_phone_that_no_provider_takes_leaves_the_account_as_it_is(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    await _change(her)
    await inbox.behave(fail_next=1, fail_status=422)
    await run_errands(app)
    held = await her.ok("GET", ACCOUNT)
    assert (held["account"], held["pending"]) == (None, None)
    assert await owner.pool.fetchval("select noticed_at from held_changes") is None


async def test_where_nothing_is_sent_an_account_is_given_up_after_72_hours(
    app: FastAPI, her: Client, owner: Database
) -> None:
    await _change(her)
    state = app.state
    for hours, waits in ((71, True), (1, False)):
        await pass_by(owner, hours)
        await errands.run(Door(state.database), state.keyring, state.settings, None)
        held = await her.ok("GET", ACCOUNT)
        assert (held["account"], held["pending"] is not None) == (None, waits)


async def test_a_phone_that_is_gone_when_the_hold_ends_puts_nothing_in_force(
    app: FastAPI, her: Client, owner: Database
) -> None:
    await _change(her)
    await run_errands(app)
    await pass_by(owner)
    await owner.pool.execute(_NO_PHONE)
    await run_errands(app)
    held = await her.ok("GET", ACCOUNT)
    assert (held["account"], held["pending"]) == (None, None)


async def test_it_is_sealed_under_her_key_and_bound_to_its_place(
    app: FastAPI, her: Client, member: Member, owner: Database, keyring: Keyring
) -> None:
    await _in_force(app, her, owner)
    row = await owner.pool.fetchrow(
        "select m.payout_account_sealed, m.payout_account_index, k.* from members m"
        " join data_keys k on k.member_id = m.id where m.id = $1",
        member.id,
    )
    key = data_keys.opened(keyring, row)
    account = person_data.open_account(key, member.id, row["payout_account_sealed"])
    assert (account.number, account.holder) == (NUMBER, "张小样")
    assert row["payout_account_index"] == person_data.account_index(keyring, account)
    assert NUMBER.encode() not in row["payout_account_sealed"]


async def test_those_who_account_for_payouts_see_it_masked_and_reveal_it(
    app: FastAPI, her: Client, member: Member, owner: Database, client: Callable[..., Client]
) -> None:
    await _in_force(app, her, owner)
    path = f"/v1/members/{member.id}"
    clerk = client(Role.FINANCE_CLERK)
    assert (await clerk.ok("GET", f"{path}/payout-account"))["account"] == MASKED
    body = {"field": "payout_account", "purpose": "payout"}
    revealed = await clerk.ok("POST", f"{path}/reveal", json=body)
    assert revealed["value"] == f"示例银行 {NUMBER} 张小样"
    copy = await her.ok("POST", f"{path}/export")
    assert copy["payout_account"] == revealed["value"]
    shown = await her.ok("GET", f"{path}/export")
    assert shown["payout_account"] == f"示例银行 ****{NUMBER[-4:]} 张**"
    assert NUMBER not in str(shown)


async def test_who_may(
    client: Callable[..., Client], member: Member, session: AsyncSession
) -> None:
    path = f"/v1/members/{member.id}/payout-account"
    bound = {"associations": [str(member.association_id)]}
    for caller in (
        client(Role.SECRETARY, **bound),
        client(Role.FINANCE_CLERK, employer_linked=True),
        client(Role.GUIDE),
        client(Role.DATA_PLATFORM),
        client(Role.MEMBER, member_id=str(member.id)),
    ):
        await caller.refused("GET", path, status=403, code="forbidden")
    town = client(Role.FINANCE_CLERK, areas=[GUICHENG])
    await town.refused("GET", path, status=404, code="not_found")
    other = await make_member(session, await make_association(session))
    await session.commit()
    stranger = client(Role.MEMBER, member_id=str(other.id), subject="other")
    assert (await stranger.ok("GET", ACCOUNT))["account"] is None


async def test_erasing_her_erases_it(
    app: FastAPI, her: Client, officer: Client, member: Member, owner: Database
) -> None:
    await _in_force(app, her, owner)
    await _change(her, seed=2)
    read = await officer.ok("GET", f"/v1/members/{member.id}")
    await officer.ok("POST", f"/v1/members/{member.id}/erase", headers=if_match(read))
    left = await owner.pool.fetchrow(
        "select payout_account_sealed, payout_account_index,"
        " (select count(*) from held_changes where value_sealed is not null),"
        " (select count(*) from data_keys) from members where id = $1",
        member.id,
    )
    assert tuple(left) == (None, None, 0, 0)


async def test_a_clerk_who_corrects_her_name_gives_no_waiting_account_up(
    officer: Client, session: AsyncSession, client: Callable[..., Client], keyring: Keyring
) -> None:
    association = await make_association(session)
    bare = await make_member_with_phone(session, keyring, association, make_phone(2))
    bare.payment_consented_on = None
    await session.commit()
    path = f"/v1/members/{bare.id}"
    consent = {"purpose": "payment", "method": "paper"}
    await officer.ok("POST", f"{path}/consents", status=201, json=consent)
    herself = client(Role.MEMBER, member_id=str(bare.id), subject="bare")
    await _change(herself)
    read = await officer.ok("GET", path)
    await officer.ok("PATCH", path, json={"name": "李四"}, headers=if_match(read))
    assert (await herself.ok("GET", ACCOUNT))["pending"] is not None


@pytest.mark.parametrize(
    "change",
    [
        "payout_account_sealed = '', payout_account_index = null",
        "payout_account_sealed = '', payout_account_index = '', payment_consented_on = null",
    ],
)
@pytest.mark.usefixtures("member")
async def test_the_table_refuses_what_cannot_be(owner: Database, change: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.pool.execute(f"update members set {change}")
