"""What each mode must have before it is activated, seen beforehand and at the step."""

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.organisation.areas import AreaSetting
from app.models.organisation.associations import Association, Mode
from app.models.organisation.facilities import FacilityKind
from app.models.organisation.host_organisations import HostKind, HostOrganisation
from app.models.organisation.officers import Office
from app.models.organisation.regulations import RegulationKind
from app.services.organisation import activation
from tests.factories.callers import DISTRICT, SHISHAN, VILLAGE, Client
from tests.factories.organisation.associations import make_association, make_host
from tests.factories.organisation.facilities import make_facility
from tests.factories.organisation.officers import make_officer
from tests.factories.organisation.regulations import make_regulation

PATH = "/v1/associations"
OF_ALL = ["president_in_office", "secretary_general_in_office", "charter_adopted"]
Supply = Callable[[AsyncSession, Association], Awaitable[None]]


async def _supply_all(session: AsyncSession, association: Association) -> None:
    await make_officer(session, association, Office.PRESIDENT)
    await make_officer(session, association, Office.SECRETARY_GENERAL)
    await make_regulation(session, association, RegulationKind.CHARTER)


async def _set_threshold(session: AsyncSession, value: int, **facts: Any) -> None:
    values: dict[str, Any] = {
        "district_code": DISTRICT,
        "area_code": DISTRICT,
        "key": "independent_min_staff",
        "effective_on": date(2024, 1, 1),
        "value": value,
        "provenance": "assumed",
        "set_by": "test",
        "set_at": clock.now(),
    }
    session.add(AreaSetting(**(values | facts)))
    await session.flush()


async def _host(session: AsyncSession, association: Association) -> HostOrganisation:
    host = await session.get(HostOrganisation, (DISTRICT, association.host_id))
    assert host is not None
    return host


async def _supply_independent(session: AsyncSession, association: Association) -> None:
    await _set_threshold(session, 800)
    await make_facility(session, association, FacilityKind.SERVICE_ROOM)


async def _supply_affiliated(session: AsyncSession, association: Association) -> None:
    association.parent_id = (await make_association(session, Mode.VILLAGE)).id
    await session.flush()


async def _supply_park(session: AsyncSession, association: Association) -> None:
    await make_regulation(session, association, RegulationKind.PARK_REGULATION)
    await make_host(session, park_id=association.host_id)
    await make_host(session, kind=HostKind.SMALL_BUSINESS, park_id=association.host_id)


async def _supply_professional(session: AsyncSession, association: Association) -> None:
    (await _host(session, association)).industry_code = "F5123"
    await make_regulation(session, association, RegulationKind.MARKET_REVIEW_RULE)


async def _supply_nothing(session: AsyncSession, association: Association) -> None:
    """Need nothing beyond what all need."""


@pytest.mark.parametrize(
    ("mode", "own", "supply"),
    [
        (Mode.INDEPENDENT, ["service_room_open", "staff_threshold_set"], _supply_independent),
        (Mode.AFFILIATED, ["active_village_parent"], _supply_affiliated),
        (Mode.PARK, ["park_regulation_published", "tenant_enterprises"], _supply_park),
        (
            Mode.PROFESSIONAL,
            ["industry_code_known", "market_review_rule_published"],
            _supply_professional,
        ),
        (Mode.COMMUNITY, [], _supply_nothing),
        (Mode.VILLAGE, [], _supply_nothing),
    ],
)
async def test_a_mode_is_activated_when_all_it_needs_is_there(
    officer: Client, session: AsyncSession, mode: Mode, own: list[str], supply: Supply
) -> None:
    association = await make_association(session, mode, status="preparing")
    await session.commit()
    assert await _unmet_at_the_step(officer, association) == OF_ALL + own
    assert await _unmet_beforehand(officer, association) == OF_ALL + own

    await _supply_all(session, association)
    await session.commit()
    if own:
        assert await _unmet_at_the_step(officer, association) == own

    await supply(session, association)
    await session.commit()
    assert await _unmet_beforehand(officer, association) == []
    activated = await officer.ok(
        "POST", f"{PATH}/{association.id}/activate", headers={"If-Match": '"1"'}
    )
    assert activated["status"] == "active"


async def _unmet_at_the_step(officer: Client, association: Association) -> list[str]:
    problem = await officer.refused(
        "POST",
        f"{PATH}/{association.id}/activate",
        headers={"If-Match": '"1"'},
        status=409,
        code="activation_conditions_unmet",
    )
    return [reason["code"] for reason in problem["unmet"]]


async def _unmet_beforehand(officer: Client, association: Association) -> list[str]:
    read = await officer.ok("GET", f"{PATH}/{association.id}/activation")
    unmet = [each["code"] for each in read["conditions"] if not each["met"]]
    assert read["is_ready"] is not bool(unmet)
    assert all(each["detail"] != each["code"] for each in read["conditions"])
    return unmet


async def test_conditions_are_told_in_the_callers_language(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session, Mode.PARK, status="preparing")
    await session.commit()
    path = f"{PATH}/{association.id}/activation"

    english = await officer.ok("GET", path)
    chinese = await officer.ok("GET", path, headers={"Accept-Language": "zh-CN"})

    assert english["conditions"][0]["detail"] == "A president is in office."
    assert chinese["conditions"][0]["detail"] == "有在任会长。"
    assert "2" in chinese["conditions"][-1]["detail"]


async def test_the_staff_threshold_is_the_nearest_areas(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session, Mode.INDEPENDENT, status="preparing")
    await _supply_all(session, association)
    await make_facility(session, association)
    await _set_threshold(session, 10)
    await _set_threshold(session, 801, area_code=SHISHAN)
    await session.commit()

    assert await _unmet_at_the_step(officer, association) == ["staff_threshold_reached"]
    (await _host(session, association)).staff_count = 801
    await session.commit()
    assert await _unmet_beforehand(officer, association) == []


async def _unmet(session: AsyncSession, association: Association, on: date) -> list[str]:
    found = await activation.conditions(session, association, on=on)
    return [each.code for each in found if not each.is_met]


async def test_what_has_ended_or_not_begun_does_not_count(session: AsyncSession) -> None:
    day = date(2026, 3, 1)
    association = await make_association(session, Mode.INDEPENDENT, status="preparing")
    await _set_threshold(session, 1)
    await make_officer(session, association, Office.PRESIDENT, ends_on=day)
    await make_officer(session, association, Office.SECRETARY_GENERAL, starts_on=day)
    await make_regulation(session, association, adopted_on=None, edition=1)
    await make_regulation(session, association, adopted_on=day, edition=2)
    await make_facility(session, association, opened_on=date(2025, 1, 1), closed_on=day)

    assert await _unmet(session, association, day - timedelta(days=1)) == [
        "secretary_general_in_office",
        "charter_adopted",
    ]
    assert await _unmet(session, association, day) == ["president_in_office", "service_room_open"]


async def test_a_parent_must_be_active(session: AsyncSession) -> None:
    parent = await make_association(session, Mode.VILLAGE, status="suspended")
    association = await make_association(session, Mode.AFFILIATED, parent_id=parent.id)

    assert "active_village_parent" in await _unmet(session, association, date(2026, 1, 1))
    parent.status = "active"
    await session.flush()
    assert "active_village_parent" not in await _unmet(session, association, date(2026, 1, 1))


async def test_a_village_association_has_no_active_rival_and_lies_in_a_village(
    session: AsyncSession,
) -> None:
    await make_association(session, Mode.VILLAGE)
    rival = await make_association(session, Mode.VILLAGE, area_code=VILLAGE, status="preparing")
    in_town = await make_association(session, Mode.VILLAGE, area_code=SHISHAN, status="preparing")

    assert "only_active_in_village" in await _unmet(session, rival, date(2026, 1, 1))
    assert "village_area" in await _unmet(session, in_town, date(2026, 1, 1))


async def test_only_enterprises_count_as_tenants(session: AsyncSession) -> None:
    association = await make_association(session, Mode.PARK, status="preparing")
    await make_host(session, park_id=association.host_id)
    await make_host(session, kind=HostKind.MARKET, park_id=association.host_id)

    assert "tenant_enterprises" in await _unmet(session, association, date(2026, 1, 1))
