"""A refusal that says how things are is an answer, and so has its entry in the audit."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import acting, clock
from app.database import Database, note, transaction
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.audit.audit_seals import UNSEALED
from tests.contract.audited import World
from tests.factories.callers import DISTRICT, Client, make_act, make_caller
from tests.factories.membership.members import make_id_number
from tests.factories.organisation.associations import make_association

_FIRST = {"If-Match": '"1"'}


async def test_a_refusal_that_names_a_member_is_noted_though_nothing_is_stored(
    officer: Client, owner: Database, world: World
) -> None:
    path, options = world.calls["create_member"]
    body = options["json"] | {"id_number": make_id_number(77), "consented_on": "2026-01-01"}
    first = await officer.ok("POST", path, status=201, json=body)
    refused = await officer.refused(
        "POST", path, status=409, code="already_enrolled", json=body | {"name": "另一人"}
    )
    assert refused["member_id"] == first["id"]
    rows = await owner.pool.fetch(
        f"select person_ids from ({UNSEALED}) e where act = 'create_member' order by id"
    )
    assert [row["person_ids"] for row in rows] == [[UUID(first["id"])]] * 2


async def test_a_refusal_that_says_what_is_stored_is_noted_with_whom_the_body_names(
    officer: Client, owner: Database, world: World
) -> None:
    path, options = world.calls["create_excuse"]
    first = await officer.ok("POST", path, status=201, **options)
    body = options["json"] | {"reason": "not_in_scope"}
    await officer.refused("POST", path, status=409, code="already_excused", json=body)
    rows = await owner.pool.fetch(
        f"select person_ids, fields from ({UNSEALED}) e where act = 'create_excuse' order by id"
    )
    assert [row["person_ids"] for row in rows] == [[UUID(first["member_id"])]] * 2
    assert rows[0]["fields"] == rows[1]["fields"]


async def test_who_asks_whether_an_id_number_is_enrolled_far_away_is_noted(
    client: Callable[..., Client],
    officer: Client,
    owner: Database,
    session: AsyncSession,
    world: World,
) -> None:
    path, options = world.calls["create_member"]
    body = options["json"] | {"id_number": make_id_number(77), "consented_on": "2026-01-01"}
    await officer.ok("POST", path, status=201, json=body)
    far = str((await make_association(session)).id)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[far])
    refused = await secretary.refused(
        "POST",
        path,
        status=409,
        code="already_enrolled",
        json=body | {"association_id": far},
    )
    assert "member_id" not in refused
    noted, refusal = await owner.pool.fetch(
        "select act, refusal, fields, person_ids"
        f" from ({UNSEALED}) e where subject = $1 order by id",
        f"{Role.SECRETARY}-1",
    )
    assert (noted["act"], noted["refusal"]) == ("tell_enrolled_elsewhere", None)
    assert (refusal["act"], refusal["refusal"]) == ("create_member", "already_enrolled")
    assert "id_number" in noted["fields"]
    assert noted["person_ids"] == []


async def _refusals(owner: Database) -> list[tuple[object, ...]]:
    rows = await owner.pool.fetch(
        f"select act, role, refusal, person_ids from ({UNSEALED}) e where refusal is not null"
        " order by id"
    )
    return [tuple(row) for row in rows]


async def test_who_lacks_the_right_is_noted_with_whom_the_path_names(
    client: Callable[..., Client], owner: Database, world: World
) -> None:
    member_id = world.members[0]
    platform = client(Role.DATA_PLATFORM)
    path = f"/v1/members/{member_id}"
    denied: dict[str, Any] = {"status": 403, "code": "forbidden"}
    await platform.refused("GET", path, **denied)
    body = {"field": "phone", "purpose": "contact"}
    await platform.refused("POST", f"{path}/reveal", json=body, **denied)
    await platform.refused("GET", "/v1/members", **denied)
    assert await _refusals(owner) == [
        ("get_member", "data_platform", "forbidden", [member_id]),
        ("reveal_member", "data_platform", "forbidden", [member_id]),
        ("list_members", "data_platform", "forbidden", []),
    ]


async def test_what_is_no_reference_is_not_kept_of_a_path_that_was_denied(
    client: Callable[..., Client], owner: Database
) -> None:
    auditor, known = client(Role.AUDITOR), clock.new_id()
    for given in (known, "13812345678", "440605199001011234", "张示例"):
        await auditor.refused(
            "POST", f"/v1/funds/{given}/close", status=403, code="forbidden", headers=_FIRST
        )
    rows = await owner.pool.fetch(
        f"select object_ids from ({UNSEALED}) e where act = 'close_fund' order by id"
    )
    assert [row["object_ids"] for row in rows] == [[str(known)], [], [], []]


async def test_who_is_unknown_or_asks_nothing_of_persons_leaves_no_entry(
    client: Callable[..., Client], owner: Database, world: World
) -> None:
    await client(None).refused(
        "GET", f"/v1/members/{world.members[0]}", status=401, code="unauthenticated"
    )
    await client(Role.EVENT_STAFF).refused("GET", "/v1/funds", status=403, code="forbidden")
    assert await _refusals(owner) == []


async def test_what_a_rule_refuses_of_a_member_is_noted_but_not_what_is_no_request(
    officer: Client, owner: Database, world: World
) -> None:
    path, options = world.calls["transfer_member"]
    wrong = options | {"json": options["json"] | {"association_id": str(clock.new_id())}}
    await officer.refused("POST", path, status=422, code="invalid", **wrong)
    await officer.refused(
        "POST", path, status=422, code="invalid", **(options | {"json": {"moved_on": "x"}})
    )
    member_id = world.members[0]
    assert await _refusals(owner) == [
        ("transfer_member", "district_officer", "invalid", [member_id])
    ]


async def test_an_act_whose_transaction_was_rolled_back_is_not_noted(database: Database) -> None:
    act, person = make_act(), clock.new_id()
    scope = Scope(Acting.DISTRICT, DISTRICT, act.subject)
    with suppress(ZeroDivisionError):
        async with transaction(database, scope, act) as session:
            note(session, [person])
            raise ZeroDivisionError
    assert not act.is_noted
    assert not act.tells_of([person])


async def test_of_one_callers_denials_sixty_a_minute_are_noted_and_the_others_all_the_same(
    client: Callable[..., Client], owner: Database
) -> None:
    eager, other = client(Role.DATA_PLATFORM), client(Role.DATA_PLATFORM, subject="other")
    for _ in range(63):
        await eager.refused("GET", "/v1/members", status=403, code="forbidden")
    await other.refused("GET", "/v1/members", status=403, code="forbidden")
    rows = await owner.pool.fetch(
        f"select subject, count(*) from ({UNSEALED}) e where refusal = 'forbidden' group by subject"
    )
    assert {row["subject"]: row["count"] for row in rows} == {
        f"{Role.DATA_PLATFORM}-1": 60,
        "other": 1,
    }


def test_denials_are_noted_again_after_a_minute_and_those_of_few_callers_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acting, "_MOST_CALLERS", 2)
    denials, caller = acting.Denials(), make_caller()
    noted = [denials.is_to_be_noted(caller, at=0.0) for _ in range(61)]
    assert noted == [True] * 60 + [False]
    assert not denials.is_to_be_noted(caller, at=59.0)
    assert denials.is_to_be_noted(caller, at=60.0)
    for name in ("a", "b", "c"):
        assert denials.is_to_be_noted(replace(caller, subject=name), at=61.0)
    assert len(denials._of) == 2
