"""Jixie as a process of its own, started and stopped as its operators do."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.roles import Role

_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Service:
    """A process of `jixie serve` with its folder, its address and what it wrote."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def out(self) -> str:
        """What it wrote to standard output so far."""
        return (self.folder / "out").read_text()

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return (self.folder / "err").read_text()

    def variables(self) -> dict[str, str]:
        """Read what it gives to try, from its lines for a shell."""
        lines = (self.folder / "data" / "try.env").read_text().splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def bearer(self, role: Role) -> dict[str, str]:
        """Give the header of a role that it gives to try."""
        return {"Authorization": f"Bearer {self.variables()[f'TOKEN_{role.name}']}"}

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Stop it, wait for its end, give its exit code."""
        self.process.send_signal(how)
        return self.process.wait(_PATIENCE_SECONDS)


def environment(folder: Path, url: str | None, **variables: str) -> dict[str, str]:
    """Give the variables of a process, none of them ours but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JIXIE_")}
    kept |= {"JIXIE_DATA_DIR": str(folder / "data"), "PYTHONWARNINGS": "error"}
    kept |= {"JIXIE_DEVELOPMENT_ISSUER": "true"}
    return kept | ({} if url is None else {"JIXIE_DATABASE_URL": url}) | variables


def jixie(*words: str) -> list[str]:
    """Give the words that call the command."""
    return [sys.executable, "-m", "app", *words]


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(folder: Path, url: str | None, *words: str, **variables: str) -> Iterator[Service]:
    """Serve, from the first answer to the end of the block."""
    port = free_port()
    variables = {"JIXIE_PORT": str(port), **variables}
    with (
        (folder / "out").open("wb") as out,
        (folder / "err").open("wb") as err,
        subprocess.Popen(  # noqa: S603  (our own words)
            jixie("serve", *words),
            env=environment(folder, url, **variables),
            stdout=out,
            stderr=err,
        ) as process,
    ):
        service = Service(process, folder, port)
        try:
            _await_answer(service)
            yield service
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_SECONDS)
            process.kill()


def _await_answer(service: Service) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while "Ctrl-C ends the service" not in service.out:
        assert service.process.poll() is None, service.log
        assert time.monotonic() < deadline, service.log
        time.sleep(0.05)
    assert httpx.get(f"{service.url}/readyz").status_code == 200
