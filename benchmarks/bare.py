"""The limits: bare ASGI applications with asyncpg, one statement a request, without any walls.

They check no token and no right, validate nothing, refuse nothing, log and count nothing.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg

from app import clock
from app.settings import Settings
from benchmarks.population import DISTRICT

Handle = Callable[[asyncpg.Pool, str, bytes], Awaitable[tuple[int, Any]]]
"""Gives status and content of an answer from a path and a body."""

_CHECK_IN = """
with event as (
  select e.id, e.round_sequence, e.status = 'in_progress' and r.status = 'open' as is_open
  from service_events e
  join exam_rounds r on r.district_code = $1 and r.sequence = e.round_sequence
  where e.district_code = $1 and e.id = $2
),
member as (select id, association_id from members where district_code = $1 and id = $3),
stored as (
  insert into attendances (district_code, event_id, member_id, association_id, round_sequence,
    occurred_at, recorded_at, recorded_by, method, device_id, device_ref, version)
  select $1, event.id, member.id, member.association_id, event.round_sequence, $4, $4, 'bench',
    'staff', $5, $6, 1
  from event, member where event.is_open
  on conflict do nothing
  returning association_id, round_sequence
)
select event.is_open, member.id is not null as is_known, stored.association_id,
  stored.round_sequence
from event left join member on true left join stored on true
"""
_COLUMNS = (
    "id, association_id, area_code, status, name, employee_no, first_joined_on,"
    " thanks_consented_on, id_number_index is not null as has_id_number,"
    " phone_index is not null as has_phone, version, created_at, updated_at"
)
_LIST = (
    f"select {_COLUMNS} from members where district_code = $1 and association_id = $2"
    " order by id limit 50"
)
_GET = f"select {_COLUMNS} from members where district_code = $1 and id = $2"


class Bare:
    """An application that opens a pool as large as Jixie's and answers every request alike."""

    def __init__(self, url: str, handle: Handle) -> None:
        """Answer with what `handle` gives."""
        self._url = url
        self._handle = handle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the lifespan or one request."""
        if scope["type"] == "lifespan":
            await receive()
            self._pool = await asyncpg.create_pool(
                self._url, min_size=1, max_size=Settings().pool_size
            )
            await send({"type": "lifespan.startup.complete"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        status, content = await self._handle(self._pool, scope["path"], body)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send(
            {"type": "http.response.body", "body": json.dumps(content, default=_text).encode()}
        )


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def check_in(url: str) -> Bare:
    """Store an attendance of an event and a member named in the path."""

    async def handle(pool: asyncpg.Pool, path: str, body: bytes) -> tuple[int, Any]:
        _, _, _, event, _, member = path.split("/")
        given = json.loads(body)
        device = given["device_id"], given["device_ref"]
        found = await pool.fetchrow(
            _CHECK_IN, DISTRICT, UUID(event), UUID(member), clock.now(), *device
        )
        return 201 if found["association_id"] is not None else 409, dict(found)

    return Bare(url, handle)


def list_members(url: str) -> Bare:
    """Give 50 members of the association that ends the path."""

    async def handle(pool: asyncpg.Pool, path: str, _body: bytes) -> tuple[int, Any]:
        rows = await pool.fetch(_LIST, DISTRICT, UUID(path.rpartition("/")[2]))
        return 200, {"items": [dict(row) for row in rows]}

    return Bare(url, handle)


def get_member(url: str) -> Bare:
    """Give the member who ends the path."""

    async def handle(pool: asyncpg.Pool, path: str, _body: bytes) -> tuple[int, Any]:
        return 200, dict(await pool.fetchrow(_GET, DISTRICT, UUID(path.rpartition("/")[2])))

    return Bare(url, handle)
