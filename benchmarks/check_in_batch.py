"""Check-in of 500 lines at once: at least 0.5 of the limit, and 10,000 attendances a second.

The limit is the same lines as one unnest statement that asyncpg runs directly, with a durable
commit; both send one batch after the other over one connection. Every line is another member.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from datetime import datetime
from uuid import UUID

import asyncpg
import uvloop

from app import clock
from app.models.shapes import rfc3339
from app.roles import Role
from benchmarks import harness, population

_MEMBERS = 50_000
_LINES = 500
_STATEMENT = """
insert into attendances (district_code, event_id, member_id, association_id, round_sequence,
  occurred_at, recorded_at, recorded_by, method, device_id, device_ref, version)
select m.district_code, e.id, m.id, m.association_id, e.round_sequence, l.occurred_at, $1,
  'bench', 'batch', 'tablet-7', l.ref, 1
from unnest($2::uuid[], $3::timestamptz[], $4::text[]) l(member_id, occurred_at, ref)
join members m on m.district_code = $5 and m.id = l.member_id
join service_events e on e.district_code = $5 and e.id = $6 and e.status = 'in_progress'
order by m.id
on conflict do nothing
returning member_id
"""


def _batches(members: int) -> list[list[UUID]]:
    return [
        [population.member(number) for number in range(first, first + _LINES)]
        for first in range(1, members - _LINES + 2, _LINES)
    ]


def _request(event: UUID, batch: list[UUID], at: datetime, token: str) -> bytes:
    lines = [
        {"ref": f"{number:06}", "member_id": str(member), "occurred_at": rfc3339(at)}
        for number, member in enumerate(batch)
    ]
    body = json.dumps({"device_id": "tablet-7", "lines": lines}).encode()
    path = f"/v1/service-events/{event}/attendances/batch"
    return harness.request("POST", path, token=token, body=body)


async def _directly(url: str, event: UUID, members: int, at: datetime) -> harness.Result:
    connection = await asyncpg.connect(url)
    times = []
    for batch in _batches(members):
        started = time.perf_counter()
        refs = [f"{number:06}" for number in range(len(batch))]
        stored = await connection.fetch(
            _STATEMENT, clock.now(), batch, [at] * len(batch), refs, population.DISTRICT, event
        )
        times.append(time.perf_counter() - started)
        assert len(stored) == len(batch)
    await connection.close()
    rate = len(times) / sum(times)
    times.sort()
    p50, p99 = times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000
    return harness.Result(rate, p50, p99, Counter({200: len(times)}))


def main(members: int, rounds: int) -> None:
    """Measure in turn and print the figures beside their targets."""
    with harness.district(members) as place:
        events = asyncio.run(population.open_events(place.url, 2 * (rounds + 1)))
        token = place.token(Role.EVENT_STAFF, event_ids=events)
        jixie, at = place.serve_jixie(), clock.now()

        def ours(number: int) -> harness.Result:
            sent = [_request(events[2 * number], batch, at, token) for batch in _batches(members)]
            return harness.load(jixie, sent, seconds=30, connections=1, repeat=False)

        def limit(number: int) -> harness.Result:
            return uvloop.run(_directly(place.url, events[2 * number + 1], members, at))

        compared = harness.compare("batch of 500", ours, limit, rounds=rounds)
        stored = asyncio.run(_stored(place.url, events))
    assert stored == 2 * (rounds + 1) * members // _LINES * _LINES, stored
    rate = _LINES * sorted(result.rate for result in compared.ours)[len(compared.ours) // 2]
    harness.judge("batch of 500, share of the limit", compared.ratio, at_least=0.5)
    harness.judge("batch of 500, attendances a second", rate, at_least=10_000)


async def _stored(url: str, events: list[UUID]) -> int:
    connection = await asyncpg.connect(url)
    count: int = await connection.fetchval(
        "select count(*) from attendances where event_id = any($1)", events
    )
    await connection.close()
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=_MEMBERS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.members, arguments.rounds)
