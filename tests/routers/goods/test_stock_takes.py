"""Stock-takes over HTTP: counted by some, confirmed by another, and the books follow."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.disbursement.payout_runs import RunStatus
from app.models.goods.depots import Depot
from app.models.goods.gifts import Gift
from app.roles import Role
from tests.factories.callers import Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.finance.funds import agree
from tests.factories.goods.gifts import make_depot, make_gift_article, make_stock
from tests.factories.incentives.incentive_policies import make_gift

PATH = "/v1/stock-takes"
_REASON = {"reason": "年度盘点"}


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_CLERK)


@pytest.fixture
def approver(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_APPROVER)


@pytest_asyncio.fixture
async def gifts(session: AsyncSession) -> list[Gift]:
    """Towels, boxes and umbrellas."""
    codes = ("towel", "box", "umbrella")
    return [await make_gift_article(session, code) for code in codes]


@pytest_asyncio.fixture
async def depot(session: AsyncSession, gifts: list[Gift]) -> Depot:
    """A depot with ten towels and ten boxes."""
    kept = await make_depot(session)
    for gift in gifts[:2]:
        await make_stock(session, kept, gift, 10)
    await session.commit()
    return kept


async def _begin(clerk: Client, depot: Depot) -> dict[str, Any]:
    key = idempotency_key(clock.new_id())
    begun: dict[str, Any] = await clerk.ok(
        "POST", PATH, json={"depot_id": str(depot.id)}, headers=key, status=201
    )
    return begun


async def _count(clerk: Client, take: Any, gift: Gift, quantity: int) -> dict[str, Any]:
    path = f"{PATH}/{take['id']}/counts/{gift.id}"
    counted: dict[str, Any] = await clerk.ok("PUT", path, json={"quantity": quantity})
    return counted


async def _report(caller: Client, take: Any) -> dict[str, tuple[Any, ...]]:
    answer = await caller.ok("GET", f"{PATH}/{take['id']}/differences")
    names = ("counted", "book", "difference")
    return {each["gift_code"]: tuple(each[name] for name in names) for each in answer["items"]}


async def test_differences_are_adjusted_when_another_confirms(
    clerk: Client,
    approver: Client,
    gifts: list[Gift],
    depot: Depot,
    database: Database,
) -> None:
    towel, box, umbrella = gifts
    take = await _begin(clerk, depot)
    take = await _count(clerk, take, towel, 80)
    take = await _count(clerk, take, towel, 8)
    take = await _count(clerk, take, umbrella, 3)
    assert take["version"] == 4
    assert await _report(approver, take) == {
        "towel": (8, 10, -2), "umbrella": (3, 0, 3), "box": (None, 10, None),
    }  # fmt: skip
    path = f"{PATH}/{take['id']}/close"
    stale = {"If-Match": '"3"'}
    await approver.refused("POST", path, json=_REASON, headers=stale, status=412, code="stale")
    closed = await approver.ok("POST", path, json=_REASON, headers=if_match(take))
    assert (closed["status"], closed["ended_by"], closed["reason"]) == (
        "closed", "finance_approver-1", "年度盘点",
    )  # fmt: skip
    assert await _report(clerk, take) == {"towel": (8, 10, -2), "umbrella": (3, 0, 3)}
    stock = (await clerk.ok("GET", "/v1/stock"))["items"]
    assert {(each["gift_code"], each["available"], each["adjusted"]) for each in stock} == {
        ("towel", 8, -2), ("umbrella", 3, 3), ("box", 10, 0),
    }  # fmt: skip
    movements = f"/v1/gifts/{towel.id}/stock-movements"
    adjusted = (await clerk.ok("GET", movements, params={"kind": "adjust"}))["items"]
    assert [(each["credit"], each["quantity"], each["note"]) for each in adjusted] == [
        ("available", 2, "年度盘点")
    ]
    assert adjusted[0]["stock_take_id"] == take["id"]
    count = f"{PATH}/{take['id']}/counts/{box.id}"
    ended: dict[str, Any] = {"status": 409, "code": "stock_take_ended"}
    await clerk.refused("PUT", count, json={"quantity": 1}, **ended)
    await approver.refused("POST", path, json=_REASON, headers=if_match(closed), **ended)
    await agree(database)


async def test_the_books_of_the_moment_are_compared(
    clerk: Client, approver: Client, gifts: list[Gift], depot: Depot
) -> None:
    take = await _begin(clerk, depot)
    take = await _count(clerk, take, gifts[0], 15)
    body = {
        "kind": "receive", "depot_id": str(depot.id), "quantity": 5, "document_no": "后到",
        "occurred_on": "2026-01-01",
    }  # fmt: skip
    path = f"/v1/gifts/{gifts[0].id}/stock-movements"
    await clerk.ok("POST", path, json=body, headers=idempotency_key("later"), status=201)
    await approver.ok("POST", f"{PATH}/{take['id']}/close", json=_REASON, headers=if_match(take))
    assert await _report(clerk, take) == {"towel": (15, 15, 0)}
    assert (await clerk.ok("GET", path, params={"kind": "adjust"}))["items"] == []


async def test_who_counted_does_not_confirm(
    client: Callable[..., Client],
    clerk: Client,
    gifts: list[Gift],
    depot: Depot,
) -> None:
    second = client(Role.FINANCE_CLERK, subject="second")
    take = await _begin(clerk, depot)
    path = f"{PATH}/{take['id']}/close"
    confirms = client(Role.FINANCE_APPROVER, subject="third")
    nothing: dict[str, Any] = {"status": 409, "code": "nothing_counted"}
    await confirms.refused("POST", path, json=_REASON, headers=if_match(take), **nothing)
    take = await _count(second, take, gifts[0], 10)
    for subject in ("finance_clerk-1", "second"):
        counter = client(Role.FINANCE_APPROVER, subject=subject)
        theirs: dict[str, Any] = {"status": 403, "code": "counter_is_confirmer"}
        await counter.refused("POST", path, json=_REASON, headers=if_match(take), **theirs)
    await confirms.ok("POST", path, json=_REASON, headers=if_match(take))


async def test_what_is_promised_is_not_adjusted_away(
    clerk: Client, approver: Client, session: AsyncSession, database: Database
) -> None:
    gift, depot = await make_gift_article(session), await make_depot(session)
    box = await make_gift_article(session, "box")
    for each in (gift, box):
        await make_stock(session, depot, each, 10)
    thanks = await make_thanks(session, [make_gift()], members=3)
    await make_granted_run(session, thanks, RunStatus.APPROVED)
    await session.commit()
    take = await _count(clerk, await _begin(clerk, depot), gift, 2)
    take = await _count(clerk, take, box, 9)
    path = f"{PATH}/{take['id']}/close"
    problem = await approver.refused(
        "POST", path, json=_REASON, headers=if_match(take), status=409,
        code="counted_below_reserved",
    )  # fmt: skip
    assert problem["short"] == [
        {"gift_id": str(gift.id), "gift_name": "毛巾", "counted": 2, "reserved": 3}
    ]
    assert await _report(clerk, take) == {"towel": (2, 10, -8), "box": (9, 10, -1)}
    take = await _count(clerk, take, gift, 3)
    await approver.ok("POST", path, json=_REASON, headers=if_match(take))
    stock = (await clerk.ok("GET", "/v1/stock", params={"gift_id": str(gift.id)}))["items"]
    assert [(each["available"], each["reserved"]) for each in stock] == [(0, 3)]
    await agree(database)


async def test_a_depot_is_counted_once_at_a_time_and_a_count_may_be_given_up(
    clerk: Client, depot: Depot, gifts: list[Gift]
) -> None:
    take = await _count(clerk, await _begin(clerk, depot), gifts[0], 1)
    body, key = {"depot_id": str(depot.id)}, idempotency_key("k")
    await clerk.refused("POST", PATH, json=body, headers=key, status=409, code="stock_take_open")
    path = f"{PATH}/{take['id']}/cancel"
    given_up = await clerk.ok("POST", path, json={"reason": "数错"}, headers=if_match(take))
    assert given_up["status"] == "cancelled"
    stock = (await clerk.ok("GET", "/v1/stock"))["items"]
    assert {each["available"] for each in stock} == {10}
    again = await _begin(clerk, depot)
    listed = (await clerk.ok("GET", PATH, params={"depot_id": str(depot.id)}))["items"]
    assert [each["id"] for each in listed] == [again["id"], take["id"]]
    assert (await clerk.ok("GET", PATH, params={"status": "open"}))["items"] == [again]
    assert await clerk.ok("GET", f"{PATH}/{again['id']}") == again


async def test_only_what_is_known_is_counted(clerk: Client, depot: Depot) -> None:
    nowhere = str(UUID(int=7))
    key = idempotency_key("k")
    await clerk.refused(
        "POST", PATH, json={"depot_id": nowhere}, headers=key, status=422, code="invalid"
    )
    take = await _begin(clerk, depot)
    path = f"{PATH}/{take['id']}/counts/{nowhere}"
    await clerk.refused("PUT", path, json={"quantity": 1}, status=404, code="not_found")
    await clerk.refused("PUT", path, json={"quantity": -1}, status=422, code="invalid")
