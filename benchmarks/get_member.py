"""Get one member, and explain her eligibility, over 16 connections.

The limit is a bare ASGI application with asyncpg that reads the same columns of one member by one
statement. Targets: get at least 0.5 of it; eligibility, of three rules over eight rounds, answered
within 25 ms in 99 of 100 requests. Other members take their turn with each request.
"""

import argparse
import asyncio

from app.database import connect, transaction
from app.settings import Settings
from benchmarks import harness, population

_MEMBERS = 200_000
_ASKED = 10_000


def requests(path: str, members: int, token: str | None = None) -> list[bytes]:
    """Ask for members spread over the district, at a path with a place for the id."""
    step = max(members // _ASKED, 1)
    return [
        harness.request("GET", path.format(population.member(number)), token=token)
        for number in range(1, members + 1, step)
    ]


async def _set_up_policy(url: str, config: Settings) -> None:
    database = await connect(url, config)
    async with transaction(database, population.CALLER.scope) as session:
        await population.set_up_policy(session)
    await database.close()


def main(members: int, rounds: int) -> None:
    """Measure in turn and print the figures beside their targets."""
    with harness.district(members) as place:
        asyncio.run(_set_up_policy(place.service, Settings(data_dir=place.data_dir)))
        token, path = place.token(), "/v1/members/{}"
        round_id = population.exam_round(population.ROUNDS)
        one = requests(path, members, token)
        explained = requests(f"{path}/eligibility?round_id={round_id}", members, token)
        bare = requests("/{}", members)
        jixie, limit = place.serve_jixie(), place.serve("benchmarks.bare:get_member")
        got = harness.compare(
            "get",
            lambda _: harness.load(jixie, one),
            lambda _: harness.load(limit, bare),
            rounds=rounds,
        )
        told = harness.compare(
            "eligibility",
            lambda _: harness.load(jixie, explained),
            lambda _: harness.load(limit, bare),
            rounds=rounds,
        )
        for results in (got.ours, got.limit, told.ours):
            assert all(set(result.statuses) == {200} for result in results), results
    harness.judge("get, share of the limit", got.ratio, at_least=0.5)
    harness.judge("eligibility, p99 in ms", told.p99, at_most=25)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=_MEMBERS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.members, arguments.rounds)
