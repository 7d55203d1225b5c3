"""List of 50 members by association over 16 connections: at least 0.6 of the limit.

The limit is a bare ASGI application with asyncpg that reads the same columns of the same members
by one statement and writes them as JSON. The associations take turns.
"""

import argparse

from benchmarks import harness, population

_MEMBERS = 200_000


def requests(token: str) -> list[bytes]:
    """Ask for the first page of each association."""
    return [
        harness.request(
            "GET", f"/v1/members?association_id={population.association(number)}", token=token
        )
        for number in range(1, population.ASSOCIATIONS + 1)
    ]


def _bare_requests() -> list[bytes]:
    return [
        harness.request("GET", f"/{population.association(number)}")
        for number in range(1, population.ASSOCIATIONS + 1)
    ]


def main(members: int, rounds: int) -> None:
    """Measure in turn and print the figure beside its target."""
    with harness.district(members) as place:
        ours, theirs = requests(place.token()), _bare_requests()
        jixie, limit = place.serve_jixie(), place.serve("benchmarks.bare:list_members")
        compared = harness.compare(
            "list of 50",
            lambda _: harness.load(jixie, ours),
            lambda _: harness.load(limit, theirs),
            rounds=rounds,
        )
        for results in (compared.ours, compared.limit):
            assert all(set(result.statuses) == {200} for result in results), results
    harness.judge("list of 50, share of the limit", compared.ratio, at_least=0.6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=_MEMBERS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.members, arguments.rounds)
