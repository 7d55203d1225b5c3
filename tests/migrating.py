"""A migration applied again to rows that a test has stored, by an owner whom the walls hold."""

import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.database import Database

_HANDED_OVER = """
create role {name};
grant create on schema public to {name};
do $$ declare each name; begin for each in select tablename from pg_tables
    where schemaname = 'public' loop execute format('alter table %I owner to {name}', each);
    end loop; end $$;
"""
_FORCED = text(
    "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
    " and relforcerowsecurity"
)


@asynccontextmanager
async def applied_again(
    owner: Database, revision: str, *, is_walled: bool = True
) -> AsyncIterator[AsyncConnection]:
    """Take a revision back and apply it; the block sees what it did, of which nothing is left.

    Who is not walled locks no table but those that the migration does.
    """
    migration = importlib.import_module(f"app.migrations.versions.{revision}")

    def apply(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            migration.downgrade()
            migration.upgrade()

    keeper = f"keeper_{os.getpid()}"
    async with owner.engine.connect() as connection:
        forced = await connection.scalar(_FORCED)
        if is_walled:
            raw = await connection.get_raw_connection()
            await cast("Any", raw).driver_connection.execute(_HANDED_OVER.format(name=keeper))
            await connection.execute(text(f"set local role {keeper}"))
        await connection.run_sync(apply)
        await connection.execute(text("reset role"))
        assert await connection.scalar(_FORCED) == forced, "every wall stands again"
        yield connection
        await connection.rollback()
