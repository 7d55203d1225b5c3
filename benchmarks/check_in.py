"""Check-in of one member at a time over 16 connections: at least 0.35 of the limit, p99 40 ms.

The limit is a bare ASGI application with asyncpg that looks event and member up and stores the
attendance, by one statement with a durable commit. Every request checks another member in at a
health exam of an open round.
"""

import argparse
import asyncio
from collections.abc import Sequence
from uuid import UUID

from app.roles import Role
from benchmarks import harness, population

_MEMBERS = 20_000
_BODY = b'{"device_id":"tablet-7","device_ref":"000123"}'


def requests(event: UUID, members: int, token: str | None = None) -> list[bytes]:
    """Write a check-in of each member at an event."""
    return [
        harness.request(
            "PUT",
            f"/v1/service-events/{event}/attendances/{population.member(number)}",
            token=token,
            body=_BODY,
        )
        for number in range(1, members + 1)
    ]


def measure(port: int, events: Sequence[UUID], members: int, token: str | None) -> harness.Measure:
    """Check members in at another event each round, none twice."""

    def check_in(number: int) -> harness.Result:
        return harness.load(port, requests(events[number], members, token), repeat=False)

    return check_in


def main(members: int, rounds: int) -> None:
    """Measure in turn and print the figures beside their targets."""
    with harness.district(members) as place:
        events = asyncio.run(population.open_events(place.url, 2 * (rounds + 1)))
        token = place.token(Role.EVENT_STAFF, event_ids=events)
        compared = harness.compare(
            "check-in",
            measure(place.serve_jixie(), events[::2], members, token),
            measure(place.serve("benchmarks.bare:check_in"), events[1::2], members, None),
            rounds=rounds,
        )
        for results in (compared.ours, compared.limit):
            assert all(set(result.statuses) == {201} for result in results), results
    harness.judge("check-in, share of the limit", compared.ratio, at_least=0.35)
    harness.judge("check-in, p99 in ms", compared.p99, at_most=40)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=_MEMBERS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.members, arguments.rounds)
