"""Regulations of associations over HTTP: editions, and what stays once it is in force."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.organisation.associations import Association, Mode
from app.roles import Role
from tests.factories.callers import GUICHENG, Client, if_match, pointers
from tests.factories.organisation.associations import make_association


@pytest.fixture
async def path(session: AsyncSession) -> str:
    """The path of an active association's regulations."""
    association: Association = await make_association(session, Mode.PARK)
    await session.commit()
    return f"/v1/associations/{association.id}/regulations"


def _charter(**facts: Any) -> dict[str, Any]:
    return {"kind": "charter", "title": "章程", "body": "第一条\n会员自愿参加。", **facts}


async def test_each_kind_counts_its_editions(officer: Client, path: str) -> None:
    kinds = ["charter", "charter", "park_regulation", "charter"]
    made = [await officer.ok("POST", path, json=_charter(kind=kind), status=201) for kind in kinds]
    assert [each["edition"] for each in made] == [1, 2, 1, 3]


async def test_a_text_is_read_alone_and_left_out_of_lists(officer: Client, path: str) -> None:
    assert (await officer.ok("GET", path))["items"] == []
    answer = await officer.post(path, json=_charter())
    created = answer.json()
    other = await officer.ok("POST", path, json=_charter(kind="park_regulation"), status=201)

    assert (await officer.get(answer.headers["location"])).json() == created
    assert created["body"] == "第一条\n会员自愿参加。"
    page = await officer.ok("GET", path, params={"kind": "charter"})
    assert page["items"] == [{key: created[key] for key in created if key != "body"}]
    page = await officer.ok("GET", path)
    assert [item["id"] for item in page["items"]] == [created["id"], other["id"]]


async def test_a_draft_is_rewritten_until_it_is_adopted(officer: Client, path: str) -> None:
    draft = await officer.ok("POST", path, json=_charter(), status=201)
    own = f"{path}/{draft['id']}"
    better = await officer.ok("PATCH", own, json={"body": "第一条"}, headers=if_match(draft))
    adopted = await officer.ok(
        "PATCH", own, json={"adopted_on": "2026-01-01"}, headers=if_match(better)
    )

    for change in ({"body": "第二条"}, {"title": "新章程"}, {"adopted_on": None}):
        await officer.refused(
            "PATCH",
            own,
            json=change,
            headers=if_match(adopted),
            status=409,
            code="regulation_in_force",
        )
    published = await officer.ok(
        "PATCH",
        own,
        json={"published_on": "2026-02-01", "title": "章程"},
        headers=if_match(adopted),
    )
    assert (published["body"], published["published_on"]) == ("第一条", "2026-02-01")


async def test_what_is_wrong_with_a_text_is_named(officer: Client, path: str) -> None:
    wrong = [
        (_charter(kind="law"), "/kind"),
        (_charter(title="a\nb"), "/title"),
        (_charter(body="a\x00b"), "/body"),
        (_charter(body="长" * 20_001), "/body"),
        (_charter(adopted_on="soon"), "/adopted_on"),
        (_charter(colour="red"), "/colour"),
    ]
    for body, pointer in wrong:
        problem = await officer.refused("POST", path, json=body, status=422, code="invalid")
        assert pointers(problem) == [pointer]


async def test_a_change_needs_the_version_that_was_read(officer: Client, path: str) -> None:
    draft = await officer.ok("POST", path, json=_charter(), status=201)
    own = f"{path}/{draft['id']}"
    await officer.refused("PATCH", own, json={}, status=428, code="precondition_required")
    await officer.ok("PATCH", own, json={"title": "新章程"}, headers=if_match(draft))
    await officer.refused("PATCH", own, json={}, headers=if_match(draft), status=412, code="stale")


async def test_others_see_nothing_or_change_nothing(
    client: Callable[..., Client], path: str
) -> None:
    elsewhere = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    await elsewhere.refused("GET", path, status=404, code="not_found")
    await elsewhere.refused("POST", path, json=_charter(), status=404, code="not_found")
    staff = client(Role.EVENT_STAFF)
    await staff.refused("POST", path, json=_charter(), status=403, code="forbidden")
