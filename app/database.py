"""The two ways to the database: a request's transaction, and single statements at full speed."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from app import crashes
from app.acts import About, Act, Persons, Reached, Shown, noting, storing
from app.database_urls import plain_url
from app.problems import Problem
from app.scopes import Acting, Scope
from app.settings import Settings

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


class _Noted(NamedTuple):
    """An act with its entry, to be stored when the transaction commits."""

    act: Act
    entry: str


_Shared: TypeAlias = tuple[asyncpg.Connection, list[_Noted]]


class Statements:
    """Runs single statements, each its own transaction in a scope, with `:name` parameters.

    One statement that checks, writes and answers is several times faster than a session's
    transaction, and as safe. Use it for reads and for writes that are one statement. One that
    shows or changes what is about persons says by which column or whom (`about`): the entry of
    the audit is then stored in the same transaction, before its rows are given.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        scope: Scope,
        act: Act | None = None,
        *,
        name: str | None = None,
        patient: bool = False,
        shared: _Shared | None = None,
    ) -> None:
        """Borrow connections from the pool, one a statement, and enter the scope with each.

        The name is that of their crash points where no act has one. What is `shared` is a
        transaction under way.
        """
        self._pool = pool
        self._scope = scope
        self._name = name if act is None else act.name
        self._patient = patient
        self._shared = shared
        self.act = act

    def showing(self, *ids: UUID) -> "Statements":
        """Reach also what belongs to records that the caller was shown."""
        return Statements(self._pool, self._scope.showing(*ids), self.act, name=self._name)

    def district_wide(self) -> "Statements":
        """Act as a rule of the caller's whole district; the statement keeps to her reach."""
        return Statements(self._pool, self._scope.district_wide(), self.act, name=self._name)

    def patiently(self) -> "Statements":
        """Let a statement over all payouts of a run outlast the usual limit, up to a minute."""
        return Statements(self._pool, self._scope, self.act, name=self._name, patient=True)

    @asynccontextmanager
    async def together(self) -> AsyncIterator["Statements"]:
        """Run several statements that belong to one answer in one transaction.

        Their entries are stored when it ends: give nothing away before.
        """
        async with self._entered() as shared:
            yield Statements(self._pool, self._scope, self.act, name=self._name, shared=shared)

    async def fetch(
        self, sql: str, params: Mapping[str, Any], *, about: About = None
    ) -> list[asyncpg.Record]:
        """Give all rows."""
        sql, params, about = self._telling(sql, params, about, even_nobody=True)
        query, names = positional(sql)
        async with self._entered() as (connection, noted):
            rows: list[asyncpg.Record] = await connection.fetch(query, *(params[n] for n in names))
            if about is not None:
                noted.extend(self._reached(rows, about))
        return rows

    async def fetch_row(
        self, sql: str, params: Mapping[str, Any], *, about: About = None
    ) -> asyncpg.Record | None:
        """Give the first row, if any."""
        sql, params, about = self._telling(sql, params, about, even_nobody=False)
        query, names = positional(sql)
        async with self._entered() as (connection, noted):
            row = await connection.fetchrow(query, *(params[name] for name in names))
            if about is not None and row is not None:
                noted.extend(self._reached([row], about))
        return row

    async def fetch_value(self, sql: str, params: Mapping[str, Any], *, about: About = None) -> Any:
        """Give the first column of the first row, if any."""
        row = await self.fetch_row(sql, params, about=about)
        return None if row is None else row[0]

    async def note(self, persons: Sequence[UUID]) -> None:
        """Store an entry of the act in a transaction of its own."""
        async with self._entered() as (_, noted):
            noted.extend(self._reached([], persons))

    def _telling(
        self, sql: str, params: Mapping[str, Any], about: About, *, even_nobody: bool
    ) -> tuple[str, Mapping[str, Any], About]:
        """Have a query store its entry itself, where it knows whom that is about."""
        if isinstance(about, str) and sql.startswith("select") and not named(self.act).is_noted:
            about = Shown(about)
        if not isinstance(about, Shown):
            return sql, params, about
        sql = noting(sql, about=about.person, output=about.output, even_nobody=even_nobody)
        return sql, {**params, **named(self.act).within(rows=about.rows)}, about

    def _reached(
        self, rows: Sequence[asyncpg.Record], about: str | Sequence[UUID] | Shown | Reached
    ) -> Iterable[_Noted]:
        if isinstance(about, Shown):
            act = named(self.act)
            if about.output == "*":
                act.remember([row[about.person] for row in rows])
            return [_Noted(act, "")]
        if callable(about):
            return [_Noted(act, act.entry(persons)) for act, persons in about(rows)]
        act = named(self.act)
        persons = [row[about] for row in rows] if isinstance(about, str) else about
        # What an earlier statement of the same act has said is not said again.
        return [] if act.tells_of(persons) else [_Noted(act, act.entry(persons))]

    @asynccontextmanager
    async def _entered(self) -> AsyncIterator[_Shared]:
        if self._shared is not None:
            yield self._shared
            return
        noted: list[_Noted] = []
        async with (
            self._pool.acquire() as borrowed,
            _entered(borrowed, self._scope, noted, self._name) as connection,
        ):
            if self._patient:
                await connection.execute("set local statement_timeout = '60s'")
            yield connection, noted


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


def session_settings(settings: Settings) -> dict[str, str]:
    """Give what every connection of the service sets when it opens."""
    return {
        "application_name": "jixie",
        "timezone": "UTC",
        "statement_timeout": str(settings.statement_timeout_ms),
        "lock_timeout": str(settings.lock_timeout_ms),
        "idle_in_transaction_session_timeout": "10000",
        "jit": "off",
        # Scopes are literals, in which a quote is escaped by another and by nothing else.
        "standard_conforming_strings": "on",
    }


def _engine(url: str, settings: Settings) -> AsyncEngine:
    address, server_settings = plain_url(url), session_settings(settings)
    # The driver reads all of an address, as `sslmode`, of which the dialect would make arguments.
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(address, server_settings=server_settings),
        pool_size=settings.pool_size,
        max_overflow=0,
        pool_timeout=5,
        hide_parameters=True,
    )


async def connect(url: str, settings: Settings) -> Database:
    """Open both pools, and have the process killed at the crash point that is set, if one is."""
    crashes.arm(settings.crash_at)
    engine = _engine(url, settings)
    pool = await asyncpg.create_pool(
        plain_url(url),
        min_size=1,
        max_size=settings.pool_size,
        connection_class=_Connection,
        server_settings=session_settings(settings),
        command_timeout=60,
    )
    # `transaction` itself begins and commits, so that beginning and entering are one round trip.
    ours = engine.execution_options(isolation_level="AUTOCOMMIT")
    return Database(plain_url(url), engine, async_sessionmaker(ours, expire_on_commit=False), pool)


@asynccontextmanager
async def transaction(
    database: Database, scope: Scope, act: Act | None = None, *, name: str | None = None
) -> AsyncIterator[AsyncSession]:
    """Open one transaction in a scope, committed at the end or rolled back by an exception.

    The name is that of its crash points where no act has one.
    """
    noted: list[_Noted] = []
    async with (
        database.sessions(info={"scope": scope, "act": act, "noted": noted}) as session,
        _entered(await _living(session), scope, noted, act.name if act else name),
    ):
        yield session
        await session.flush()


@dataclass(frozen=True)
class Door:
    """The database where nobody has said yet who calls: as a rule of one district at a time.

    The act, if there is one, becomes that of the district for which it is asked.
    """

    database: Database
    act: Act | None = None

    @property
    def looking(self) -> Statements:
        """Look at what is the same for everybody."""
        return Statements(self.database.pool, Scope(Acting.QUEUE))

    def statements(self, district_code: str) -> Statements:
        """Run single statements as a rule of a district."""
        act = self._act_in(district_code)
        return Statements(self.database.pool, Scope(Acting.DISTRICT, district_code), act)

    def transaction(
        self, district_code: str, *, name: str | None = None
    ) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a transaction as a rule of a district."""
        scope = Scope(Acting.DISTRICT, district_code)
        return transaction(self.database, scope, self._act_in(district_code), name=name)

    def _act_in(self, district_code: str) -> Act | None:
        if self.act is not None:
            self.act.district_code = self.act.area_code = district_code
        return self.act


@asynccontextmanager
async def _entered(
    connection: asyncpg.Connection, scope: Scope, noted: Sequence[_Noted], point: str | None
) -> AsyncIterator[asyncpg.Connection]:
    """Begin a transaction and enter its scope in one round trip.

    In the end store the audit's entries and commit, in another one.
    """
    # What was cut off before it rolled back is rolled back by the next, or all after it would fail.
    begin = "rollback; begin" if connection.is_in_transaction() else "begin"
    try:
        await connection.execute(f"{begin}; {scope.entry}")
        yield connection
        crashes.reach(point, "before_commit")
        # What notes nobody may still have changed something, and waits for the disk as well.
        promptly = bool(noted) and all(each.act.is_prompt for each in noted)
        entries = storing((each.entry for each in noted), promptly=promptly)
        await connection.execute(f"{entries}commit")
        crashes.reach(point, "after_commit")
    except BaseException:
        if not connection.is_closed():
            await connection.execute("rollback")
        for each in noted:
            each.act.forget()
        raise
    for each in noted:
        each.act.is_noted = True


def named(act: Act | None) -> Act:
    """Give the act under way; without one, nothing that is about persons is reached."""
    if act is None:
        raise RuntimeError("Only an act that the audit can name reaches what is about persons.")
    return act


def note(session: AsyncSession, persons: Persons, *, act: Act | None = None) -> None:
    """Store an entry of the session's act, or of another, when its transaction commits."""
    act = act or named(session.info.get("act"))
    session.info["noted"].append(_Noted(act, act.entry(persons)))
    act.is_noted = True


async def _enter(session: AsyncSession, scope: Scope) -> None:
    session.info["scope"] = scope
    await (await driver_connection(session)).execute(scope.entry)


async def show(session: AsyncSession, *ids: UUID) -> None:
    """Reach also what belongs to records that the caller was shown, until the transaction ends."""
    await _enter(session, session.info["scope"].showing(*ids))


@asynccontextmanager
async def district_wide(session: AsyncSession) -> AsyncIterator[None]:
    """Act as a rule of the caller's whole district until the block ends; flush what it adds."""
    scope: Scope = session.info["scope"]
    await _enter(session, scope.district_wide())
    try:
        yield
    except Problem:
        await _enter(session, scope)
        raise
    await _enter(session, scope)


async def driver_connection(session: AsyncSession) -> asyncpg.Connection:
    """Give the driver's connection of a transaction under way, for COPY."""
    raw = await (await session.connection()).get_raw_connection()
    return cast("asyncpg.Connection", raw.driver_connection)


async def _living(session: AsyncSession) -> asyncpg.Connection:
    """Give the driver's connection of a new session; what the server has closed is replaced."""
    # Of what the driver is asked its pool hears no error, and would lend dead ones for ever.
    while (found := await driver_connection(session)).is_closed():
        await (await session.connection()).invalidate()
        await session.rollback()
    return found


async def copy(
    connection: asyncpg.Connection,
    table: str,
    *,
    columns: Sequence[str],
    records: Sequence[Sequence[Any]],
) -> None:
    """Append records by COPY to a table of this transaction, and from there behind the walls.

    PostgreSQL copies nothing into a table that has row-level policies.
    """
    named, stage = ", ".join(columns), f"copied_{table}"
    await connection.execute(
        f"create temporary table if not exists {stage} on commit drop as"
        f" select {named} from {table} with no data"
    )
    await connection.copy_records_to_table(stage, columns=columns, records=records)
    await connection.execute(
        f"insert into {table} ({named}) select {named} from {stage}; truncate {stage}"
    )
