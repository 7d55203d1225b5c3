"""Waiting for what only the database shows, and never for ever."""

import asyncio

import asyncpg

SOMEBODY_WAITS = """
select exists (select from pg_locks w join pg_locks h using (pid) join pg_database d
  on d.oid = h.database where not w.granted and d.datname = current_database())
"""
"""Whether anybody in a database waits for a lock: one on a row names no database itself."""


async def until(connection: asyncpg.Connection | asyncpg.Pool, question: str) -> None:
    """Wait until the database says yes; TimeoutError after a minute of no."""
    async with asyncio.timeout(60):
        while not await connection.fetchval(question):  # noqa: ASYNC110  (it sends no event)
            await asyncio.sleep(0.02)
