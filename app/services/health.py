"""Whether the service can do its work, part by part."""

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from app import schema
from app.database import Database

_PATIENCE_SECONDS = 1.0
SILENT = {
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
"""With any other value a refused row or a statement's values stand in the database's log."""
_SETTINGS = "select " + ", ".join(f"current_setting('{name}') as {name}" for name in SILENT)


@dataclass(frozen=True)
class Part:
    """The state of one part: `pass`, `warn` or `fail`, with a measured value where there is one."""

    name: str
    status: Literal["pass", "warn", "fail"]
    value: float | None = None
    unit: str | None = None
    output: str | None = None


async def check(database: Database) -> list[Part]:
    """Examine the database, its schema and the pool: what requests need."""
    return [await _database(database), await _schema(database), _pool(database)]


async def _database(database: Database) -> Part:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await database.pool.fetchval("select 1")
    except Exception as error:  # noqa: BLE001  (whatever it is, the database does not answer)
        return Part("database", "fail", output=type(error).__name__)
    return Part("database", "pass", round((time.perf_counter() - started) * 1000, 2), "ms")


async def _schema(database: Database) -> Part:
    expected = schema.head()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            found = await schema.revision(database)
    except Exception as error:  # noqa: BLE001  (no table, no database: not migrated either way)
        return Part("schema", "fail", output=type(error).__name__)
    if found != expected:
        return Part("schema", "fail", output=f"at {found}, needs {expected}")
    return Part("schema", "pass", output=expected)


async def database_log(database: Database) -> Part:
    """Warn when the database may write values of rows and statements into its log."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            found = await database.pool.fetchrow(_SETTINGS)
    except Exception as error:  # noqa: BLE001  (whatever it is, the database does not answer)
        return Part("database_log", "fail", output=type(error).__name__)
    telling = [f"{name}={found[name]}" for name, value in SILENT.items() if found[name] != value]
    return Part("database_log", "warn" if telling else "pass", output=", ".join(telling) or None)


def _pool(database: Database) -> Part:
    free = database.pool.get_idle_size() + database.pool.get_max_size() - database.pool.get_size()
    return Part("pool", "pass" if free > 0 else "warn", free, "free connections")
