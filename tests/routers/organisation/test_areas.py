"""The tree of areas over HTTP."""

from collections.abc import Callable

import pytest

from app import clock
from app.roles import Role
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, Client, pointers


async def test_the_towns_of_a_district_are_its_children(officer: Client) -> None:
    page = await officer.ok("GET", "/v1/areas", params={"parent_code": DISTRICT})

    assert len(page["items"]) == 7
    assert page["items"][0] == {
        "code": GUICHENG,
        "name": "桂城街道",
        "level": "town",
        "parent_code": DISTRICT,
    }
    assert page["next_cursor"] is None


async def test_pages_follow_each_other_without_gap_or_repeat(officer: Client) -> None:
    params = {"level": "village", "limit": 100, "include_total": "true"}
    first = await officer.ok("GET", "/v1/areas", params=params)
    codes = [item["code"] for item in first["items"]]
    cursor = first["next_cursor"]
    while cursor:
        page = await officer.ok("GET", "/v1/areas", params={**params, "cursor": cursor})
        codes += [item["code"] for item in page["items"]]
        cursor = page["next_cursor"]

    assert first["total"] == len(codes) == len(set(codes)) == 307
    assert codes == sorted(codes)


async def test_an_area_filter_matches_the_area_and_all_below(officer: Client) -> None:
    page = await officer.ok("GET", "/v1/areas", params={"area": SHISHAN, "limit": 200})

    assert len(page["items"]) == 85
    assert all(item["code"].startswith("440605124") for item in page["items"])


async def test_a_cursor_of_other_filters_is_refused(officer: Client) -> None:
    page = await officer.ok("GET", "/v1/areas", params={"level": "village"})

    await officer.refused(
        "GET",
        "/v1/areas",
        params={"level": "town", "cursor": page["next_cursor"]},
        status=400,
        code="cursor_mismatch",
    )
    await officer.refused(
        "GET", "/v1/areas", params={"cursor": "nonsense!"}, status=400, code="cursor_malformed"
    )


async def test_unknown_parameters_and_wrong_values_are_named(officer: Client) -> None:
    params = {"lvl": "town"}
    problem = await officer.refused("GET", "/v1/areas", params=params, status=422, code="invalid")
    assert pointers(problem) == ["lvl"]

    params = {"level": "county", "limit": "0"}
    problem = await officer.refused("GET", "/v1/areas", params=params, status=422, code="invalid")
    assert pointers(problem) == ["limit", "level/0"]


async def test_an_unknown_area_is_not_found(officer: Client) -> None:
    await officer.refused("GET", "/v1/areas/110000000000", status=404, code="not_found")


async def test_nobody_reads_without_a_token(client: Callable[..., Client]) -> None:
    answer = await client(None).get("/v1/areas")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_setting_holds_below_until_a_nearer_area_sets_its_own(officer: Client) -> None:
    body = {"value": 500, "effective_on": "2024-01-01", "provenance": "assumed"}
    path = "/settings/independent_min_staff"
    await officer.ok("PUT", f"/v1/areas/{DISTRICT}{path}", json=body)
    await officer.ok("PUT", f"/v1/areas/{SHISHAN}{path}", json={**body, "value": 300})

    inherited = await officer.ok("GET", f"/v1/areas/{GUICHENG}/settings")
    own = await officer.ok("GET", "/v1/areas/440605124201/settings")

    assert [each["value"] for each in inherited["items"]] == [500]
    assert [(each["value"], each["area_code"]) for each in own["items"]] == [(300, SHISHAN)]


async def test_settings_are_paged_and_narrowed(officer: Client) -> None:
    body = {"value": 5, "effective_on": "2024-01-01", "provenance": "assumed"}
    keys = ["correction_days", "flag_rush", "independent_min_staff"]
    path = f"/v1/areas/{DISTRICT}/settings"
    for key in keys:
        await officer.ok("PUT", f"{path}/{key}", json=body)
    first = await officer.ok("GET", path, params={"limit": 2, "include_total": "true"})
    rest = await officer.ok("GET", path, params={"limit": 2, "cursor": first["next_cursor"]})
    assert [each["key"] for each in first["items"] + rest["items"]] == keys
    assert (first["total"], rest["next_cursor"]) == (3, None)
    one = await officer.ok("GET", path, params={"key": "flag_rush"})
    assert [each["key"] for each in one["items"]] == ["flag_rush"]


@pytest.mark.parametrize("role", [Role.MEMBER, Role.DATA_PLATFORM])
async def test_who_set_a_value_is_told_to_offices_alone(
    officer: Client, client: Callable[..., Client], role: Role
) -> None:
    path = f"/v1/areas/{SHISHAN}/settings"
    body = {"value": 30, "effective_on": "2026-01-01", "provenance": "printed"}
    await officer.ok("PUT", f"{path}/independent_min_staff", json=body)
    reach = {"member_id": str(clock.new_id())} if role is Role.MEMBER else {}
    [told] = (await client(role, **reach).ok("GET", path))["items"]
    assert (told["value"], told["set_by"]) == (30, None)
    [known] = (await officer.ok("GET", path))["items"]
    assert known["set_by"] == "district_officer-1"


async def test_only_the_district_sets_values(client: Callable[..., Client]) -> None:
    body = {"value": 500, "effective_on": "2024-01-01", "provenance": "assumed"}
    path = f"/v1/areas/{SHISHAN}/settings/independent_min_staff"
    officer = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    await officer.refused("PUT", path, json=body, status=403, code="forbidden")
    elsewhere = client(Role.DISTRICT_OFFICER, areas=["440604000000"])
    await elsewhere.refused("PUT", path, json=body, status=403, code="forbidden")
