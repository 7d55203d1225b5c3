"""Consents and notices stay as they were entered, and a withdrawal needs what it withdraws."""

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, Statements
from app.models.membership.members import Member
from tests.factories.callers import DISTRICT
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_GIVEN = "(select id from consents where purpose = 'contact')"
_ADD = (
    "insert into consents (district_code, member_id, purpose, id, state, notice_number, method,"
    " acted_on, recorded_at, recorded_by, withdraws)"
    " select district_code, member_id, {purpose}, $1, {state}, {number}, {method}, acted_on,"
    " recorded_at, recorded_by, {withdraws} from consents where purpose = 'contact'"
)
_FACTS = {
    "purpose": "'contact'",
    "state": "'given'",
    "number": "1",
    "method": "'paper'",
    "withdraws": "null",
}


pytestmark = pytest.mark.usefixtures("member")


@pytest_asyncio.fixture
async def member(session: AsyncSession) -> Member:
    association = await make_association(session)
    on = clock.civil_date(clock.now())
    made = await make_member(session, association, consented_on=on)
    await session.commit()
    return made


async def _add(owner: Database, **facts: str) -> None:
    await owner.pool.execute(_ADD.format(**_FACTS | facts), clock.new_id())


@pytest.mark.parametrize(
    ("facts", "constraint"),
    [
        ({"state": "'withdrawn'"}, "ck_consents_withdraws"),
        ({"withdraws": _GIVEN}, "ck_consents_withdraws"),
        ({"state": "'withdrawn'", "withdraws": "member_id"}, "fk_consents_withdrawn"),
        (
            {"purpose": "'thanks'", "state": "'withdrawn'", "withdraws": _GIVEN},
            "fk_consents_withdrawn",
        ),
        ({"number": "77"}, "fk_consents_notice"),
        ({"number": "null", "method": "'app'"}, "ck_consents_notice"),
        ({"purpose": "'advertising'"}, "ck_consents_purpose"),
        ({"state": "'assumed'"}, "ck_consents_state"),
        ({"method": "'silence'"}, "ck_consents_method"),
    ],
)
async def test_the_table_refuses_what_cannot_be(
    owner: Database, facts: dict[str, str], constraint: str
) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refusal:
        await _add(owner, **facts)
    assert refusal.value.constraint_name == constraint


async def test_a_consent_is_withdrawn_once(owner: Database) -> None:
    withdrawal = {"state": "'withdrawn'", "withdraws": _GIVEN}
    await _add(owner, **withdrawal)
    withdrawal["withdraws"] = _GIVEN.replace("purpose =", "state = 'given' and purpose =")
    sql = _ADD.format(**_FACTS | withdrawal) + " and state = 'given'"
    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.pool.execute(sql, clock.new_id())


@pytest.mark.parametrize("table", ["consents", "privacy_notices"])
async def test_nobody_in_the_service_changes_or_deletes_one(
    statements: Statements, table: str
) -> None:
    for statement in (f"update {table} set district_code = district_code", f"delete from {table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await statements.fetch(statement, {})


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        (
            "phone_sealed = '', phone_index = '', contact_consented_on = null",
            "ck_members_consents",
        ),
        (
            "id_number_sealed = '', id_number_index = '', identity_consented_on = null",
            "ck_members_consents",
        ),
        ("thanks_withdrawn_on = '2026-01-01'", "ck_members_thanks"),
        ("status = 'left', erased_at = updated_at", "ck_members_erased"),
    ],
)
async def test_nothing_is_held_without_consent_to_it(
    owner: Database, change: str, constraint: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await owner.pool.execute(f"update members set {change}")
    assert refusal.value.constraint_name == constraint


@pytest.mark.parametrize(
    "change",
    ["digest = 'x'", "number = 0", "text_zh = ''", "purpose = 'other'"],
)
async def test_a_notice_says_something(owner: Database, change: str) -> None:
    sql = f"update privacy_notices set {change} where district_code = $1 and purpose = 'payment'"
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.pool.execute(sql, DISTRICT)
