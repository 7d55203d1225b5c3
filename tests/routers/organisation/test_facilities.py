"""Facilities of associations over HTTP."""

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
async def path(session: AsyncSession) -> str:
    """The path of an active association's facilities."""
    association: Association = await make_association(session, Mode.COMMUNITY)
    await session.commit()
    return f"/v1/associations/{association.id}/facilities"


def _room(**facts: Any) -> dict[str, Any]:
    return {"kind": "service_room", "name": "会员服务室", "opened_on": "2026-01-01", **facts}


async def test_a_facility_is_entered_closed_and_opened_again(officer: Client, path: str) -> None:
    answer = await officer.post(path, json=_room())
    assert answer.status_code == 201, answer.text
    created = answer.json()
    assert created["closed_on"] is None
    assert (await officer.get(answer.headers["location"])).json() == created
    own = f"{path}/{created['id']}"

    closed = await officer.ok(
        "PATCH", own, json={"closed_on": "2026-01-01"}, headers=if_match(created)
    )
    opened = await officer.ok("PATCH", own, json={"closed_on": None}, headers=if_match(closed))
    assert (closed["closed_on"], opened["closed_on"]) == ("2026-01-01", None)
    assert opened["version"] == 3


async def test_what_is_wrong_with_a_facility_is_named(officer: Client, path: str) -> None:
    wrong = [
        (_room(closed_on="2025-12-31"), "/closed_on"),
        (_room(kind="castle"), "/kind"),
        (_room(name="a\x1bb"), "/name"),
        (_room(colour="red"), "/colour"),
    ]
    for body, pointer in wrong:
        problem = await officer.refused("POST", path, json=body, status=422, code="invalid")
        assert pointers(problem) == [pointer]
    created = await officer.ok("POST", path, json=_room(closed_on="2026-02-01"), status=201)
    problem = await officer.refused(
        "PATCH",
        f"{path}/{created['id']}",
        json={"opened_on": "2026-03-01"},
        headers=if_match(created),
        status=422,
        code="invalid",
    )
    assert pointers(problem) == ["/closed_on"]


async def test_a_list_is_narrowed_by_kind_and_day(officer: Client, path: str) -> None:
    assert (await officer.ok("GET", path))["items"] == []
    room = await officer.ok("POST", path, json=_room(closed_on="2026-06-01"), status=201)
    corner = await officer.ok("POST", path, json=_room(kind="book_corner"), status=201)

    assert (await officer.ok("GET", path))["items"] == [room, corner]
    page = await officer.ok("GET", path, params={"kind": "service_room,broadcast"})
    assert page["items"] == [room]
    page = await officer.ok("GET", path, params={"open_on": "2026-06-01"})
    assert page["items"] == [corner]


async def test_a_change_needs_the_version_that_was_read(officer: Client, path: str) -> None:
    created = await officer.ok("POST", path, json=_room(), status=201)
    own = f"{path}/{created['id']}"
    await officer.refused("PATCH", own, json={}, status=428, code="precondition_required")
    await officer.ok("PATCH", own, json={"name": "新名"}, headers=if_match(created))
    await officer.refused(
        "PATCH", own, json={}, headers=if_match(created), status=412, code="stale"
    )


async def test_others_see_nothing_or_change_nothing(
    client: Callable[..., Client], path: str
) -> None:
    elsewhere = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    await elsewhere.refused("GET", path, status=404, code="not_found")
    await elsewhere.refused("POST", path, json=_room(), status=404, code="not_found")
    district = client(Role.DISTRICT_OFFICER)
    await district.refused("GET", f"{path}/{NOWHERE}", status=404, code="not_found")
    auditor = client(Role.AUDITOR)
    await auditor.refused("POST", path, json=_room(), status=403, code="forbidden")
