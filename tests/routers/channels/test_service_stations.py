"""Service stations over HTTP: entered and edited by officers, known to all."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.roles import Role
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, Client, if_match, pointers
from tests.factories.channels.service_stations import make_station

_STATIONS = "/v1/service-stations"


async def test_a_station_is_entered_renamed_closed_and_opened_again(
    client: Callable[..., Client],
) -> None:
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    body = {"name": "狮山镇服务站", "area_code": SHISHAN}
    answer = await town.post(_STATIONS, json=body)
    assert answer.status_code == 201
    station: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"{_STATIONS}/{station['id']}"
    assert (station["status"], station["version"]) == ("open", 1)
    for changes in ({"name": "官窑服务站"}, {"status": "closed"}, {"status": "open"}):
        path = f"{_STATIONS}/{station['id']}"
        station = await town.ok("PATCH", path, json=changes, headers=if_match(station))
        assert changes.items() <= station.items()
    assert await town.ok("GET", f"{_STATIONS}/{station['id']}") == station


async def test_a_name_is_given_once_in_an_area(officer: Client, session: AsyncSession) -> None:
    await make_station(session, name="一站")
    other = await make_station(session, name="二站")
    await session.commit()
    taken: dict[str, Any] = {"status": 409, "code": "station_name_taken"}
    body = {"name": "一站", "area_code": SHISHAN}
    await officer.refused("POST", _STATIONS, json=body, **taken)
    path, match = f"{_STATIONS}/{other.id}", {"If-Match": '"1"'}
    await officer.refused("PATCH", path, json={"name": "一站"}, headers=match, **taken)
    await officer.ok("POST", _STATIONS, json=body | {"area_code": GUICHENG}, status=201)


@pytest.mark.parametrize(
    ("area_code", "code"), [(GUICHENG, "out_of_reach"), ("440605124999", "unknown_reference")]
)
async def test_a_station_is_entered_within_reach(
    client: Callable[..., Client], area_code: str, code: str
) -> None:
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    body = {"name": "一站", "area_code": area_code}
    problem = await town.refused("POST", _STATIONS, json=body, status=422, code="invalid")
    assert (pointers(problem), problem["errors"][0]["code"]) == (["/area_code"], code)


async def test_all_know_the_stations_of_the_district(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    ours = await make_station(session)
    theirs = await make_station(session, area_code=GUICHENG, status="closed")
    await session.commit()
    guide = client(Role.GUIDE, areas=[SHISHAN])
    for filters, expected in (
        ({}, [ours, theirs]),
        ({"area": SHISHAN}, [ours]),
        ({"area": DISTRICT}, [ours, theirs]),
        ({"status": "closed"}, [theirs]),
    ):
        listed = await guide.ok("GET", _STATIONS, params=filters)
        assert [each["id"] for each in listed["items"]] == [str(each.id) for each in expected]
    neighbour = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    path = f"{_STATIONS}/{theirs.id}"
    match = {"If-Match": '"1"'}
    await neighbour.refused(
        "PATCH", path, json={"name": "x"}, headers=match, status=404, code="not_found"
    )
