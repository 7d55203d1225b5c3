"""A commit that fails: nobody is told that it was done, and it may be repeated."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database
from tests.factories.callers import Client
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_RAISE = """create function refuse_commit() returns trigger language plpgsql as
$$ begin raise exception 'the disk is full' using errcode = 'disk_full'; end $$"""
_KILL = """create function refuse_commit() returns trigger language plpgsql security definer as
$$ begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(1); return null; end $$"""
# A deferred trigger runs within the commit itself, after all that the request has said.
_DEFER = (
    "create constraint trigger refuse_commit after insert on {} deferrable initially deferred"
    " for each row execute function refuse_commit()"
)


class Request:
    """One write, and the table in which it leaves its row."""

    def __init__(self, table: str, method: str, path: str, body: dict[str, Any]) -> None:
        self.table, self.method, self.path, self.body = table, method, path, body

    async def send(self, officer: Client) -> httpx.Response:
        """Send it, each time under the same key."""
        headers = {"Idempotency-Key": "once"} if self.method == "POST" else {}
        return await officer.request(self.method, self.path, json=self.body, headers=headers)


@pytest_asyncio.fixture(params=["members", "registrations", "attendances"])
async def write(request: pytest.FixtureRequest, session: AsyncSession) -> AsyncIterator[Request]:
    """A write by a session, one in a rule of the district, and one that shares a statement."""
    association = await make_association(session)
    member = await make_member(session, association)
    running = await make_event(session, status="in_progress")
    planned = await make_event(session, status="published")
    await session.commit()
    at = "/v1/service-events"
    person = {"association_id": str(association.id), "name": "张示例"}
    yield {
        "members": Request("members", "POST", "/v1/members", person),
        "registrations": Request(
            "registrations",
            "POST",
            f"{at}/{planned.id}/registrations",
            {"member_id": str(member.id)},
        ),
        "attendances": Request(
            "attendances", "PUT", f"{at}/{running.id}/attendances/{member.id}", {}
        ),
    }[request.param]


@pytest.mark.parametrize("failure", [_RAISE, _KILL], ids=["refused", "killed"])
async def test_what_cannot_be_committed_is_not_answered_as_done(
    officer: Client, owner: Database, write: Request, failure: str
) -> None:
    count = f"select count(*) from {write.table}"
    entries = "select count(*) from audit_unsealed"
    before = await owner.pool.fetchval(count), await owner.pool.fetchval(entries)
    await owner.pool.execute(f"{failure}; {_DEFER.format(write.table)}")
    try:
        answer = await write.send(officer)
    finally:
        await owner.pool.execute("drop function refuse_commit cascade")
    assert answer.status_code >= 500, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    left = await owner.pool.fetchval(count), await owner.pool.fetchval(entries)
    assert left == before

    again = await write.send(officer)
    assert again.status_code in {200, 201}, again.text
    assert "idempotency-replayed" not in again.headers
    assert await owner.pool.fetchval(count) == before[0] + 1
