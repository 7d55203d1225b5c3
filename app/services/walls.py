"""Whether the walls stand: what the service examines before it takes its first request."""

from collections.abc import Mapping
from typing import Any

from app.database import Database
from app.models.registry import metadata
from app.models.walls import SHARED
from app.scopes import LOGIN, Acting

_LOGIN_FLAGS = (
    "select current_user as name, rolsuper, rolbypassrls, rolinherit,"
    " exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = current_schema() and c.relkind in ('r', 'p')"
    " and pg_has_role(current_user, c.relowner, 'usage')) as owns,"
    " exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = current_schema() and c.relkind in ('r', 'p', 'v', 'm') and c.relacl::text"
    " ~ ('[{,]' || current_user || '=')) as has_rights"
    " from pg_roles where rolname = current_user"
)
# Whatever it may set its role to, statements of the service could run as.
_REACHED = (
    "select r.rolname as name, r.rolsuper, r.rolbypassrls,"
    " exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = current_schema() and c.relkind in ('r', 'p') and c.relowner = r.oid)"
    " as owns from pg_roles r where r.rolname <> current_user"
    " and pg_has_role(current_user, r.oid, 'member') order by r.rolname"
)
_WITHOUT_WALLS = (
    "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = current_schema() and c.relkind in ('r', 'p') and c.relname = any($1)"
    " and not (c.relrowsecurity and c.relforcerowsecurity"
    " and exists (select from pg_policy p where p.polrelid = c.oid)) order by c.relname"
)
_UNKNOWN = (
    "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where n.nspname = current_schema() and c.relkind in ('r', 'p', 'v', 'm')"
    " and not c.relname = any($1) and exists (select from unnest($2::text[]) role"
    " where has_table_privilege(role, c.oid, 'select')) order by c.relname"
)
_OTHER = frozenset({"alembic_version"})


class WallsDown(Exception):
    """The database would show more than it should; the text is the line that says what."""


async def require(database: Database) -> None:
    """Raise WallsDown unless the login is powerless and every table has forced policies."""
    breaches = await breaches_of(database)
    if breaches:
        raise WallsDown(f"the database has no walls: {'; '.join(breaches)}")


async def breaches_of(database: Database) -> list[str]:
    """Say what breaks the walls, each in a few words; nothing when they stand."""
    login = await database.pool.fetchrow(_LOGIN_FLAGS)
    found = _powers(
        login,
        has_rights="has rights of its own to tables",
        rolinherit="inherits the rights of its roles",
    )
    if found:
        return [*found, f"log in as {LOGIN}"]
    found = await _breaches_of_reached(database, str(login["name"]))
    tables = sorted(set(metadata.tables) - SHARED)
    bare = await database.pool.fetch(_WITHOUT_WALLS, tables)
    found += [f"{row['relname']} has no forced policies" for row in bare]
    known = sorted(set(metadata.tables) | _OTHER)
    unknown = await database.pool.fetch(_UNKNOWN, known, list(Acting))
    return found + [f"{row['relname']} is readable and has no wall" for row in unknown]


async def _breaches_of_reached(database: Database, login: str) -> list[str]:
    """Say which roles the login reaches that none of its acts needs, or that no wall holds."""
    found: list[str] = []
    for role in await database.pool.fetch(_REACHED):
        found += _powers(role)
        if role["name"] not in set(Acting):
            found.append(f"{login} may act as {role['name']}")
    return found


def _powers(role: Mapping[str, Any], **more: str) -> list[str]:
    """Say what no wall holds of a role, and what more of its facts it should not have."""
    powers = {
        "rolsuper": "is a superuser",
        "rolbypassrls": "bypasses row-level security",
        "owns": "owns tables",
        **more,
    }
    return [f"{role['name']} {power}" for fact, power in powers.items() if role[fact]]
