"""The embedded server starts on any path, survives kills, and stops with its last user."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from app import embedded
from app.embedded import EmbeddedServerFailed
from app.services.health import SILENT

_FAST = {"fsync": "off", "shared_buffers": "'16MB'"}
_HOLD = """
    import sys
    from pathlib import Path
    from app import embedded

    with embedded.server(Path(sys.argv[1])):
        print("serving", flush=True)
        sys.stdin.read()
"""


def _say(url: str, sql: str) -> object:
    async def fetch() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def _server_pid(directory: Path) -> int:
    return int((directory / "postmaster.pid").read_text().split("\n")[0])


@contextmanager
def _another_user(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server until its input ends."""
    with subprocess.Popen(  # noqa: S603  (our own words)
        [sys.executable, "-c", textwrap.dedent(_HOLD), directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    "name", ["a folder", 'it\'s 中文, "long" ' + "x" * 90], ids=["space", "odd"]
)
def test_it_starts_on_any_path_and_keeps_what_was_stored(folder: Path, name: str) -> None:
    directory = folder / name / "postgres"
    with embedded.server(directory, overrides=_FAST) as url:
        _say(asyncio.run(embedded.ensure_database(url)), "create table kept ()")
    assert not (directory / "postmaster.pid").exists()
    with embedded.server(directory, overrides=_FAST) as url:
        again = asyncio.run(embedded.ensure_database(url))
        assert _say(again, "select to_regclass('kept') is not null")


def test_it_listens_on_no_network(folder: Path) -> None:
    with embedded.server(folder / "postgres", overrides=_FAST) as url:
        assert _say(url, "show listen_addresses") == ""


def test_it_keeps_values_out_of_its_log(folder: Path) -> None:
    with embedded.server(folder / "postgres", overrides=_FAST) as url:
        for name, value in SILENT.items():
            assert _say(url, f"show {name}") == value


def test_it_stops_with_its_last_user_even_if_one_was_killed(folder: Path) -> None:
    directory = folder / "postgres"
    with _another_user(directory) as other:
        with embedded.server(directory) as url:
            pid = _server_pid(directory)
        assert _say(url, "select 1") == 1
        other.kill()
    with embedded.server(directory):
        assert _server_pid(directory) == pid
    assert not (directory / "postmaster.pid").exists()


def test_it_recovers_after_a_kill(folder: Path) -> None:
    directory = folder / "postgres"
    with _another_user(directory) as other:
        with embedded.server(directory) as url:
            _say(url, "create table kept ()")
        pid = _server_pid(directory)
        os.kill(pid, signal.SIGKILL)
        other.kill()
        while embedded._lives(pid):
            time.sleep(0.01)
    with embedded.server(directory) as url:
        assert _say(url, "select to_regclass('kept') is not null")


def test_the_mark_of_a_process_id_that_is_used_again_does_not_hinder(folder: Path) -> None:
    directory = folder / "postgres"
    with embedded.server(directory, overrides=_FAST):
        mark = (directory / "postmaster.pid").read_text().split("\n")
    (directory / "postmaster.pid").write_text("\n".join([str(os.getpid()), *mark[1:]]))
    with embedded.server(directory, overrides=_FAST) as url:
        assert _say(url, "select 1") == 1


def test_a_server_that_does_not_start_says_where_its_log_is(folder: Path) -> None:
    directory = folder / "postgres"
    with (
        pytest.raises(EmbeddedServerFailed, match=f"{directory}/log"),
        embedded.server(directory, overrides={"no_such_setting": "1"}),
    ):
        pass
    assert "no_such_setting" in (directory / "log").read_text()


def test_data_of_another_version_are_left_alone(folder: Path) -> None:
    directory = folder / "postgres"
    directory.mkdir()
    (directory / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(EmbeddedServerFailed, match="is of PostgreSQL 9"),
        embedded.server(directory),
    ):
        pass


def test_a_machine_without_it_is_told_what_to_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LIBRARY", "not_installed_here")
    with (
        pytest.raises(EmbeddedServerFailed, match="JIXIE_DATABASE_URL"),
        embedded.server(folder / "postgres"),
    ):
        pass


def test_two_may_make_the_database_at_once(folder: Path) -> None:
    async def both(url: str) -> list[str]:
        return await asyncio.gather(*(embedded.ensure_database(url) for _ in range(4)))

    with embedded.server(folder / "postgres", overrides=_FAST) as url:
        assert len(set(asyncio.run(both(url)))) == 1
