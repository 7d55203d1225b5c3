"""No answer about persons, and no change, gets out without its entry in the audit."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, witness
from app.acts import Act, storing
from app.answers import all_routes
from app.database import Database
from app.main import create_app
from app.roles import Role
from app.services.audit.audit_seals import UNSEALED
from app.settings import Settings
from tests.contract.audited import World
from tests.contract.operations import Operation, resolve, resources
from tests.factories.callers import DISTRICT, Client, idempotency_key
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member, make_phone
from tests.factories.organisation.associations import make_association

_OF_PERSONS = {
    "member_id", "person_ids", "id_number_masked", "phone_masked", "first_joined_on", "office",
    "joined_on", "object_kind", "acted_on", "holder_masked",
}  # fmt: skip
"""Properties that only what is about a person has; the schemas of the API are searched for them."""


def _properties(schema: dict[str, Any], seen: tuple[str, ...] = ()) -> Iterator[str]:
    name = schema.get("$ref", "")
    if name in seen:
        return
    schema = resolve(schema)
    for part in (schema.get("items"), *schema.get("anyOf", ()), *schema.get("allOf", ())):
        if part:
            yield from _properties(part, (*seen, name))
    for key, part in schema.get("properties", {}).items():
        yield key
        yield from _properties(part, (*seen, name))


def _is_own(operation: Operation) -> bool:
    return f"{operation.path}/".startswith("/v1/me/")


def _is_about_persons(operation: Operation) -> bool:
    if _is_own(operation):
        return True
    for status, response in operation.spec["responses"].items():
        for media in response.get("content", {}).values() if status < "300" else ():
            schema = media.get("schema", {})
            if schema.get("format") == "binary" or _OF_PERSONS & set(_properties(schema)):
                return True
    return False


_SHOWING = {str(each) for each in resources() if _is_about_persons(each)}
_METHODS = {str(each): each.method for each in resources()}


_BY_PHONE = {
    "create_login", "verify_login", "choose_login",
    "create_phone_code", "update_my_phone", "cancel_phone_change",
}  # fmt: skip
"""What needs a code from a message; tests/contract/test_audit_phones.py tries it."""
_ASKED_BY = {
    "check_in_by_code": Role.MEMBER,
    "list_audit_entries": Role.AUDITOR,
    "decide_payout_decision": Role.FINANCE_APPROVER,
    "create_stock_movement": Role.FINANCE_CLERK,
    "hand_out_draw_prize": Role.FINANCE_CLERK,
    "decline_draw_prize": Role.FINANCE_CLERK,
    "lapse_draw_prize": Role.FINANCE_CLERK,
    "get_bank_file_content": Role.FINANCE_CLERK,
    **{str(each): Role.MEMBER for each in resources() if _is_own(each)},
}
_NEEDS_VOID = "restore_attendance"
_OF_ITS_SENDER = "get_rejected_rows"
_NEED_PHONE = {"reveal_member", "hand_out_member_export"}
_PHONE = make_phone(1)
_WITHOUT_MEMBERS = {
    "list_audit_entries", "search_members", "get_rejected_rows", "list_officers", "get_officer",
    "create_officer", "update_officer", "create_member", "list_import_rows",
    "get_month_file", "create_stock_movement", "create_grant",
}  # fmt: skip


async def _send(
    client: Callable[..., Client], officer: Client, world: World, name: str
) -> httpx.Response:
    path, options = world.calls[name]
    role = _ASKED_BY.get(name)
    claims = {"member_id": str(world.members[0])} if role is Role.MEMBER else {}
    caller = officer if role is None else client(role, **claims)
    return await caller.request(_METHODS[name], path, **options)


async def _prepare(officer: Client, world: World, name: str) -> None:
    if name == _NEEDS_VOID:
        path, options = world.calls["void_attendance"]
        await officer.ok("POST", path, **options)
        world.calls[name][1]["headers"] = {"If-Match": '"2"'}
    if name == _OF_ITS_SENDER:
        officer.headers["Jixie-Grant"] = world.grant_id
    if name in _NEED_PHONE:
        path, options = world.calls["update_member"]
        phone = {"phone": _PHONE, "consented_on": "2026-01-01"}
        await officer.ok("PATCH", path, json=phone, headers=options["headers"])


_ALL = sorted(_SHOWING - _BY_PHONE - {"check_in_batch"})


def test_every_operation_that_shows_persons_is_known_here() -> None:
    assert len(_SHOWING) >= 30
    assert "list_members" in _SHOWING


@pytest.mark.parametrize("name", [*_ALL, "check_in_batch"])
async def test_what_shows_persons_leaves_an_entry_that_names_them(
    client: Callable[..., Client], officer: Client, owner: Database, world: World, name: str
) -> None:
    assert name in world.calls, f"{name}: say here how it is called"
    await _prepare(officer, world, name)
    before = await owner.pool.fetchval("select count(*) from audit_unsealed")
    answer = await _send(client, officer, world, name)
    assert answer.status_code in {200, 201, 204}, answer.text
    rows = await owner.pool.fetch(f"select * from ({UNSEALED}) e order by id")
    assert len(rows) == before + 1
    (entry,) = [row for row in rows if row["act"] == name]
    assert entry["request_id"] == answer.headers["x-request-id"]
    role = _ASKED_BY.get(name, Role.DISTRICT_OFFICER)
    assert (entry["subject"], entry["role"]) == (f"{role}-1", role.value)
    text = answer.text
    named = {
        each for each in world.members if str(each) in text or str(each) in world.calls[name][0]
    }
    assert named <= set(entry["person_ids"])
    if name not in _WITHOUT_MEMBERS:
        assert entry["person_ids"], "nobody is named"


@pytest.mark.parametrize("name", [*_ALL, "check_in_batch"])
async def test_without_its_entry_the_answer_shows_nothing(
    client: Callable[..., Client], officer: Client, owner: Database, world: World, name: str
) -> None:
    await _prepare(officer, world, name)
    roles = "jixie_staff, jixie_member, jixie_platform, jixie_district"
    await owner.pool.execute(f"revoke insert on audit_unsealed from {roles}")
    try:
        answer = await _send(client, officer, world, name)
    finally:
        await owner.pool.execute(f"grant insert on audit_unsealed to {roles}")
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    text = answer.text.replace(answer.json()["instance"], "")
    for secret in (*map(str, world.members), str(world.officer_id), "示例", "会员", "测试", _PHONE):
        assert secret not in text, f"{secret} got out"


_ROUTES = [
    route
    for route in all_routes(create_app(Settings(log_level="error")).router.routes)
    if isinstance(route, APIRoute) and route.path.startswith("/v1/")
]


@pytest.mark.parametrize("route", _ROUTES, ids=lambda route: route.name)
def test_a_route_knows_whether_it_needs_an_entry(route: APIRoute) -> None:
    is_read = route.methods == {"GET"}
    assert getattr(route, "_needs_entry") is (not is_read or route.name in _SHOWING)  # noqa: B009  (the route class's own)
    if is_read:
        assert witness.is_about_persons(route) is (route.name in _SHOWING)


async def test_a_route_that_forgets_its_entry_answers_nothing(
    app: FastAPI, officer: Client, world: World
) -> None:
    route = next(
        each for each in all_routes(app.router.routes) if getattr(each, "name", "") == "list_areas"
    )
    setattr(route, "_needs_entry", True)  # noqa: B010  (as if areas were about persons)
    try:
        await officer.refused("GET", "/v1/areas", status=500, code="internal")
    finally:
        setattr(route, "_needs_entry", False)  # noqa: B010  (as it was)
    assert (await officer.ok("GET", "/v1/areas"))["items"]
    assert world.members


async def test_a_change_is_an_entry_with_the_names_of_what_was_sent(
    officer: Client, owner: Database, world: World
) -> None:
    await officer.ok("PATCH", world.calls["update_member"][0], **world.calls["update_member"][1])
    entry = await owner.pool.fetchrow(f"select * from ({UNSEALED}) e where act = 'update_member'")
    assert entry["fields"] == ["name"]
    assert (entry["object_kind"], entry["object_ids"]) == ("members", [str(world.members[0])])
    assert "李示例" not in str(dict(entry))


async def test_a_refused_change_leaves_no_entry(
    officer: Client, owner: Database, world: World
) -> None:
    path, options = world.calls["update_member"]
    stale = {**options, "headers": {"If-Match": '"9"'}}
    await officer.refused("PATCH", path, status=412, code="stale", **stale)
    assert not await owner.pool.fetchval(
        f"select count(*) from ({UNSEALED}) e where act = 'update_member'"
    )


async def test_a_repeated_answer_is_shown_again_and_so_noted_again(
    officer: Client, owner: Database, world: World
) -> None:
    path, options = world.calls["leave_association"]
    options["headers"] |= idempotency_key("leave")
    first, again = [await officer.ok("POST", path, **options) for _ in range(2)]
    assert again == first
    rows = await owner.pool.fetch(
        f"select person_ids from ({UNSEALED}) e where act = 'leave_association'"
    )
    assert [row["person_ids"] for row in rows] == [[world.members[0]]] * 2


async def test_an_answer_that_is_not_kept_is_found_again_and_so_noted_again(
    officer: Client, owner: Database, world: World
) -> None:
    path, options = world.calls["create_registration"]
    for status in (201, 200):
        await officer.ok("POST", path, status=status, **options)
    rows = await owner.pool.fetch(
        f"select person_ids from ({UNSEALED}) e where act = 'create_registration'"
    )
    assert [row["person_ids"] for row in rows] == [[world.members[-1]]] * 2


async def test_an_import_names_the_members_that_it_touched(owner: Database, world: World) -> None:
    row = await owner.pool.fetchrow(
        f"select * from ({UNSEALED}) e where act = 'run_import_members'"
    )
    ids = await owner.pool.fetch("select member_id from import_rows where member_id is not null")
    assert row["person_ids"] == [each["member_id"] for each in ids]
    assert row["subject"] == "district_officer-1"
    assert world.members


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_entries set subject = 'x'",
        "update audit_unsealed set subject = 'x'",
        "delete from audit_entries",
        "truncate audit_entries",
        "update audit_seals set count = 1",
        "delete from audit_seals",
        "delete from audit_sightings",
    ],
)
async def test_not_even_a_rule_of_the_district_changes_the_audit(
    database: Database, statement: str
) -> None:
    for role in ("jixie_staff", "jixie_member", "jixie_platform", "jixie_district"):
        async with database.pool.acquire() as connection:
            await connection.execute(
                f"begin; set local role {role}; set local jixie.district = '{DISTRICT}'"
            )
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
            await connection.execute("rollback")


async def test_nobody_writes_an_entry_in_the_name_of_another(database: Database) -> None:
    scope = "set local jixie.district = '440605000000'; set local jixie.subject = 'me'"
    insert = "insert into audit_unsealed values ('440605000000', $1, $2, '{}')"
    async with database.pool.acquire() as connection:
        await connection.execute(f"begin; set local role jixie_staff; {scope}")
        await connection.execute(insert, clock.new_id(), "me")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(insert, clock.new_id(), "somebody else")
        await connection.execute("rollback")


@pytest.mark.parametrize(
    ("name", "noted"),
    [
        ("reveal_member", (["phone"], "contact")),
        ("hand_out_member_export", (["phone", "payout_account"], "copy_for_member")),
    ],
)
async def test_what_is_shown_in_full_is_noted_by_its_name_with_the_purpose(
    officer: Client, owner: Database, world: World, name: str, noted: tuple[list[str], str]
) -> None:
    await _prepare(officer, world, name)
    path, options = world.calls[name]
    assert _PHONE in (await officer.post(path, **options)).text
    (entry,) = await owner.pool.fetch(f"select * from ({UNSEALED}) e where act = $1", name)
    assert (entry["fields"], entry["purpose"]) == noted
    assert entry["person_ids"] == [world.members[0]]
    assert _PHONE not in str(dict(entry))


async def test_check_ins_that_share_one_statement_are_an_entry_each_in_its_transaction(
    officer: Client, owner: Database, session: AsyncSession
) -> None:
    association = await make_association(session)
    members = [await make_member(session, association) for _ in range(20)]
    event = await make_event(session, status="in_progress")
    await session.commit()
    at = f"/v1/service-events/{event.id}/attendances"
    await asyncio.gather(
        *(officer.ok("PUT", f"{at}/{each.id}", status=201, json={}) for each in members)
    )
    rows = await owner.pool.fetch(
        "select person_ids, request_id, u.xmin = a.xmin as is_together from audit_unsealed u"
        f" join ({UNSEALED}) e on e.id = u.id"
        " join attendances a on a.member_id = e.person_ids[1] where e.act = 'check_in'"
    )
    assert {each.id for each in members} == {row["person_ids"][0] for row in rows}
    assert len({row["request_id"] for row in rows}) == len(rows) == len(members)
    assert all(row["is_together"] and len(row["person_ids"]) == 1 for row in rows)
    transactions = await owner.pool.fetchval(
        f"select count(distinct u.xmin::text) from audit_unsealed u join ({UNSEALED}) e"
        " on e.id = u.id where e.act = 'check_in'"
    )
    assert transactions < len(members)


async def test_only_what_reads_commits_without_waiting_for_the_disk(
    officer: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[tuple[str, bool]] = []
    said = Act._said

    def watched(self: Act) -> str:
        stored.append((self.name, self.is_prompt))
        return said(self)

    monkeypatch.setattr(Act, "_said", watched)
    # A copy asks for a fresh sign-in.
    waits = ("show_member_export", "update_member", "check_in")
    for name in ("get_member", "list_members", *waits):
        path, options = world.calls[name]
        await officer.request(_METHODS[name], path, **options)
    prompt = [name for name, is_prompt in stored if is_prompt]
    assert prompt == ["get_member", "list_members"]
    assert {name for name, is_prompt in stored if not is_prompt} == set(waits)
    for promptly in (True, False):
        last = storing(["(1)", "(2)"], promptly=promptly)
        assert ("synchronous_commit = off" in last) is promptly
        assert last.endswith("values (1), (2); ")
