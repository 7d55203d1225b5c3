"""A grant that makes no sense is not stored, whoever asks; a wall stands around each."""

from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, Statements
from app.database_errors import constraint_name
from app.scopes import Acting, Scope
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, VILLAGE

_COUNT = "select count(*) from grants"
_COPY = (
    "insert into grants select (jsonb_populate_record(g, jsonb_build_object("
    "'id', gen_random_uuid(), 'area_code', '440605011000'))).* from grants g limit 1"
)
_NOW = clock.now()


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"role": "emperor"}, "ck_grants_role"),
        ({"subject": ""}, "ck_grants_subject"),
        ({"granted_by": "somebody"}, "ck_grants_to_another"),
        ({"starts_at": _NOW, "ends_at": _NOW}, "ck_grants_term"),
        ({"role": "member"}, "ck_grants_member"),
        ({"area_code": "440606000000"}, "ck_grants_area"),
        ({"areas": [SHISHAN] * 51}, "ck_grants_reach"),
        ({"association_ids": [clock.new_id()] * 51}, "ck_grants_reach"),
        ({"event_ids": [clock.new_id()] * 51}, "ck_grants_reach"),
        ({"revoked_at": _NOW}, "ck_grants_revoked"),
        ({"revoked_at": _NOW, "revoked_by": "officer-2"}, "ck_grants_revoked"),
        ({"revoke_reason": "为何"}, "ck_grants_revoked"),
    ],
    ids=lambda each: each if isinstance(each, str) else ",".join(each),
)
async def test_the_database_keeps_no_senseless_grant(
    session: AsyncSession, facts: dict[str, Any], constraint: str
) -> None:
    with pytest.raises(IntegrityError) as raised:
        await make_grant(session, **facts)
    assert constraint_name(raised.value) == constraint


def _staff(*areas: str) -> Scope:
    return Scope(Acting.STAFF, DISTRICT, "officer-1", areas=areas)


async def test_an_office_sees_the_grants_of_its_areas_alone(
    session: AsyncSession, database: Database
) -> None:
    for area in (DISTRICT, SHISHAN, VILLAGE, GUICHENG):
        await make_grant(session, subject=f"of-{area}", area_code=area)
    await session.commit()
    seen = {
        scope: await Statements(database.pool, scope).fetch_value(_COUNT, {})
        for scope in (_staff(DISTRICT), _staff(SHISHAN), _staff(GUICHENG), _staff())
    }
    assert list(seen.values()) == [4, 2, 1, 0]


@pytest.mark.parametrize("acting", [Acting.MEMBER, Acting.PLATFORM])
async def test_who_holds_no_office_sees_no_grant(database: Database, acting: Acting) -> None:
    scope = Scope(acting, DISTRICT, "somebody", areas=(DISTRICT,))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await Statements(database.pool, scope).fetch(_COUNT, {})


async def test_admission_sees_one_subject_in_every_district_and_changes_nothing(
    session: AsyncSession, database: Database
) -> None:
    for subject, district in (("her", DISTRICT), ("her", "440606000000"), ("him", DISTRICT)):
        await make_grant(session, subject=subject, district_code=district)
    await session.commit()
    for subject, expected in (("her", 2), ("him", 1), ("nobody", 0), ("", 0)):
        statements = Statements(database.pool, Scope(Acting.QUEUE, subject=subject))
        assert await statements.fetch_value(_COUNT, {}) == expected
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await statements.fetch("update grants set role = 'auditor' returning id", {})


@pytest.mark.parametrize(
    "statement",
    [
        _COPY,
        "update grants set area_code = '440605011000'",
        "delete from grants",
    ],
)
async def test_a_town_writes_no_grant_beyond_itself(
    session: AsyncSession, database: Database, statement: str
) -> None:
    await make_grant(session, area_code=SHISHAN)
    await session.commit()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await Statements(database.pool, _staff(SHISHAN)).fetch(statement, {})
