"""Whom a subject works for is read from all of her grants, whenever and by whom they were given."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, granting
from app.database import Database
from app.granting import Order
from app.roles import Role
from app.services.access.admission import Admission
from app.tokens import AccessToken
from tests.factories.access.grants import make_grant
from tests.factories.callers import SHISHAN

_ELSEWHERE = "440606000000"
_TOWN: dict[str, Any] = {"subject": "hr", "role": Role.TOWN_OFFICER.value, "areas": [SHISHAN]}
_LINKED = _TOWN | {"role": Role.GUIDE.value, "employer_linked": True}


async def _is_linked(database: Database, grant_id: UUID) -> bool:
    admission = Admission(database)
    return (await admission.admit(AccessToken("hr"), str(grant_id))).employer_linked


@pytest.mark.parametrize("comes_first", ["office", "link"])
async def test_one_linked_grant_counts_for_all_of_a_subjects_offices(
    database: Database, session: AsyncSession, comes_first: str
) -> None:
    facts = [_TOWN, _LINKED] if comes_first == "office" else [_LINKED, _TOWN]
    made = {each.role: each for each in [await make_grant(session, **each) for each in facts]}
    await session.commit()
    office, link = made[Role.TOWN_OFFICER], made[Role.GUIDE]
    assert await _is_linked(database, link.id) is True
    assert await _is_linked(database, office.id) is True
    link.change(clock.now(), revoked_at=clock.now(), revoked_by="o", revoke_reason="离职")
    await session.commit()
    assert await _is_linked(database, office.id) is False, "she works there no more"


async def test_a_link_counts_from_its_start_to_its_end_in_its_district(
    database: Database, session: AsyncSession
) -> None:
    now = clock.now()
    office = await make_grant(session, **_TOWN)
    for starts_at, ends_at in ((1, 2), (-2, -1)):
        term = {"starts_at": now + timedelta(days=starts_at), "ends_at": now + timedelta(ends_at)}
        await make_grant(session, **_LINKED, **term)
    await make_grant(session, **_LINKED, district_code=_ELSEWHERE)
    await session.commit()
    assert await _is_linked(database, office.id) is False


async def test_her_own_record_is_hers_whomever_she_works_for(
    database: Database, session: AsyncSession
) -> None:
    own = {"role": Role.MEMBER.value, "areas": [], "member_id": clock.new_id()}
    grant = await make_grant(session, **(_TOWN | own))
    await make_grant(session, **_LINKED)
    await session.commit()
    assert await _is_linked(database, grant.id) is False


async def test_what_the_shell_grants_to_a_linked_subject_is_linked_too(
    database: Database, session: AsyncSession, owner: Database
) -> None:
    await make_grant(session, **_LINKED)
    await session.commit()
    order = Order(Role.FINANCE_CLERK, "hr", areas=[SHISHAN])
    assert await _is_linked(database, await granting.provide(owner, order)) is True
    other = await granting.provide(owner, replace(order, subject="another"))
    admitted = await Admission(database).admit(AccessToken("another"), str(other))
    assert admitted.employer_linked is False
