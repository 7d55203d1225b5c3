"""What a request does once more after a deadlock, as if the first time had never been."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest
import pytest_asyncio
from sqlalchemy import QueuePool, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database, transaction
from app.problems import Forbidden
from app.scopes import Acting, Scope
from app.services.membership import members, rosters
from app.services.privacy import reveals
from tests.factories.callers import DISTRICT, Client, idempotency_key
from tests.factories.membership.members import make_phone
from tests.factories.membership.rosters import make_csv, make_people
from tests.factories.organisation.associations import make_association

_DEADLOCK = text("do $$ begin raise exception 'a ring' using errcode = '40P01'; end $$")
_SCOPE = Scope(Acting.DISTRICT, DISTRICT)
_AT_WORK = text("select current_user || ' ' || pg_current_xact_id()::text")
_KEYED = pytest.mark.parametrize("headers", [{}, idempotency_key("k")], ids=["plain", "keyed"])
_FAILING_FIRST = """
create sequence attempts; grant usage on sequence attempts to jixie_staff, jixie_district;
create function fail_first() returns trigger language plpgsql as $$
begin
  if nextval('attempts') = 1 then raise exception 'a ring' using errcode = '40P01'; end if;
  return null;
end $$;
create constraint trigger fail_first after insert on members
  deferrable initially deferred for each row execute function fail_first()
"""
_FAILING_NO_MORE = """
drop trigger fail_first on members; drop function fail_first(); drop sequence attempts
"""


@pytest_asyncio.fixture
async def body(session: AsyncSession) -> dict[str, Any]:
    """What enrols one member."""
    association = await make_association(session)
    await session.commit()
    return {
        "association_id": str(association.id),
        "name": "张示例",
        "phone": make_phone(1),
        "consented_on": "2026-01-02",
    }


@asynccontextmanager
async def _transactions(database: Database, count: int) -> AsyncIterator[list[AsyncSession]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(transaction(database, _SCOPE)) for _ in range(count)]


def _first_in_a_ring(
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    name: str,
    meanwhile: Callable[[], Any] | None = None,
) -> list[dict[str, Any]]:
    """Have a rule's first call be undone when it is done, and give with what it was called."""
    rule, calls = getattr(module, name), list[dict[str, Any]]()

    async def attempt(session: AsyncSession, *args: Any, **options: Any) -> Any:
        calls.append(options)
        if len(calls) == 2 and meanwhile is not None:
            await meanwhile()
        result = await rule(session, *args, **options)
        if len(calls) == 1:
            await session.execute(_DEADLOCK)
        return result

    monkeypatch.setattr(module, name, attempt)
    return calls


async def _entries(owner: Database, act: str) -> int:
    like = f'%"act":"{act}"%'
    return int(
        await owner.pool.fetchval("select count(*) from audit_unsealed where entry like $1", like)
    )


@_KEYED
async def test_the_first_attempt_ends_nobody_elses_transaction(
    officer: Client,
    owner: Database,
    database: Database,
    *,
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
) -> None:
    """Others have every connection but one, also that of the first attempt, and keep them."""
    async with AsyncExitStack() as stack:
        others: list[AsyncSession] = []
        before: list[str] = []

        async def meanwhile() -> None:
            count = cast("QueuePool", database.engine.pool).size() - 1
            others.extend(await stack.enter_async_context(_transactions(database, count)))
            before.extend([str(await each.scalar(_AT_WORK)) for each in others])

        calls = _first_in_a_ring(monkeypatch, members, "enrol", meanwhile)
        await officer.ok("POST", "/v1/members", json=body, headers=headers, status=201)
        assert [await each.scalar(_AT_WORK) for each in others] == before
    assert len(calls) == 2
    assert await owner.pool.fetchval("select count(*) from members") == 1
    assert await _entries(owner, "create_member") == 1
    if headers:
        again = await officer.post("/v1/members", json=body, headers=headers)
        assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")


@_KEYED
async def test_what_the_first_attempt_noted_is_noted_once(
    officer: Client,
    owner: Database,
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
) -> None:
    member = await officer.ok("POST", "/v1/members", json=body, status=201)
    calls = _first_in_a_ring(monkeypatch, reveals, "reveal")
    wanted = {"field": "phone", "purpose": "contact"}
    path = f"/v1/members/{member['id']}/reveal"
    shown = await officer.ok("POST", path, json=wanted, headers=headers)
    assert shown["value"] == f"+86{make_phone(1)}"
    assert len(calls) == 2
    assert await _entries(owner, "reveal_member") == 1
    assert await owner.pool.fetchval("select sum(shown) from reveal_counts") == 1


@_KEYED
async def test_what_is_undone_as_it_is_committed_is_done_once_more(
    officer: Client, owner: Database, body: dict[str, Any], headers: dict[str, str]
) -> None:
    await owner.pool.execute(_FAILING_FIRST)
    try:
        await officer.ok("POST", "/v1/members", json=body, headers=headers, status=201)
        assert await owner.pool.fetchval("select last_value from attempts") == 2
    finally:
        await owner.pool.execute(_FAILING_NO_MORE)
    assert await owner.pool.fetchval("select count(*) from members") == 1
    assert await _entries(owner, "create_member") == 1


async def test_a_file_is_read_again_from_its_beginning(
    officer: Client, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _first_in_a_ring(monkeypatch, rosters, "start")
    content = make_csv(make_people(2))
    await officer.ok(
        "POST",
        "/v1/members/import",
        status=202,
        files={"file": ("花名册", content)},
        data={"association_id": body["association_id"]},
        headers=idempotency_key("k"),
    )
    assert [call["content"] for call in calls] == [content, content]


async def test_what_is_refused_after_it_was_noted_is_noted_as_refused(
    officer: Client, owner: Database, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry of what was rolled back goes with it, and says nothing against another."""
    rule = reveals.reveal

    async def refuse(*args: Any, **options: Any) -> None:
        await rule(*args, **options)
        raise Forbidden

    member = await officer.ok("POST", "/v1/members", json=body, status=201)
    monkeypatch.setattr(reveals, "reveal", refuse)
    await officer.refused(
        "POST",
        f"/v1/members/{member['id']}/reveal",
        json={"field": "phone", "purpose": "contact"},
        status=403,
        code="forbidden",
    )
    assert await _entries(owner, "reveal_member") == 1
    assert await owner.pool.fetchval(
        'select entry like \'%"refusal":"forbidden"%\' from audit_unsealed order by id desc limit 1'
    )
