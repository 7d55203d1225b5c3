"""Measures an endpoint against its limit: the same work by a bare ASGI application.

A benchmark makes a scratch server with durable commits, fills it, serves Jixie and the limit with
one process each, and lets a load generator in a third process ask them in turn, A B A B. Absolute
numbers drift with the machine; the ratio of two neighbours in time does not. How to write one:

    with harness.district(members=20_000) as place:
        ours = place.serve_jixie()
        limit = place.serve("benchmarks.my_benchmark:limit")   # a factory: url -> ASGI application
        compared = harness.compare(
            "list", lambda n: harness.load(ours, requests), lambda n: harness.load(limit, requests)
        )
        harness.judge("list", compared.ratio, at_least=0.6)
"""

import asyncio
import gc
import importlib
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import httptools
import uvicorn
import uvloop

from app import embedded, granting, logging, serving
from app.database import connect
from app.database_urls import admit_service, service_url
from app.issuer import DevelopmentIssuer
from app.roles import Role
from app.settings import Settings
from benchmarks import population

CONNECTIONS = 16
SECONDS = 3.0
_READY_SECONDS = 20
_JIXIE = "jixie"
_PASSWORD = "of-the-benchmark"  # noqa: S105  (of a server that lives as long as the benchmark)


@dataclass(frozen=True)
class Result:
    """What one round of load measured; times in milliseconds."""

    rate: float
    p50: float
    p99: float
    statuses: Mapping[int, int]
    computed: float = 0.0
    """Processor time of one request, in Jixie and PostgreSQL, where it was asked for."""


@dataclass(frozen=True)
class Place:
    """A filled database and the processes that serve it."""

    url: str
    """Its owner's address; the limits have no walls."""
    service: str
    """Where Jixie itself logs in."""
    data_dir: Path
    stack: ExitStack
    processes: dict[int, int] = field(default_factory=dict)
    """The process that serves each port."""

    def processor_seconds(self, port: int) -> float:
        """Give what the process behind a port and PostgreSQL have computed until now (Linux)."""
        postmaster = int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        stats = [_stat(int(each.name)) for each in Path("/proc").iterdir() if each.name.isdigit()]
        ours = {self.processes[port], postmaster}
        return sum(
            stat.computed + (stat.reaped if stat.pid == postmaster else 0)
            for stat in stats
            if stat is not None and (stat.pid in ours or stat.parent == postmaster)
        )

    def serve_jixie(self, prepare: str = "") -> int:
        """Serve Jixie in a process of its own, after `module:function`, and give its port."""
        return self._serve(f"{_JIXIE} {prepare}".strip(), self.service)

    def serve(self, factory: str) -> int:
        """Serve what `module:factory` makes of the database's address, and give its port."""
        return self._serve(factory, self.url)

    def _serve(self, factory: str, url: str) -> int:
        port = _free_port()
        process = _process(factory, url, self.data_dir, port)
        self.processes[port] = self.stack.enter_context(process)
        return port

    def token(self, role: Role = Role.DISTRICT_OFFICER, **reach: Any) -> str:
        """Sign an access token that the served Jixie accepts, and grant the role."""
        order = granting.Order(role, f"{role}-1", **reach)

        async def grant() -> None:
            database = await connect(self.url, Settings())
            await granting.provide(database, order)
            await database.close()

        asyncio.run(grant())
        return DevelopmentIssuer(Settings(data_dir=self.data_dir)).token(order.named)


@contextmanager
def district(members: int, **overrides: str) -> Iterator[Place]:
    """Make a durable scratch server with a district of this many members."""
    with tempfile.TemporaryDirectory(prefix="jixie-bench-") as scratch, ExitStack() as stack:
        data_dir = Path(scratch)
        maintenance = stack.enter_context(
            embedded.server(data_dir / "postgres", overrides=overrides)
        )
        url = asyncio.run(embedded.ensure_database(maintenance))
        asyncio.run(population.build(url, members))
        asyncio.run(admit_service(url, _PASSWORD))
        yield Place(url, service_url(url, _PASSWORD), data_dir, stack)


def request(
    method: str, path: str, *, token: str | None = None, body: bytes = b"", **headers: str
) -> bytes:
    """Write an HTTP request once, so that sending it costs the generator nothing."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def load(
    port: int,
    requests: Sequence[bytes],
    *,
    seconds: float = SECONDS,
    connections: int = CONNECTIONS,
    repeat: bool = True,
) -> Result:
    """Send requests over kept-alive connections from another process.

    Stops after `seconds`; without `repeat` also when every request was sent once.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    source = _Source(requests, seconds, repeat=repeat)
    process = context.Process(target=_generate, args=(theirs, port, connections, source))
    process.start()
    theirs.close()
    result: Result = ours.recv()
    process.join()
    return result


Measure = Callable[[int], Result]
"""Does the n-th round of load and says what it measured; round 0 is a warm-up."""


@dataclass(frozen=True)
class Comparison:
    """What several rounds in turn gave, without the warm-up."""

    ratio: float
    ours: Sequence[Result]
    limit: Sequence[Result]

    @property
    def p99(self) -> float:
        """Give the median of our rounds' 99th percentiles, in milliseconds."""
        return statistics.median(result.p99 for result in self.ours)


def compare(
    name: str,
    ours: Measure,
    limit: Measure,
    *,
    rounds: int = 5,
    labels: tuple[str, str] = ("jixie", "limit"),
) -> Comparison:
    """Do ours and the limit in turn; print and give the ratio of their rates, and all results."""
    measured: tuple[list[Result], list[Result]] = ([], [])
    for number in range(rounds + 1):
        for results, measure in zip(measured, (ours, limit), strict=True):
            result = measure(number)
            if number:
                results.append(result)
    for label, results in zip(labels, measured, strict=True):
        _print(f"{name} {label}", results)
    ratios = [a.rate / b.rate for a, b in zip(*measured, strict=True)]
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"{name:<28} ratio {ratio:.2f} ({spread} over {rounds} rounds)")
    return Comparison(ratio, *measured)


def judge(
    what: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> None:
    """Print a figure beside its target."""
    reached = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    target = f"at least {at_least:,g}" if at_least is not None else f"at most {at_most:,g}"
    print(f"{what}: {value:,.2f}, target {target}: {'reached' if reached else 'NOT REACHED'}")


def _print(name: str, results: Sequence[Result]) -> None:
    rate, p50, p99 = (
        statistics.median(getattr(result, field) for result in results)
        for field in ("rate", "p50", "p99")
    )
    statuses = sum((Counter(result.statuses) for result in results), Counter[int]())
    print(f"{name:<28} {rate:>8,.0f}/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  {dict(statuses)}")


def succeeded(results: Sequence[Result], status: int) -> int:
    """Count the answers of one status over all rounds."""
    return sum(result.statuses.get(status, 0) for result in results)


class _Source:
    """Hands out requests until time or requests run out, and notes what came back."""

    def __init__(self, requests: Sequence[bytes], seconds: float, *, repeat: bool) -> None:
        self._requests = requests
        self._seconds = seconds
        self._repeat = repeat
        self._sent = 0
        self._until = 0.0
        self.times: list[float] = []
        self.statuses: Counter[int] = Counter()

    def start(self) -> None:
        self._until = time.perf_counter() + self._seconds

    def take(self) -> bytes | None:
        if time.perf_counter() >= self._until:
            return None
        if self._sent >= len(self._requests) and not self._repeat:
            return None
        self._sent += 1
        return self._requests[(self._sent - 1) % len(self._requests)]


class _Connection(asyncio.Protocol):
    """One kept-alive connection: sends the next request when an answer is complete."""

    def __init__(self, source: _Source, done: asyncio.Future[None]) -> None:
        self._source = source
        self._done = done
        self._parser = httptools.HttpResponseParser(self)
        self._started = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._source.times.append(time.perf_counter() - self._started)
        self._source.statuses[self._parser.get_status_code()] += 1
        self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _next(self) -> None:
        following = self._source.take()
        if following is None:
            self._transport.close()
            return
        self._started = time.perf_counter()
        self._transport.write(following)


def _generate(pipe: Connection, port: int, connections: int, source: _Source) -> None:
    async def run() -> Result:
        loop = asyncio.get_running_loop()
        waits = [loop.create_future() for _ in range(connections)]
        source.start()
        started = time.perf_counter()
        for done in waits:
            await loop.create_connection(partial(_Connection, source, done), "127.0.0.1", port)
        await asyncio.gather(*waits)
        elapsed = time.perf_counter() - started
        times = sorted(source.times)
        return Result(
            rate=len(times) / elapsed,
            p50=times[len(times) // 2] * 1000,
            p99=times[len(times) * 99 // 100] * 1000,
            statuses=dict(source.statuses),
        )

    gc.disable()
    pipe.send(uvloop.run(run()))
    pipe.close()


@contextmanager
def _process(factory: str, url: str, data_dir: Path, port: int) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.harness", factory, url, str(data_dir), str(port)]
    log = data_dir / f"{port}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603  (ours)
        try:
            _await_port(port, process, log)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


class _Stat(NamedTuple):
    pid: int
    parent: int
    computed: float
    reaped: float


def _stat(pid: int) -> _Stat | None:
    """Read what a process and its ended children have computed, in seconds (proc(5))."""
    try:
        facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    user, system, users, systems = (int(each) / os.sysconf("SC_CLK_TCK") for each in facts[11:15])
    return _Stat(pid, int(facts[1]), user + system, users + systems)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"The process on port {port} did not start:\n{log.read_text()[-3000:]}")


def _named(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    named: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return named


def main(factory: str, url: str, data_dir: str, port: str) -> None:
    """Serve one application until it is told to stop."""
    jixie, _, prepare = factory.partition(" ")
    if jixie == _JIXIE:
        if prepare:
            _named(prepare)()
        config = Settings(data_dir=Path(data_dir), port=int(port), worker=False)
        logging.configure(config)
        with serving.listener(config) as taken:
            serving.Server(config, url).run(sockets=[taken])
        return
    app = _named(factory)(url)
    uvicorn.run(
        app, host="127.0.0.1", port=int(port), loop="uvloop", access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
