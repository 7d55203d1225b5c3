"""Associations over HTTP: preparing, editing, the steps of their life, who may."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.events.service_events import ServiceEvent
from app.models.organisation.associations import Association, AssociationStatus, Mode
from app.models.organisation.host_organisations import HostKind
from app.models.organisation.officers import Office
from app.models.organisation.regulations import RegulationKind
from app.roles import Role
from tests.factories.callers import (
    DISTRICT,
    GUICHENG,
    SHISHAN,
    VILLAGE,
    Client,
    if_match,
    pointers,
)
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association, make_host
from tests.factories.organisation.officers import make_officer
from tests.factories.organisation.regulations import make_regulation

PATH = "/v1/associations"
NOWHERE = "018f0000-0000-7000-8000-000000000000"
OTHER_VILLAGE = "440605124001"
REASON = {"reason": "主办单位搬迁"}


def _body(host_id: UUID, mode: Mode = Mode.INDEPENDENT, **facts: Any) -> dict[str, Any]:
    return {"name": "示例计生协会", "mode": mode, "host_id": str(host_id), **facts}


async def _read(caller: Client, association: Association) -> dict[str, Any]:
    record: dict[str, Any] = await caller.ok("GET", f"{PATH}/{association.id}")
    return record


async def _step(caller: Client, record: dict[str, Any], verb: str, **options: Any) -> Any:
    path = f"{PATH}/{record['id']}/{verb}"
    return await caller.ok("POST", path, headers=if_match(record), **options)


async def _complete(session: AsyncSession, association: Association) -> None:
    """Give an association what all must have."""
    await make_officer(session, association, Office.PRESIDENT)
    await make_officer(session, association, Office.SECRETARY_GENERAL)
    await make_regulation(session, association, RegulationKind.CHARTER)


async def test_an_association_is_prepared_in_its_hosts_area(
    officer: Client, session: AsyncSession
) -> None:
    host = await make_host(session, area_code=SHISHAN)
    await session.commit()
    answer = await officer.post(PATH, json=_body(host.id, founded_on="2026-01-01"))

    assert answer.status_code == 201, answer.text
    created = answer.json()
    assert (created["status"], created["area_code"]) == ("preparing", SHISHAN)
    assert created["status_reason"] is None
    again = await officer.get(answer.headers["location"])
    assert (again.json(), again.headers["etag"]) == (created, '"1"')


async def test_a_host_has_one_living_association(officer: Client, session: AsyncSession) -> None:
    host = await make_host(session)
    await session.commit()
    first = await officer.ok("POST", PATH, json=_body(host.id), status=201)
    await officer.refused("POST", PATH, json=_body(host.id), status=409, code="host_taken")

    await _step(officer, first, "dissolve", json=REASON)
    await officer.ok("POST", PATH, json=_body(host.id), status=201)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("kind", HostKind)
async def test_a_mode_fits_some_kinds_of_host(
    officer: Client, session: AsyncSession, mode: Mode, kind: HostKind
) -> None:
    fitting = {
        ("independent", "enterprise"),
        ("affiliated", "small_business"),
        ("affiliated", "enterprise"),
        ("park", "industrial_park"),
        ("professional", "market"),
        ("community", "residential_community"),
        ("community", "employee_village"),
        ("village", "village_committee"),
    }
    host = await make_host(session, kind=kind)
    await session.commit()
    if (mode, kind) in fitting:
        await officer.ok("POST", PATH, json=_body(host.id, mode), status=201)
    else:
        body = _body(host.id, mode)
        problem = await officer.refused("POST", PATH, json=body, status=422, code="invalid")
        assert pointers(problem) == ["/mode"]


async def test_a_host_is_known_and_in_reach(
    officer: Client, client: Callable[..., Client], session: AsyncSession
) -> None:
    host = await make_host(session)
    await session.commit()
    elsewhere = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    for caller, host_id in ((officer, UUID(NOWHERE)), (elsewhere, host.id)):
        problem = await caller.refused(
            "POST", PATH, json=_body(host_id), status=422, code="invalid"
        )
        assert pointers(problem) == ["/host_id"]


async def test_a_parent_is_a_village_association_of_the_same_village(
    officer: Client, session: AsyncSession
) -> None:
    own = await make_association(session, Mode.VILLAGE, status="preparing")
    other = await make_association(session, Mode.VILLAGE, area_code=OTHER_VILLAGE)
    market = await make_association(session, Mode.PROFESSIONAL)
    shop = await make_host(session, kind=HostKind.SMALL_BUSINESS)
    enterprise = await make_host(session)
    await session.commit()

    for parent_id in (other.id, market.id, NOWHERE):
        body = _body(shop.id, Mode.AFFILIATED, parent_id=str(parent_id))
        problem = await officer.refused("POST", PATH, json=body, status=422, code="invalid")
        assert problem["errors"][0]["code"] == "parent_not_of_village"
    body = _body(enterprise.id, parent_id=str(own.id))
    problem = await officer.refused("POST", PATH, json=body, status=422, code="invalid")
    assert problem["errors"][0]["code"] == "parent_only_for_affiliated"

    body = _body(shop.id, Mode.AFFILIATED, parent_id=str(own.id))
    created = await officer.ok("POST", PATH, json=body, status=201)
    assert created["parent_id"] == str(own.id)


async def test_what_is_wrong_with_a_body_is_named(officer: Client) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"colour": "red"}, "/colour"),
        ({"name": "a\x00b"}, "/name"),
        ({"name": " "}, "/name"),
        ({"name": "长" * 201}, "/name"),
        ({"mode": "secret"}, "/mode"),
        ({"host_id": "17"}, "/host_id"),
        ({"founded_on": "yesterday"}, "/founded_on"),
    ]
    for facts, pointer in wrong:
        body = {**_body(UUID(NOWHERE)), **facts}
        problem = await officer.refused("POST", PATH, json=body, status=422, code="invalid")
        assert pointers(problem) == [pointer]


async def test_a_list_is_narrowed_by_each_filter(officer: Client, session: AsyncSession) -> None:
    village = await make_association(session, Mode.VILLAGE)
    shop = await make_association(session, Mode.AFFILIATED, parent_id=village.id)
    market = await make_association(
        session, Mode.PROFESSIONAL, area_code=GUICHENG, status=AssociationStatus.SUSPENDED
    )
    await session.commit()

    async def listed(**params: str) -> list[str]:
        page = await officer.ok("GET", PATH, params=params)
        return [item["id"] for item in page["items"]]

    everything = [str(each.id) for each in (village, shop, market)]
    assert await listed() == everything
    assert await listed(mode="affiliated,professional") == everything[1:]
    assert await listed(status="suspended,dissolved") == everything[2:]
    assert await listed(area=SHISHAN) == everything[:2]
    assert await listed(parent_id=str(village.id)) == everything[1:2]
    assert await listed(host_id=str(market.host_id)) == everything[2:]
    assert await listed(host_id=NOWHERE) == []
    page = await officer.ok("GET", PATH)
    assert page["items"][0] == await _read(officer, village)


async def test_an_edit_needs_the_version_that_was_read(
    officer: Client, session: AsyncSession
) -> None:
    record = await _read(officer, await _committed(session, Mode.INDEPENDENT))
    path, body = f"{PATH}/{record['id']}", {"name": "新名", "founded_on": "2025-05-01"}

    await officer.refused("PATCH", path, json=body, status=428, code="precondition_required")
    edited = await officer.ok("PATCH", path, json=body, headers=if_match(record))
    await officer.refused(
        "PATCH", path, json=body, headers=if_match(record), status=412, code="stale"
    )
    assert (edited["name"], edited["founded_on"], edited["version"]) == ("新名", "2025-05-01", 2)
    cleared = await officer.ok("PATCH", path, json={"founded_on": None}, headers=if_match(edited))
    assert (cleared["name"], cleared["founded_on"]) == ("新名", None)
    problem = await officer.refused(
        "PATCH", path, json={"name": None}, headers=if_match(cleared), status=422, code="invalid"
    )
    assert pointers(problem) == ["/name"]


async def _committed(session: AsyncSession, mode: Mode, **facts: Any) -> Association:
    association = await make_association(session, mode, **facts)
    await session.commit()
    return association


async def test_an_active_affiliated_association_keeps_an_active_parent(
    officer: Client, session: AsyncSession
) -> None:
    parent = await make_association(session, Mode.VILLAGE)
    shop = await _committed(session, Mode.AFFILIATED, parent_id=parent.id)
    path, headers = f"{PATH}/{shop.id}", {"If-Match": '"1"'}

    problem = await officer.refused(
        "PATCH",
        path,
        json={"parent_id": None},
        headers=headers,
        status=409,
        code="activation_conditions_unmet",
    )
    assert [reason["code"] for reason in problem["unmet"]] == ["active_village_parent"]
    assert (await _read(officer, shop))["parent_id"] == str(parent.id)


async def test_an_association_lives_from_preparing_to_dissolved(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session, Mode.COMMUNITY, status="preparing")
    await _complete(session, association)
    await session.commit()

    active = await _step(officer, await _read(officer, association), "activate")
    suspended = await _step(officer, active, "suspend", json={"reason": "换届"})
    again = await _step(officer, suspended, "activate")
    dissolved = await _step(officer, again, "dissolve", json=REASON)

    statuses = [each["status"] for each in (active, suspended, again, dissolved)]
    assert statuses == ["active", "suspended", "active", "dissolved"]
    reasons = [each["status_reason"] for each in (active, suspended, again, dissolved)]
    assert reasons == [None, "换届", None, "主办单位搬迁"]
    assert dissolved["version"] == 5


@pytest.mark.parametrize(
    ("status", "verb"),
    [
        ("preparing", "suspend"),
        ("active", "activate"),
        ("suspended", "suspend"),
        ("dissolved", "activate"),
        ("dissolved", "suspend"),
        ("dissolved", "dissolve"),
    ],
)
async def test_a_step_is_taken_only_from_where_it_leads(
    officer: Client, session: AsyncSession, status: str, verb: str
) -> None:
    association = await _committed(session, Mode.COMMUNITY, status=status)
    body = {} if verb == "activate" else {"json": REASON}
    await officer.refused(
        "POST",
        f"{PATH}/{association.id}/{verb}",
        headers={"If-Match": '"1"'},
        status=409,
        code="association_step_not_possible",
        **body,
    )


async def test_a_step_needs_the_version_and_a_reason(
    officer: Client, session: AsyncSession
) -> None:
    association = await _committed(session, Mode.COMMUNITY)
    path = f"{PATH}/{association.id}/suspend"

    await officer.refused("POST", path, json=REASON, status=428, code="precondition_required")
    await officer.refused(
        "POST", path, json=REASON, headers={"If-Match": '"7"'}, status=412, code="stale"
    )
    for reason in ("", "a\x07b", None):
        problem = await officer.refused(
            "POST",
            path,
            json={"reason": reason},
            headers={"If-Match": '"1"'},
            status=422,
            code="invalid",
        )
        assert pointers(problem) == ["/reason"]


async def test_the_second_click_gives_the_first_answer(
    officer: Client, session: AsyncSession
) -> None:
    association = await _committed(session, Mode.COMMUNITY)
    path = f"{PATH}/{association.id}/suspend"
    headers = {"If-Match": '"1"', "Idempotency-Key": "suspend-1"}

    first = await officer.post(path, json=REASON, headers=headers)
    second = await officer.post(path, json=REASON, headers=headers)

    assert first.status_code == second.status_code == 200
    assert second.json() == first.json()
    assert second.headers["etag"] == first.headers["etag"] == '"2"'


async def test_one_village_has_one_active_village_association(
    officer: Client, session: AsyncSession
) -> None:
    rivals = [await make_association(session, Mode.VILLAGE, status="preparing") for _ in range(2)]
    for each in rivals:
        await _complete(session, each)
    await session.commit()

    answers = await asyncio.gather(
        *(
            officer.post(f"{PATH}/{each.id}/activate", headers={"If-Match": '"1"'})
            for each in rivals
        )
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    refusal = next(answer.json() for answer in answers if answer.status_code == 409)
    assert refusal["code"] in {"village_taken", "activation_conditions_unmet"}


async def test_nothing_open_is_dissolved(officer: Client, session: AsyncSession) -> None:
    village = await make_association(session, Mode.VILLAGE)
    shop = await make_association(session, Mode.AFFILIATED, parent_id=village.id)
    member = await make_member(session, village)
    event = _event(village)
    session.add(event)
    await session.commit()
    record = await _read(officer, village)

    async def open_ties() -> list[str]:
        problem = await officer.refused(
            "POST",
            f"{PATH}/{village.id}/dissolve",
            json=REASON,
            headers=if_match(record),
            status=409,
            code="dissolution_conditions_unmet",
        )
        assert all(reason["detail"] != reason["code"] for reason in problem["unmet"])
        return [reason["code"] for reason in problem["unmet"]]

    assert await open_ties() == [
        "no_open_membership",
        "no_open_event",
        "no_affiliated_association",
    ]
    member.status = "left"
    await session.commit()
    assert await open_ties() == ["no_open_event", "no_affiliated_association"]
    event.status = "closed"
    await session.commit()
    assert await open_ties() == ["no_affiliated_association"]
    await _step(officer, await _read(officer, shop), "dissolve", json=REASON)
    assert (await _step(officer, record, "dissolve", json=REASON))["status"] == "dissolved"


def _event(association: Association) -> ServiceEvent:
    now = clock.now()
    return ServiceEvent(
        district_code=DISTRICT,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        kind="lecture",
        title="测试讲座",
        venue="测试会场",
        area_code=association.area_code,
        association_id=association.id,
        round_sequence=None,
        starts_at=datetime(2026, 1, 1, 1, tzinfo=UTC),
        ends_at=datetime(2026, 1, 1, 2, tzinfo=UTC),
        registration_opens_at=None,
        registration_closes_at=None,
        capacity=None,
        status="published",
        status_reason=None,
    )


async def test_the_dissolved_stays_as_it_was(officer: Client, session: AsyncSession) -> None:
    association = await _committed(session, Mode.COMMUNITY, status="dissolved")
    path = f"{PATH}/{association.id}"
    await officer.refused(
        "PATCH",
        path,
        json={"name": "新名"},
        headers={"If-Match": '"1"'},
        status=409,
        code="association_dissolved",
    )
    body = {"office": "president", "name": "示例", "starts_on": "2026-01-01"}
    await officer.refused(
        "POST", f"{path}/officers", json=body, status=409, code="association_dissolved"
    )


async def test_beyond_reach_there_is_nothing(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await _committed(session, Mode.COMMUNITY)
    path, headers = f"{PATH}/{association.id}", {"If-Match": '"1"'}
    officer = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    secretary = client(Role.SECRETARY, associations=[NOWHERE])

    assert (await officer.ok("GET", PATH))["items"] == []
    assert (await secretary.ok("GET", PATH))["items"] == []
    for caller in (officer, secretary):
        await caller.refused("GET", path, status=404, code="not_found")
        await caller.refused("GET", f"{path}/activation", status=404, code="not_found")
        await caller.refused(
            "PATCH", path, json={"name": "x"}, headers=headers, status=404, code="not_found"
        )
    await officer.refused("POST", f"{path}/activate", headers=headers, status=404, code="not_found")


async def test_a_secretary_edits_her_own_and_the_affiliated_and_governs_none(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    village = await make_association(session, Mode.VILLAGE)
    shop = await make_association(session, Mode.AFFILIATED, parent_id=village.id)
    host = await make_host(session)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(village.id)])

    for each in (village, shop):
        path, record = f"{PATH}/{each.id}", await _read(secretary, each)
        await secretary.ok("PATCH", path, json={"name": "新名"}, headers=if_match(record))
        for verb in ("activate", "suspend", "dissolve"):
            await secretary.refused(
                "POST",
                f"{path}/{verb}",
                json=REASON,
                headers={"If-Match": '"2"'},
                status=403,
                code="forbidden",
            )
    await secretary.refused(
        "PATCH",
        f"{PATH}/{shop.id}",
        json={"parent_id": None},
        headers={"If-Match": '"2"'},
        status=403,
        code="forbidden",
    )
    await secretary.refused("POST", PATH, json=_body(host.id), status=403, code="forbidden")


async def test_a_member_reads_associations_and_changes_none(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await _committed(session, Mode.COMMUNITY)
    member = client(Role.MEMBER, member_id=NOWHERE)

    assert (await _read(member, association))["area_code"] == VILLAGE
    await member.refused(
        "PATCH",
        f"{PATH}/{association.id}",
        json={"name": "x"},
        headers={"If-Match": '"1"'},
        status=403,
        code="forbidden",
    )
