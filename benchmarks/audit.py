"""Compare requests with and without their entry in the audit, over 16 connections.

Both sides are Jixie on the same durable database; the other one runs with `silence`, which keeps
every statement and leaves out the entries. Target: at most 10 % of the throughput, ratio 0.9.

On a machine that has other work rates swing by more than that, so each turn is also judged by the
processor time of its requests, in Jixie and PostgreSQL together: what bounds the throughput of a
machine that is full. After each turn what it noted is sealed, as the worker would; that is beside
the answers and given by itself.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from app import database, worker
from app.acts import Act
from app.services.audit.audit_seals import Heads
from app.settings import Settings
from benchmarks import harness, population

_MEMBERS = 20_000
_CHECK_INS = 4_000
_MEASURED = ("get_member", "list_members", "check_in")


def silence() -> None:
    """Leave out the entries, for the side that is compared with."""

    def unsaid(self: Act, persons: Iterable[object]) -> str:
        self.is_noted = True
        del persons
        return ""

    def unnoted(sql: str, *, output: str = "*", **_options: object) -> str:
        return f"select {output} from ({sql}) item"

    def unstored(*_rows: object, **_options: object) -> str:
        return ""

    Act.entry = unsaid  # type: ignore[method-assign]
    vars(database).update(noting=unnoted, storing=unstored)


@dataclass
class _Desk:
    """The two sides, and what sealing after each turn took."""

    place: harness.Place
    noted: int
    silent: int
    seconds: float
    sealing: list[float] = field(default_factory=list)
    """Processor time of one entry's sealing, in seconds, by turn."""

    def turn(self, port: int, sent: Sequence[bytes], **options: Any) -> harness.Result:
        """Send requests to one side and seal what it noted."""
        before = self.place.processor_seconds(port)
        result = harness.load(port, sent, seconds=self.seconds, **options)
        answers = sum(result.statuses.values())
        after = self.place.processor_seconds(port)
        if port == self.noted:
            began = time.process_time()
            asyncio.run(self._seal())
            spent = time.process_time() - began + self.place.processor_seconds(port) - after
            self.sealing.append(spent / answers)
        return replace(result, computed=(after - before) / answers)

    async def _seal(self) -> None:
        opened = await database.connect(self.place.service, Settings())
        await worker.seal_all(opened, Heads(self.place.data_dir / "heads.jsonl"))
        await opened.close()

    def compare(
        self, name: str, sent: Callable[[int, int], Sequence[bytes]], *, rounds: int, repeat: bool
    ) -> None:
        """Take turns; print both ratios beside the target."""
        compared = harness.compare(
            name,
            lambda n: self.turn(self.noted, sent(self.noted, n), repeat=repeat),
            lambda n: self.turn(self.silent, sent(self.silent, n), repeat=repeat),
            rounds=rounds,
            labels=("noted", "silent"),
        )
        harness.judge(f"{name}, share of the rate kept", compared.ratio, at_least=0.9)
        shares = [
            silent.computed / noted.computed
            for noted, silent in zip(compared.ours, compared.limit, strict=True)
        ]
        print(f"{name:<28} by processor time {min(shares):.2f} to {max(shares):.2f}")
        kept = statistics.median(shares)
        harness.judge(f"{name}, share kept by processor time", kept, at_least=0.9)


def _check_ins(event: object, numbers: Iterable[int], token: str) -> list[bytes]:
    body = b'{"device_id":"tablet-7","device_ref":"1"}'
    return [
        harness.request(
            "PUT",
            f"/v1/service-events/{event}/attendances/{population.member(number)}",
            token=token,
            body=body,
        )
        for number in numbers
    ]


def main(members: int, rounds: int, seconds: float, only: Collection[str]) -> None:
    """Measure in turn and print the ratios beside their target."""
    with harness.district(members) as place:
        read = partial(harness.request, "GET", token=place.token())
        got = [read(f"/v1/members/{population.member(n)}") for n in range(1, members + 1, 7)]
        listed = [
            read(f"/v1/members?association_id={population.association(number)}")
            for number in range(1, population.ASSOCIATIONS + 1)
        ]
        events = asyncio.run(population.open_events(place.url, 2 * (rounds + 1)))
        ours, silent = place.serve_jixie(), place.serve_jixie("benchmarks.audit:silence")
        desk, coming = _Desk(place, ours, silent, seconds), range(1, min(_CHECK_INS, members) + 1)
        measured: dict[str, Callable[..., None]] = {
            "get_member": partial(desk.compare, sent=lambda _port, _n: got, repeat=True),
            "list_members": partial(desk.compare, sent=lambda _port, _n: listed, repeat=True),
            "check_in": partial(
                desk.compare,
                sent=lambda port, n: _check_ins(
                    events[2 * n + (port == silent)], coming, place.token()
                ),
                repeat=False,
            ),
        }
        for name in only:
            measured[name](name, rounds=rounds)
    print(f"sealing an entry: {statistics.median(desk.sealing) * 1000:.3f} ms of processor time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=_MEMBERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=harness.SECONDS, help="Of a turn.")
    parser.add_argument("--only", nargs="+", choices=_MEASURED, default=_MEASURED)
    arguments = parser.parse_args()
    main(arguments.members, arguments.rounds, arguments.seconds, arguments.only)
