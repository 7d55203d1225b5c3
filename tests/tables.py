"""Every table emptied after a test, or made again what a scene had stored, as cheaply as may be.

Both work as the owner of the tests' database, a superuser, and so without asking the foreign
keys: what is left holds together because it did before.
"""

from collections.abc import Iterable

from app.database import Database
from app.models.registry import metadata
from app.models.walls import SHARED

_UNASKED = "set local session_replication_role = replica;"
_KEPT = SHARED | {"privacy_notices"}
_LATER_NOTICES = "delete from privacy_notices where number > 1"
_MARKED = """
create schema kept;
create table kept.touched (name text not null);
create function kept.touch() returns trigger language plpgsql security definer as $$
begin
  insert into kept.touched values (tg_table_name);
  return null;
end $$;
"""
# A mark that comes meanwhile, of a request under way, waits for the next restoring.
_RESTORE = f"""
do $$
declare
  touched text;
begin
  {_UNASKED}
  for touched in
    with marks as (delete from kept.touched returning name) select distinct name from marks
  loop
    execute format('delete from %1$I; insert into %1$I select * from kept.%1$I', touched);
  end loop;
end $$
"""


async def empty(owner: Database, *, besides: Iterable[str] = ()) -> None:
    """Delete every row but of what the application is founded on, and of what is named besides.

    Truncating takes twenty times as long: it gives each table and index a new file. Like it,
    this waits for transactions under way, whose rows would otherwise be left.
    """
    names = [name for name in metadata.tables if name not in _KEPT.union(besides)]
    deletes = ";".join(f"delete from {name}" for name in names)
    await owner.pool.execute(
        f"{_UNASKED} lock table {', '.join(names)} in exclusive mode; {deletes}; {_LATER_NOTICES}"
    )


class KeptTables:
    """What every table holds, and which of them statements have touched since."""

    def __init__(self, owner: Database) -> None:
        self._pool = owner.pool
        self._names = [name for name in metadata.tables if name not in SHARED]

    async def keep(self) -> None:
        """Remember every table, and have each note from now on that it was written to."""
        await self._pool.execute(
            _MARKED
            + "".join(
                f"create table kept.{name} as table {name};"
                f"create trigger touch after insert or update or delete on {name}"
                " for each statement execute function kept.touch();"
                for name in self._names
            )
        )

    async def restore(self) -> None:
        """Make what statements have touched what it was."""
        await self._pool.execute(_RESTORE)

    async def restore_all(self) -> None:
        """Make every table what it was, also after `empty`, which nothing notes."""
        await self._pool.execute(
            _UNASKED
            + "delete from kept.touched;"
            + "".join(
                f"delete from {name}; insert into {name} select * from kept.{name};"
                for name in self._names
            )
        )

    async def changed(self) -> list[str]:
        """Name the tables that are not what they were."""
        rows = "(select array_agg(r::text order by r::text) from {} r)"
        told = " union all ".join(
            f"select '{name}' where {rows.format(name)} is distinct from"
            f" {rows.format(f'kept.{name}')}"
            for name in self._names
        )
        return [row[0] for row in await self._pool.fetch(told)]

    async def touched(self) -> set[str]:
        """Name the tables that a statement has written to since they were made what they were."""
        rows = await self._pool.fetch("select distinct name from kept.touched")
        return {row["name"] for row in rows}

    async def forget(self) -> None:
        """Drop what was remembered, and with it what notes the writing."""
        await self._pool.execute("drop schema kept cascade")
