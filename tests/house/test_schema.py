"""The schema is what the models say, and can be spread over machines by district."""

import ast
import re
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import ARRAY, Connection, Table, UniqueConstraint

from app import schema
from app.database import Database, connect
from app.models.registry import metadata
from app.settings import Settings

_SHARED = {"areas", "person_keys"}
_TENANT = [table for name, table in sorted(metadata.tables.items()) if name not in _SHARED]
_FORBIDDEN = {
    "merge": r"\bmerge into\b",
    "rollup": r"\b(rollup|grouping sets)\b",
    "recursive": r"\bwith recursive\b",
    "clock": r"\b(now\(\)|clock_timestamp|current_timestamp|current_date)\b",
    "random": r"\b(random\(\)|gen_random_uuid|uuidv7\(\))",
    "set_config": r"\bset_config\b",
}


async def test_the_migrations_build_what_the_models_say(owner: Database) -> None:
    def compare(connection: Connection) -> None:
        command.check(schema._config(connection))

    async with owner.engine.connect() as connection:
        await connection.run_sync(compare)


_COUNTED = (
    "insert into code_limits (district_code, kind, key, window_started_at, last_at, taken)"
    " values ('440605000000', '{}', '', timestamptz '2030-01-01', timestamptz '2030-01-01', 1)"
)
_HANDED_OVER = (
    "do $$ declare each name; begin for each in select tablename from pg_tables"
    " where schemaname = 'public' loop execute format('alter table %I owner to keeper', each);"
    " end loop; end $$"
)


async def test_an_owner_without_powers_takes_back_what_is_counted(
    config: Settings, empty_database: str
) -> None:
    """Forced walls hide rows from their owner too, unless a migration looks past them."""

    def take_back(connection: Connection) -> None:
        connection.exec_driver_sql("set role keeper")
        command.downgrade(schema._config(connection), "0016")

    database = await connect(empty_database, config)
    try:
        await schema.migrate(database.engine)
        await database.pool.execute("create role keeper; grant create on schema public to keeper")
        for kind in ("voucher", "enrolled", "phone"):
            await database.pool.execute(_COUNTED.format(kind))
        await database.pool.execute(_HANDED_OVER)
        async with database.engine.begin() as connection:
            await connection.run_sync(take_back)
        kinds = await database.pool.fetch("select kind from code_limits")
        assert [row["kind"] for row in kinds] == ["phone"]
        forced = "select relforcerowsecurity from pg_class where relname = 'code_limits'"
        assert await database.pool.fetchval(forced)
    finally:
        await database.pool.execute("drop owned by keeper cascade; drop role keeper")
        await database.close()


@pytest.mark.parametrize("table", _TENANT, ids=str)
def test_every_key_of_a_tenant_table_begins_with_the_district(table: Table) -> None:
    uniques = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
    keys = [list(table.primary_key.columns), *[list(unique.columns) for unique in uniques]]
    keys += [list(index.columns) for index in table.indexes if index.unique]
    for key in keys:
        assert key[0].name == "district_code", f"{table}: {[column.name for column in key]}"


@pytest.mark.parametrize("table", _TENANT, ids=str)
def test_tenant_tables_point_only_into_their_own_district(table: Table) -> None:
    for foreign_key in table.foreign_key_constraints:
        target = foreign_key.referred_table.name
        columns = [column.name for column in foreign_key.columns]
        if target != "areas":
            assert columns[0] == "district_code", f"{table} -> {target}: {columns}"
        assert foreign_key.ondelete in {None, "CASCADE"}, f"{table} -> {target}"


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_columns_have_types_that_travel(table: Table) -> None:
    allowed = {
        "TEXT", "UUID", "INTEGER", "BIGINT", "BOOLEAN", "DATE", "BYTEA", "BLOB", "JSONB",
        "DATETIME", "TIMESTAMP", "CHAR(32)", "ARRAY",
    }  # fmt: skip
    for column in table.columns:
        held = column.type.item_type if isinstance(column.type, ARRAY) else column.type
        assert str(held).split(" ")[0] in allowed, f"{column}: {column.type}"
        assert column.server_default is None, f"{column}: values come from the application"
        assert column.identity is None


@pytest.mark.parametrize("path", sorted(Path("app").rglob("*.py")), ids=str)
def test_sql_uses_only_what_every_supported_database_has(path: Path) -> None:
    texts = [
        node.value.lower()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    found = {
        name
        for name, pattern in _FORBIDDEN.items()
        if any(re.search(pattern, text) for text in texts)
    }
    assert not found, f"{path} uses {found}: bind values, keep to PostgreSQL 15 and Citus"
