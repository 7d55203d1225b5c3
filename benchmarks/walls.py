"""What the walls in the database cost: the same requests with them up and with them down, in turn.

The owner takes down the row-level security of every table and puts it up again between rounds of
load on one and the same service; roles, scopes and round trips stay. Targets: at most 10 % of the
throughput of lists, single members and check-ins, and reads at most 1.3 times as long.
"""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

import asyncpg

from app.models.walls import NATION, WALLS
from app.roles import Role
from benchmarks import check_in, get_member, harness, list_members, population

_MEMBERS = 20_000


async def _set_walls(url: str, *, up: bool) -> None:
    connection = await asyncpg.connect(url)
    try:
        for name in (*WALLS, *sorted(NATION)):
            # Enabled is not forced, but the service does not own the tables.
            await connection.execute(
                f"alter table {name} {'enable' if up else 'disable'} row level security"
            )
    finally:
        await connection.close()


def _with(place: harness.Place, measure: harness.Measure, *, up: bool) -> harness.Measure:
    def with_walls(number: int) -> harness.Result:
        asyncio.run(_set_walls(place.url, up=up))
        return measure(number)

    return with_walls


def _price(
    place: harness.Place,
    name: str,
    measures: tuple[harness.Measure, harness.Measure],
    rounds: int,
) -> harness.Comparison:
    up, down = measures
    compared = harness.compare(
        name,
        _with(place, up, up=True),
        _with(place, down, up=False),
        rounds=rounds,
        labels=("walls up", "walls down"),
    )
    harness.judge(f"{name}, share of the throughput", compared.ratio, at_least=0.9)
    return compared


def _reading(port: int, requests: Sequence[bytes]) -> Callable[[int], harness.Result]:
    return lambda _: harness.load(port, requests)


def _checking_in(port: int, events: Sequence[UUID], members: int, token: str) -> harness.Measure:
    return check_in.measure(port, events, members, token)


def main(members: int, rounds: int) -> None:
    """Measure in turn and print the figures beside their targets."""
    with harness.district(members) as place:
        events = asyncio.run(population.open_events(place.url, 2 * (rounds + 1)))
        staff = place.token(Role.EVENT_STAFF, event_ids=events)
        jixie, token = place.serve_jixie(), place.token()
        reads = {
            "list of 50": list_members.requests(token),
            "get": get_member.requests("/v1/members/{}", members, token),
        }
        for name, requests in reads.items():
            reading = _reading(jixie, requests)
            compared = _price(place, name, (reading, reading), rounds)
            harness.judge(f"{name}, times as long", 1 / compared.ratio, at_most=1.3)
        up, down = (_checking_in(jixie, events[n::2], members, staff) for n in (0, 1))
        _price(place, "check-in", (up, down), rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=_MEMBERS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.members, arguments.rounds)
