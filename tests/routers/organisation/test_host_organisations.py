"""Host organisations over HTTP."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.organisation.associations import Mode
from app.models.organisation.host_organisations import HostKind
from app.roles import Role
from tests.factories.callers import GUICHENG, SHISHAN, VILLAGE, Client, if_match, pointers
from tests.factories.organisation.associations import make_association, make_host, make_uscc

PATH = "/v1/host-organisations"
NOWHERE = "018f0000-0000-7000-8000-000000000000"


def _enterprise(**facts: Any) -> dict[str, Any]:
    return {
        "kind": "enterprise",
        "name": "示例电子有限公司",
        "area_code": VILLAGE,
        "uscc": make_uscc(1),
        **facts,
    }


async def _refused_at(caller: Client, pointer: str, code: str, **facts: Any) -> None:
    problem = await caller.refused(
        "POST", PATH, json=_enterprise(**facts), status=422, code="invalid"
    )
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [(pointer, code)]
    assert problem["errors"][0]["detail"] != code


async def test_an_enterprise_is_entered_and_read_again(officer: Client) -> None:
    body = _enterprise(industry_code="C3670", staff_count=1200)
    answer = await officer.post(PATH, json=body)

    assert answer.status_code == 201, answer.text
    created = answer.json()
    assert {name: created[name] for name in body} == body
    assert (created["version"], created["park_id"]) == (1, None)
    again = await officer.get(answer.headers["location"])
    assert again.json() == created
    assert again.headers["etag"] == '"1"'


async def test_a_code_is_kept_in_its_normal_form(officer: Client) -> None:
    typed = f" {make_uscc(7).lower()[:9]} {make_uscc(7)[9:]}"
    created = await officer.ok("POST", PATH, json=_enterprise(uscc=typed), status=201)

    assert created["uscc"] == make_uscc(7)
    found = await officer.ok("GET", PATH, params={"uscc": typed.strip()})
    assert [host["id"] for host in found["items"]] == [created["id"]]


async def test_a_wrong_code_is_named(officer: Client) -> None:
    right = make_uscc(1)
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
    await _refused_at(officer, "/uscc", "uscc_check_digit", uscc=wrong)
    await _refused_at(officer, "/uscc", "uscc_form", uscc="91440605")
    await _refused_at(officer, "/uscc", "uscc_required", uscc=None)
    await _refused_at(officer, "/industry_code", "string_pattern_mismatch", industry_code="Z99")


async def test_only_an_enterprise_needs_a_code(officer: Client) -> None:
    body = {"kind": "small_business", "name": "示例小店", "area_code": SHISHAN}
    created = await officer.ok("POST", PATH, json=body, status=201)
    assert created["uscc"] is None


async def test_the_same_code_twice_is_a_conflict(officer: Client) -> None:
    await officer.ok("POST", PATH, json=_enterprise(), status=201)
    await officer.refused("POST", PATH, json=_enterprise(), status=409, code="uscc_taken")


async def test_the_second_click_gives_the_first_answer(officer: Client) -> None:
    headers = {"Idempotency-Key": "host-1"}
    first = await officer.post(PATH, json=_enterprise(), headers=headers)
    second = await officer.post(PATH, json=_enterprise(), headers=headers)

    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"


async def test_a_home_is_a_town_or_village_in_reach(client: Callable[..., Client]) -> None:
    officer = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    await _refused_at(officer, "/area_code", "unknown_reference", area_code="440605124999")
    await _refused_at(officer, "/area_code", "out_of_reach", area_code=GUICHENG)
    await _refused_at(
        client(Role.DISTRICT_OFFICER), "/area_code", "host_area_level", area_code="440605000000"
    )
    await _refused_at(
        officer,
        "/area_code",
        "village_committee_area_level",
        kind="village_committee",
        area_code=SHISHAN,
    )


async def test_a_tenant_lies_in_an_industrial_park(officer: Client) -> None:
    park = await officer.ok(
        "POST",
        PATH,
        json={"kind": "industrial_park", "name": "示例园区", "area_code": SHISHAN},
        status=201,
    )
    tenant = await officer.ok("POST", PATH, json=_enterprise(park_id=park["id"]), status=201)
    other = make_uscc(2)
    await _refused_at(officer, "/park_id", "unknown_reference", park_id=NOWHERE, uscc=other)
    await _refused_at(officer, "/park_id", "not_an_industrial_park", park_id=tenant["id"])

    tenants = await officer.ok("GET", PATH, params={"park_id": park["id"]})
    assert [host["id"] for host in tenants["items"]] == [tenant["id"]]
    await officer.refused(
        "PATCH",
        f"{PATH}/{park['id']}",
        json={"kind": "market"},
        headers=if_match(park),
        status=409,
        code="host_in_use",
    )


async def test_what_is_wrong_with_a_body_is_named(officer: Client) -> None:
    await _refused_at(officer, "/colour", "extra_forbidden", colour="red")
    await _refused_at(officer, "/name", "control_character", name="a\x00b")
    await _refused_at(officer, "/name", "string_too_long", name="x" * 201)
    await _refused_at(officer, "/staff_count", "greater_than_equal", staff_count=-1)
    await _refused_at(officer, "/kind", "enum", kind="castle")


async def test_a_list_is_narrowed_by_kind_area_and_name(officer: Client) -> None:
    await officer.ok("POST", PATH, json=_enterprise(), status=201)
    market = {"kind": "market", "name": "示例市场", "area_code": GUICHENG}
    await officer.ok("POST", PATH, json=market, status=201)

    async def names(**params: str) -> list[str]:
        page = await officer.ok("GET", PATH, params=params)
        return [host["name"] for host in page["items"]]

    assert await names() == ["示例电子有限公司", "示例市场"]
    assert await names(kind="market,industrial_park") == ["示例市场"]
    assert await names(area=SHISHAN) == ["示例电子有限公司"]
    assert await names(q="示例电") == ["示例电子有限公司"]
    assert await names(q="%") == []
    assert await names(updated_since="2100-01-01T00:00:00Z") == []


async def test_pages_of_a_list_follow_each_other(officer: Client, session: AsyncSession) -> None:
    ids = [str((await make_host(session, kind=HostKind.MARKET)).id) for _ in range(3)]
    await session.commit()

    first = await officer.ok("GET", PATH, params={"limit": 2, "include_total": "true"})
    params = {"limit": 2, "cursor": first["next_cursor"]}
    second = await officer.ok("GET", PATH, params=params)

    assert first["total"] == 3
    assert [host["id"] for host in first["items"] + second["items"]] == ids
    assert second["next_cursor"] is None


async def test_an_edit_needs_the_version_that_was_read(officer: Client) -> None:
    host = await officer.ok("POST", PATH, json=_enterprise(staff_count=10), status=201)
    path, body = f"{PATH}/{host['id']}", {"staff_count": None, "name": "示例机电有限公司"}

    await officer.refused("PATCH", path, json=body, status=428, code="precondition_required")
    edited = await officer.ok("PATCH", path, json=body, headers=if_match(host))
    await officer.refused(
        "PATCH", path, json=body, headers=if_match(host), status=412, code="stale"
    )

    assert (edited["version"], edited["staff_count"], edited["name"]) == (2, None, body["name"])
    assert edited["uscc"] == host["uscc"]


async def test_what_cannot_be_empty_is_not_cleared(officer: Client) -> None:
    host = await officer.ok("POST", PATH, json=_enterprise(), status=201)
    path = f"{PATH}/{host['id']}"
    problem = await officer.refused(
        "PATCH",
        path,
        json={"name": None, "kind": None},
        headers=if_match(host),
        status=422,
        code="invalid",
    )
    assert pointers(problem) == ["/kind", "/name"]
    problem = await officer.refused(
        "PATCH", path, json={"uscc": None}, headers=if_match(host), status=422, code="invalid"
    )
    assert pointers(problem) == ["/uscc"]


@pytest.mark.parametrize("change", [{"kind": "small_business"}, {"area_code": SHISHAN}])
async def test_an_association_holds_its_host_in_place(
    officer: Client, session: AsyncSession, change: dict[str, str]
) -> None:
    association = await make_association(session, Mode.INDEPENDENT)
    await session.commit()
    path = f"{PATH}/{association.host_id}"
    host = await officer.ok("GET", path)

    await officer.refused(
        "PATCH", path, json=change, headers=if_match(host), status=409, code="host_in_use"
    )
    edited = await officer.ok("PATCH", path, json={"name": "新名"}, headers=if_match(host))
    assert edited["name"] == "新名"


async def test_beyond_reach_there_is_nothing(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    host = await make_host(session)
    await session.commit()
    elsewhere = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    path = f"{PATH}/{host.id}"

    await elsewhere.refused("GET", path, status=404, code="not_found")
    await elsewhere.refused(
        "PATCH",
        path,
        json={"name": "x"},
        headers={"If-Match": '"1"'},
        status=404,
        code="not_found",
    )
    assert (await elsewhere.ok("GET", PATH))["items"] == []
    other_district = client(
        Role.DISTRICT_OFFICER, district_code="440604000000", areas=["440605000000"]
    )
    await other_district.refused("GET", path, status=404, code="not_found")


async def test_a_secretary_sees_the_hosts_of_her_associations_only(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    parent = await make_association(session, Mode.VILLAGE)
    affiliated = await make_association(session, Mode.AFFILIATED, parent_id=parent.id)
    stranger = await make_association(session, Mode.INDEPENDENT)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(parent.id)])

    page = await secretary.ok("GET", PATH)
    seen = {UUID(host["id"]) for host in page["items"]}
    assert seen == {parent.host_id, affiliated.host_id}
    await secretary.refused("GET", f"{PATH}/{stranger.host_id}", status=404, code="not_found")
    await secretary.refused("POST", PATH, json=_enterprise(), status=403, code="forbidden")
    await secretary.refused(
        "PATCH",
        f"{PATH}/{parent.host_id}",
        json={"name": "x"},
        headers={"If-Match": '"1"'},
        status=403,
        code="forbidden",
    )


async def test_others_read_and_do_not_write(client: Callable[..., Client]) -> None:
    auditor = client(Role.AUDITOR)
    assert (await auditor.ok("GET", PATH))["items"] == []
    await auditor.refused("POST", PATH, json=_enterprise(), status=403, code="forbidden")
    await client(Role.OPERATIONS).refused("GET", PATH, status=403, code="forbidden")
