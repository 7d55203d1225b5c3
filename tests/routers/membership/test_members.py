"""Members over HTTP: enrolment, changes, moves, search, and who may see whom."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.clock import civil_date
from app.database import Statements
from app.models.organisation.associations import Association
from app.roles import Role
from tests.factories.callers import GUICHENG, SHISHAN, Client, if_match, pointers
from tests.factories.membership.members import make_id_number, make_member, make_phone
from tests.factories.organisation.associations import make_association

_ID, _PHONE = make_id_number(1), make_phone(1)
_ELSEWHERE = "440605011001"


@pytest_asyncio.fixture
async def association(session: AsyncSession) -> Association:
    association = await make_association(session)
    await session.commit()
    return association


def _person(association: Association, **facts: Any) -> dict[str, Any]:
    return {"association_id": str(association.id), "name": "张小样", **facts}


async def _enrol(officer: Client, association: Association, **facts: Any) -> dict[str, Any]:
    body = _person(association, **facts)
    member: dict[str, Any] = await officer.ok("POST", "/v1/members", json=body, status=201)
    return member


async def test_an_enrolled_member_is_read_back_masked(
    officer: Client, association: Association
) -> None:
    consent = {"id_number": _ID, "phone": _PHONE, "consented_on": "2026-01-02"}
    body = _person(association, employee_no="A1", joined_on="2026-01-01", **consent)
    answer = await officer.post("/v1/members", json=body)
    created = answer.json()

    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/members/{created['id']}"
    assert created["id_number_masked"] == f"440605********{_ID[-4:]}"
    assert created["phone_masked"] == "138****0001"
    assert created["area_code"] == association.area_code
    assert _ID not in answer.text
    read = await officer.get(f"/v1/members/{created['id']}")
    assert read.json() == created
    assert read.headers["etag"] == '"1"'


async def test_a_list_shows_members_without_what_is_encrypted(
    officer: Client, association: Association
) -> None:
    created = await _enrol(officer, association, phone=_PHONE, consented_on="2026-01-02")
    page = await officer.ok("GET", "/v1/members", params={"association_id": str(association.id)})

    details = {"id_number_masked", "phone_masked", "phone_pending_until"}
    shown = {key: value for key, value in created.items() if key not in details}
    assert page["items"] == [shown]
    assert shown["has_phone"] is True
    assert shown["has_id_number"] is False


async def test_a_list_is_narrowed_by_each_filter(
    officer: Client, session: AsyncSession, association: Association
) -> None:
    other = await make_association(session, "village", area_code=_ELSEWHERE)
    await make_member(session, association, name="甲")
    await make_member(session, other, name="乙", status="left")
    await session.commit()

    async def names(**params: str) -> list[str]:
        page = await officer.ok("GET", "/v1/members", params=params)
        return [item["name"] for item in page["items"]]

    assert await names() == ["甲", "乙"]
    assert await names(association_id=str(other.id)) == ["乙"]
    assert await names(area=SHISHAN) == ["甲"]
    assert await names(status="left") == ["乙"]
    assert await names(name="甲") == ["甲"]
    assert await names(updated_since="2100-01-01T00:00:00Z") == []
    assert await names(updated_since="2020-01-01T00:00:00Z") == ["甲", "乙"]


async def test_without_consent_neither_id_number_nor_phone_is_taken(
    officer: Client, association: Association
) -> None:
    body = _person(association, id_number=_ID, phone=_PHONE)
    problem = await officer.refused("POST", "/v1/members", json=body, status=422, code="invalid")

    assert pointers(problem) == ["/id_number", "/phone"]
    assert {error["code"] for error in problem["errors"]} == {"consent_needed"}


async def test_wrong_identifiers_and_future_dates_are_named(
    officer: Client, association: Association
) -> None:
    wrong = _ID[:-1] + ("1" if _ID[-1] != "1" else "2")
    body = _person(association, id_number=wrong, phone="12", consented_on="2026-01-02")
    problem = await officer.refused("POST", "/v1/members", json=body, status=422, code="invalid")
    assert [error["code"] for error in problem["errors"]] == ["id_number_check_digit", "phone_form"]
    assert wrong not in str(problem)

    tomorrow = (civil_date(clock.now()) + timedelta(days=1)).isoformat()
    body = _person(association, joined_on=tomorrow, consented_on=tomorrow)
    problem = await officer.refused("POST", "/v1/members", json=body, status=422, code="invalid")
    assert pointers(problem) == ["/joined_on", "/consented_on"]


async def test_the_same_person_cannot_enrol_twice(
    officer: Client, association: Association
) -> None:
    consent = {"id_number": _ID, "consented_on": "2026-01-02"}
    first = await _enrol(officer, association, **consent)
    body = _person(association, **consent)
    problem = await officer.refused(
        "POST", "/v1/members", json=body, status=409, code="already_enrolled"
    )
    assert problem["member_id"] == first["id"]


async def test_a_taken_employee_number_tells_nothing_of_an_id_number(
    officer: Client, association: Association
) -> None:
    consent = {"id_number": _ID, "consented_on": "2026-01-02"}
    await _enrol(officer, association, employee_no="A1", **consent)
    other = await _enrol(officer, association, employee_no="A2")
    taken: dict[str, Any] = {"status": 409, "code": "employee_no_taken"}
    for number in (_ID, make_id_number(2)):
        asked = {**consent, "employee_no": "A1", "id_number": number}
        await officer.refused("POST", "/v1/members", json=_person(association, **asked), **taken)
        path, headers = f"/v1/members/{other['id']}", if_match(other)
        await officer.refused("PATCH", path, json=asked, headers=headers, **taken)


async def test_a_consent_older_than_its_withdrawal_tells_nothing_of_an_id_number(
    officer: Client, association: Association
) -> None:
    consent = {"id_number": _ID, "consented_on": "2026-01-02"}
    await _enrol(officer, association, **consent)
    other = await _enrol(officer, association, **consent | {"id_number": make_id_number(2)})
    path = f"/v1/members/{other['id']}"
    await officer.ok("POST", f"{path}/consents/withdraw", json={"purpose": "identity"})
    headers = if_match(await officer.ok("GET", path))
    for number in (_ID, make_id_number(3)):
        asked = consent | {"id_number": number}
        refused: dict[str, Any] = {"status": 422, "code": "invalid", "headers": headers}
        problem = await officer.refused("PATCH", path, json=asked, **refused)
        assert pointers(problem) == ["/consented_on"]


async def test_who_is_out_of_reach_is_not_given_away(
    client: Callable[..., Client], officer: Client, session: AsyncSession, association: Association
) -> None:
    other = await make_association(session, "village", area_code=_ELSEWHERE)
    await session.commit()
    consent = {"id_number": _ID, "consented_on": "2026-01-02"}
    await _enrol(officer, other, **consent)
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    body = _person(association, **consent)
    problem = await town.refused(
        "POST", "/v1/members", json=body, status=409, code="already_enrolled"
    )
    assert "member_id" not in problem


async def test_of_two_simultaneous_enrolments_one_is_refused(
    officer: Client, association: Association
) -> None:
    body = _person(association, id_number=_ID, consented_on="2026-01-02")
    answers = await asyncio.gather(*(officer.post("/v1/members", json=body) for _ in range(4)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    page = await officer.ok("GET", "/v1/members", params={"include_total": "true"})
    assert page["total"] == 1


async def test_an_employee_number_is_one_active_members(
    officer: Client, association: Association
) -> None:
    await _enrol(officer, association, employee_no="A1")
    body = _person(association, employee_no="A1")
    await officer.refused("POST", "/v1/members", json=body, status=409, code="employee_no_taken")


async def test_a_patch_changes_what_it_names(officer: Client, association: Association) -> None:
    member = await _enrol(officer, association, employee_no="A1")
    path = f"/v1/members/{member['id']}"
    changed = await officer.ok("PATCH", path, json={"name": "李四"}, headers=if_match(member))
    assert (changed["name"], changed["employee_no"], changed["version"]) == ("李四", "A1", 2)

    cleared = await officer.ok("PATCH", path, json={"employee_no": None}, headers=if_match(changed))
    assert cleared["employee_no"] is None
    same = await officer.ok("PATCH", path, json={"name": "李四"}, headers=if_match(cleared))
    assert same["version"] == cleared["version"]
    await officer.refused(
        "PATCH", path, json={"name": None}, headers=if_match(same), status=422, code="invalid"
    )
    await officer.refused("PATCH", path, json={}, status=428, code="precondition_required")
    await officer.refused(
        "PATCH", path, json={}, headers=if_match(member), status=412, code="stale"
    )


async def test_withdrawing_consent_erases_what_it_covered(
    officer: Client, association: Association, statements: Statements
) -> None:
    consent = {"id_number": _ID, "phone": _PHONE, "consented_on": "2026-01-02"}
    member = await _enrol(officer, association, **consent)
    path = f"/v1/members/{member['id']}"
    for purpose in ("identity", "contact"):
        await officer.ok("POST", f"{path}/consents/withdraw", json={"purpose": purpose})

    after = await officer.ok("GET", path)
    assert (after["has_id_number"], after["has_phone"], after["consents"]) == (False, False, [])
    assert await statements.fetch_value("select count(*) from person_keys", {}) == 0
    await _enrol(officer, association, name="李小样", id_number=_ID, consented_on="2026-01-02")


async def test_a_corrected_id_number_frees_the_wrong_one(
    officer: Client, association: Association
) -> None:
    wrong, right = make_id_number(7), make_id_number(8)
    member = await _enrol(officer, association, id_number=wrong, consented_on="2026-01-02")
    path = f"/v1/members/{member['id']}"
    await officer.ok("PATCH", path, json={"id_number": right}, headers=if_match(member))
    other = await _enrol(officer, association, id_number=wrong, consented_on="2026-01-02")
    await officer.refused(
        "PATCH",
        f"/v1/members/{other['id']}",
        json={"id_number": right},
        headers=if_match(other),
        status=409,
        code="already_enrolled",
    )


async def test_search_finds_exactly_and_never_by_url(
    officer: Client, association: Association
) -> None:
    consent = {"id_number": _ID, "phone": _PHONE, "consented_on": "2026-01-02"}
    member = await _enrol(officer, association, **consent)
    for wanted in ({"id_number": _ID.lower()}, {"phone": "+86 138 0000 0001"}):
        page = await officer.ok("POST", "/v1/members/search", json=wanted)
        assert [item["id"] for item in page["items"]] == [member["id"]]
    page = await officer.ok("POST", "/v1/members/search", json={"phone": make_phone(2)})
    assert page["items"] == []
    for body in ({}, {"id_number": _ID, "phone": _PHONE}):
        await officer.refused("POST", "/v1/members/search", json=body, status=422, code="invalid")


async def test_a_transfer_keeps_the_history(
    officer: Client, session: AsyncSession, association: Association
) -> None:
    other = await make_association(session, "village", area_code=_ELSEWHERE)
    await session.commit()
    member = await _enrol(officer, association, employee_no="A1", joined_on="2025-01-01")
    path = f"/v1/members/{member['id']}"
    body = {"association_id": str(other.id), "moved_on": "2025-06-01", "reason": "换厂"}
    moved = await officer.ok("POST", f"{path}/transfer", json=body, headers=if_match(member))

    assert (moved["association_id"], moved["area_code"]) == (str(other.id), _ELSEWHERE)
    assert (moved["employee_no"], moved["first_joined_on"]) == (None, "2025-01-01")
    assert (await officer.ok("GET", f"{path}/memberships"))["items"] == [
        {
            "association_id": str(association.id),
            "joined_on": "2025-01-01",
            "left_on": "2025-06-01",
            "reason": "换厂",
        },
        {
            "association_id": str(other.id),
            "joined_on": "2025-06-01",
            "left_on": None,
            "reason": None,
        },
    ]
    await officer.refused(
        "POST",
        f"{path}/transfer",
        json=body,
        headers=if_match(moved),
        status=409,
        code="already_in_association",
    )
    early = {"association_id": str(association.id), "moved_on": "2025-05-31"}
    problem = await officer.refused(
        "POST",
        f"{path}/transfer",
        json=early,
        headers=if_match(moved),
        status=422,
        code="invalid",
    )
    assert pointers(problem) == ["/moved_on"]


async def test_who_left_comes_back_by_a_transfer(officer: Client, association: Association) -> None:
    member = await _enrol(officer, association, joined_on="2025-01-01")
    path = f"/v1/members/{member['id']}"
    left = await officer.ok(
        "POST", f"{path}/leave", json={"left_on": "2025-03-01"}, headers=if_match(member)
    )
    assert left["status"] == "left"
    await officer.refused(
        "POST",
        f"{path}/leave",
        json={"left_on": "2025-03-02"},
        headers=if_match(left),
        status=409,
        code="already_left",
    )
    body = {"association_id": str(association.id), "moved_on": "2025-03-01"}
    back = await officer.ok("POST", f"{path}/transfer", json=body, headers=if_match(left))
    assert back["status"] == "active"
    ties = (await officer.ok("GET", f"{path}/memberships"))["items"]
    assert [tie["left_on"] for tie in ties] == ["2025-03-01", None]
    first = await officer.ok("GET", f"{path}/memberships", params={"limit": 1})
    rest = await officer.ok(
        "GET", f"{path}/memberships", params={"limit": 1, "cursor": first["next_cursor"]}
    )
    assert first["items"] + rest["items"] == ties
    assert rest["next_cursor"] is None


async def test_a_dissolved_association_takes_nobody(officer: Client, session: AsyncSession) -> None:
    gone = await make_association(session, status="dissolved")
    await session.commit()
    await officer.refused(
        "POST",
        "/v1/members",
        json=_person(gone),
        status=409,
        code="association_takes_no_members",
    )


async def test_nobody_sees_beyond_their_reach(
    client: Callable[..., Client], session: AsyncSession, association: Association
) -> None:
    village = await make_association(session, "village", area_code=association.area_code)
    shop = await make_association(
        session, "affiliated", area_code=association.area_code, parent_id=village.id
    )
    mine = await make_member(session, association)
    theirs = await make_member(session, shop)
    await session.commit()
    path = f"/v1/members/{mine.id}"

    async def seen(caller: Client) -> set[str]:
        page = await caller.ok("GET", "/v1/members")
        return {item["id"] for item in page["items"]}

    for outsider in (
        client(Role.TOWN_OFFICER, areas=[GUICHENG]),
        client(Role.DISTRICT_OFFICER, areas=["440604000000"]),
        client(Role.SECRETARY, areas=[], associations=[str(village.id)]),
        client(Role.MEMBER, areas=[], member_id=str(theirs.id)),
    ):
        await outsider.refused("GET", path, status=404, code="not_found")
        await outsider.refused("GET", f"{path}/memberships", status=404, code="not_found")
        assert str(mine.id) not in await seen(outsider)
    secretary = client(Role.SECRETARY, areas=[], associations=[str(village.id)])
    assert await seen(secretary) == {str(theirs.id)}
    herself = client(Role.MEMBER, areas=[], member_id=str(mine.id))
    assert await seen(herself) == {str(mine.id)}


async def test_a_secretary_enrols_only_into_her_own_and_affiliated_associations(
    client: Callable[..., Client], session: AsyncSession, association: Association
) -> None:
    other = await make_association(session)
    await session.commit()
    secretary = client(Role.SECRETARY, areas=[], associations=[str(association.id)])
    await _enrol(secretary, association)
    problem = await secretary.refused(
        "POST", "/v1/members", json=_person(other), status=422, code="invalid"
    )
    assert pointers(problem) == ["/association_id"]


async def test_who_may_only_read_changes_nothing(
    client: Callable[..., Client], association: Association
) -> None:
    for role in (Role.AUDITOR, Role.FINANCE_CLERK):
        await client(role).refused(
            "POST", "/v1/members", json=_person(association), status=403, code="forbidden"
        )
    member = client(Role.MEMBER, member_id="018f0000-0000-7000-8000-000000000001")
    await member.refused(
        "POST", "/v1/members", json=_person(association), status=403, code="forbidden"
    )


async def test_a_second_click_with_the_same_key_enrols_once(
    officer: Client, association: Association
) -> None:
    options: dict[str, Any] = {
        "json": _person(association),
        "headers": {"Idempotency-Key": "one"},
        "status": 201,
    }
    first = await officer.ok("POST", "/v1/members", **options)
    assert await officer.ok("POST", "/v1/members", **options) == first
