"""Depots over HTTP: kept by scope, renamed, closed when they are empty."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.roles import Role
from tests.factories.callers import (
    DISTRICT,
    GUICHENG,
    SHISHAN,
    Client,
    idempotency_key,
    if_match,
    pointers,
)
from tests.factories.goods.gifts import TODAY, make_depot, make_gift_article, make_stock
from tests.factories.organisation.associations import make_association

PATH = "/v1/depots"
_BODY = {"name": "狮山镇仓库", "area_code": SHISHAN}


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_CLERK)


async def test_of_a_scope_one_depot_is_open(clerk: Client) -> None:
    answer = await clerk.post(PATH, json=_BODY)
    first = answer.json()
    assert answer.headers["location"] == f"{PATH}/{first['id']}"
    assert await clerk.ok("GET", f"{PATH}/{first['id']}") == first
    await clerk.refused("POST", PATH, json=_BODY, status=409, code="depot_scope_taken")
    closed = await clerk.ok("POST", f"{PATH}/{first['id']}/close", headers=if_match(first))
    assert (closed["status"], closed["closed_by"], closed["version"]) == (
        "closed", "finance_clerk-1", 2,
    )  # fmt: skip
    second = await clerk.ok("POST", PATH, json=_BODY, status=201)
    assert (await clerk.ok("GET", PATH, params={"status": "open"}))["items"] == [second]


async def test_a_depot_closes_empty_and_then_takes_nothing_in(
    clerk: Client, session: AsyncSession
) -> None:
    depot, gift = await make_depot(session), await make_gift_article(session)
    await make_stock(session, depot, gift, 5)
    await session.commit()
    path = f"{PATH}/{depot.id}"
    full = await clerk.refused(
        "POST", f"{path}/close", headers={"If-Match": '"1"'}, status=409, code="depot_not_empty"
    )
    assert full["left"] == 5

    async def moved(kind: str, document_no: str, **options: Any) -> Any:
        body = {
            "kind": kind, "depot_id": str(depot.id), "quantity": 5, "note": "受潮",
            "document_no": document_no, "occurred_on": TODAY.isoformat(),
        }  # fmt: skip
        headers = idempotency_key(clock.new_id())
        return await clerk.request(
            "POST", f"/v1/gifts/{gift.id}/stock-movements", json=body, headers=headers, **options
        )

    assert (await moved("write_off", "损1")).status_code == 201
    await clerk.ok("POST", f"{path}/close", headers={"If-Match": '"1"'})
    assert (await moved("receive", "收2")).json()["code"] == "depot_closed"
    again: dict[str, Any] = {"headers": {"If-Match": '"2"'}, "status": 409, "code": "depot_closed"}
    await clerk.refused("POST", f"{path}/close", **again)


async def test_a_depot_is_renamed_and_nothing_else(clerk: Client, session: AsyncSession) -> None:
    depot = await make_depot(session)
    await session.commit()
    path, match = f"{PATH}/{depot.id}", {"If-Match": '"1"'}
    named = await clerk.ok("PATCH", path, json={"name": "新名"}, headers=match)
    assert (named["name"], named["version"]) == ("新名", 2)
    problem = await clerk.refused(
        "PATCH", path, json={"area_code": SHISHAN}, headers=if_match(named), status=422,
        code="invalid",
    )  # fmt: skip
    assert pointers(problem) == ["/area_code"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"area_code": "440605999000"}, "/area_code"),
        ({"association_id": str(UUID(int=7))}, "/association_id"),
        ({"name": ""}, "/name"),
    ],
)
async def test_a_wrong_field_is_named(clerk: Client, change: Any, pointer: str) -> None:
    problem = await clerk.refused("POST", PATH, json=_BODY | change, status=422, code="invalid")
    assert pointers(problem) == [pointer]


async def test_reach_decides_which_depots_there_are(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    here = await make_depot(session, area_code=SHISHAN)
    ours = await make_depot(session, area_code=SHISHAN, association_id=association.id)
    there = await make_depot(session, area_code=GUICHENG)
    await session.commit()
    town = client(Role.FINANCE_CLERK, subject="town-clerk", areas=[SHISHAN])
    assert {each["id"] for each in (await town.ok("GET", PATH))["items"]} == {
        str(here.id),
        str(ours.id),
    }
    params = {"association_id": str(association.id), "area": SHISHAN}
    assert [each["id"] for each in (await town.ok("GET", PATH, params=params))["items"]] == [
        str(ours.id)
    ]
    await town.refused("GET", f"{PATH}/{there.id}", status=404, code="not_found")
    wide = _BODY | {"area_code": DISTRICT}
    await town.refused("POST", PATH, json=wide, status=403, code="forbidden")
