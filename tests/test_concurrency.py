"""Writing twice, writing at once, and writing over each other."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Database
from app.issuer import DevelopmentIssuer
from app.roles import Role
from app.settings import Settings
from tests.factories.callers import GUICHENG, Client, idempotency_key
from tests.factories.membership.members import make_phone
from tests.factories.organisation.associations import make_association
from tests.waiting import SOMEBODY_WAITS, until


@pytest_asyncio.fixture
async def body(session: AsyncSession) -> dict[str, Any]:
    """What enrols one member."""
    association = await make_association(session)
    await session.commit()
    return {"association_id": str(association.id), "name": "张示例"}


async def _count(owner: Database) -> int:
    return int(await owner.pool.fetchval("select count(*) from members"))


async def test_a_repeat_gets_the_first_answer_and_changes_nothing(
    officer: Client, owner: Database, body: dict[str, Any]
) -> None:
    first = await officer.post("/v1/members", json=body, headers=idempotency_key("k"))
    again = await officer.post("/v1/members", json=body, headers=idempotency_key('"k"'))

    assert first.status_code == again.status_code == 201
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"] == '"1"'
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert await _count(owner) == 1


async def test_a_key_belongs_to_one_body_and_one_caller(
    officer: Client, client: Callable[..., Client], owner: Database, body: dict[str, Any]
) -> None:
    await officer.post("/v1/members", json=body, headers=idempotency_key("k"))

    other = {**body, "name": "李示例"}
    await officer.refused(
        "POST",
        "/v1/members",
        json=other,
        headers=idempotency_key("k"),
        status=422,
        code="idempotency_key_reused",
    )
    colleague = client(Role.DISTRICT_OFFICER, subject="a colleague")
    headers = idempotency_key("k")
    await colleague.ok("POST", "/v1/members", json=other, headers=headers, status=201)
    assert await _count(owner) == 2


async def test_a_kept_answer_is_for_the_grant_under_which_it_was_given(
    officer: Client, client: Callable[..., Client], owner: Database, body: dict[str, Any]
) -> None:
    """Neither shown under another grant nor done again, though all that was sent is the same."""
    sent: dict[str, Any] = {"json": body, "headers": idempotency_key("k")}
    reused: dict[str, Any] = {"status": 422, "code": "idempotency_key_reused"}
    first = await officer.ok("POST", "/v1/members", **sent, status=201)
    await owner.pool.execute(
        "update grants set revoked_at = now(), revoked_by = 'y', revoke_reason = 'moves on'"
    )
    subject = str(Role.DISTRICT_OFFICER) + "-1"
    elsewhere = client(Role.TOWN_OFFICER, subject=subject, areas=[GUICHENG])
    again = client(Role.DISTRICT_OFFICER, subject=subject)
    for grant in (elsewhere, again):
        refused = await grant.refused("POST", "/v1/members", **sent, **reused)
        assert first["id"] not in str(refused)
    assert await _count(owner) == 1


async def test_a_kept_answer_outlasts_a_token_but_not_what_it_allows(
    client: Callable[..., Client],
    config: Settings,
    owner: Database,
    body: dict[str, Any],
) -> None:
    officer, issuer = client(Role.DISTRICT_OFFICER, subject="o"), DevelopmentIssuer(config)
    sent: dict[str, Any] = {"json": body, "headers": idempotency_key("k")}
    await officer.ok("POST", "/v1/members", **sent, status=201)
    officer.headers["Authorization"] = f"Bearer {issuer.token('o', jti='another')}"
    again = await officer.post("/v1/members", **sent)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")

    employed = client(Role.SECRETARY, subject="o", associations=[], employer_linked=True)
    await employed.get("/v1/areas")
    # Written otherwise it is not remembered, and what is granted is read at once.
    officer.headers["Jixie-Grant"] = officer.headers["Jixie-Grant"].upper()
    await officer.refused("POST", "/v1/members", **sent, status=422, code="idempotency_key_reused")
    assert await _count(owner) == 1


async def test_what_was_only_looked_for_is_looked_for_again(
    officer: Client, client: Callable[..., Client], owner: Database, body: dict[str, Any]
) -> None:
    body |= {"phone": make_phone(1), "consented_on": "2026-01-02"}
    await officer.ok("POST", "/v1/members", json=body, status=201)
    search: dict[str, Any] = {"json": {"phone": make_phone(1)}, "headers": idempotency_key("s")}
    found = await officer.ok("POST", "/v1/members/search", **search)
    assert [item["name"] for item in found["items"]] == [body["name"]]
    subject = str(Role.DISTRICT_OFFICER) + "-1"
    elsewhere = client(Role.TOWN_OFFICER, subject=subject, areas=[GUICHENG])
    assert (await elsewhere.ok("POST", "/v1/members/search", **search))["items"] == []
    assert await owner.pool.fetchval("select count(*) from idempotency_keys") == 0


async def test_a_refused_request_leaves_its_key_free(
    officer: Client, owner: Database, body: dict[str, Any]
) -> None:
    wrong = {**body, "joined_on": "2999-01-01"}
    refused = await officer.post("/v1/members", json=wrong, headers=idempotency_key("k"))
    assert refused.status_code == 422
    headers = idempotency_key("k")
    await officer.ok("POST", "/v1/members", json=body, headers=headers, status=201)
    assert await _count(owner) == 1


async def test_twins_sent_at_once_have_one_effect(
    officer: Client, owner: Database, body: dict[str, Any]
) -> None:
    answers = await asyncio.gather(
        *[
            officer.post("/v1/members", json=body, headers=idempotency_key(f"k{number % 4}"))
            for number in range(40)
        ]
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {a.json()["code"] for a in answers if a.status_code == 409} <= {"idempotency_in_flight"}
    assert await _count(owner) == 4


async def test_a_malformed_key_is_refused(officer: Client, body: dict[str, Any]) -> None:
    for key in ('""', "x" * 256, "a\tb"):
        await officer.refused(
            "POST",
            "/v1/members",
            json=body,
            headers={"Idempotency-Key": key},
            status=400,
            code="idempotency_key_malformed",
        )


async def test_of_many_changes_of_one_version_one_wins(
    officer: Client, body: dict[str, Any]
) -> None:
    member = await officer.ok("POST", "/v1/members", json=body, status=201)
    path = f"/v1/members/{member['id']}"
    answers = await asyncio.gather(
        *[
            officer.patch(path, json={"name": f"张示例{number}"}, headers={"If-Match": '"1"'})
            for number in range(8)
        ]
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 7]
    assert (await officer.ok("GET", path))["version"] == 2


async def test_an_unchanged_record_is_not_sent_again(officer: Client, body: dict[str, Any]) -> None:
    member = await officer.ok("POST", "/v1/members", json=body, status=201)
    path = f"/v1/members/{member['id']}"
    for known in ('"0", "1"', 'W/"1"', "*"):
        same = await officer.get(path, headers={"If-None-Match": known})
        assert (same.status_code, same.content) == (304, b"")
    lines = await officer.get(path, headers=[("If-None-Match", '"0"'), ("If-None-Match", '"1"')])
    assert lines.status_code == 304
    for other in ('"7"', 'W/"7", "11"', "1"):
        changed = await officer.get(path, headers={"If-None-Match": other})
        assert changed.status_code == 200


async def test_a_change_needs_the_version_that_was_read(
    officer: Client, body: dict[str, Any]
) -> None:
    member = await officer.ok("POST", "/v1/members", json=body, status=201)
    path = f"/v1/members/{member['id']}"
    change = {"name": "王示例"}
    await officer.refused("PATCH", path, json=change, status=428, code="precondition_required")
    headers = {"If-Match": '"9"'}
    await officer.refused("PATCH", path, json=change, headers=headers, status=412, code="stale")


@pytest.mark.parametrize(
    "sent", [["*"], ["1"], ['W/"1"'], ['"x"'], [""], ['"01"'], ['"1", "2"'], ['"1"', '"2"']]
)
async def test_what_is_not_one_version_is_not_called_stale(
    officer: Client, body: dict[str, Any], sent: list[str]
) -> None:
    member = await officer.ok("POST", "/v1/members", json=body, status=201)
    path = f"/v1/members/{member['id']}"
    refused: dict[str, Any] = {"status": 400, "code": "if_match_not_one_version"}
    headers = [("If-Match", tag) for tag in sent]
    await officer.refused("PATCH", path, json={"name": "王示例"}, headers=headers, **refused)
    leave = {"left_on": "2026-10-01"}
    await officer.refused("POST", f"{path}/leave", json=leave, headers=headers, **refused)
    assert (await officer.ok("GET", path))["version"] == 1


async def test_what_tells_repeats_apart_cannot_be_guessed_without_the_key(
    officer: Client, owner: Database, body: dict[str, Any]
) -> None:
    headers = {**idempotency_key("k"), "Content-Type": "application/json"}
    content = json.dumps(body).encode()
    await officer.ok("POST", "/v1/members", content=content, headers=headers, status=201)
    kept = await owner.pool.fetchval("select fingerprint from idempotency_keys")
    sent = b"POST /v1/members?\napplication/json\n" + content
    guesses = [hashlib.sha256(sent).digest(), hashlib.sha256(content).digest()]
    guesses += [Keyring(b"x" * 32).sign(sent, purpose="idempotency", length=32)]
    assert len(kept) == 32
    assert kept not in guesses


async def test_what_closed_a_ring_is_done_once_more_and_once(
    officer: Client, owner: Database, body: dict[str, Any]
) -> None:
    """The first attempt fails while it stores; what it held goes before the second one."""
    body = {**body, "employee_no": "A1"}
    await officer.ok("POST", "/v1/members", json=body, status=201)
    await owner.pool.execute("update members set status = 'left'")
    async with owner.pool.acquire() as other:
        ring = other.transaction()
        await ring.start()
        await other.execute("update members set status = 'active'")
        asked = asyncio.create_task(officer.post("/v1/members", json=body))
        await until(owner.pool, SOMEBODY_WAITS)
        await other.execute("select from associations for update")
        await ring.rollback()
    answer = await asked
    assert answer.status_code == 201, answer.text
    assert await _count(owner) == 2
