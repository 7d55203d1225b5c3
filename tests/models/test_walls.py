"""The walls hold against every way around them that a bug of ours could take."""

import re
import time
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import (
    Database,
    Statements,
    connect,
    district_wide,
    session_settings,
    transaction,
)
from app.models.registry import metadata
from app.models.walls import NATION, SHARED, WALLS, ddl
from app.scopes import Acting, Scope, require_enterable
from app.services import walls
from app.settings import Settings
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_TOWN = Scope(Acting.STAFF, DISTRICT, "officer-1", areas=(SHISHAN,))
_OTHER_TOWN = Scope(Acting.STAFF, DISTRICT, "officer-2", areas=(GUICHENG,))
_ALL = Scope(Acting.DISTRICT, DISTRICT)
_COUNT = "select count(*) from {}"
_ROUND = (
    "insert into exam_rounds select district_code, gen_random_uuid(), 1, created_at, updated_at, 9,"
    " 'x', date '2030-01-01', date '2030-02-01', accepts_until, status, closed_at from exam_rounds"
)


async def _count(database: Database, scope: Scope, table: str) -> int:
    return int(await Statements(database.pool, scope).fetch_value(_COUNT.format(table), {}))


@pytest.fixture
async def member_id(session: AsyncSession) -> UUID:
    """A member of a town, who was at a health check."""
    association = await make_association(session)
    member = await make_member(session, association)
    event = await make_event(session, await make_round(session))
    await make_attendance(session, event, member)
    await session.commit()
    return member.id


def test_every_table_has_a_wall_or_says_why_not() -> None:
    assert set(WALLS) | NATION | SHARED == set(metadata.tables)
    assert not set(WALLS) & (NATION | SHARED)


async def test_the_database_has_the_walls_that_the_code_declares(owner: Database) -> None:
    declared = {
        (match[2], match[1])
        for each in ddl()
        if (match := re.match(r"create policy (\w+) on (\w+)", each))
    }
    rows = await owner.pool.fetch("select tablename, policyname from pg_policies")
    assert {(row["tablename"], row["policyname"]) for row in rows} == declared


async def test_the_service_finds_its_walls_standing(database: Database) -> None:
    assert await walls.breaches_of(database) == []


async def test_the_service_refuses_a_login_that_no_wall_holds(owner: Database) -> None:
    with pytest.raises(walls.WallsDown, match="is a superuser"):
        await walls.require(owner)


@pytest.mark.parametrize(
    ("given", "taken", "named"),
    [
        (
            "alter role jixie_service bypassrls",
            "alter role jixie_service nobypassrls",
            "jixie_service bypasses row-level security",
        ),
        (
            "create table hers (); alter table hers owner to jixie_service",
            "drop table hers",
            "jixie_service owns tables",
        ),
        (
            "alter table gifts owner to jixie_service",
            "alter table gifts owner to current_user",
            "jixie_service owns tables",
        ),
        (
            "alter role jixie_service inherit",
            "alter role jixie_service noinherit",
            "jixie_service inherits the rights of its roles",
        ),
    ],
)
async def test_the_service_refuses_its_own_login_once_it_may_more(
    owner: Database, database: Database, given: str, taken: str, named: str
) -> None:
    await owner.pool.execute(given)
    try:
        with pytest.raises(walls.WallsDown, match=named):
            await walls.require(database)
    finally:
        await owner.pool.execute(taken)
    await walls.require(database)


_SHUT = (
    "drop policy district on members; create policy district on members as restrictive to"
    " jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select"
    " current_setting('jixie.district')::bigint::text)) with check (district_code = (select"
    " current_setting('jixie.district')::bigint::text))"
)
BREACHES = {
    "members has no forced policies": (
        "alter table members no force row level security",
        "alter table members force row level security",
    ),
    "payouts has no forced policies": (
        "alter table payouts disable row level security",
        "alter table payouts enable row level security",
    ),
    "jixie_service may select members": (
        "grant select on members to jixie_service",
        "revoke select on members from jixie_service",
    ),
    "jixie_service may select members (name)": (
        "grant select (name) on members to jixie_service",
        "revoke select (name) on members from jixie_service",
    ),
    "public may select members": (
        "grant select on members to public",
        "revoke select on members from public",
    ),
    "members has a policy open that no wall declares": (
        "create policy open on members using (true)",
        "drop policy open on members",
    ),
    "jixie_staff may truncate members": (
        "grant truncate on members to jixie_staff",
        "revoke truncate on members from jixie_staff",
    ),
    "jixie_member may update consents (recorded_at)": (
        "grant update (recorded_at) on consents to jixie_member",
        "revoke update (recorded_at) on consents from jixie_member",
    ),
    "jixie_staff may select leak": (
        "create view leak as select * from members; grant select on leak to jixie_staff",
        "drop view leak",
    ),
    "jixie_platform may select stray (name)": (
        "create table stray (name text); grant select (name) on stray to jixie_platform",
        "drop table stray",
    ),
    "jixie_member may insert stray": (
        "create table stray (name text); grant insert on stray to jixie_member",
        "drop table stray",
    ),
    "aside.stray": (
        (
            "create schema aside; create table aside.stray (name text);"
            " grant usage on schema aside to public; grant select on aside.stray to public"
        ),
        "drop schema aside cascade",
    ),
    "names() runs with its owner's rights": (
        (
            "create function names() returns setof text security definer language sql"
            " begin atomic select name from members; end"
        ),
        "drop function names()",
    ),
    "members lacks its policy district": (
        "drop policy district on members",
        _SHUT.partition("; ")[2],
    ),
    "policy district of members is not as declared": (
        "alter policy district on members using (true)",
        _SHUT,
    ),
    "policy jixie_staff_select of memberships is not as declared": (
        "alter policy jixie_staff_select on memberships to jixie_staff, public",
        "alter policy jixie_staff_select on memberships to jixie_staff",
    ),
    "jixie_staff bypasses row-level security": (
        "alter role jixie_staff bypassrls",
        "alter role jixie_staff nobypassrls",
    ),
    "jixie_staff is a member of another role": (
        "grant jixie_district to jixie_staff",
        "revoke jixie_district from jixie_staff",
    ),
    "keeper owns tables": (
        (
            "create role keeper; grant keeper to jixie_service; create table kept ();"
            " alter table kept owner to keeper"
        ),
        "drop table kept; drop role keeper",
    ),
    "jixie_service may act as stranger": (
        "create role stranger; grant stranger to jixie_service",
        "drop role stranger",
    ),
    "jixie_service inherits the rights of its roles": (
        "alter role jixie_service inherit",
        "alter role jixie_service noinherit",
    ),
    "jixie_service may replicate all there is": (
        "alter role jixie_service replication",
        "alter role jixie_service noreplication",
    ),
    "jixie_service may make roles": (
        "alter role jixie_service createrole",
        "alter role jixie_service nocreaterole",
    ),
    "jixie_service may make databases": (
        "alter role jixie_service createdb",
        "alter role jixie_service nocreatedb",
    ),
    "jixie_staff may make roles": (
        "alter role jixie_staff createrole",
        "alter role jixie_staff nocreaterole",
    ),
    "jixie_service may give its roles to others": (
        "grant jixie_staff to jixie_service with admin option",
        "revoke admin option for jixie_staff from jixie_service",
    ),
    "jixie_service may set session_replication_role": (
        "grant set on parameter session_replication_role to jixie_service",
        "revoke set on parameter session_replication_role from jixie_service",
    ),
    "jixie_service may create in public": (
        "grant create on schema public to jixie_service",
        "revoke create on schema public from jixie_service",
    ),
    "public may create in public": (
        "grant create on schema public to public",
        "revoke create on schema public from public",
    ),
    "jixie_staff may create schemas": (
        (
            "do $$ begin execute format('grant create on database %I to jixie_staff', "
            "current_database()); end $$"
        ),
        (
            "do $$ begin execute format('revoke create on database %I from jixie_staff', "
            "current_database()); end $$"
        ),
    ),
    "jixie_district owns tables": (
        (
            "create schema aside; create table aside.copied as select * from members; alter "
            "table aside.copied owner to jixie_district"
        ),
        "drop schema aside cascade",
    ),
    "jixie_staff owns tables": (
        (
            "create materialized view copied as select * from members; alter materialized "
            "view copied owner to jixie_staff"
        ),
        "drop materialized view copied",
    ),
    "rule seen of gifts runs with its owner's rights": (
        "create rule seen as on update to gifts do also delete from members",
        "drop rule seen on gifts",
    ),
    "trigger seen of gifts runs with its owner's rights": (
        (
            "create function seen() returns trigger language plpgsql security definer as $f$ "
            "begin return new; end $f$; revoke execute on function seen() from public; create"
            " trigger seen before insert on gifts for each row execute function seen()"
        ),
        "drop function seen() cascade",
    ),
}


@pytest.mark.parametrize("named", BREACHES)
async def test_a_breach_is_named_at_the_start(
    owner: Database, database: Database, named: str
) -> None:
    breach, mended = BREACHES[named]
    await owner.pool.execute(breach)
    try:
        assert any(named in each for each in await walls.breaches_of(database))
    finally:
        await owner.pool.execute(mended)
    assert await walls.breaches_of(database) == []


async def test_a_restrictive_policy_made_permissive_is_named(
    owner: Database, database: Database
) -> None:
    await owner.pool.execute(_SHUT.replace("as restrictive ", ""))
    try:
        found = await walls.breaches_of(database)
    finally:
        await owner.pool.execute(_SHUT)
    assert found == ["policy district of members is not as declared"]


async def test_a_membership_that_is_inherited_is_named(owner: Database, database: Database) -> None:
    if int(await owner.pool.fetchval("show server_version_num")) < 160000:
        pytest.skip("before version 16 the role alone says whether it inherits")
    await owner.pool.execute("grant jixie_district to jixie_service with inherit true")
    try:
        found = await walls.breaches_of(database)
    finally:
        await owner.pool.execute("grant jixie_district to jixie_service with inherit false")
    assert found[0] == "jixie_service inherits the rights of its roles"


async def test_looking_at_the_walls_is_quick_and_leaves_nothing(database: Database) -> None:
    started = time.perf_counter()
    assert await walls.breaches_of(database) == []
    assert time.perf_counter() - started < 3, "ten times what it should take, on a busy machine"
    assert await database.pool.fetchval("select to_regclass('pg_temp.conditions')") is None


async def test_a_backslash_that_would_escape_is_named(
    config: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = session_settings(config) | {"standard_conforming_strings": "off"}
    monkeypatch.setattr("app.database.session_settings", lambda _: off)
    opened = await connect(database_url, config)
    try:
        [found] = await walls.breaches_of(opened)
    finally:
        await opened.close()
    assert found.endswith("standard_conforming_strings is off")


async def test_a_backslash_is_itself_whatever_the_server_says(
    owner: Database, config: Settings, database_url: str
) -> None:
    name = await owner.pool.fetchval("select current_database()")
    await owner.pool.execute(f'alter database "{name}" set standard_conforming_strings = off')
    opened = await connect(database_url, config)
    try:
        assert await opened.pool.fetchval("select '\\'") == "\\"
        async with opened.engine.connect() as connection:
            assert await connection.scalar(text("show standard_conforming_strings")) == "on"
        assert await walls.breaches_of(opened) == []
    finally:
        await opened.close()
        await owner.pool.execute(f'alter database "{name}" reset standard_conforming_strings')


async def test_many_breaches_are_told_in_one_line(owner: Database, database: Database) -> None:
    await owner.pool.execute("grant all on all tables in schema public to public")
    try:
        with pytest.raises(walls.WallsDown, match=r"public may .*; and \d+ more$"):
            await walls.require(database)
    finally:
        await owner.pool.execute("revoke all on all tables in schema public from public")


@pytest.mark.parametrize("table", sorted(metadata.tables))
async def test_the_login_itself_reaches_no_table(database: Database, table: str) -> None:
    for statement in (
        f"select from {table}",
        f"delete from {table}",
        f"truncate {table}",
        f"copy {table} to stdout",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.pool.execute(statement)


@pytest.mark.parametrize("acting", [Acting.STAFF, Acting.MEMBER, Acting.PLATFORM, Acting.DISTRICT])
async def test_a_role_without_a_scope_is_an_error_and_never_rows(
    database: Database, member_id: UUID, acting: Acting
) -> None:
    assert member_id.version == 7
    async with database.pool.acquire() as connection:
        # Its second use after another scope: a setting of that transaction is empty by now.
        for _ in range(2):
            async with connection.transaction():
                await connection.execute(_ALL.entry)
                assert await connection.fetchval("select count(*) from service_events") == 1
            await connection.execute(f"begin; set local role {acting}")
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                await connection.fetch("select id from service_events")
            await connection.execute("rollback")


async def test_a_town_sees_its_people_and_no_other_town_does(
    database: Database, member_id: UUID
) -> None:
    assert member_id.version == 7
    for table in ("members", "associations", "service_events"):
        assert await _count(database, _TOWN, table) == 1
        assert await _count(database, _OTHER_TOWN, table) == 0
        assert await _count(database, _ALL, table) == 1
    several = Scope(Acting.STAFF, DISTRICT, "o", areas=(GUICHENG, "440605126000"))
    assert await _count(database, several, "members") == 0, "what lies between is not within"


async def test_what_belongs_to_a_record_is_reached_through_it_alone(
    database: Database, member_id: UUID
) -> None:
    event_id = await Statements(database.pool, _ALL).fetch_value(
        "select event_id from attendances", {}
    )
    for table in ("attendances", "memberships"):
        assert await _count(database, _TOWN, table) == 0
        assert await _count(database, _TOWN.showing(member_id), table) == 1
        assert await _count(database, _TOWN.showing(clock.new_id()), table) == 0
    assert await _count(database, _TOWN.showing(event_id), "attendances") == 1


async def test_a_member_sees_herself_whatever_she_was_shown(
    database: Database, member_id: UUID
) -> None:
    stranger = Scope(Acting.MEMBER, DISTRICT, "m-2", member=clock.new_id()).showing(member_id)
    herself = Scope(Acting.MEMBER, DISTRICT, "m-1", member=member_id)
    for table in ("members", "memberships", "attendances"):
        assert await _count(database, stranger, table) == 0
        assert await _count(database, herself, table) == 1


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("operations", "arguments"),
        ("operations", "requested_by, result"),
        ("audit_unsealed", "subject, entry"),
        ("audit_seals", "entry_ids, leaves"),
        ("audit_seals", "head"),
    ],
)
async def test_who_looks_for_work_reads_where_it_is_and_nothing_of_it(
    database: Database, table: str, columns: str
) -> None:
    queue = Statements(database.pool, Scope(Acting.QUEUE, subject="nobody"))
    await queue.fetch(f"select district_code from {table}", {})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await queue.fetch(f"select {columns} from {table}", {})


async def test_another_district_sees_nothing(database: Database, member_id: UUID) -> None:
    for acting in (Acting.STAFF, Acting.DISTRICT, Acting.PLATFORM, Acting.MEMBER):
        scope = Scope(acting, "440606000000", "o", areas=(DISTRICT,), member=member_id).showing(
            member_id
        )
        assert await _count(database, scope, "service_events") == 0


async def test_a_data_platform_reaches_no_person(database: Database, member_id: UUID) -> None:
    scope = Scope(Acting.PLATFORM, DISTRICT, "p", areas=(DISTRICT,)).showing(member_id)
    for table in ("members", "attendances", "payouts", "officers", "person_keys"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _count(database, scope, table)


@pytest.mark.usefixtures("member_id")
@pytest.mark.parametrize(
    "statement",
    [
        "update members set area_code = '440605011001'",
        _ROUND,
    ],
)
async def test_nothing_is_written_beyond_the_scope(database: Database, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await Statements(database.pool, _TOWN).fetch(statement, {})


@pytest.mark.usefixtures("member_id")
@pytest.mark.parametrize(
    "statement",
    [
        "delete from members",
        "truncate members",
        "alter table members disable row level security",
        "set local row_security = off; select 1/count(*) from members",
        "set local session authorization postgres",
        "create policy open on members using (true)",
        "grant jixie_district to jixie_staff",
    ],
)
async def test_an_office_cannot_open_its_wall(database: Database, statement: str) -> None:
    async with database.pool.acquire() as connection:
        await connection.execute(f"begin; {_OTHER_TOWN.entry}")
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute(statement)
        await connection.execute("rollback")


@pytest.mark.usefixtures("member_id")
async def test_a_prepared_statement_keeps_to_the_scope_in_which_it_runs(
    database: Database,
) -> None:
    async with database.pool.acquire() as connection:
        seen = []
        for scope in (_TOWN, _OTHER_TOWN, _ALL, _OTHER_TOWN, _TOWN):
            async with connection.transaction():
                await connection.execute(scope.entry)
                seen.append(await connection.fetchval("select count(*) from members"))
        assert seen == [1, 0, 1, 0, 1]


@pytest.mark.usefixtures("member_id")
async def test_a_transaction_returns_to_its_callers_scope_after_a_rule(
    database: Database,
) -> None:
    async with transaction(database, _OTHER_TOWN) as session:
        connection = await session.connection()
        before = await connection.exec_driver_sql("select count(*) from members")
        async with district_wide(session):
            within = await connection.exec_driver_sql("select count(*) from members")
        after = await connection.exec_driver_sql("select count(*) from members")
    assert [each.scalar() for each in (before, within, after)] == [0, 1, 0]


@pytest.mark.parametrize("code", ["", "440605", "44060500000x", "' or true", "0" * 12])
def test_a_scope_takes_no_code_that_is_none(code: str) -> None:
    with pytest.raises(ValueError, match="area code"):
        require_enterable(Scope(Acting.STAFF, DISTRICT, areas=(code,)))
    with pytest.raises(ValueError, match="area code"):
        require_enterable(Scope(Acting.STAFF, code))


async def test_a_subject_is_a_value_and_never_sql(database: Database) -> None:
    subject = "o'; set local role jixie_district; --"
    scope = Scope(Acting.STAFF, DISTRICT, subject, areas=(GUICHENG,))
    statements = Statements(database.pool, scope)
    row = await statements.fetch_row(
        "select current_user as role, current_setting('jixie.subject') as subject", {}
    )
    assert row is not None
    assert dict(row) == {"role": "jixie_staff", "subject": subject}
    for refused in ("a\nb", "a\\'; set local role jixie_district; --", "a\\"):
        with pytest.raises(ValueError, match="subject"):
            require_enterable(Scope(Acting.STAFF, DISTRICT, refused))
