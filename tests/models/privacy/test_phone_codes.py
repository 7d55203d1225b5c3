"""Codes and limits are nobody's to read, and a change of phone is its member's alone."""

from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database, Statements
from app.models.membership.members import Member
from app.models.privacy.held_changes import HeldChange
from app.models.privacy.phone_codes import CodeLimit, CodePurpose, LimitKind, PhoneCode
from app.scopes import Acting, Scope
from tests.factories.callers import DISTRICT
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_phone
from tests.factories.organisation.associations import make_association

_TABLES = ("phone_codes", "code_limits", "held_changes")
_COUNT = "select count(*) from {}"


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    """A member with a row in each table."""
    made = await make_member_with_phone(
        session, keyring, await make_association(session), make_phone(1)
    )
    now = clock.now()
    session.add(
        PhoneCode(
            district_code=DISTRICT,
            id=clock.new_id(),
            purpose=CodePurpose.LOGIN.value,
            member_id=None,
            phone_index=b"i",
            former_index=None,
            digest=b"d",
            tries=0,
            created_at=now,
            expires_at=now,
            used_at=None,
            chosen_at=None,
        )
    )
    session.add(
        CodeLimit(
            district_code=DISTRICT,
            kind=LimitKind.PHONE.value,
            key=b"k",
            window_started_at=now,
            last_at=now,
            taken=1,
        )
    )
    session.add(
        HeldChange(
            district_code=DISTRICT,
            id=clock.new_id(),
            member_id=made.id,
            field="phone",
            value_sealed=b"s",
            requested_at=now,
            in_force_at=now + timedelta(hours=72),
            noticed_at=None,
            applied_at=None,
            cancelled_at=None,
        )
    )
    await session.commit()
    return made


async def _seen(database: Database, scope: Scope) -> dict[str, int | None]:
    statements, seen = Statements(database.pool, scope), dict[str, int | None]()
    for table in _TABLES:
        try:
            seen[table] = await statements.fetch_value(_COUNT.format(table), {})
        except asyncpg.InsufficientPrivilegeError:
            seen[table] = None
    return seen


async def test_only_a_rule_of_the_district_reads_codes_and_limits(
    database: Database, member: Member
) -> None:
    nothing = dict.fromkeys(_TABLES, 0)
    rule = Scope(Acting.DISTRICT, DISTRICT)
    assert await _seen(database, rule) == dict.fromkeys(_TABLES, 1)
    staff = Scope(Acting.STAFF, DISTRICT, "o", areas=(DISTRICT,)).showing(member.id)
    assert await _seen(database, staff) == dict.fromkeys(_TABLES)
    elsewhere = Scope(Acting.DISTRICT, "440606000000")
    assert await _seen(database, elsewhere) == nothing


async def test_a_member_reads_her_own_change_of_phone_alone(
    database: Database, member: Member
) -> None:
    hers = Scope(Acting.MEMBER, DISTRICT, "m", member=member.id)
    unseen = {"phone_codes": None, "code_limits": None}
    assert await _seen(database, hers) == unseen | {"held_changes": 1}
    other = Scope(Acting.MEMBER, DISTRICT, "m", member=clock.new_id()).showing(member.id)
    assert await _seen(database, other) == unseen | {"held_changes": 0}
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await Statements(database.pool, hers).fetch("update held_changes set member_id = id", {})


async def test_a_data_platform_and_the_queue_read_none(database: Database, member: Member) -> None:
    assert member.id.version == 7
    platform = Scope(Acting.PLATFORM, DISTRICT, "p", areas=(DISTRICT,))
    for scope in (platform, Scope(Acting.QUEUE)):
        assert await _seen(database, scope) == dict.fromkeys(_TABLES)


async def test_a_member_has_one_change_under_way(owner: Database, member: Member) -> None:
    assert member.id.version == 7
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.pool.execute(
            "insert into held_changes (district_code, id, member_id, field, value_sealed,"
            " requested_at, in_force_at) select district_code, $1, member_id, field, value_sealed,"
            " requested_at, in_force_at from held_changes",
            clock.new_id(),
        )
