"""How Alembic runs: over the connection given by `app.schema`, or to the database that is set."""

import asyncio

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from app import settings
from app.database_urls import driver_url
from app.models.registry import metadata


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, compare_type=True)
    with context.begin_transaction():
        context.run_migrations()


async def _connect_and_run(url: str) -> None:
    engine = create_async_engine(driver_url(url))
    async with engine.connect() as connection:
        await connection.run_sync(_run)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes.get("connection")
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
elif given is not None:
    _run(given)
else:
    chosen = settings.load().database_url
    if chosen is None:
        raise CommandError("set JIXIE_DATABASE_URL to a database at the last revision")
    asyncio.run(_connect_and_run(chosen.get_secret_value()))
