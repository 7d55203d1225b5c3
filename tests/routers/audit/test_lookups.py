"""A member sees which offices looked at her record and what for, and no officer's name."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, worker
from app.crypto import Keyring
from app.database import Database
from app.models.membership.members import Member
from app.roles import Role
from app.services.audit.audit_seals import Heads
from tests.factories.callers import SHISHAN, Client, idempotency_key, if_match
from tests.factories.membership.consents import a_day_after
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, verify, wrong
from tests.factories.membership.members import make_member, make_phone
from tests.factories.membership.rosters import make_csv, make_person
from tests.factories.organisation.associations import make_association
from tests.factories.privacy.held_changes import run_errands

_PATH = "/v1/me/lookups"
_PHONE = make_phone(1)
Seal: TypeAlias = Callable[[], Awaitable[bool]]


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    """A member with a phone."""
    made = await make_member_with_phone(session, keyring, await make_association(session), _PHONE)
    await session.commit()
    return made


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    """That member."""
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


def _town(client: Callable[..., Client]) -> Client:
    return client(Role.TOWN_OFFICER, areas=[SHISHAN], subject="wang-xiaoming@example.org")


@pytest.fixture
def town(client: Callable[..., Client]) -> Client:
    """An officer of her town, whose name nobody but the auditor should learn."""
    return _town(client)


@pytest.fixture
def seal(database: Database, tmp_path: Path) -> Seal:
    """Seal what was noted, as the worker does every second."""
    return lambda: worker.seal_all(database, Heads(tmp_path / "heads.jsonl"))


@pytest.fixture
async def other(session: AsyncSession) -> Member:
    """A member of another association."""
    made = await make_member(session, await make_association(session))
    await session.commit()
    return made


async def _reveal(town: Client, member: Member, **facts: Any) -> None:
    body = {"field": "phone", "purpose": "contact"} | facts
    await town.ok("POST", f"/v1/members/{member.id}/reveal", json=body)


async def test_she_sees_the_office_what_it_did_and_what_for_in_plain_words(
    her: Client, town: Client, seal: Seal, member: Member
) -> None:
    await town.ok("GET", f"/v1/members/{member.id}")
    await _reveal(town, member)
    assert (await her.ok("GET", _PATH))["items"] == [], "it shows what is sealed"
    await seal()
    answer = await her.get(_PATH, headers={"Accept-Language": "zh"})
    revealed, viewed = answer.json()["items"]
    assert (viewed["use"], viewed["purpose"], viewed["fields"]) == ("viewed", None, [])
    assert viewed["words"] == "镇街计生干部（狮山镇）查看了您的资料。"
    assert (revealed["use"], revealed["purpose"]) == ("revealed", "contact")
    assert revealed["fields"] == ["phone"]
    assert revealed["words"] == "镇街计生干部（狮山镇）查看了完整号码：手机号。用途：联系本人。"
    assert (revealed["office"], revealed["area_code"]) == ("town_officer", SHISHAN)
    english = (await her.ok("GET", _PATH))["items"][0]
    assert english["words"] == (
        "Town officer, 狮山镇: Saw a number in full: Phone. Purpose: Contacting her."
    )


async def test_she_learns_no_officers_name_and_nothing_of_other_members(
    her: Client, client: Callable[..., Client], seal: Seal, member: Member, other: Member
) -> None:
    town = _town(client)
    await town.ok("GET", "/v1/members")
    await town.ok("GET", f"/v1/members/{other.id}")
    await seal()
    answer = await her.get(_PATH)
    (listed,) = answer.json()["items"]
    assert listed["use"] == "listed"
    for secret in ("wang", str(other.id), str(member.id), "测试"):
        assert secret not in answer.text
    hers = f"/v1/members/{member.id}/audit-entries"
    await her.refused("GET", hers, status=403, code="forbidden")
    others = client(Role.MEMBER, member_id=str(other.id), subject="other")
    assert len((await others.ok("GET", _PATH))["items"]) == 2
    copy = await her.ok("GET", f"/v1/members/{member.id}/export")
    assert "wang" not in str(copy["tables"]["audit_sightings"])


async def test_her_own_looks_are_left_out_but_not_a_login_by_her_phone(
    app: FastAPI,
    her: Client,
    client: Callable[..., Client],
    inbox: Inbox,
    seal: Seal,
) -> None:
    await her.ok("GET", "/v1/me")
    await her.ok("GET", _PATH)
    login = await ask(client(None), _PHONE)
    await app.state.messenger.idle()
    await verify(client(None), login, await inbox.code(_PHONE))
    await seal()
    (entry,) = (await her.ok("GET", _PATH))["items"]
    assert (entry["use"], entry["words"]) == ("signed_in", "Signed in with your phone")


async def test_she_sees_what_was_refused_to_others_as_refused(
    her: Client, client: Callable[..., Client], seal: Seal, member: Member, other: Member
) -> None:
    path = f"/v1/members/{member.id}"
    denied: dict[str, Any] = {"status": 403, "code": "forbidden"}
    await client(Role.GUIDE, areas=[SHISHAN]).refused("POST", f"{path}/erase", **denied)
    fellow = client(Role.MEMBER, member_id=str(other.id), subject="other")
    await fellow.refused("GET", f"{path}/audit-entries", **denied)
    await seal()
    entries = (await her.ok("GET", _PATH))["items"]
    assert [(each["use"], each["words"]) for each in entries] == [
        ("refused", "Member, 南海区: Tried something with your record and was refused."),
        ("refused", "Guide, 狮山镇: Tried something with your record and was refused."),
    ]
    assert [each["use"] for each in (await her.ok("GET", f"{_PATH}?use=refused"))["items"]] == [
        "refused"
    ] * 2


async def test_a_wrong_code_for_her_phone_is_no_login(
    app: FastAPI, her: Client, client: Callable[..., Client], inbox: Inbox, seal: Seal
) -> None:
    login = await ask(client(None), _PHONE)
    await app.state.messenger.idle()
    body = {"code": wrong(await inbox.code(_PHONE))}
    path = f"/v1/logins/{login['id']}/verify"
    await client(None).refused("POST", path, status=403, code="code_refused", json=body)
    await seal()
    (entry,) = (await her.ok("GET", _PATH))["items"]
    words = "A sign-in with your phone was tried and refused"
    assert (entry["use"], entry["words"]) == ("sign_in_refused", words)


async def test_she_sees_what_another_does_who_holds_a_grant_for_her(
    her: Client, client: Callable[..., Client], seal: Seal, member: Member
) -> None:
    friend = client(Role.MEMBER, member_id=str(member.id), subject="a-friend")
    await friend.ok("GET", "/v1/me/attendances")
    await her.ok("GET", "/v1/me")
    await seal()
    answer = await her.get(_PATH, headers={"Accept-Language": "zh"})
    (entry,) = answer.json()["items"]
    assert (entry["office"], entry["use"]) == ("member", "listed")
    assert entry["words"] == "以您的身份登录的其他人在名单中看到您。"
    assert "a-friend" not in answer.text
    english = (await her.ok("GET", _PATH))["items"][0]
    assert english["words"] == "Somebody else who signs in as you: Saw you in a list."
    (own,) = (await friend.ok("GET", _PATH))["items"]
    assert own["use"] == "viewed", "to the friend, it is she who is another"


async def test_the_list_is_paged_and_narrowed(
    her: Client, town: Client, seal: Seal, member: Member
) -> None:
    for _ in range(3):
        await town.ok("GET", f"/v1/members/{member.id}")
    await _reveal(town, member)
    await seal()
    first = await her.ok("GET", _PATH, params={"limit": 3, "include_total": True})
    assert (len(first["items"]), first["total"]) == (3, 4)
    rest = await her.ok("GET", _PATH, params={"limit": 3, "cursor": first["next_cursor"]})
    assert (len(rest["items"]), rest["next_cursor"]) == (1, None)
    ids = [item["id"] for item in (*first["items"], *rest["items"])]
    assert ids == sorted(ids, reverse=True)
    only = await her.ok("GET", _PATH, params={"use": "revealed,copied"})
    assert [item["use"] for item in only["items"]] == ["revealed"]
    since = first["items"][0]["at"]
    assert len((await her.ok("GET", _PATH, params={"at_gte": since}))["items"]) == 1
    assert len((await her.ok("GET", _PATH, params={"at_lt": since}))["items"]) == 3
    wrong = await her.refused("GET", _PATH, status=422, code="invalid", params={"use": "stared"})
    assert wrong["errors"]


async def test_nobody_but_a_member_has_lookups(client: Callable[..., Client]) -> None:
    await client(None).refused("GET", _PATH, status=401, code="unauthenticated")
    for role in set(Role) - {Role.MEMBER}:
        await client(role).refused("GET", _PATH, status=403, code="forbidden")


async def test_she_sees_which_consent_an_office_entered_or_withdrew(
    *,
    her: Client,
    town: Client,
    client: Callable[..., Client],
    seal: Seal,
    member: Member,
    owner: Database,
) -> None:
    path = f"/v1/members/{member.id}/consents"
    await town.ok("POST", f"{path}/withdraw", json={"purpose": "payment"})
    await a_day_after(owner)
    given = {"purpose": "payment", "method": "paper"}
    await town.ok("POST", path, status=201, json=given)
    linked = client(Role.TOWN_OFFICER, areas=[SHISHAN], subject="hr", employer_linked=True)
    denied: dict[str, Any] = {"status": 403, "code": "forbidden", "json": {"purpose": "thanks"}}
    await linked.refused("POST", f"{path}/withdraw", **denied)
    await seal()
    answer = await her.get(_PATH, headers={"Accept-Language": "zh"})
    refused, entered, withdrawn = answer.json()["items"]
    assert (refused["use"], refused["consents"], refused["fields"]) == ("refused", [], [])
    assert (entered["use"], entered["consents"]) == ("consent_entered", ["payment"])
    assert withdrawn["words"] == "镇街计生干部（狮山镇）代您撤回了同意：收款账户：发放。"
    english = (await her.ok("GET", _PATH, params={"use": "consent_entered"}))["items"]
    assert [each["words"] for each in english] == [
        "Town officer, 狮山镇: Entered that you consent: Payout account: to pay her."
    ]


async def test_she_sees_which_consents_an_office_entered_with_her_number(
    her: Client, town: Client, seal: Seal, member: Member
) -> None:
    path = f"/v1/members/{member.id}"
    shown = await town.ok("GET", path)
    today = clock.civil_date(clock.now()).isoformat()
    body = {"phone": make_phone(7), "consented_on": today}
    shown = await town.ok("PATCH", path, json=body, headers=if_match(shown))
    await town.ok("PATCH", path, json={"name": "李晓燕"}, headers=if_match(shown))
    await seal()
    renamed, entered, _ = (await her.ok("GET", _PATH))["items"]
    assert (renamed["use"], renamed["consents"]) == ("changed", [])
    assert entered["use"] == "changed"
    assert entered["consents"] == ["contact"]
    assert entered["words"].startswith("Town officer, 狮山镇: Changed your record, and entered")


async def test_she_sees_which_consents_came_with_a_roster(
    *,
    her: Client,
    town: Client,
    seal: Seal,
    member: Member,
    database: Database,
    keyring: Keyring,
) -> None:
    today = clock.civil_date(clock.now()).isoformat()
    await her.ok("POST", "/v1/me/consents/withdraw", json={"purpose": "thanks"})
    facts = {"知情同意日期": today, "同意事项": "手机号 收款账户"}
    for consents in (facts, facts, {"知情同意日期": ""}):
        person = make_person(0, 姓名=member.name, 工号="", 身份证号码="", 手机号="") | consents
        await town.ok(
            "POST",
            "/v1/members/import",
            status=202,
            files={"file": ("r.csv", make_csv([person]))},
            data={"association_id": str(member.association_id), "dry_run": "false"},
            headers=idempotency_key(clock.new_id()),
        )
        assert await worker.run_next(database, keyring)
    await seal()
    items = (await her.ok("GET", _PATH))["items"]
    assert [each["consents"] for each in items] == [[], [], ["contact", "payment"]]
    assert items[-1]["words"].startswith("Town officer, 狮山镇: Changed your record, and entered")


async def test_what_an_office_says_of_a_consent_again_is_no_more_than_a_look(
    her: Client, town: Client, seal: Seal, member: Member
) -> None:
    path = f"/v1/members/{member.id}/consents"
    given = {"purpose": "payment", "method": "paper"}
    for status in (201, 200):
        await town.ok("POST", path, status=status, json=given)
    for _ in range(2):
        await town.ok("POST", f"{path}/withdraw", json={"purpose": "payment"})
    await seal()
    items = (await her.ok("GET", _PATH))["items"]
    uses = ["viewed", "consent_withdrawn", "viewed", "consent_entered"]
    assert [each["use"] for each in items] == uses
    assert [each["consents"] for each in items] == [[], ["payment"], [], ["payment"]]
    assert items[0]["words"] == "Town officer, 狮山镇: Looked at your record."


async def test_a_consent_that_its_entry_does_not_name_is_told_in_plain_words(
    her: Client, town: Client, seal: Seal, member: Member, owner: Database
) -> None:
    path, headers = f"/v1/members/{member.id}/consents", idempotency_key("consent")
    given = {"purpose": "payment", "method": "paper"}
    for _ in range(2):
        await town.ok("POST", path, status=201, json=given, headers=headers)
    await seal()
    replayed, entered = (await her.ok("GET", _PATH))["items"]
    assert (entered["consents"], replayed["consents"]) == (["payment"], [])
    plain = "Town officer, 狮山镇: Entered that you consent."
    assert replayed["words"] == plain
    await owner.pool.execute("alter table audit_entries disable trigger user")
    await owner.pool.execute("update audit_entries set fields = '{method,purpose}'")
    assert {each["words"] for each in (await her.ok("GET", _PATH))["items"]} == {plain}


async def test_a_secretary_is_named_by_her_association(
    *,
    her: Client,
    client: Callable[..., Client],
    seal: Seal,
    member: Member,
    owner: Database,
    session: AsyncSession,
) -> None:
    names = {"ours": "本田计生协会", "theirs": "奇美计生协会"}
    await owner.pool.execute(
        "update associations set name = $1 where id = $2", names["ours"], member.association_id
    )
    elsewhere = await make_association(session, name=names["theirs"])
    await session.commit()
    place = {"ours": str(member.association_id), "theirs": str(elsewhere.id)}
    path = f"/v1/members/{member.id}"
    both = client(Role.SECRETARY, subject="both", areas=[], associations=[*place.values()])
    await both.ok("GET", path)
    form = {"purpose": "identity", "method": "paper"}
    ours = client(Role.SECRETARY, subject="ours", areas=[], associations=[place["ours"]])
    await ours.ok("POST", f"{path}/consents", status=201, json=form)
    theirs = client(Role.SECRETARY, subject="theirs", areas=[], associations=[place["theirs"]])
    await theirs.refused("POST", f"{path}/erase", status=403, code="forbidden")
    await owner.pool.execute(
        "update grants set revoked_at = now(), revoked_by = 'o', revoke_reason = 'r'"
        " where subject = 'ours'"
    )
    await seal()
    items = (await her.get(_PATH, headers={"Accept-Language": "zh"})).json()["items"]
    assert [each["association_name"] for each in items] == [
        names["theirs"], names["ours"], names["ours"],
    ]  # fmt: skip
    assert items[1]["words"] == "协会秘书（本田计生协会）登记了您的同意：身份证号：确认身份。"
    assert items[2]["words"] == "协会秘书（本田计生协会）查看了您的资料。"


async def test_a_secretary_who_moved_is_named_by_where_she_was_then(
    *,
    her: Client,
    client: Callable[..., Client],
    seal: Seal,
    member: Member,
    owner: Database,
    session: AsyncSession,
) -> None:
    elsewhere = await make_association(session, name="奇美计生协会")
    await session.commit()
    path, facts = f"/v1/members/{member.id}", {"subject": "moved", "areas": []}
    before = client(Role.SECRETARY, associations=[str(member.association_id)], **facts)
    await before.ok("GET", path)
    await owner.pool.execute(
        "update grants set revoked_at = now(), revoked_by = 'o', revoke_reason = 'r'"
        " where subject = 'moved'"
    )
    since = client(Role.SECRETARY, associations=[str(elsewhere.id)], **facts)
    await since.refused("POST", f"{path}/erase", status=403, code="forbidden")
    await seal()
    refused, viewed = (await her.ok("GET", _PATH))["items"]
    assert refused["association_name"] == "奇美计生协会"
    assert viewed["association_name"] not in {None, "奇美计生协会"}


async def test_what_the_service_does_with_a_new_phone_is_no_change_by_an_office(
    *,
    app: FastAPI,
    her: Client,
    client: Callable[..., Client],
    inbox: Inbox,
    seal: Seal,
    member: Member,
) -> None:
    path = f"/v1/members/{member.id}"
    town = _town(client)
    shown = await town.ok("GET", path)
    body = {"phone": make_phone(2)}
    await town.ok("PATCH", path, json=body, headers=if_match(shown))
    await run_errands(app)
    assert await inbox.texts(_PHONE), "the old phone is told"
    await seal()
    (told,) = (
        await her.get(_PATH, params={"use": "phone_noticed"}, headers={"Accept-Language": "zh"})
    ).json()["items"]
    assert told["office"] == "operations"
    assert told["words"] == "系统就您新手机号或停用手机号一事通知了原手机号"


@pytest.mark.parametrize(
    ("kind", "act", "use"),
    [
        ("vouchers", "cancel_voucher", "paid"),
        ("bank-files", "create_bank_file", "paid"),
        ("payout_runs", "start_gateway_payments", "paid"),
        ("draws", "settle_draws", "drawn"),
        ("retention_runs", "retain", "discarded"),
        ("corrections", "refuse_correction", "corrected"),
        ("members", "update_member", "changed"),
    ],
)
async def test_she_is_told_what_was_done_by_what_it_was_about(
    *,
    her: Client,
    town: Client,
    seal: Seal,
    member: Member,
    owner: Database,
    kind: str,
    act: str,
    use: str,
) -> None:
    await town.ok("GET", f"/v1/members/{member.id}")
    await seal()
    await owner.pool.execute("alter table audit_entries disable trigger user")
    await owner.pool.execute("update audit_entries set object_kind = $1, act = $2", kind, act)
    (item,) = (await her.ok("GET", _PATH))["items"]
    assert item["use"] == use
    assert ("Changed your record" in item["words"]) is (use == "changed")
