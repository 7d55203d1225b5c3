"""Exam rounds over HTTP: numbered in order, closed once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.events.service_events import ServiceEvent
from app.roles import Role
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, Client, if_match, pointers
from tests.factories.events.exam_rounds import make_round, make_round_to_come
from tests.factories.events.service_events import make_event

_ROUNDS = "/v1/exam-rounds"
_FIRST = {"name": "第一期", "starts_on": "2026-01-01", "ends_on": "2026-03-31"}


async def test_a_round_gets_the_next_number_and_fifteen_days_for_late_lines(
    officer: Client,
) -> None:
    first = await officer.ok("POST", _ROUNDS, status=201, json=_FIRST)
    body = {"name": "第二期", "starts_on": "2026-04-01", "ends_on": "2026-06-30"}
    second = await officer.ok("POST", _ROUNDS, status=201, json=body)

    assert (first["sequence"], second["sequence"]) == (1, 2)
    assert (first["status"], first["version"]) == ("open", 1)
    assert first["accepts_until"] == "2026-04-15T15:59:59.999999Z"
    assert await officer.ok("GET", f"{_ROUNDS}/{first['id']}") == first


async def test_rounds_do_not_overlap_and_are_numbered_in_order(officer: Client) -> None:
    await officer.ok("POST", _ROUNDS, status=201, json={**_FIRST, "sequence": 5})

    async def refused(code: str, **changed: Any) -> None:
        await officer.refused("POST", _ROUNDS, status=409, code=code, json={**_FIRST, **changed})

    await refused("rounds_overlap", starts_on="2026-03-31", ends_on="2026-06-30")
    await refused("rounds_out_of_order", starts_on="2025-10-01", ends_on="2025-12-31")
    later = {"starts_on": "2026-04-01", "ends_on": "2026-06-30"}
    await refused("rounds_out_of_order", sequence=4, **later)
    await refused("round_number_taken", sequence=5, **later)


async def test_wrong_dates_are_named(officer: Client) -> None:
    for changed, pointer in (
        ({"ends_on": "2025-12-31"}, "/ends_on"),
        ({"accepts_until": "2026-03-31T15:59:59Z"}, "/accepts_until"),
        ({"starts_on": "0001-01-01"}, "/starts_on"),
        ({"sequence": 10_001}, "/sequence"),
    ):
        problem = await officer.refused(
            "POST", _ROUNDS, status=422, code="invalid", json={**_FIRST, **changed}
        )
        assert pointers(problem) == [pointer]


async def test_an_open_round_changes_by_version(officer: Client) -> None:
    created = await officer.ok("POST", _ROUNDS, status=201, json=_FIRST)
    path = f"{_ROUNDS}/{created['id']}"
    changes = {"ends_on": "2026-04-10", "accepts_until": None}
    changed = await officer.ok("PATCH", path, json=changes, headers=if_match(created))

    assert (changed["ends_on"], changed["version"]) == ("2026-04-10", 2)
    assert changed["accepts_until"] == "2026-04-25T15:59:59.999999Z"
    await officer.refused(
        "PATCH", path, status=412, code="stale", json=changes, headers=if_match(created)
    )
    problem = await officer.refused(
        "PATCH", path, status=422, code="invalid", json={"name": None}, headers=if_match(changed)
    )
    assert pointers(problem) == ["/name"]


async def test_the_dates_of_a_round_keep_its_events(officer: Client, session: AsyncSession) -> None:
    held = await make_round(session)
    await make_event(session, held)
    await session.commit()
    await officer.refused(
        "PATCH",
        f"{_ROUNDS}/{held.id}",
        status=409,
        code="events_outside_round",
        json={"starts_on": "2024-01-02"},
        headers={"If-Match": '"1"'},
    )


async def test_closing_excuses_exactly_the_towns_without_a_check(
    officer: Client, session: AsyncSession
) -> None:
    held, other = await make_round(session), await make_round(session, 2)
    await make_event(session, held, area_code="440605124201", status="closed")
    await make_event(session, held, area_code=GUICHENG, status="cancelled", status_reason="雨")
    await make_event(session, other, area_code="440605121000")
    await make_event(session, area_code="440605122000")
    await session.commit()
    path = f"{_ROUNDS}/{held.id}"
    closed = await officer.ok("POST", f"{path}/close", headers={"If-Match": '"1"'})
    excuses = await officer.ok("GET", f"{path}/excuses")
    towns = await officer.ok("GET", "/v1/areas", params={"parent_code": DISTRICT})

    assert (closed["status"], closed["version"]) == ("closed", 2)
    assert {item["area_code"] for item in excuses["items"]} == {
        town["code"] for town in towns["items"]
    } - {SHISHAN}
    assert {item["reason"] for item in excuses["items"]} == {"none_offered"}
    await officer.refused(
        "POST", f"{path}/close", status=409, code="round_closed", headers=if_match(closed)
    )
    await officer.refused(
        "PATCH", path, status=409, code="round_closed", json={"name": "x"}, headers=if_match(closed)
    )


async def test_a_closed_round_is_final_when_late_lines_end(
    officer: Client, session: AsyncSession
) -> None:
    past = clock.now() - timedelta(minutes=1)
    held = await make_round(session, status="closed", closed_at=past, accepts_until=past)
    await make_round(session, 2, status="closed", closed_at=past)
    await make_round(session, 3)
    await session.commit()

    assert (await officer.ok("GET", f"{_ROUNDS}/{held.id}"))["status"] == "final"
    for status, sequences in (("final", [1]), ("closed,open", [3, 2]), ("open", [3])):
        page = await officer.ok("GET", _ROUNDS, params={"status": status})
        assert [item["sequence"] for item in page["items"]] == sequences
    page = await officer.ok("GET", _ROUNDS, params={"sequence_gte": 2, "sequence_lt": 3})
    assert [item["sequence"] for item in page["items"]] == [2]


async def test_only_the_district_holds_rounds(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    held = await make_round(session)
    await session.commit()
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    path = f"{_ROUNDS}/{held.id}"
    await town.refused("POST", _ROUNDS, status=403, code="forbidden", json=_FIRST)
    headers = {"If-Match": '"1"'}
    await town.refused("POST", f"{path}/close", status=403, code="forbidden", headers=headers)
    elsewhere = client(Role.DISTRICT_OFFICER, district_code="440604000000")
    await elsewhere.refused("GET", path, status=404, code="not_found")
    await elsewhere.refused("POST", f"{path}/close", status=404, code="not_found", headers=headers)
    assert (await elsewhere.ok("GET", _ROUNDS))["items"] == []


async def test_a_round_is_not_closed_before_its_first_day(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round_to_come(session)
    today = clock.civil_date(clock.now())
    begun = await make_round(session, 2, starts_on=today, ends_on=today + timedelta(days=9))
    await session.commit()
    problem = await officer.refused(
        "POST",
        f"{_ROUNDS}/{held.id}/close",
        status=409,
        code="round_not_begun",
        headers={"If-Match": '"1"'},
    )
    assert problem["starts_on"] == held.starts_on.isoformat()
    path = f"{_ROUNDS}/{held.id}"
    assert (await officer.ok("GET", path))["status"] == "open"
    assert (await officer.ok("GET", f"{path}/excuses"))["items"] == []
    closed = await officer.ok("POST", f"{_ROUNDS}/{begun.id}/close", headers={"If-Match": '"1"'})
    assert closed["status"] == "closed"


async def test_a_round_is_not_closed_while_checks_of_it_are_to_come(
    officer: Client, session: AsyncSession
) -> None:
    now = clock.now()
    today = clock.civil_date(now)
    month = timedelta(days=30)
    held = await make_round(session, starts_on=today - month, ends_on=today + month)

    async def check(days: int, status: str, **facts: Any) -> ServiceEvent:
        starts_at = now + timedelta(days=days)
        times = {"starts_at": starts_at, "ends_at": starts_at + timedelta(hours=2)}
        return await make_event(session, held, status=status, **times, **facts)

    later = await check(9, "published", area_code=GUICHENG)
    sooner = await check(3, "published")
    under_way = await check(0, "in_progress")
    for days, status in ((-3, "published"), (-2, "closed"), (-2, "in_progress"), (4, "draft")):
        await check(days, status)
    await check(5, "cancelled", status_reason="雨")
    await session.commit()
    path, headers = f"{_ROUNDS}/{held.id}/close", {"If-Match": '"1"'}
    problem = await officer.refused(
        "POST", path, status=409, code="events_to_come", headers=headers
    )
    to_come = [str(event.id) for event in (under_way, sooner, later)]
    assert (problem["count"], problem["event_ids"]) == (3, to_come)
    await officer.ok("POST", f"/v1/service-events/{under_way.id}/close", headers=headers)
    for event in (sooner, later):
        await officer.ok(
            "POST",
            f"/v1/service-events/{event.id}/cancel",
            json={"reason": "因雨取消"},
            headers=headers,
        )
    await officer.ok("POST", path, headers=headers)
    excused = await officer.ok("GET", f"{_ROUNDS}/{held.id}/excuses", params={"limit": 200})
    areas = {item["area_code"] for item in excused["items"]}
    assert GUICHENG in areas
    assert SHISHAN not in areas
