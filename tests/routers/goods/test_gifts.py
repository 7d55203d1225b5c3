"""Gifts over HTTP: the catalogue, the movements of its pieces, and what a round will need."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.goods.depots import Depot
from app.models.goods.gifts import Gift
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
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.service_events import make_event
from tests.factories.finance.funds import agree
from tests.factories.goods.gifts import TODAY, make_depot, make_gift_article, make_stock
from tests.factories.incentives.incentive_policies import make_gift, make_policy
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

PATH = "/v1/gifts"
_BODY = {"code": "hand_cream", "name": "护手霜", "unit": "支"}
NOWHERE = str(UUID(int=7))


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_CLERK)


@pytest_asyncio.fixture
async def gift(session: AsyncSession) -> Gift:
    """A towel of the catalogue."""
    return await make_gift_article(session)


@pytest_asyncio.fixture
async def depot(session: AsyncSession, gift: Gift) -> Depot:
    """The district's depot, which knows no towel yet."""
    kept = await make_depot(session, name=f"{gift.name}仓库")
    await session.commit()
    return kept


def _moved(depot: Depot, quantity: int = 500, **facts: Any) -> dict[str, Any]:
    body = {
        "kind": "receive",
        "depot_id": str(depot.id),
        "quantity": quantity,
        "document_no": "送货单118",
        "occurred_on": TODAY.isoformat(),
    }
    return body | facts


async def _move(clerk: Client, gift: Gift, body: Any) -> Any:
    path, key = f"{PATH}/{gift.id}/stock-movements", idempotency_key(clock.new_id())
    return await clerk.ok("POST", path, json=body, headers=key, status=201)


async def _refused(clerk: Client, gift: Gift, body: Any, *, status: int, code: str) -> Any:
    path, key = f"{PATH}/{gift.id}/stock-movements", idempotency_key(clock.new_id())
    return await clerk.refused("POST", path, json=body, headers=key, status=status, code=code)


async def _stock(clerk: Client, depot: Depot) -> tuple[int, ...]:
    items = (await clerk.ok("GET", "/v1/stock", params={"depot_id": str(depot.id)}))["items"]
    if not items:
        return ()
    [found] = items
    return tuple(
        found[name]
        for name in ("available", "received", "transferred_in", "transferred_out", "written_off")
    )


async def test_the_catalogue_is_kept_by_the_district(officer: Client, clerk: Client) -> None:
    answer = await officer.post(PATH, json=_BODY)
    created = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{PATH}/{created['id']}"
    assert created.items() >= (_BODY | {"status": "active", "version": 1}).items()
    assert await clerk.ok("GET", f"{PATH}/{created['id']}") == created
    await officer.refused("POST", PATH, json=_BODY, status=409, code="gift_code_taken")
    path, match = f"{PATH}/{created['id']}", if_match(created)
    retired = await officer.ok("PATCH", path, json={"status": "retired"}, headers=match)
    assert (retired["status"], retired["version"]) == ("retired", 2)
    await officer.refused(
        "PATCH", path, json={"name": "x"}, headers=match, status=412, code="stale"
    )
    assert (await clerk.ok("GET", PATH, params={"status": "active"}))["items"] == []
    assert (await clerk.ok("GET", PATH, params={"code": "hand_cream"}))["items"] == [retired]


@pytest.mark.parametrize(
    "change", [{"code": "Hand"}, {"code": ""}, {"name": " "}, {"unit": "a" * 11}]
)
async def test_a_wrong_field_of_an_article_is_named(
    officer: Client, change: dict[str, str]
) -> None:
    problem = await officer.refused("POST", PATH, json=_BODY | change, status=422, code="invalid")
    assert pointers(problem) == [f"/{name}" for name in change]


async def test_pieces_come_move_and_are_lost_each_by_a_document(
    clerk: Client, gift: Gift, depot: Depot, session: AsyncSession, database: Database
) -> None:
    town = await make_depot(session, area_code=SHISHAN)
    await session.commit()
    came = await _move(clerk, gift, _moved(depot))
    went = _moved(depot, 200, kind="transfer", to_depot_id=str(town.id), document_no="调1")
    moved = await _move(clerk, gift, went)
    lost = _moved(town, 30, kind="write_off", document_no="损1", note="受潮")
    await _move(clerk, gift, lost)

    assert (came["debit"], came["credit"], came["recorded_by"]) == (
        "available", "outside", "finance_clerk-1",
    )  # fmt: skip
    assert (moved["depot_id"], moved["credit_depot_id"]) == (str(town.id), str(depot.id))
    assert await _stock(clerk, depot) == (300, 500, 0, 200, 0)
    assert await _stock(clerk, town) == (170, 0, 200, 0, 30)
    path = f"{PATH}/{gift.id}/stock-movements"
    listed = (await clerk.ok("GET", path))["items"]
    assert [each["kind"] for each in listed] == ["receive", "transfer", "write_off"]
    assert listed[0] == came
    of_town = (await clerk.ok("GET", path, params={"depot_id": str(town.id)}))["items"]
    assert [each["kind"] for each in of_town] == ["transfer", "write_off"]
    assert (await clerk.ok("GET", path, params={"kind": "receive"}))["items"] == [came]
    await agree(database)


async def test_a_document_is_entered_once_and_a_second_click_answered_again(
    clerk: Client, gift: Gift, depot: Depot
) -> None:
    path, key = f"{PATH}/{gift.id}/stock-movements", idempotency_key("once")
    first = await clerk.post(path, json=_moved(depot), headers=key)
    again = await clerk.post(path, json=_moved(depot), headers=key)
    assert (first.status_code, again.content) == (201, first.content)
    await _refused(clerk, gift, _moved(depot, 1), status=409, code="stock_document_entered")
    assert (await _stock(clerk, depot))[0] == 500


@pytest.mark.parametrize("kind", ["transfer", "write_off"])
async def test_what_is_not_there_does_not_leave(
    clerk: Client, gift: Gift, depot: Depot, session: AsyncSession, kind: str
) -> None:
    town = await make_depot(session, area_code=SHISHAN)
    await session.commit()
    facts = {"to_depot_id": str(town.id)} if kind == "transfer" else {"note": "受潮"}
    body = _moved(depot, 11, kind=kind, document_no="单2", **facts)
    never = await _refused(clerk, gift, body, status=409, code="stock_short")
    assert (never["available"], never["needed"]) == (0, 11)
    await _move(clerk, gift, _moved(depot, 10))
    short = await _refused(clerk, gift, body, status=409, code="stock_short")
    assert (short["available"], short["needed"]) == (10, 11)
    assert await _stock(clerk, depot) == (10, 10, 0, 0, 0)
    assert await _stock(clerk, town) == ()


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"quantity": 0}, "/quantity"),
        ({"quantity": 100_000_001}, "/quantity"),
        ({"document_no": ""}, "/document_no"),
        ({"occurred_on": (TODAY + timedelta(days=2)).isoformat()}, "/occurred_on"),
        ({"depot_id": NOWHERE}, "/depot_id"),
        ({"to_depot_id": NOWHERE}, "/to_depot_id"),
        ({"kind": "transfer"}, "/to_depot_id"),
        ({"kind": "transfer", "to_depot_id": "itself"}, "/to_depot_id"),
        ({"kind": "transfer", "to_depot_id": NOWHERE}, "/to_depot_id"),
        ({"kind": "write_off"}, "/note"),
        ({"kind": "hand_out"}, "/kind"),
        ({"kind": "adjust"}, "/kind"),
    ],
)
async def test_a_wrong_movement_changes_nothing(
    clerk: Client, gift: Gift, depot: Depot, change: dict[str, Any], pointer: str
) -> None:
    body = _moved(depot, 1) | change
    if body.get("to_depot_id") == "itself":
        body["to_depot_id"] = body["depot_id"]
    problem = await _refused(clerk, gift, body, status=422, code="invalid")
    assert pointer in pointers(problem)
    assert await _stock(clerk, depot) == ()


async def test_stock_needs_a_key_and_a_gift_that_is_known(clerk: Client, depot: Depot) -> None:
    path = f"{PATH}/{NOWHERE}/stock-movements"
    await clerk.refused(
        "POST", path, json=_moved(depot), status=400, code="idempotency_key_required"
    )
    key = idempotency_key("k")
    await clerk.refused("POST", path, json=_moved(depot), headers=key, status=404, code="not_found")
    await clerk.refused("GET", path, status=404, code="not_found")


async def test_reach_decides_which_stock_there_is(
    client: Callable[..., Client], gift: Gift, session: AsyncSession
) -> None:
    here = await make_depot(session, area_code=SHISHAN)
    there = await make_depot(session, area_code=GUICHENG)
    for each in (here, there):
        await make_stock(session, each, gift, 5)
    await session.commit()
    town = client(Role.FINANCE_CLERK, subject="town-clerk", areas=[SHISHAN])
    assert [each["depot_id"] for each in (await town.ok("GET", "/v1/stock"))["items"]] == [
        str(here.id)
    ]
    listed = (await town.ok("GET", f"{PATH}/{gift.id}/stock-movements"))["items"]
    assert {each["depot_id"] for each in listed} == {str(here.id)}
    body = _moved(here, 1, kind="transfer", to_depot_id=str(there.id), document_no="调1")
    problem = await _refused(town, gift, body, status=422, code="invalid")
    assert pointers(problem) == ["/to_depot_id"]


async def _forecast(caller: Client, round_id: UUID) -> dict[tuple[str, str], tuple[Any, ...]]:
    answer = await caller.ok("GET", f"{PATH}/forecast", params={"exam_round_id": str(round_id)})
    return {
        (each["gift_code"], each["area_code"]): (
            each["people"], each["needed"], each["available"],
        )
        for each in answer["items"]
    }  # fmt: skip


async def test_a_forecast_supposes_that_each_streak_goes_on(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    """Eleven came in both rounds, two in the last alone, one was excused, one has left."""
    association = await make_association(session)
    await make_gift_article(session, "box", "礼盒")
    group = {"exclusive_group": "gifts"}
    await make_policy(
        session,
        [
            make_gift("small", min_streak=2, priority=1, quantity=2, **group),
            make_gift("big", gift_code="box", min_streak=3, every=3, priority=2, **group),
        ],
    )
    rounds = [await make_round(session, n) for n in (1, 2, 3)]
    exams = [await make_event(session, each) for each in rounds[:2]]
    members = [
        await make_member(session, association, first_joined_on=date(2024, 1, 1)) for _ in range(15)
    ]
    for number, member in enumerate(members):
        attended = exams if number < 11 or number == 14 else exams[1:] if number < 13 else exams[:1]
        for exam in attended:
            await make_attendance(session, exam, member)
    await make_excuse(session, rounds[1], member_id=members[13].id, area_code=None)
    members[14].status = "left"
    depot = await make_depot(session, area_code=SHISHAN)
    above = await make_depot(session)
    towel = await make_gift_article(session)
    await make_stock(session, depot, towel, 7)
    await make_stock(session, above, towel, 1000)
    await session.commit()

    told = await _forecast(officer, rounds[2].id)
    assert told == {
        ("box", SHISHAN): (11, 11, 0),
        ("towel", SHISHAN): (3, 6, 7),
        ("towel", DISTRICT): (0, 0, 1000),
    }
    there = client(Role.TOWN_OFFICER, subject="there", areas=[GUICHENG])
    assert await _forecast(there, rounds[2].id) == {}
    problem = await officer.refused(
        "GET", f"{PATH}/forecast", params={"exam_round_id": NOWHERE}, status=422, code="invalid"
    )
    assert [error["code"] for error in problem["errors"]] == ["unknown_reference"]


@pytest.mark.parametrize(
    ("role", "linked"),
    [
        (Role.DATA_PLATFORM, False),
        (Role.TOWN_OFFICER, True),
        (Role.DISTRICT_OFFICER, True),
        (Role.FINANCE_CLERK, True),
        (Role.AUDITOR, True),
    ],
)
async def test_a_forecast_is_neither_for_the_employers_side_nor_for_platforms(
    client: Callable[..., Client],
    officer: Client,
    session: AsyncSession,
    *,
    role: Role,
    linked: bool,
) -> None:
    """Read before and after a member leaves, it would say whether she came to the last round."""
    association = await make_association(session)
    await make_policy(session, [make_gift(min_streak=2)])
    first, second = [await make_round(session, n) for n in (1, 2)]
    exam = await make_event(session, first)
    for _ in range(12):
        await make_attendance(session, exam, await make_member(session, association))
    await session.commit()
    assert (await _forecast(officer, second.id))["towel", SHISHAN][:2] == (12, 12)
    await client(role, areas=[SHISHAN], subject="linked", employer_linked=linked).refused(
        "GET",
        f"{PATH}/forecast",
        params={"exam_round_id": str(second.id)},
        status=403,
        code="forbidden",
    )


async def test_a_forecast_says_for_a_round_what_a_run_of_it_then_grants(
    officer: Client, session: AsyncSession, client: Callable[..., Client]
) -> None:
    """When everybody has come, the upper bound is what is calculated."""
    association = await make_association(session)
    policy = await make_policy(session, [make_gift(), make_gift("third", every=3, min_streak=3)])
    rounds = [await make_round(session, n) for n in (1, 2, 3)]
    members = [await make_member(session, association) for _ in range(6)]
    for number, held in enumerate(rounds):
        exam = await make_event(session, held)
        for member in members[: 6 - 2 * (number < 2)]:
            await make_attendance(session, exam, member)
    rounds[2].status, rounds[2].closed_at = "closed", clock.now()
    await session.commit()
    [(people, needed, _)] = (await _forecast(officer, rounds[2].id)).values()
    clerk = client(Role.FINANCE_CLERK)
    run = await clerk.ok(
        "POST",
        "/v1/payout-runs",
        json={"exam_round_id": str(rounds[2].id), "policy_id": str(policy.id)},
        headers=idempotency_key("run"),
        status=201,
    )
    run = await clerk.ok("POST", f"/v1/payout-runs/{run['id']}/calculate", headers=if_match(run))
    summary = await clerk.ok("GET", f"/v1/payout-runs/{run['id']}/summary")
    assert (people, needed) == (6, 10)
    assert summary["total"]["gift_quantity"] == needed
    assert [each["quantity"] for each in summary["by_gift"]] == [10]
    assert summary["by_gift"][0]["depot_id"] is None
