"""Whether the service can do its work, part by part."""

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from app import schema
from app.database import Database

_PATIENCE_SECONDS = 1.0


@dataclass(frozen=True)
class Part:
    """The state of one part: `pass`, `warn` or `fail`, with a measured value where there is one."""

    name: str
    status: Literal["pass", "warn", "fail"]
    value: float | None = None
    unit: str | None = None
    output: str | None = None


async def check(database: Database) -> list[Part]:
    """Examine the database, its schema and the pool."""
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


def _pool(database: Database) -> Part:
    free = database.pool.get_idle_size() + database.pool.get_max_size() - database.pool.get_size()
    return Part("pool", "pass" if free > 0 else "warn", free, "free connections")
