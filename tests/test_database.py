"""The way to the database: what its address says of TLS, and connections that were closed."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import certifi
import pytest
from sqlalchemy import text

from app.database import (
    Database,
    Statements,
    _engine,
    connect,
    driver_connection,
    transaction,
)
from app.scopes import LOGIN, Acting, Scope
from app.settings import Settings
from tests.factories.callers import DISTRICT

_SCOPE = Scope(Acting.DISTRICT, DISTRICT)
_ASKS_FOR_TLS = bytes.fromhex("0000000804d2162f")


@asynccontextmanager
async def _without_tls(heard: list[bytes]) -> AsyncIterator[int]:
    """A database server that has no TLS, and hears what it is told in clear."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(8))
        writer.write(b"N")
        heard.append(await reader.read(1_000))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_no_login_is_sent_where_tls_is_asked_for_and_there_is_none(mode: str) -> None:
    heard: list[bytes] = []
    async with _without_tls(heard) as port:
        url = f"postgresql://jixie_service:secret@127.0.0.1:{port}/jixie?sslmode={mode}"
        if mode != "require":
            url += f"&sslrootcert={certifi.where()}"
        engine = _engine(url, Settings())
        with pytest.raises(ConnectionError):
            await connect(url, Settings())
        with pytest.raises(ConnectionError):
            async with engine.connect():
                pass
        await engine.dispose()
    assert heard.count(_ASKS_FOR_TLS) == 2
    assert set(heard) <= {_ASKS_FOR_TLS, b""}


async def _hold_all(database: Database, config: Settings) -> None:
    """Have every connection of the pool in a transaction at the same moment."""
    everybody, held = asyncio.Event(), 0

    async def hold() -> None:
        nonlocal held
        async with transaction(database, _SCOPE) as session:
            await session.execute(text("select 1"))
            held += 1
            if held == config.pool_size:
                everybody.set()
            await everybody.wait()

    await asyncio.gather(*(hold() for _ in range(config.pool_size)))
    assert held == config.pool_size


async def test_connections_that_the_server_has_closed_are_replaced(
    database: Database, owner: Database, config: Settings
) -> None:
    await _hold_all(database, config)
    await owner.pool.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and usename = $1",
        LOGIN,
    )
    await asyncio.sleep(0.5)
    await _hold_all(database, config)


async def test_who_is_cancelled_leaves_no_transaction_open(
    database: Database, config: Settings
) -> None:
    chance = random.Random(7)
    statements = Statements(database.pool, _SCOPE)

    async def work() -> None:
        if chance.random() < 0.5:
            await statements.fetch("select 1 as one", {})
            return
        async with transaction(database, _SCOPE) as session:
            await session.execute(text("select 1"))

    for _ in range(20):
        tasks = [asyncio.create_task(work()) for _ in range(config.pool_size)]
        await asyncio.sleep(chance.uniform(0, 0.01))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await _hold_all(database, config)
    await asyncio.gather(
        *(statements.fetch("select 1 as one", {}) for _ in range(2 * config.pool_size))
    )


async def test_a_transaction_that_somebody_left_open_stops_nobody_after(
    database: Database, config: Settings
) -> None:
    async with database.engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        with pytest.raises(asyncpg.DivisionByZeroError):
            await raw.execute("begin; select 1 / 0")
    await _hold_all(database, config)


async def test_what_notes_nobody_waits_for_the_disk(database: Database) -> None:
    said: list[str] = []

    def hear(query: asyncpg.connection.LoggedQuery) -> None:
        said.append(query.query)

    async with transaction(database, _SCOPE) as session:
        connection = await driver_connection(session)
        connection.add_query_logger(hear)
        await session.execute(text("select 1"))
    connection.remove_query_logger(hear)
    assert said[-1] == "commit"
