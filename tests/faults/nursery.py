"""Processes of the service, the worker and the gateway, forked from one that has all imported.

They are as real as those that operators start, with their own pools, memory and death, and they
start in a moment, so that a test can afford to kill many. What a control needs wrong is made wrong
in the child alone.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import uvicorn
from fastapi import FastAPI

from app import clock, logging, paying, payment_sandbox, serving
from app.database import connect
from app.main import create_app
from app.services.channels import gateway_payments
from app.settings import Settings
from tests.factories.channels.gateway import GATEWAY_KEY
from tests.processes import free_port

_PATIENCE_SECONDS = 60


class Nursery:
    """The process that forks, and the children that it has."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self.folder = folder

    def ask(self, **order: Any) -> Any:
        """Have something done by the forking process, and give its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order, default=str).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, kind: str, **said: Any) -> "Child":
        """Start a service or a gateway on a free port, or a worker."""
        port = free_port()
        log = self.folder / f"{kind}-{port}.log"
        pid = self.ask(act=kind, port=port, log=log, said=said)
        return Child(self, int(pid), port, log)


@dataclass(frozen=True)
class Child:
    """A process of the service or of the worker."""

    nursery: Nursery
    pid: int
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """Give what it logged."""
        return self.log.read_text()

    def ended(self) -> int | None:
        """Give how it ended, below zero by which signal; None while it lives."""
        return cast("int | None", self.nursery.ask(act="ended", pid=self.pid))

    def kill(self) -> None:
        """Kill it, as if its power went, and wait until it is gone."""
        if self.ended() is None:
            os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.ended() is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    async def until_dead(self, seconds: float = _PATIENCE_SECONDS) -> int | None:
        """Wait for its end and give it; None if it lives on."""
        deadline = time.monotonic() + seconds
        while (how := self.ended()) is None:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.01)
        return how

    async def until_ready(self, path: str = "/readyz") -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        async with httpx.AsyncClient(base_url=self.url) as client:
            while True:
                assert self.ended() is None, self.said()
                assert time.monotonic() < deadline, self.said()
                with suppress(httpx.TransportError):
                    if (await client.get(path)).status_code == 200:
                        return
                await asyncio.sleep(0.02)


@contextmanager
def nursing(folder: Path) -> Iterator[Nursery]:
    """Have processes until the block ends; with it all of them end."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.faults.nursery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("JIXIE_")}
        | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        yield Nursery(process, folder)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(_PATIENCE_SECONDS)


def _serve(app: FastAPI, port: int) -> None:
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False)


def _work(config: Settings, *, fresh_keys: bool = False) -> None:
    # A test does not wait between two rounds of payments.
    paying._EVERY_SECONDS = 0.1  # type: ignore[assignment]  # a tenth instead of whole seconds
    if fresh_keys:
        gateway_payments.reference_of = lambda *_: str(clock.new_id())
    asyncio.run(_working(config))


async def _working(config: Settings) -> None:
    assert config.database_url is not None
    database = await connect(config.database_url.get_secret_value(), config)
    await serving.work_until_told(database, config)
    await database.close()


def _fork(order: dict[str, Any]) -> int:
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (0, 1, 2):
            os.dup2(log, stream)
        said = order["said"]
        wrong = {name: said.pop(name) for name in ("fresh_keys",) if name in said}
        config = Settings(**said)
        logging.configure(config)
        if order["act"] == "gateway":
            _serve(payment_sandbox.create_sandbox(GATEWAY_KEY), order["port"])
        elif order["act"] == "service":
            _serve(create_app(config), order["port"])
        else:
            _work(config, **wrong)
        code = 0
    finally:
        os._exit(code)


def _main() -> None:
    ended: dict[int, int | None] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if order["act"] != "ended":
            answer: int | None = _fork(order)
            ended[answer or 0] = None
        else:
            answer = ended[order["pid"]] = _look(order["pid"], ended)
        print(json.dumps(answer), flush=True)  # noqa: T201  (the answer that is waited for)
    for pid in [pid for pid in ended if _look(pid, ended) is None]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _look(pid: int, ended: dict[int, int | None]) -> int | None:
    if ended[pid] is None:
        found, status = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if found else None
    return ended[pid]


if __name__ == "__main__":
    _main()
