"""Excuses over HTTP: given twice without harm, seen by few."""

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.roles import Role
from tests.factories.callers import GUICHENG, SHISHAN, VILLAGE, Client, pointers
from tests.factories.events.exam_rounds import make_round
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association


async def test_the_same_excuse_twice_is_one(officer: Client, session: AsyncSession) -> None:
    held = await make_round(session)
    member = await make_member(session, await make_association(session))
    await session.commit()
    path = f"/v1/exam-rounds/{held.id}/excuses"
    for whom in ({"member_id": str(member.id)}, {"area_code": SHISHAN}):
        body = {**whom, "reason": "away"}
        first = await officer.ok("POST", path, status=201, json=body)
        assert await officer.ok("POST", path, status=200, json=body) == first
        assert await officer.ok("GET", f"{path}/{first['id']}") == first
        other = {**whom, "reason": "not_in_scope"}
        await officer.refused("POST", path, status=409, code="already_excused", json=other)
        await officer.ok("DELETE", f"{path}/{first['id']}", status=204)
        await officer.refused("DELETE", f"{path}/{first['id']}", status=404, code="not_found")
        await officer.ok("POST", path, status=201, json=other)

    page = await officer.ok("GET", path, params={"reason": "not_in_scope", "area": SHISHAN})
    assert len(page["items"]) == 2
    assert (await officer.ok("GET", path, params={"reason": "away"}))["items"] == []


async def test_whom_to_excuse_is_one_and_within_reach(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    held = await make_round(session)
    member = await make_member(session, await make_association(session, area_code=VILLAGE))
    await session.commit()
    path = f"/v1/exam-rounds/{held.id}/excuses"
    elsewhere = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    for body, pointer in (
        ({"reason": "away"}, "/member_id"),
        ({"reason": "away", "member_id": str(member.id), "area_code": GUICHENG}, "/member_id"),
        ({"reason": "away", "member_id": str(member.id)}, "/member_id"),
        ({"reason": "away", "area_code": VILLAGE}, "/area_code"),
        ({"reason": "away", "area_code": "440605999999"}, "/area_code"),
        ({"reason": "ill", "area_code": GUICHENG}, "/reason"),
    ):
        problem = await elsewhere.refused("POST", path, status=422, code="invalid", json=body)
        assert pointers(problem) == [pointer]


async def test_only_those_entitled_see_excuses(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    association = await make_association(session, area_code=VILLAGE)
    mine, other = await make_member(session, association), await make_member(session, association)
    await session.commit()
    path = f"/v1/exam-rounds/{held.id}/excuses"
    for member in (mine, other):
        body = {"member_id": str(member.id), "reason": "away"}
        await officer.ok("POST", path, status=201, json=body)
    await officer.ok("POST", path, status=201, json={"area_code": VILLAGE, "reason": "away"})

    secretary = client(Role.SECRETARY, associations=[str(association.id)])
    await secretary.refused("GET", path, status=403, code="forbidden")
    member_page = await client(Role.MEMBER, member_id=str(mine.id)).ok("GET", path)
    assert [item["member_id"] for item in member_page["items"]] == [str(mine.id)]
    assert (await client(Role.TOWN_OFFICER, areas=[GUICHENG]).ok("GET", path))["items"] == []
    assert len((await client(Role.TOWN_OFFICER, areas=[SHISHAN]).ok("GET", path))["items"]) == 3


async def test_a_final_round_keeps_its_excuses(officer: Client, session: AsyncSession) -> None:
    past = clock.now() - timedelta(minutes=1)
    held = await make_round(session, status="closed", closed_at=past, accepts_until=past)
    await session.commit()
    body = {"area_code": SHISHAN, "reason": "away"}
    path = f"/v1/exam-rounds/{held.id}/excuses"
    await officer.refused("POST", path, status=409, code="round_final", json=body)
