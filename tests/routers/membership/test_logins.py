"""Members log in by a code to their phone, and nobody learns whose a phone is."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from app import clock
from app.crypto import Keyring
from app.database import Database, Statements
from app.issuer import DevelopmentIssuer
from app.member_issuer import MemberIssuer
from app.services.audit.audit_seals import UNSEALED
from app.services.privacy import phone_codes
from app.settings import Settings
from app.sms import Messenger
from app.telling import tells
from app.tokens import subject_of
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT, Client, pointers
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, verify, wrong
from tests.factories.membership.members import make_phone
from tests.factories.organisation.associations import make_association

_ID_OF = text("select id from members where name = :name")
KNOWN, UNKNOWN = make_phone(1), make_phone(2)


@pytest.fixture
async def member_id(session: AsyncSession, keyring: Keyring) -> UUID:
    """A member whose phone is known."""
    association = await make_association(session)
    member = await make_member_with_phone(session, keyring, association, KNOWN)
    await session.commit()
    return member.id


@pytest.fixture
def nobody(client: Callable[..., Client]) -> Client:
    """Who has not said yet who she is."""
    return client(None)


@pytest.fixture
async def login(app: FastAPI, nobody: Client, inbox: Inbox, member_id: UUID) -> dict[str, Any]:
    """A login of that member, whose code has arrived."""
    assert member_id.version == 7
    assert await inbox.texts(KNOWN) == []
    login = await ask(nobody, KNOWN)
    await _sent(app)
    return login


async def _sent(app: FastAPI) -> None:
    await app.state.messenger.idle()


async def _age(owner: Database, table: str, column: str, by: str) -> None:
    await owner.pool.execute(f"update {table} set {column} = {column} - interval '{by}'")


async def _refused(client: Client, login: dict[str, Any], code: str) -> None:
    await client.refused(
        "POST",
        f"/v1/logins/{login['id']}/verify",
        status=403,
        code="code_refused",
        json={"code": code},
    )


async def test_the_code_from_the_message_logs_a_member_in(
    app: FastAPI, nobody: Client, inbox: Inbox, member_id: UUID
) -> None:
    login = await ask(nobody, "138 0000 0001")
    await _sent(app)
    outcome = await verify(nobody, login, await inbox.code(KNOWN))
    assert (outcome["ticket"], outcome["choices"]) == (None, [])
    assert outcome["token"]["expires_in"] == 3600
    headers = {"Authorization": f"Bearer {outcome['token']['access_token']}"}
    me = await nobody.ok("GET", "/v1/me", headers=headers)
    assert me["member_id"] == str(member_id)
    await nobody.refused("GET", "/v1/payouts", status=403, code="forbidden", headers=headers)


_TAKEN_BACK: dict[str, Any] = {"status": 403, "code": "login_taken_back"}


async def _take_back(owner: Database, member_id: UUID | str) -> None:
    await owner.pool.execute(
        "update grants set revoked_at = now(), revoked_by = 'o', revoke_reason = 'r'"
        " where member_id = $1",
        UUID(str(member_id)),
    )


async def test_who_may_not_log_in_any_more_is_told_so_once_her_code_was_right(
    *,
    app: FastAPI,
    nobody: Client,
    inbox: Inbox,
    login: dict[str, Any],
    member_id: UUID,
    owner: Database,
) -> None:
    await verify(nobody, login, await inbox.code(KNOWN))
    await _take_back(owner, member_id)
    await owner.pool.execute("truncate code_limits")
    again = await ask(nobody, KNOWN)
    assert sorted(again) == sorted(login), "who asks for a code is told nothing of it"
    await _sent(app)
    code = await inbox.code(KNOWN)
    await _refused(nobody, again, wrong(code))
    path = f"/v1/logins/{again['id']}/verify"
    told = await nobody.refused("POST", path, json={"code": code}, **_TAKEN_BACK)
    assert "Ask the association of your town" in told["detail"]
    await _refused(nobody, again, code)
    noted = await owner.pool.fetch(
        f"select person_ids from ({UNSEALED}) e where refusal = 'login_taken_back'"
    )
    assert [row["person_ids"] for row in noted] == [[member_id]]
    assert await owner.pool.fetchval("select count(*) from grants") == 1


async def test_a_phone_of_nobody_is_answered_alike_and_sent_nothing(
    app: FastAPI, nobody: Client, inbox: Inbox, member_id: UUID
) -> None:
    assert member_id.version == 7
    answers = [
        await nobody.request("POST", "/v1/logins", json={"phone": phone})
        for phone in (KNOWN, UNKNOWN)
    ]
    await _sent(app)
    shapes = [
        (each.status_code, sorted(each.json()), sorted(each.headers), len(each.content))
        for each in answers
    ]
    assert shapes[0] == shapes[1]
    assert len(await inbox.texts(KNOWN)) == 1
    assert await inbox.texts(UNKNOWN) == []


async def test_a_phone_of_nobody_costs_the_same_statements(
    database: Database, nobody: Client, member_id: UUID
) -> None:
    assert member_id.version == 7
    run: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        run.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        await ask(nobody, KNOWN)
        of_known, run[:] = list(run), []
        await ask(nobody, UNKNOWN)
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert run == of_known
    assert len([each for each in run if "insert into code_limits" in each]) == 3


async def test_a_refusal_about_a_phone_of_nobody_costs_the_same_statements(
    nobody: Client, inbox: Inbox, member_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert member_id.version == 7
    assert await inbox.texts(KNOWN) == []
    logins = [await ask(nobody, phone) for phone in (KNOWN, UNKNOWN)]
    run: list[str] = []
    fetch = Statements.fetch

    async def watched(self: Statements, sql: str, *rest: Any, **options: Any) -> Any:
        run.append(sql)
        return await fetch(self, sql, *rest, **options)

    monkeypatch.setattr(Statements, "fetch", watched)
    told: list[list[str]] = []
    for phone, login in zip((KNOWN, UNKNOWN), logins, strict=True):
        await _refused(nobody, login, "123456")
        body = {"phone": phone}
        await nobody.refused("POST", "/v1/logins", status=429, code="too_many_codes", json=body)
        told.append(list(run))
        run.clear()
    assert told[0] == told[1]
    assert len([each for each in told[0] if "members" in each]) == 2


async def test_a_wrong_code_counts_and_the_fifth_is_the_last(
    nobody: Client, inbox: Inbox, login: dict[str, Any]
) -> None:
    code = await inbox.code(KNOWN)
    for _ in range(4):
        await _refused(nobody, login, wrong(code))
    await verify(nobody, login, code)


async def test_after_five_wrong_codes_the_right_one_is_refused(
    nobody: Client, inbox: Inbox, login: dict[str, Any]
) -> None:
    code = await inbox.code(KNOWN)
    for _ in range(5):
        await _refused(nobody, login, wrong(code))
    await _refused(nobody, login, code)


@pytest.mark.parametrize("form", ["wide", "spaced"])
async def test_a_code_is_read_as_a_keyboard_writes_it(
    nobody: Client, inbox: Inbox, login: dict[str, Any], form: str
) -> None:
    code = await inbox.code(KNOWN)
    wide = code.translate({ord(digit): chr(ord(digit) + 0xFEE0) for digit in code})
    await verify(nobody, login, {"wide": wide, "spaced": f" {code[:3]} {code[3:]} "}[form])


async def test_a_code_is_good_once(nobody: Client, inbox: Inbox, login: dict[str, Any]) -> None:
    code = await inbox.code(KNOWN)
    await verify(nobody, login, code)
    await _refused(nobody, login, code)


async def test_a_code_is_good_for_five_minutes(
    nobody: Client, inbox: Inbox, owner: Database, login: dict[str, Any]
) -> None:
    await _age(owner, "phone_codes", "expires_at", "5 minutes")
    await _refused(nobody, login, await inbox.code(KNOWN))


async def test_a_code_is_good_for_its_own_login_only(
    app: FastAPI, nobody: Client, inbox: Inbox, member_id: UUID
) -> None:
    assert member_id.version == 7
    await ask(nobody, KNOWN)
    await _sent(app)
    code = await inbox.code(KNOWN)
    await _refused(nobody, await ask(nobody, UNKNOWN), code)
    await _refused(nobody, {"id": clock.new_id()}, code)


async def test_a_code_is_kept_as_a_keyed_hash_alone(
    app: FastAPI, nobody: Client, inbox: Inbox, owner: Database, member_id: UUID
) -> None:
    assert member_id.version == 7
    await ask(nobody, KNOWN)
    await _sent(app)
    code = await inbox.code(KNOWN)
    rows = await owner.pool.fetch("select * from phone_codes")
    rows += await owner.pool.fetch("select * from code_limits")
    kept = b"".join(value for row in rows for value in row.values() if isinstance(value, bytes))
    words = " ".join(str(value) for row in rows for value in row.values())
    for secret in (code, KNOWN):
        assert secret.encode() not in kept
        assert not re.search(rf"(?<!\d){secret}(?!\d)", words)


@pytest.mark.parametrize("phone", [KNOWN, UNKNOWN])
async def test_a_phone_gets_one_code_a_minute(
    nobody: Client, owner: Database, member_id: UUID, phone: str
) -> None:
    assert member_id.version == 7
    await ask(nobody, phone)
    answer = await nobody.request("POST", "/v1/logins", json={"phone": phone})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_codes")
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    await _age(owner, "code_limits", "last_at", "1 minute")
    await ask(nobody, phone)


@pytest.mark.parametrize("phone", [KNOWN, UNKNOWN])
async def test_a_phone_gets_five_codes_a_day(
    nobody: Client, owner: Database, member_id: UUID, phone: str
) -> None:
    assert member_id.version == 7
    for _ in range(5):
        await ask(nobody, phone)
        await _age(owner, "code_limits", "last_at", "1 minute")
    answer = await nobody.request("POST", "/v1/logins", json={"phone": phone})
    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_codes")
    assert int(answer.headers["retry-after"]) > 23 * 3600
    await _age(owner, "code_limits", "window_started_at", "1 day")
    await ask(nobody, phone)


def _from(app: FastAPI, address: str) -> Client:
    transport = httpx.ASGITransport(app=app, client=(address, 40_000))
    return Client(transport=transport, base_url="http://jixie.test")


@pytest.mark.parametrize(
    ("address", "neighbour", "stranger"),
    [
        ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
    ],
)
async def test_an_address_gets_twenty_codes_an_hour(
    app: FastAPI, address: str, neighbour: str, stranger: str
) -> None:
    async with _from(app, address) as one, _from(app, neighbour) as same:
        for number in range(20):
            await ask(one, make_phone(100 + number))
        body = {"phone": make_phone(99)}
        await same.refused("POST", "/v1/logins", status=429, code="too_many_codes", json=body)
    async with _from(app, stranger) as other:
        await ask(other, make_phone(99))


@pytest.fixture
def setting(app: FastAPI) -> Iterator[Callable[..., None]]:
    """Set something else for the time of a test."""
    config: Settings = app.state.settings

    def change(**changed: Any) -> None:
        app.state.settings = config.model_copy(update=changed)

    yield change
    app.state.settings = config


async def test_what_a_district_sends_in_a_day_is_bounded_and_nobodys_phone_is_free(
    nobody: Client,
    owner: Database,
    login: dict[str, Any],
    setting: Callable[..., None],
) -> None:
    assert login
    setting(sms_daily_limit=2)
    for number in range(3):
        await ask(nobody, make_phone(10 + number))
    await _age(owner, "code_limits", "last_at", "1 minute")
    await ask(nobody, KNOWN)
    for phone in (KNOWN, UNKNOWN):
        await _age(owner, "code_limits", "last_at", "1 minute")
        body = {"phone": phone}
        await nobody.refused("POST", "/v1/logins", status=503, code="codes_paused", json=body)


async def test_many_wrong_codes_in_a_district_pause_all(
    login: dict[str, Any],
    nobody: Client,
    inbox: Inbox,
    owner: Database,
    setting: Callable[..., None],
) -> None:
    setting(wrong_codes_hourly_limit=3)
    code = await inbox.code(KNOWN)
    for number in range(3):
        await _refused(nobody, await ask(nobody, make_phone(10 + number)), code)
    answer = await nobody.request("POST", f"/v1/logins/{login['id']}/verify", json={"code": code})
    assert (answer.status_code, answer.json()["code"]) == (503, "codes_paused")
    assert 3500 < int(answer.headers["retry-after"]) <= 3601
    await _age(owner, "code_limits", "window_started_at", "1 hour")
    await verify(nobody, login, code)


async def _guess(app: FastAPI, address: str, first: int, codes: int) -> list[tuple[int, str]]:
    """Ask for codes from an address, try each five times in vain, and give what was answered."""
    answers = []
    async with _from(app, address) as one:
        for number in range(first, first + codes):
            path = f"/v1/logins/{(await ask(one, make_phone(number)))['id']}/verify"
            for _ in range(5):
                answer = await one.request("POST", path, json={"code": "000000"})
                answers.append((answer.status_code, answer.json()["code"]))
    return answers


@pytest.mark.parametrize(
    "network", [("203.0.113.7", "203.0.113.200"), ("2001:db8::1", "2001:db8::ffff:2")]
)
async def test_wrong_codes_stop_their_network_and_nobody_else(
    app: FastAPI, inbox: Inbox, owner: Database, login: dict[str, Any], network: tuple[str, str]
) -> None:
    address, neighbour = network
    refused, stopped = (403, "code_refused"), (429, "too_many_tries")
    assert await _guess(app, address, 100, 9) == [refused] * 40 + [stopped] * 5
    assert await _guess(app, neighbour, 200, 1) == [stopped] * 5
    counted = "select taken from code_limits where kind = 'wrong' and key = ''"
    assert await owner.pool.fetchval(counted) == 40
    path = f"/v1/logins/{login['id']}/verify"
    async with _from(app, neighbour) as one:
        answer = await one.request("POST", path, json={"code": await inbox.code(KNOWN)})
    assert (answer.status_code, answer.json()["code"]) == stopped
    assert 3500 < int(answer.headers["retry-after"]) <= 3601
    async with _from(app, "198.51.100.7") as other:
        await verify(other, login, await inbox.code(KNOWN))


async def test_an_address_of_ipv4_is_the_same_within_ipv6(app: FastAPI) -> None:
    for key in (phone_codes.address_key, phone_codes.network_key):
        mapped, plain, other = (
            key(app.state.keyring, each)
            for each in ("::ffff:203.0.113.7", "203.0.113.7", "::ffff:198.51.100.7")
        )
        assert mapped == plain != other


async def test_an_hour_later_a_network_tries_again(app: FastAPI, owner: Database) -> None:
    await _guess(app, "203.0.113.7", 100, 8)
    await _age(owner, "code_limits", "window_started_at", "1 hour")
    assert (await _guess(app, "203.0.113.7", 200, 1))[0] == (403, "code_refused")


async def _shared(
    app: FastAPI, nobody: Client, inbox: Inbox, session: AsyncSession, keyring: Keyring
) -> tuple[dict[str, Any], dict[str, Any]]:
    association = await make_association(session)
    for name in ("张三丰", "李四"):
        await make_member_with_phone(session, keyring, association, KNOWN, name=name)
    await make_member_with_phone(session, keyring, association, UNKNOWN, name="王五")
    await session.commit()
    login = await ask(nobody, KNOWN)
    await _sent(app)
    return login, await verify(nobody, login, await inbox.code(KNOWN))


async def test_two_of_one_surname_on_a_phone_are_told_apart_by_where_they_work(
    app: FastAPI, nobody: Client, inbox: Inbox, session: AsyncSession, keyring: Keyring
) -> None:
    for name, place in (("张三丰", "东风厂计生协会"), ("张小妹", "海棠厂计生协会")):
        association = await make_association(session, name=place)
        await make_member_with_phone(session, keyring, association, KNOWN, name=name)
    await session.commit()
    login = await ask(nobody, KNOWN)
    await _sent(app)
    outcome = await verify(nobody, login, await inbox.code(KNOWN))
    assert [(each["name_masked"], each["association_name"]) for each in outcome["choices"]] == [
        ("张**", "东风厂计生协会"),
        ("张**", "海棠厂计生协会"),
    ]


async def test_a_shared_phone_asks_who_it_is_and_names_nobody_in_full(
    app: FastAPI, nobody: Client, inbox: Inbox, session: AsyncSession, keyring: Keyring
) -> None:
    login, outcome = await _shared(app, nobody, inbox, session, keyring)
    assert outcome["token"] is None
    assert [each["name_masked"] for each in outcome["choices"]] == ["张**", "李**"]
    assert sorted(outcome["choices"][0]) == [
        "association_name",
        "first_joined_on",
        "member_id",
        "name_masked",
    ]
    path = f"/v1/logins/{login['id']}/choose"
    body = {"ticket": outcome["ticket"], "member_id": outcome["choices"][1]["member_id"]}
    token = await nobody.ok("POST", path, json=body)
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    assert (await nobody.ok("GET", "/v1/me", headers=headers))["name"] == "李四"
    await nobody.refused("POST", path, status=403, code="code_refused", json=body)


async def test_of_several_on_a_phone_who_may_not_log_in_any_more_is_told_so(
    *,
    app: FastAPI,
    nobody: Client,
    inbox: Inbox,
    session: AsyncSession,
    keyring: Keyring,
    owner: Database,
) -> None:
    login, outcome = await _shared(app, nobody, inbox, session, keyring)
    chosen = outcome["choices"][0]["member_id"]
    path, body = f"/v1/logins/{login['id']}/choose", {"member_id": chosen}
    await nobody.ok("POST", path, json=body | {"ticket": outcome["ticket"]})
    await _take_back(owner, chosen)
    await owner.pool.execute("truncate code_limits")
    login = await ask(nobody, KNOWN)
    await _sent(app)
    outcome = await verify(nobody, login, await inbox.code(KNOWN))
    path, body["ticket"] = f"/v1/logins/{login['id']}/choose", outcome["ticket"]
    await nobody.refused("POST", path, json=body, **_TAKEN_BACK)


async def test_a_ticket_is_for_the_members_of_its_phone(
    app: FastAPI, nobody: Client, inbox: Inbox, session: AsyncSession, keyring: Keyring
) -> None:
    login, outcome = await _shared(app, nobody, inbox, session, keyring)
    stranger = await session.scalar(_ID_OF, {"name": "王五"})
    path = f"/v1/logins/{login['id']}/choose"
    chosen = outcome["choices"][0]["member_id"]
    for ticket, member in (
        (outcome["ticket"], str(stranger)),
        (outcome["ticket"], str(clock.new_id())),
        ("x", chosen),
        (outcome["ticket"] + "é", chosen),
    ):
        body = {"ticket": ticket, "member_id": member}
        await nobody.refused("POST", path, status=403, code="code_refused", json=body)
    await nobody.ok("POST", path, json={"ticket": outcome["ticket"], "member_id": chosen})


async def test_a_ticket_is_worth_nothing_before_the_code(
    app: FastAPI, nobody: Client, inbox: Inbox, session: AsyncSession, keyring: Keyring
) -> None:
    _, outcome = await _shared(app, nobody, inbox, session, keyring)
    other = await ask(nobody, UNKNOWN)
    body = {"ticket": outcome["ticket"], "member_id": outcome["choices"][0]["member_id"]}
    path = f"/v1/logins/{other['id']}/choose"
    await nobody.refused("POST", path, status=403, code="code_refused", json=body)


def _signed(issuer: MemberIssuer, **changes: Any) -> str:
    now = int(clock.now().timestamp())
    claims = {
        "iss": issuer.name,
        "aud": "jixie",
        "iat": now,
        "exp": now + 60,
    }
    return jwt.encode(
        claims | changes,
        issuer._key.private,
        algorithm="EdDSA",
        headers={"kid": issuer._key.kid, "typ": "at+jwt"},
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "officer-1"},
        {"sub": "member:x"},
        {"iss": "urn:jixie:development"},
        {"aud": "another"},
        {"exp": 1},
    ],
)
async def test_the_members_issuer_names_members_alone(
    app: FastAPI,
    nobody: Client,
    session: AsyncSession,
    member_id: UUID,
    changes: dict[str, Any],
) -> None:
    issuer = MemberIssuer(app.state.settings, app.state.keyring)
    named = {"sub": subject_of(member_id)}
    facts: dict[str, Any] = {"role": "member", "areas": [], "member_id": member_id}
    await make_grant(session, subject=subject_of(member_id), **facts)
    await make_grant(session, subject="officer-1")
    await session.commit()
    good = {"Authorization": f"Bearer {_signed(issuer, **named)}"}
    await nobody.ok("GET", "/v1/areas", headers=good)
    headers = {"Authorization": f"Bearer {_signed(issuer, **named | changes)}"}
    await nobody.refused("GET", "/v1/areas", status=401, code="unauthenticated", headers=headers)


async def test_another_issuer_cannot_speak_for_the_members_one(
    nobody: Client, config: Settings
) -> None:
    issuer, subject = DevelopmentIssuer(config), subject_of(clock.new_id())
    for token in (issuer.token(subject, iss=config.member_issuer), issuer.token(subject)):
        headers = {"Authorization": f"Bearer {token}"}
        problem: dict[str, Any] = {"status": 401, "code": "unauthenticated", "headers": headers}
        await nobody.refused("GET", "/v1/areas", **problem)


@pytest.mark.parametrize("language", ["zh", "en"])
async def test_a_message_says_nothing_of_health(
    app: FastAPI, nobody: Client, inbox: Inbox, member_id: UUID, language: str
) -> None:
    assert member_id.version == 7
    headers = {"Accept-Language": language}
    await nobody.ok("POST", "/v1/logins", status=202, json={"phone": KNOWN}, headers=headers)
    await _sent(app)
    (sent,) = await inbox.texts(KNOWN)
    assert sent.startswith("【计协】")
    assert not tells(sent)
    assert not re.search(r"health|exam|check|健康|检查|会员", sent)


@pytest.mark.parametrize("behaviour", [{}, {"fail_next": 9}, {"fail_next": 9, "fail_status": 422}])
async def test_neither_phone_nor_code_is_logged(
    app: FastAPI, nobody: Client, inbox: Inbox, member_id: UUID, behaviour: dict[str, int]
) -> None:
    assert member_id.version == 7
    await inbox.behave(**behaviour)
    with capture_logs() as logs:
        await ask(nobody, KNOWN)
        await _sent(app)
    assert any(each["event"] == "request" for each in logs)
    assert any(each["event"] == "message_not_sent" for each in logs) == bool(behaviour)
    assert KNOWN not in str(logs)
    with suppress(IndexError):
        assert await inbox.code(KNOWN) not in str(logs)


async def test_a_provider_that_fails_once_is_asked_again(
    app: FastAPI, nobody: Client, inbox: Inbox, member_id: UUID
) -> None:
    assert member_id.version == 7
    await inbox.behave(fail_next=1)
    await ask(nobody, KNOWN)
    await _sent(app)
    assert len(await inbox.texts(KNOWN)) == 1


async def test_a_slow_provider_keeps_nobody_waiting(
    app: FastAPI, nobody: Client, inbox: Inbox, member_id: UUID
) -> None:
    assert member_id.version == 7
    await inbox.behave(slow_ms=1500)
    login = await ask(nobody, KNOWN)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_sent(app), 0.05)
    await _sent(app)
    await verify(nobody, login, await inbox.code(KNOWN))


async def test_without_a_provider_nobody_logs_in(app: FastAPI, nobody: Client) -> None:
    messenger, app.state.messenger = app.state.messenger, Messenger(None)
    try:
        body = {"phone": KNOWN}
        await nobody.refused("POST", "/v1/logins", status=503, code="no_sms_provider", json=body)
    finally:
        app.state.messenger = messenger


@pytest.mark.parametrize("phone", ["12345", "電話", "+86 138"])
async def test_what_is_no_phone_is_refused(nobody: Client, phone: str) -> None:
    problem = await nobody.refused(
        "POST", "/v1/logins", status=422, code="invalid", json={"phone": phone}
    )
    assert pointers(problem) == ["/phone"]


async def test_an_idempotency_key_does_not_replay_a_token(
    nobody: Client, inbox: Inbox, login: dict[str, Any]
) -> None:
    request: dict[str, Any] = {
        "json": {"code": await inbox.code(KNOWN)},
        "headers": {"Idempotency-Key": "again"},
    }
    path = f"/v1/logins/{login['id']}/verify"
    await nobody.ok("POST", path, **request)
    await nobody.refused("POST", path, status=403, code="code_refused", **request)


async def test_several_districts_must_be_named(
    app: FastAPI, nobody: Client, inbox: Inbox, owner: Database, member_id: UUID
) -> None:
    assert member_id.version == 7
    await owner.pool.execute(
        "insert into areas values ('440604000000', '禅城区', 'district', '440600000000')"
    )
    try:
        for body in ({"phone": KNOWN}, {"phone": KNOWN, "district_code": "440605124000"}):
            problem = await nobody.refused(
                "POST", "/v1/logins", status=422, code="invalid", json=body
            )
            assert pointers(problem) == ["/district_code"]
        elsewhere = await ask(nobody, KNOWN, district_code="440604000000")
        login = await ask(nobody, KNOWN, district_code=DISTRICT)
        await _sent(app)
        assert len(await inbox.texts(KNOWN)) == 1
        path = f"/v1/logins/{elsewhere['id']}/verify"
        body = {"code": await inbox.code(KNOWN), "district_code": DISTRICT}
        await nobody.refused("POST", path, status=403, code="code_refused", json=body)
        await nobody.ok("POST", f"/v1/logins/{login['id']}/verify", json=body)
    finally:
        await owner.pool.execute("delete from areas where code = '440604000000'")
