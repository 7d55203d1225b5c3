"""What the tables of associations, their hosts and what they keep never hold."""

from datetime import date
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database_errors import constraint_name
from app.models.organisation.associations import Mode
from app.models.organisation.host_organisations import HostKind
from app.models.organisation.officers import Office
from tests.factories.organisation.associations import make_association, make_host, make_uscc
from tests.factories.organisation.facilities import make_facility
from tests.factories.organisation.officers import make_officer
from tests.factories.organisation.regulations import make_regulation


async def _breaks(session: AsyncSession, constraint: str, sql: str, **params: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql), params)
    assert constraint_name(caught.value) == constraint


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("uscc = null", "ck_host_organisations_enterprise_has_uscc"),
        ("staff_count = -1", "ck_host_organisations_staff_count"),
        ("kind = 'castle'", "ck_host_organisations_kind"),
        ("park_id = id", "ck_host_organisations_park_is_another"),
        ("area_code = '999999999999'", "fk_host_organisations_area"),
    ],
)
async def test_a_host_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await make_host(session)
    await _breaks(session, constraint, f"update host_organisations set {change}")


async def test_a_code_is_one_hosts_in_a_district(session: AsyncSession) -> None:
    await make_host(session, uscc=make_uscc(1))
    await make_host(session, uscc=make_uscc(2))
    await _breaks(
        session,
        "uq_host_organisations_uscc",
        "update host_organisations set uscc = :uscc",
        uscc=make_uscc(3),
    )


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("mode = 'secret'", "ck_associations_mode"),
        ("status = 'asleep'", "ck_associations_status"),
        ("parent_id = id", "ck_associations_parent_is_another"),
        ("mode = 'community'", "ck_associations_parent_of_affiliated"),
        ("host_id = id", "fk_associations_host"),
    ],
)
async def test_an_association_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    parent = await make_association(session, Mode.VILLAGE)
    shop = await make_association(session, Mode.AFFILIATED, parent_id=parent.id)
    await _breaks(
        session, constraint, f"update associations set {change} where id = :id", id=shop.id
    )


async def test_a_host_has_one_association_that_is_not_dissolved(session: AsyncSession) -> None:
    host = await make_host(session, kind=HostKind.MARKET)
    await make_association(session, Mode.PROFESSIONAL, host_id=host.id)
    await make_association(session, Mode.PROFESSIONAL, host_id=host.id, status="dissolved")
    await _breaks(session, "uq_associations_host", "update associations set status = 'suspended'")


async def test_a_village_has_one_active_village_association(session: AsyncSession) -> None:
    await make_association(session, Mode.VILLAGE)
    await make_association(session, Mode.VILLAGE, status="suspended")
    await _breaks(
        session, "uq_associations_active_village", "update associations set status = 'active'"
    )


async def test_terms_and_periods_end_after_they_begin(session: AsyncSession) -> None:
    association = await make_association(session)
    await make_officer(session, association, Office.PRESIDENT)
    await make_facility(session, association)
    await session.commit()
    day = date(2023, 12, 31)
    await _breaks(session, "ck_officers_term", "update officers set ends_on = :day", day=day)
    await session.rollback()
    await _breaks(
        session, "ck_facilities_period", "update facilities set closed_on = :day", day=day
    )


async def test_an_edition_is_stored_once(session: AsyncSession) -> None:
    association = await make_association(session)
    await make_regulation(session, association)
    await make_regulation(session, association, edition=2, id=clock.new_id())
    await _breaks(session, "uq_regulations_edition", "update regulations set edition = 3")
