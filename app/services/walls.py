"""Whether the walls stand: what the service examines before it takes its first request."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql

from app import schema
from app.database import Database
from app.models.registry import metadata
from app.models.walls import SHARED, Policy, policies, rights
from app.scopes import LOGIN, Acting

_MOST_NAMED = 10
_DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # it has no types
# What no role of the service should be, whichever schema it is in. Temporary tables, into which
# rows are copied, are of one connection and gone with it.
_FACTS = (
    "r.rolname as name, r.rolsuper, r.rolbypassrls, r.rolreplication, r.rolcreaterole,"
    " r.rolcreatedb, exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'"
    " and c.relkind in ('r', 'p', 'm', 'v', 'f') and c.relowner = r.oid) as owns,"
    " exists (select from pg_auth_members m where m.member = r.oid and m.admin_option) as admits"
)
_LOGIN_FLAGS = (
    f"select {_FACTS},"
    # From version 16 on each membership says for itself whether it is inherited.
    " rolinherit or exists (select from pg_roles i where i.rolname <> current_user"
    " and pg_has_role(current_user, i.oid, 'usage')) as inherits"
    " from pg_roles r where rolname = current_user"
)
# Whatever it may set its role to, statements of the service could run as.
_REACHED = (
    f"select {_FACTS},"
    " exists (select from pg_auth_members m where m.member = r.oid) as is_member"
    " from pg_roles r where r.rolname <> current_user"
    " and pg_has_role(current_user, r.oid, 'member') order by r.rolname"
)
_WITHOUT_WALLS = (
    "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = current_schema() and c.relkind in ('r', 'p') and c.relname = any($1)"
    " and not (c.relrowsecurity and c.relforcerowsecurity) order by c.relname"
)
# What is in schemas that neither the login nor a role of its can enter is out of reach, and what
# an extension made is its own.
_NEAR = (
    "with reached as (select oid, rolname from pg_roles"
    " where pg_has_role(current_user, oid, 'member')),"
    " near as (select n.oid, case when n.nspname = current_schema() then ''"
    " else n.nspname || '.' end as prefix from pg_namespace n"
    " where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and exists"
    " (select from reached r where has_schema_privilege(r.oid, n.oid, 'usage')))"
)
_NOT_OF_EXTENSION = (
    "not exists (select from pg_depend d where d.classid = '{}'::regclass and d.objid = {}"
    " and d.deptype = 'e')"
)
_RIGHTS = (
    f"{_NEAR}, entries as ("
    " select c.oid, c.relname, c.relowner, c.relnamespace, '' as attname, x.*"
    " from pg_class c cross join lateral aclexplode(c.relacl) x"
    " union all select c.oid, c.relname, c.relowner, c.relnamespace, a.attname, x.*"
    " from pg_attribute a join pg_class c on c.oid = a.attrelid"
    " cross join lateral aclexplode(a.attacl) x)"
    " select n.prefix || e.relname, e.attname, lower(e.privilege_type),"
    " coalesce(r.rolname, 'public') from entries e join near n on n.oid = e.relnamespace"
    " left join reached r on r.oid = e.grantee"
    " where e.grantee <> e.relowner and (e.grantee = 0 or r.oid is not null)"
    f" and {_NOT_OF_EXTENSION.format('pg_class', 'e.oid')} order by 1, 2, 3, 4"
)
# Where they could make something of their own, and what they could set that no session should.
_WIDER = (
    f"{_NEAR}, places as (select 'create in ' || nspname as may, coalesce(nspacl,"
    " acldefault('n', nspowner)) as acl from pg_namespace"
    " where nspname !~ '^pg_' and nspname <> 'information_schema'"
    " union all select 'create schemas', coalesce(datacl, acldefault('d', datdba)) from pg_database"
    " where datname = current_database()"
    " union all select 'set ' || parname, paracl from pg_parameter_acl)"
    " select p.may, coalesce(r.rolname, 'public') as role from places p"
    " cross join lateral aclexplode(p.acl) x left join reached r on r.oid = x.grantee"
    " where x.privilege_type in ('CREATE', 'SET', 'ALTER SYSTEM')"
    " and (x.grantee = 0 or r.oid is not null) order by 1, 2"
)
# A trigger calls its function whoever may, and a rule of a table acts with its owner's rights.
_WITH_OWNERS_RIGHTS = (
    f"{_NEAR} select distinct n.prefix || p.proname || '()' as name from pg_proc p"
    " join near n on n.oid = p.pronamespace where p.prosecdef and exists"
    " (select from reached r where has_function_privilege(r.oid, p.oid, 'execute'))"
    f" and {_NOT_OF_EXTENSION.format('pg_proc', 'p.oid')}"
    " union select 'trigger ' || t.tgname || ' of ' || c.relname from pg_trigger t"
    " join pg_class c on c.oid = t.tgrelid join pg_proc p on p.oid = t.tgfoid"
    " where p.prosecdef and not t.tgisinternal"
    f" and {_NOT_OF_EXTENSION.format('pg_proc', 'p.oid')}"
    " union select 'rule ' || w.rulename || ' of ' || c.relname from pg_rewrite w"
    " join pg_class c on c.oid = w.ev_class join pg_namespace n on n.oid = c.relnamespace"
    " where w.rulename <> '_RETURN' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'"
    f" and {_NOT_OF_EXTENSION.format('pg_class', 'c.oid')} order by name"
)
_POLICIES = (
    "select c.relname, p.polname, not p.polpermissive as restrictive, p.polcmd::text as command,"
    " array(select coalesce(r.rolname, 'public')::text from unnest(p.polroles) of_it"
    " left join pg_roles r on r.oid = of_it order by 1) as roles,"
    " pg_get_expr(p.polqual, p.polrelid) as using,"
    ' pg_get_expr(p.polwithcheck, p.polrelid) as "check"'
    " from pg_policy p join pg_class c on c.oid = p.polrelid"
    " join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = current_schema() order by c.relname, p.polname"
)
_TABLES = (
    "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = current_schema() and c.relkind in ('r', 'p')"
)
_COMMANDS = {"all": "*", "select": "r", "insert": "a", "update": "w", "delete": "d"}
_AS_PRINTED = (
    "select polname, pg_get_expr(polqual, polrelid) from pg_policy"
    " where polrelid = 'pg_temp.conditions'::regclass"
)


class WallsDown(Exception):
    """The database would show more than it should; the text is the line that says what."""


async def require(database: Database) -> None:
    """Raise WallsDown unless the login is powerless and the walls are those declared."""
    found = await breaches_of(database)
    if not found:
        return
    more = len(found) - _MOST_NAMED
    said = "; ".join([*found[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])
    at = await schema.revision(database)
    if at != schema.head():
        said += f"; its schema is at {at} and this version's at {schema.head()}: `jixie migrate`"
    raise WallsDown(f"the database has no walls: {said}")


async def breaches_of(database: Database) -> list[str]:
    """Say what breaks the walls, each in a few words; nothing when they stand."""
    login = await database.pool.fetchrow(_LOGIN_FLAGS)
    found = _powers(login, inherits="inherits the rights of its roles")
    if found:
        return [*found, f"log in as {LOGIN}"]
    found = await _breaches_of_reached(database, str(login["name"]))
    tables = sorted(set(metadata.tables) - SHARED)
    bare = await database.pool.fetch(_WITHOUT_WALLS, tables)
    found += [f"{row['relname']} has no forced policies" for row in bare]
    found += await _breaches_of_policies(database)
    declared = {each for right in rights() for each in right.each()}
    for row in await database.pool.fetch(_RIGHTS):
        if tuple(row) not in declared:
            table, column, act, role = row
            which = f"{table} ({column})" if column else table
            found.append(f"{role} may {act} {which}, which no wall says")
    wider = await database.pool.fetch(_WIDER)
    found += [f"{row['role']} may {row['may']}, which no wall says" for row in wider]
    others = await database.pool.fetch(_WITH_OWNERS_RIGHTS)
    found += [f"{row['name']} runs with its owner's rights" for row in others]
    if await database.pool.fetchval("show standard_conforming_strings") != "on":
        found.append("a backslash in a literal is not itself: standard_conforming_strings is off")
    return found


async def _breaches_of_reached(database: Database, login: str) -> list[str]:
    """Say which roles the login reaches that none of its acts needs, or that no wall holds."""
    found: list[str] = []
    for role in await database.pool.fetch(_REACHED):
        found += _powers(role, is_member="is a member of another role")
        if role["name"] not in set(Acting):
            found.append(f"{login} may act as {role['name']}")
    return found


def _powers(role: Mapping[str, Any], **more: str) -> list[str]:
    """Say what no wall holds of a role, and what more of its facts it should not have."""
    powers = {
        "rolsuper": "is a superuser",
        "rolbypassrls": "bypasses row-level security",
        "rolreplication": "may replicate all there is",
        "rolcreaterole": "may make roles",
        "rolcreatedb": "may make databases",
        "owns": "owns tables",
        "admits": "may give its roles to others",
        **more,
    }
    return [f"{role['name']} {power}" for fact, power in powers.items() if role[fact]]


async def _breaches_of_policies(database: Database) -> list[str]:
    """Say which policies are missing, of nobody's making, or other than declared."""
    declared = list(policies())
    async with database.pool.acquire() as connection:
        stands = {
            (row["relname"], row["polname"]): tuple(row)[2:]
            for row in await connection.fetch(_POLICIES)
        }
        tables = {row["relname"] for row in await connection.fetch(_TABLES)}
        printed = await _as_printed(connection, declared)
    should = {
        (each.table, each.name): (
            each.restrictive,
            _COMMANDS[each.command],
            sorted(each.roles),
            printed.get(each.using or ""),
            printed.get(each.check or ""),
        )
        for each in declared
        if each.table in tables
    }
    found = []
    for table, name in sorted(should.keys() | stands.keys()):
        if (table, name) not in stands:
            found.append(f"{table} lacks its policy {name}")
        elif (table, name) not in should:
            found.append(f"{table} has a policy {name} that no wall declares")
        elif stands[table, name] != should[table, name]:
            found.append(f"policy {name} of {table} is not as declared")
    return found


async def _as_printed(connection: asyncpg.Connection, declared: Iterable[Policy]) -> dict[str, str]:
    """Give each condition as this server prints it: every version does so in its own way.

    It reads them as policies of a temporary table with columns of the same types.
    """
    clauses = {each for policy in declared for each in (policy.using, policy.check)}
    conditions = sorted(each for each in clauses if each is not None)
    words = set(re.findall(r"\w+", " ".join(conditions)))
    types = {
        column.name: column.type.compile(_DIALECT)
        for table in metadata.tables.values()
        for column in table.columns
        if column.name in words
    }
    columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
    statements = [f"create temporary table conditions ({columns})"]
    statements += [
        f"create policy c{number} on pg_temp.conditions using ({condition})"
        for number, condition in enumerate(conditions)
    ]
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("; ".join(statements))
        printed = dict(map(tuple, await connection.fetch(_AS_PRINTED)))
    finally:
        await transaction.rollback()
    return {condition: printed[f"c{number}"] for number, condition in enumerate(conditions)}
