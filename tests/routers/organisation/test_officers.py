"""Officers of associations over HTTP: terms, single seats, who may."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.organisation.associations import Association, Mode
from app.roles import Role
from tests.factories.callers import GUICHENG, Client, if_match, pointers
from tests.factories.organisation.associations import make_association

NOWHERE = "018f0000-0000-7000-8000-000000000000"


@pytest.fixture
async def association(session: AsyncSession) -> Association:
    """An active association of a community."""
    made = await make_association(session, Mode.COMMUNITY)
    await session.commit()
    return made


def _path(association: Association) -> str:
    return f"/v1/associations/{association.id}/officers"


def _term(starts_on: str, ends_on: str | None = None, **facts: Any) -> dict[str, Any]:
    return {
        "office": "president",
        "name": "示例会长",
        "starts_on": starts_on,
        "ends_on": ends_on,
        **facts,
    }


async def test_an_officer_is_appointed_and_read_again(
    officer: Client, association: Association
) -> None:
    answer = await officer.post(_path(association), json=_term("2026-01-01"))

    assert answer.status_code == 201, answer.text
    created = answer.json()
    assert created == _term("2026-01-01") | {
        "id": created["id"],
        "version": 1,
        "association_id": str(association.id),
    }
    again = await officer.get(answer.headers["location"])
    assert (again.json(), again.headers["etag"]) == (created, '"1"')


@pytest.mark.parametrize("office", ["president", "secretary_general"])
async def test_terms_of_a_single_seat_never_overlap(
    officer: Client, association: Association, office: str
) -> None:
    path = _path(association)
    held = await officer.ok(
        "POST", path, json=_term("2024-01-01", "2026-01-01", office=office), status=201
    )
    for starts_on, ends_on in (
        ("2025-12-31", None),
        ("2023-01-01", None),
        ("2023-01-01", "2024-01-02"),
        ("2024-06-01", "2024-07-01"),
    ):
        problem = await officer.refused(
            "POST",
            path,
            json=_term(starts_on, ends_on, office=office),
            status=409,
            code="officer_terms_overlap",
        )
        assert problem["officer_id"] == held["id"]
    await officer.ok("POST", path, json=_term("2026-01-01", office=office), status=201)
    await officer.ok(
        "POST", path, json=_term("2023-01-01", "2024-01-01", office=office), status=201
    )


async def test_other_offices_are_held_by_several(officer: Client, association: Association) -> None:
    for _ in range(2):
        body = _term("2026-01-01", office="director")
        await officer.ok("POST", _path(association), json=body, status=201)
    body = _term("2026-01-01", office="president")
    await officer.ok("POST", _path(association), json=body, status=201)


async def test_two_at_once_do_not_get_the_same_seat(
    officer: Client, association: Association
) -> None:
    answers = await asyncio.gather(
        *(officer.post(_path(association), json=_term("2026-01-01")) for _ in range(5))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


async def test_a_term_is_changed_and_still_does_not_overlap(
    officer: Client, association: Association
) -> None:
    path = _path(association)
    first = await officer.ok("POST", path, json=_term("2024-01-01", "2025-01-01"), status=201)
    await officer.ok("POST", path, json=_term("2025-01-01"), status=201)
    own = f"{path}/{first['id']}"

    await officer.refused("PATCH", own, json={}, status=428, code="precondition_required")
    await officer.refused(
        "PATCH",
        own,
        json={"ends_on": None},
        headers=if_match(first),
        status=409,
        code="officer_terms_overlap",
    )
    edited = await officer.ok(
        "PATCH",
        own,
        json={"ends_on": "2024-12-01", "name": "示例前会长"},
        headers=if_match(first),
    )
    assert (edited["ends_on"], edited["name"], edited["version"]) == (
        "2024-12-01",
        "示例前会长",
        2,
    )
    await officer.refused("PATCH", own, json={}, headers=if_match(first), status=412, code="stale")


async def test_what_is_wrong_with_a_term_is_named(
    officer: Client, association: Association
) -> None:
    wrong = [
        (_term("2026-01-01", "2026-01-01"), "/ends_on"),
        (_term("2026-01-01", office="king"), "/office"),
        (_term("2026-01-01", name="a\x00b"), "/name"),
        (_term("2026-01-01", name="长" * 101), "/name"),
        (_term("2026-13-01"), "/starts_on"),
        (_term("2026-01-01", colour="red"), "/colour"),
    ]
    for body, pointer in wrong:
        problem = await officer.refused(
            "POST", _path(association), json=body, status=422, code="invalid"
        )
        assert pointers(problem) == [pointer]


async def test_a_list_is_narrowed_by_office_and_day(
    officer: Client, association: Association
) -> None:
    path = _path(association)
    assert (await officer.ok("GET", path))["items"] == []
    first = await officer.ok("POST", path, json=_term("2024-01-01", "2025-01-01"), status=201)
    second = await officer.ok("POST", path, json=_term("2025-01-01"), status=201)
    third = await officer.ok(
        "POST", path, json=_term("2024-01-01", office="supervisor"), status=201
    )

    assert (await officer.ok("GET", path))["items"] == [first, second, third]
    page = await officer.ok("GET", path, params={"office": "president,director"})
    assert page["items"] == [first, second]
    page = await officer.ok("GET", path, params={"in_office_on": "2025-01-01"})
    assert page["items"] == [second, third]


async def test_an_officer_belongs_to_her_association(
    officer: Client, association: Association, session: AsyncSession
) -> None:
    other = await make_association(session, Mode.PROFESSIONAL)
    await session.commit()
    created = await officer.ok("POST", _path(association), json=_term("2026-01-01"), status=201)
    strange = f"{_path(other)}/{created['id']}"

    await officer.refused("GET", strange, status=404, code="not_found")
    await officer.refused(
        "PATCH", strange, json={}, headers=if_match(created), status=404, code="not_found"
    )
    assert (await officer.ok("GET", _path(other)))["items"] == []


async def test_secretaries_appoint_in_their_reach_only(
    client: Callable[..., Client], association: Association
) -> None:
    own = client(Role.SECRETARY, associations=[str(association.id)])
    await own.ok("POST", _path(association), json=_term("2026-01-01"), status=201)
    for stranger in (
        client(Role.SECRETARY, associations=[NOWHERE]),
        client(Role.TOWN_OFFICER, areas=[GUICHENG]),
    ):
        await stranger.refused("GET", _path(association), status=404, code="not_found")
        await stranger.refused(
            "POST", _path(association), json=_term("2026-01-01"), status=404, code="not_found"
        )


async def test_names_are_not_for_pseudonymous_readers(
    client: Callable[..., Client], association: Association
) -> None:
    platform = client(Role.DATA_PLATFORM)
    path = _path(association)
    await platform.refused("GET", path, status=403, code="forbidden")
    await platform.refused("GET", f"{path}/{NOWHERE}", status=403, code="forbidden")
    member = client(Role.MEMBER, member_id=NOWHERE)
    assert (await member.ok("GET", path))["items"] == []
    await member.refused("POST", path, json=_term("2026-01-01"), status=403, code="forbidden")
