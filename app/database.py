"""The two ways to the database: a request's transaction, and single statements at full speed."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, cast

import asyncpg
from fastapi import Depends, Request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from app.settings import Settings

# 40001 serialisation failure, 40P01 deadlock: the same request may succeed at once.
_RETRYABLE = {"40001", "40P01"}
_PARAMETER = re.compile(r"'(?:[^']|'')*'|::|:([a-z_][a-z0-9_]*)")


@dataclass(frozen=True)
class Database:
    """The open connections of one process."""

    url: str
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    pool: asyncpg.Pool

    async def close(self) -> None:
        """Give all connections back to the server."""
        await self.pool.close()
        await self.engine.dispose()


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver carries no types
    """A connection of the pool for single statements, which leave nothing behind."""

    def get_reset_query(self) -> str:
        """Save the round trip that would reset what no statement of ours sets."""
        return ""


class Statements:
    """Runs single statements, each its own transaction, with `:name` parameters.

    One statement that checks, writes and answers is several times faster than a session's
    transaction, and as safe. Use it for reads and for writes that are one statement.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Borrow connections from the pool, one a statement."""
        self._pool = pool

    async def fetch(self, sql: str, params: Mapping[str, Any]) -> list[asyncpg.Record]:
        """Give all rows."""
        query, names = positional(sql)
        rows: list[asyncpg.Record] = await self._pool.fetch(query, *(params[n] for n in names))
        return rows

    async def fetch_row(self, sql: str, params: Mapping[str, Any]) -> asyncpg.Record | None:
        """Give the first row, if any."""
        query, names = positional(sql)
        return await self._pool.fetchrow(query, *(params[name] for name in names))

    async def fetch_value(self, sql: str, params: Mapping[str, Any]) -> Any:
        """Give the first column of the first row, if any."""
        query, names = positional(sql)
        return await self._pool.fetchval(query, *(params[name] for name in names))


@lru_cache(maxsize=1024)
def positional(sql: str) -> tuple[str, Sequence[str]]:
    """Turn `:name` parameters into `$1`, leaving literals and `::` casts alone."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return match.group(0)
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(number, sql), tuple(names)


def driver_url(url: str) -> str:
    """Name the asyncpg driver in a plain PostgreSQL address."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql+asyncpg://", url)


def plain_url(url: str) -> str:
    """Name no driver in a PostgreSQL address."""
    return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)


def session_settings(settings: Settings) -> dict[str, str]:
    """Give what every connection of the service sets when it opens."""
    return {
        "application_name": "jixie",
        "timezone": "UTC",
        "statement_timeout": str(settings.statement_timeout_ms),
        "lock_timeout": str(settings.lock_timeout_ms),
        "idle_in_transaction_session_timeout": "10000",
        "jit": "off",
    }


async def connect(url: str, settings: Settings) -> Database:
    """Open both pools."""
    server_settings = session_settings(settings)
    engine = create_async_engine(
        driver_url(url),
        pool_size=settings.pool_size,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,
        connect_args={"server_settings": server_settings},
    )
    pool = await asyncpg.create_pool(
        plain_url(url),
        min_size=1,
        max_size=settings.pool_size,
        connection_class=_Connection,
        server_settings=server_settings,
        command_timeout=60,
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    return Database(plain_url(url), engine, sessions, pool)


async def _open_session(request: Request) -> AsyncIterator[AsyncSession]:
    async with transaction(cast("Database", request.app.state.database)) as session:
        yield session


@asynccontextmanager
async def transaction(database: Database) -> AsyncIterator[AsyncSession]:
    """Open one transaction, committed at the end or rolled back by an exception."""
    async with database.sessions() as session, session.begin():
        yield session


async def driver_connection(session: AsyncSession) -> asyncpg.Connection:
    """Give the driver's connection of a transaction under way, for COPY."""
    raw = await (await session.connection()).get_raw_connection()
    return cast("asyncpg.Connection", raw.driver_connection)


async def _open_statements(request: Request) -> Statements:
    return Statements(cast("Database", request.app.state.database).pool)


# The function scope commits before the answer is sent; the default would answer first.
Session = Annotated[AsyncSession, Depends(_open_session, scope="function")]
OneStatement = Annotated[Statements, Depends(_open_statements)]


def sqlstate(error: BaseException) -> str | None:
    """Give the SQLSTATE of a database error, however it is wrapped."""
    if isinstance(error, DBAPIError):
        error = cast("BaseException", error.orig)
    return getattr(error, "sqlstate", None)


def constraint_name(error: BaseException) -> str | None:
    """Give the name of the constraint that a database error reports."""
    if isinstance(error, DBAPIError):
        error = cast("BaseException", error.orig)
    cause = error.__cause__ if error.__cause__ is not None else error
    return getattr(cause, "constraint_name", None)


def may_retry(error: BaseException) -> bool:
    """Tell whether the same transaction may succeed when it is run again at once."""
    return sqlstate(error) in _RETRYABLE
