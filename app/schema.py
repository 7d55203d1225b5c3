"""The database's schema: migrate it, and compare it with what this code expects."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

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


def head() -> str:
    """Give the revision that this code expects."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    return revision or "none"


async def revision(engine: AsyncEngine) -> str | None:
    """Give the revision that the database is at; None when it is empty."""
    async with engine.connect() as connection:
        return await connection.run_sync(
            lambda sync: MigrationContext.configure(sync).get_current_revision()
        )
