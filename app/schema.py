"""The database's schema: migrate it, and compare it with what this code expects."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from app.database import Database, Statements
from app.scopes import Acting, Scope

# Two processes that start together migrate one after the other.
_LOCK = "select pg_advisory_xact_lock(7305811)"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


async def migrate(engine: AsyncEngine) -> None:
    """Bring the schema to the head, alone."""

    def upgrade(connection: Connection) -> None:
        connection.exec_driver_sql(_LOCK)
        command.upgrade(_config(connection), "head")

    async with engine.begin() as connection:
        await connection.run_sync(upgrade)


@lru_cache
def head() -> str:
    """Give the revision that this code expects."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    return revision or "none"


async def revision(database: Database) -> str | None:
    """Give the revision that the database is at; None before the first migration."""
    looking = Statements(database.pool, Scope(Acting.QUEUE))
    with suppress(asyncpg.UndefinedTableError, asyncpg.InvalidParameterValueError):
        found: str = await looking.fetch_value("select version_num from alembic_version", {})
        return found
    return None
