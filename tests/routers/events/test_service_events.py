"""Service events over HTTP: from draft to closed or cancelled, and what each caller learns."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.events.service_events import ServiceEvent
from app.models.organisation.associations import Association
from app.roles import Role
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, VILLAGE, Client, if_match, pointers
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round, make_round_to_come
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_EVENTS = "/v1/service-events"
_LECTURE = {
    "kind": "lecture",
    "title": "春季讲座",
    "venue": "会员之家",
    "area_code": SHISHAN,
    "starts_at": "2024-02-10T01:00:00Z",
    "ends_at": "2024-02-10T03:00:00Z",
}
_SEES_TENS = [
    (Role.SECRETARY, {}),
    (Role.GUIDE, {}),
    (Role.DATA_PLATFORM, {}),
    (Role.MEMBER, {"member_id": str(UUID(int=1))}),
]


def _exam(round_id: UUID, **facts: Any) -> dict[str, Any]:
    kind = {"kind": "health_exam", "title": "会员服务日", "exam_round_id": str(round_id)}
    return {**_LECTURE, **kind, **facts}


async def _step(caller: Client, event: dict[str, Any], step: str, **options: Any) -> dict[str, Any]:
    path = f"{_EVENTS}/{event['id']}/{step}"
    answer: dict[str, Any] = await caller.ok("POST", path, headers=if_match(event), **options)
    return answer


_LONG_KNOWN = datetime(2023, 1, 1, tzinfo=UTC)


async def _exam_with(
    session: AsyncSession, association: Association, *, attended: int, **facts: Any
) -> ServiceEvent:
    held = await make_round(session)
    event = await make_event(session, held, association_id=association.id, **facts)
    for _ in range(attended):
        member = await make_member(session, association, created_at=_LONG_KNOWN)
        await make_registration(session, event, member)
        await make_attendance(session, event, member)
    await session.commit()
    return event


async def test_an_event_goes_from_draft_to_closed(officer: Client) -> None:
    event = await officer.ok("POST", _EVENTS, status=201, json=_LECTURE)
    assert (event["status"], event["version"]) == ("draft", 1)
    assert (event["registered_count"], event["waiting_count"], event["attended_count"]) == (0, 0, 0)
    for step, status in (
        ("publish", "published"),
        ("start", "in_progress"),
        ("close", "closed"),
    ):
        event = await _step(officer, event, step)
        assert event["status"] == status
    assert event["version"] == 4
    assert await officer.ok("GET", f"{_EVENTS}/{event['id']}") == event


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        ("draft", {"publish", "cancel"}),
        ("published", {"start", "cancel"}),
        ("in_progress", {"close", "cancel"}),
        ("closed", set[str]()),
        ("cancelled", set[str]()),
    ],
)
async def test_a_status_allows_its_own_steps_alone(
    officer: Client, session: AsyncSession, status: str, allowed: set[str]
) -> None:
    reason = "雨" if status == "cancelled" else None
    for step in ("publish", "start", "close", "cancel"):
        event = await make_event(session, status=status, status_reason=reason)
        await session.commit()
        body: dict[str, Any] = {"json": {"reason": "场地不可用"}} if step == "cancel" else {}
        path, headers = f"{_EVENTS}/{event.id}/{step}", {"If-Match": '"1"'}
        if step in allowed:
            await officer.ok("POST", path, headers=headers, **body)
        else:
            problem = await officer.refused(
                "POST", path, status=409, code="event_step_refused", headers=headers, **body
            )
            assert problem["event_status"] == status


async def test_a_second_click_is_told_that_the_event_has_moved_on(officer: Client) -> None:
    event = await officer.ok("POST", _EVENTS, status=201, json=_LECTURE)
    await _step(officer, event, "publish")
    path = f"{_EVENTS}/{event['id']}/publish"
    await officer.refused("POST", path, status=412, code="stale", headers=if_match(event))
    await officer.refused("POST", path, status=428, code="precondition_required")


async def test_members_are_told_why_an_event_is_cancelled(
    client: Callable[..., Client], officer: Client
) -> None:
    event = await officer.ok("POST", _EVENTS, status=201, json=_LECTURE)
    published = await _step(officer, event, "publish")
    await _step(officer, published, "cancel", json={"reason": "因台风取消"})
    member = client(Role.MEMBER, member_id=str(UUID(int=1)))
    seen = await member.ok("GET", f"{_EVENTS}/{event['id']}")
    assert (seen["status"], seen["status_reason"]) == ("cancelled", "因台风取消")


async def test_cancelling_needs_a_reason(officer: Client) -> None:
    event = await officer.ok("POST", _EVENTS, status=201, json=_LECTURE)
    path = f"{_EVENTS}/{event['id']}/cancel"
    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": "x" * 101}):
        problem = await officer.refused(
            "POST", path, status=422, code="invalid", json=body, headers=if_match(event)
        )
        assert pointers(problem) == ["/reason"]


async def test_an_event_to_which_members_came_is_not_cancelled(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session)
    member = await make_member(session, await make_association(session))
    attendance = await make_attendance(session, event, member)
    await session.commit()
    cancel: dict[str, Any] = {"json": {"reason": "停电"}, "headers": {"If-Match": '"1"'}}
    path = f"{_EVENTS}/{event.id}/cancel"
    await officer.refused("POST", path, status=409, code="event_has_attendances", **cancel)

    attendance.voided_at, attendance.voided_by = clock.now(), "officer-1"
    attendance.void_reason = "误扫"
    session.add(attendance)
    await session.commit()
    await officer.ok("POST", path, **cancel)


async def test_a_health_exam_belongs_to_an_open_round_and_nothing_else_does(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    closed = await make_round(session, 2, status="closed", closed_at=clock.now())
    await session.commit()
    event = await officer.ok("POST", _EVENTS, status=201, json=_exam(held.id))
    assert (event["exam_round_id"], event["round_sequence"]) == (str(held.id), 1)

    for body in (
        {**_exam(held.id), "exam_round_id": None},
        _exam(UUID(int=7)),
        {**_LECTURE, "exam_round_id": str(held.id)},
    ):
        problem = await officer.refused("POST", _EVENTS, status=422, code="invalid", json=body)
        assert pointers(problem) == ["/exam_round_id"]
    await officer.refused("POST", _EVENTS, status=409, code="round_closed", json=_exam(closed.id))


async def test_a_health_exam_lies_within_its_round(officer: Client, session: AsyncSession) -> None:
    held = await make_round(session)
    await session.commit()
    # The round ends on 31 March in China, which is 16:00 UTC.
    first = {"starts_at": "2023-12-31T16:00:00Z", "ends_at": "2024-01-31T15:59:59Z"}
    last = {"starts_at": "2024-03-01T16:00:00Z", "ends_at": "2024-03-31T15:59:59Z"}
    for inside, changed, pointer in (
        (first, {"starts_at": "2023-12-31T15:59:59Z"}, "/starts_at"),
        (last, {"ends_at": "2024-03-31T16:00:00Z"}, "/ends_at"),
    ):
        await officer.ok("POST", _EVENTS, status=201, json=_exam(held.id, **inside))
        problem = await officer.refused(
            "POST", _EVENTS, status=422, code="invalid", json=_exam(held.id, **(inside | changed))
        )
        assert pointers(problem) == [pointer]


async def test_a_closed_round_begins_no_more_health_exams(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session, status="closed", closed_at=clock.now())
    for status, step in (("draft", "publish"), ("published", "start")):
        event = await make_event(session, held, status=status)
        await session.commit()
        path, headers = f"{_EVENTS}/{event.id}", {"If-Match": '"1"'}
        await officer.refused(
            "POST", f"{path}/{step}", status=409, code="round_closed", headers=headers
        )
        await officer.refused(
            "PATCH", path, status=409, code="round_closed", json={"venue": "x"}, headers=headers
        )
    event = await make_event(session, held)
    await session.commit()
    await officer.ok("POST", f"{_EVENTS}/{event.id}/close", headers={"If-Match": '"1"'})


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"ends_at": "2024-02-10T01:00:00Z"}, "/ends_at"),
        ({"starts_at": "2024-02-10T01:00:00"}, "/starts_at"),
        ({"capacity": 0}, "/capacity"),
        ({"capacity": 1_000_001}, "/capacity"),
        ({"kind": "haircut"}, "/kind"),
        ({"area_code": None}, "/area_code"),
        ({"area_code": "440605999999"}, "/area_code"),
        ({"association_id": str(UUID(int=7))}, "/association_id"),
        ({"title": " "}, "/title"),
    ],
)
async def test_a_wrong_fact_is_named(
    officer: Client, changed: dict[str, Any], pointer: str
) -> None:
    body = {**_LECTURE, **changed}
    problem = await officer.refused("POST", _EVENTS, status=422, code="invalid", json=body)
    assert pointers(problem) == [pointer]


async def test_the_registration_window_ends_after_it_begins(officer: Client) -> None:
    window = {
        "registration_opens_at": "2024-02-01T00:00:00Z",
        "registration_closes_at": "2024-02-01T00:00:00Z",
    }
    problem = await officer.refused(
        "POST", _EVENTS, status=422, code="invalid", json={**_LECTURE, **window}
    )
    assert pointers(problem) == ["/registration_closes_at"]


async def test_an_association_holds_events_in_its_own_area(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session, area_code=VILLAGE)
    gone = await make_association(session, "village", area_code=GUICHENG, status="dissolved")
    await session.commit()
    body = {**_LECTURE, "area_code": None, "association_id": str(association.id)}
    event = await officer.ok("POST", _EVENTS, status=201, json=body)
    assert (event["area_code"], event["association_id"]) == (VILLAGE, str(association.id))
    for changed, pointer in (
        ({"area_code": SHISHAN}, "/area_code"),
        ({"association_id": str(gone.id)}, "/association_id"),
    ):
        problem = await officer.refused(
            "POST", _EVENTS, status=422, code="invalid", json={**body, **changed}
        )
        assert pointers(problem) == [pointer]


async def test_an_event_changes_until_it_begins(officer: Client, session: AsyncSession) -> None:
    for status in ("draft", "published"):
        event = await make_event(session, status=status, capacity=3)
        await session.commit()
        changed = await officer.ok(
            "PATCH",
            f"{_EVENTS}/{event.id}",
            json={"venue": "新会场", "capacity": None},
            headers={"If-Match": '"1"'},
        )
        assert (changed["venue"], changed["capacity"]) == ("新会场", None)
        assert (changed["title"], changed["version"]) == (event.title, 2)
    for status in ("closed", "cancelled"):
        event = await make_event(session, status=status, status_reason="雨")
        await session.commit()
        await officer.refused(
            "PATCH",
            f"{_EVENTS}/{event.id}",
            status=409,
            code="event_step_refused",
            json={"venue": "x"},
            headers={"If-Match": '"1"'},
        )


async def test_of_an_event_in_progress_place_end_and_seats_are_mended(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session, capacity=1)
    association = await make_association(session)
    waiting = await make_member(session, association)
    await make_registration(session, event, await make_member(session, association))
    await make_registration(session, event, waiting, status="waiting")
    await session.commit()
    path = f"{_EVENTS}/{event.id}"
    later = (event.ends_at + timedelta(hours=3)).isoformat()
    fixed = {"starts_at": later, "title": "另一讲座", "registration_closes_at": later}
    headers = {"If-Match": '"1"'}
    problem = await officer.refused(
        "PATCH", path, status=422, code="invalid", json=fixed | {"venue": "x"}, headers=headers
    )
    assert set(pointers(problem)) == {f"/{name}" for name in fixed}
    assert {error["code"] for error in problem["errors"]} == {"fixed_once_begun"}
    same = {"starts_at": event.starts_at.isoformat(), "title": event.title}
    body = same | {"venue": "新会场", "ends_at": later, "capacity": 2}
    changed = await officer.ok("PATCH", path, json=body, headers=headers)
    assert (changed["venue"], changed["capacity"]) == ("新会场", 2)
    assert datetime.fromisoformat(changed["ends_at"]) == event.ends_at + timedelta(hours=3)
    assert (changed["status"], changed["registered_count"]) == ("in_progress", 2)
    problem = await officer.refused(
        "PATCH",
        path,
        status=422,
        code="invalid",
        json={"ends_at": event.starts_at.isoformat()},
        headers=if_match(changed),
    )
    assert pointers(problem) == ["/ends_at"]


async def test_an_end_is_not_moved_to_tell_on_of_those_who_did_not_come(
    officer: Client, session: AsyncSession
) -> None:
    """While an event goes on those who have a place are told: for a day more, and never again."""
    now = clock.now()
    begun, ended = now - timedelta(days=2), now - timedelta(days=1, minutes=1)
    over = await make_event(session, starts_at=begun, ends_at=ended)
    ending = await make_event(session, starts_at=begun, ends_at=now - timedelta(hours=23))
    # Nobody can have come to what was never begun.
    postponed = await make_event(session, starts_at=begun, ends_at=ended, status="published")
    await session.commit()
    for event, days, code in ((over, 0.5, "fixed_once_over"), (ending, 1.01, "ends_tomorrow")):
        body = {"ends_at": (now + timedelta(days=days)).isoformat()}
        headers = {"If-Match": '"1"'}
        path = f"{_EVENTS}/{event.id}"
        problem = await officer.refused(
            "PATCH", path, status=422, code="invalid", json=body, headers=headers
        )
        assert [(each["pointer"], each["code"]) for each in problem["errors"]] == [
            ("/ends_at", code)
        ]
        same = {"ends_at": event.ends_at.isoformat(), "venue": "新会场"}
        await officer.ok("PATCH", path, json=same, headers=headers)
    longer = {"ends_at": (now + timedelta(hours=23)).isoformat()}
    path = f"{_EVENTS}/{ending.id}"
    await officer.ok("PATCH", path, json=longer, headers={"If-Match": '"2"'})
    week = {"ends_at": (now + timedelta(days=7)).isoformat()}
    await officer.ok("PATCH", f"{_EVENTS}/{postponed.id}", json=week, headers={"If-Match": '"1"'})


async def test_an_event_lasts_for_a_month_at_most(officer: Client, session: AsyncSession) -> None:
    now = clock.now()
    far = await make_event(
        session,
        status="published",
        starts_at=now + timedelta(days=30),
        ends_at=now + timedelta(days=32),
    )
    await session.commit()
    path = f"{_EVENTS}/{far.id}"
    month, longer = ({"ends_at": (now + timedelta(days=d)).isoformat()} for d in (61, 61.1))
    await officer.ok("PATCH", path, json=month, headers={"If-Match": '"1"'})
    headers = {"If-Match": '"2"'}
    problem = await officer.refused(
        "PATCH", path, status=422, code="invalid", json=longer, headers=headers
    )
    assert [each["code"] for each in problem["errors"]] == ["lasts_too_long"]
    problem = await officer.refused(
        "POST", f"{path}/start", status=409, code="event_ends_too_late", headers=headers
    )
    assert "31" in problem["detail"]
    near = {
        name: (now + timedelta(days=d)).isoformat()
        for name, d in (("starts_at", 1), ("ends_at", 30))
    }
    changed = await officer.ok("PATCH", path, json=near, headers=headers)
    await officer.ok("POST", f"{path}/start", headers=if_match(changed))


async def test_the_dates_of_a_round_are_mended_with_its_event_in_progress(
    officer: Client, session: AsyncSession
) -> None:
    today = clock.civil_date(clock.now())
    month = timedelta(days=30)
    held = await make_round(session, starts_on=today - month, ends_on=today + month)
    now = clock.now()
    event = await make_event(session, held, starts_at=now, ends_at=now + timedelta(days=20))
    await session.commit()
    path, headers = f"/v1/exam-rounds/{held.id}", {"If-Match": '"1"'}
    body = {"ends_on": (today + timedelta(days=10)).isoformat()}
    await officer.refused(
        "PATCH", path, status=409, code="events_outside_round", json=body, headers=headers
    )
    end = {"ends_at": (now + timedelta(days=2)).isoformat()}
    await officer.ok("PATCH", f"{_EVENTS}/{event.id}", json=end, headers=headers)
    await officer.ok("PATCH", path, json=body, headers=headers)


async def test_a_changed_event_still_makes_sense(officer: Client, session: AsyncSession) -> None:
    held = await make_round(session)
    event = await make_event(session, held, status="draft")
    await session.commit()
    for body, pointer in (
        ({"ends_at": "2023-01-01T00:00:00Z"}, "/ends_at"),
        ({"starts_at": "2023-01-01T00:00:00Z"}, "/starts_at"),
        ({"title": None}, "/title"),
        ({"kind": "lecture"}, "/kind"),
        ({"title": "查环查孕"}, "/title"),
    ):
        problem = await officer.refused(
            "PATCH",
            f"{_EVENTS}/{event.id}",
            status=422,
            code="invalid",
            json=body,
            headers={"If-Match": '"1"'},
        )
        assert pointers(problem) == [pointer]


async def test_the_words_of_a_health_check_tell_nothing(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    await session.commit()
    for title in (
        "免费查环",
        "孕情检查",
        "妇科B超",
        "人工流产后服务",
        "Free IUD check",
        "pregnancy test",
    ):
        problem = await officer.refused(
            "POST", _EVENTS, status=422, code="invalid", json=_exam(held.id, title=title)
        )
        assert pointers(problem) == ["/title"]
        guard = {**_LECTURE, "kind": "health_guard", "title": title}
        await officer.refused("POST", _EVENTS, status=422, code="invalid", json=guard)
    for title in ("物流产业园服务日", "健康进企业", "人流量大，请早到", "检查环境与便民服务"):
        await officer.ok("POST", _EVENTS, status=201, json=_exam(held.id, title=title))
    await officer.ok("POST", _EVENTS, status=201, json={**_LECTURE, "title": "优生与避孕知识讲座"})


async def test_words_are_read_through_spaces_wide_letters_and_at_the_venue(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    await session.commit()
    for facts, pointer in (
        ({"title": "手术预约"}, "/title"),
        ({"title": "检查结果说明"}, "/title"),
        ({"title": "查 环"}, "/title"),
        ({"title": "孕\u200b检"}, "/title"),
        ({"title": "H C G 检测"}, "/title"),
        ({"title": "ＨＣＧ检测"}, "/title"),
        ({"title": "放置IUD"}, "/title"),
        ({"venue": "妇科孕检室"}, "/venue"),
    ):
        problem = await officer.refused(
            "POST", _EVENTS, status=422, code="invalid", json=_exam(held.id, **facts)
        )
        assert pointers(problem) == [pointer], facts


async def test_a_check_is_not_held_under_the_name_of_something_else(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session, area_code=VILLAGE)
    await session.commit()
    secretary = client(
        Role.SECRETARY, employer_linked=True, associations=[str(association.id)], areas=[]
    )
    of_hers = _LECTURE | {"association_id": str(association.id), "area_code": VILLAGE}
    for facts, pointer in (
        ({"kind": "consultation", "title": "查环查孕"}, "/title"),
        ({"kind": "home_visit", "title": "孕检"}, "/title"),
        ({"kind": "lecture", "title": "查环查孕"}, "/title"),
        ({"kind": "lecture", "title": "孕期检查"}, "/title"),
        ({"kind": "consultation", "title": "咨询", "venue": "妇科诊室"}, "/venue"),
    ):
        problem = await secretary.refused(
            "POST", _EVENTS, status=422, code="invalid", json=of_hers | facts
        )
        assert pointers(problem) == [pointer], facts
    for title in ("领取环卫工礼包", "A、B超市联谊", "夕阳红合唱"):
        await officer.ok("POST", _EVENTS, status=201, json=_LECTURE | {"title": title})
    event = await secretary.ok("POST", _EVENTS, status=201, json=of_hers)
    problem = await secretary.refused(
        "PATCH",
        f"{_EVENTS}/{event['id']}",
        status=422,
        code="invalid",
        json={"venue": "孕检室"},
        headers=if_match(event),
    )
    assert pointers(problem) == ["/venue"]


async def test_the_reason_of_a_cancelled_health_check_tells_nothing(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    event = await make_event(session, held, status="published")
    await session.commit()
    problem = await officer.refused(
        "POST",
        f"{_EVENTS}/{event.id}/cancel",
        status=422,
        code="invalid",
        json={"reason": "B超机故障"},
        headers={"If-Match": '"1"'},
    )
    assert pointers(problem) == ["/reason"]


async def test_a_draft_is_seen_by_those_who_prepare_it(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    event = await make_event(session, association_id=association.id, status="draft")
    await session.commit()
    associations = {"associations": [str(association.id)]}
    staff = client(Role.EVENT_STAFF, events=[str(event.id)])
    for caller in (client(Role.TOWN_OFFICER), client(Role.SECRETARY, **associations), staff):
        await caller.ok("GET", f"{_EVENTS}/{event.id}")
        assert len((await caller.ok("GET", _EVENTS))["items"]) == 1
    member = client(Role.MEMBER, member_id=str(UUID(int=1)))
    for caller in (member, client(Role.GUIDE), client(Role.DATA_PLATFORM)):
        await caller.refused("GET", f"{_EVENTS}/{event.id}", status=404, code="not_found")
        assert (await caller.ok("GET", _EVENTS))["items"] == []


async def test_reach_bounds_who_reads_and_who_runs_an_event(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    village = await make_association(session, "village")
    shop = await make_association(session, "affiliated", parent_id=village.id)
    event = await make_event(session, association_id=shop.id, status="published")
    await session.commit()
    path, headers = f"{_EVENTS}/{event.id}", {"If-Match": '"1"'}
    for stranger in (
        client(Role.TOWN_OFFICER, areas=[GUICHENG]),
        client(Role.SECRETARY, associations=[str(UUID(int=7))]),
        client(Role.DISTRICT_OFFICER, district_code="440604000000"),
    ):
        await stranger.refused("GET", path, status=404, code="not_found")
        await stranger.refused(
            "POST", f"{path}/start", status=404, code="not_found", headers=headers
        )
    for reader in (
        client(Role.EVENT_STAFF, events=[str(event.id)]),
        client(Role.MEMBER, member_id=str(UUID(int=1))),
        client(Role.AUDITOR),
    ):
        await reader.ok("GET", path)
        await reader.refused("POST", f"{path}/start", status=403, code="forbidden", headers=headers)
    parent = client(Role.SECRETARY, associations=[str(village.id)])
    await parent.ok("POST", f"{path}/start", headers=headers)


async def test_a_secretary_holds_events_of_her_association_alone(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    mine = await make_association(session)
    other = await make_association(session)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(mine.id)])
    body = {**_LECTURE, "area_code": None}
    await secretary.ok("POST", _EVENTS, status=201, json=body | {"association_id": str(mine.id)})
    for association_id in (None, str(other.id)):
        problem = await secretary.refused(
            "POST",
            _EVENTS,
            status=422,
            code="invalid",
            json=body | {"association_id": association_id},
        )
        assert pointers(problem) == ["/association_id"]


async def test_an_officer_holds_events_within_her_areas(client: Callable[..., Client]) -> None:
    officer = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    for area_code in (SHISHAN, DISTRICT):
        problem = await officer.refused(
            "POST", _EVENTS, status=422, code="invalid", json={**_LECTURE, "area_code": area_code}
        )
        assert pointers(problem) == ["/area_code"]


@pytest.mark.parametrize("kind", ["health_exam", "health_guard"])
async def test_the_employers_side_runs_no_health_checks(
    client: Callable[..., Client], session: AsyncSession, kind: str
) -> None:
    association = await make_association(session)
    held = await make_round(session) if kind == "health_exam" else None
    secretary = client(Role.SECRETARY, associations=[str(association.id)])
    body = {**_LECTURE, "kind": kind, "area_code": None, "association_id": str(association.id)}
    refusal: dict[str, Any] = {"status": 403, "code": "health_checks_are_run_by_officers"}
    await secretary.refused("POST", _EVENTS, json=body, **refusal)
    acts: list[tuple[str, str, str, dict[str, Any]]] = [
        ("draft", "POST", "/publish", {}),
        ("draft", "PATCH", "", {"json": {"venue": "x"}}),
        ("published", "POST", "/start", {}),
        ("in_progress", "POST", "/close", {}),
        ("published", "POST", "/cancel", {"json": {"reason": "雨"}}),
    ]
    for status, method, step, options in acts:
        event = await make_event(
            session, held, kind=kind, association_id=association.id, status=status
        )
        await session.commit()
        path, headers = f"{_EVENTS}/{event.id}{step}", {"If-Match": '"1"'}
        await secretary.refused(method, path, headers=headers, **options, **refusal)


@pytest.mark.parametrize(("role", "claims"), _SEES_TENS)
async def test_those_not_entitled_see_full_tens_of_a_health_check(
    client: Callable[..., Client],
    session: AsyncSession,
    role: Role,
    claims: dict[str, Any],
) -> None:
    association = await make_association(session)
    event = await _exam_with(session, association, attended=9)
    path = f"{_EVENTS}/{event.id}"
    caller = client(role, associations=[str(association.id)], **claims)
    came, *others = [
        await make_member(session, association, created_at=_LONG_KNOWN) for _ in range(3)
    ]
    for member in (came, *others):
        # Whoever watches would know the tenth to come.
        seen = await caller.ok("GET", path)
        assert (seen["registered_count"], seen["attended_count"]) == (None, None)
        await make_registration(session, event, member)
        await make_attendance(session, event, member)
        await session.commit()
    await _add_absent(session, association, 10)
    await _close(session, event, ago=timedelta(days=7) - timedelta(minutes=1))
    assert (await caller.ok("GET", path))["attended_count"] is None
    await _close(session, event, ago=timedelta(days=7, minutes=1))
    before = await caller.get(path)
    seen = before.json()
    assert (seen["registered_count"], seen["waiting_count"]) == (None, None)
    assert seen["attended_count"] == 10

    # What is noted or voided later is not to be seen by watching.
    for _ in range(10):
        late = await make_member(session, association)
        await make_attendance(session, event, late, recorded_at=clock.now())
    voided = "voided_at = :now, voided_by = 'officer-1', void_reason = 'entered_twice'"
    await session.execute(
        text(f"update attendances set {voided} where member_id = :id"),
        {"now": clock.now(), "id": came.id},
    )
    await session.commit()
    after = await caller.get(path)
    assert after.content == before.content
    assert after.headers["etag"] == before.headers["etag"]


async def _add_absent(session: AsyncSession, association: Association, count: int) -> None:
    for _ in range(count):
        await make_member(session, association, created_at=_LONG_KNOWN)
    await session.commit()


async def _close(session: AsyncSession, event: ServiceEvent, *, ago: timedelta) -> None:
    event.status, event.updated_at = "closed", clock.now() - ago
    await session.commit()


async def _told(client: Callable[..., Client], event: ServiceEvent) -> int | None:
    """Give how many came as the secretary of the association is told."""
    secretary = client(Role.SECRETARY, associations=[str(event.association_id)])
    seen = await secretary.ok("GET", f"{_EVENTS}/{event.id}")
    assert (seen["registered_count"], seen["waiting_count"]) == (None, None)
    told: int | None = seen["attended_count"]
    return told


@pytest.mark.parametrize(("days", "told"), [(0.5, 10), (1.5, None)])
async def test_what_was_voided_in_time_is_not_among_the_tens(
    client: Callable[..., Client], session: AsyncSession, days: float, told: int | None
) -> None:
    association = await make_association(session)
    event = await _exam_with(session, association, attended=9)
    await make_attendance(
        session,
        event,
        await make_member(session, association, created_at=_LONG_KNOWN),
        voided_at=clock.now() - timedelta(days=days),
        voided_by="officer-1",
        void_reason="entered_twice",
    )
    await _add_absent(session, association, 10)
    await _close(session, event, ago=timedelta(days=8))
    assert await _told(client, event) == told


@pytest.mark.parametrize(
    ("attended", "absent", "told"),
    [
        *((0, 30, None), (9, 20, None), (10, 0, None), (19, 0, None)),
        *((20, 0, 10), (23, 6, 10), (20, 9, 10), (20, 10, 20), (29, 11, 20)),
    ],
)
async def test_the_tens_leave_ten_members_over_who_may_have_come_or_not(
    *,
    client: Callable[..., Client],
    session: AsyncSession,
    attended: int,
    absent: int,
    told: int | None,
) -> None:
    """Ten of ten members would say of each of them that she was at a health check."""
    association = await make_association(session)
    event = await _exam_with(session, association, attended=attended)
    await _add_absent(session, association, absent)
    await _add_absent(session, await make_association(session), 10)
    await _close(session, event, ago=timedelta(days=8))
    assert await _told(client, event) == told


@pytest.mark.parametrize(("attended", "absent", "told"), [(20, 0, 10), (23, 7, 20), (23, 8, 20)])
async def test_who_is_enrolled_or_moved_later_changes_nothing_of_the_tens(
    *,
    client: Callable[..., Client],
    session: AsyncSession,
    attended: int,
    absent: int,
    told: int,
) -> None:
    """By trying with each member it would be seen who came."""
    association = await make_association(session)
    event = await _exam_with(session, association, attended=attended)
    await _add_absent(session, association, absent)
    await _close(session, event, ago=timedelta(days=8))
    assert await _told(client, event) == told
    for _ in range(12):
        await make_member(session, association)
    await session.commit()
    assert await _told(client, event) == told
    away = "update memberships set left_on = '2022-01-01', left_recorded_at = now()"
    await session.execute(text(f"{away} where association_id = :id"), {"id": association.id})
    await session.commit()
    assert await _told(client, event) == told


async def test_two_checks_of_a_round_do_not_add_up_to_all(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association, others = await make_association(session), await make_association(session)
    held = await make_round(session)
    checks = []
    for holder, ago in ((association, 9), (others, 9), (association, 8)):
        check = await make_event(session, held, association_id=holder.id)
        for _ in range(20):
            member = await make_member(session, holder, created_at=_LONG_KNOWN)
            await make_attendance(session, check, member)
        await _close(session, check, ago=timedelta(days=ago))
        checks.append(check)
    await _add_absent(session, others, 20)
    assert [await _told(client, check) for check in checks] == [20, 20, 10]


async def test_of_a_check_of_an_area_nothing_is_told(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    """With the check of the one association in it, it might add up to all of its members."""
    association = await make_association(session)
    check = await _exam_with(session, association, attended=20)
    check.association_id = None
    await _add_absent(session, association, 20)
    await _close(session, check, ago=timedelta(days=8))
    for caller in (client(Role.MEMBER, member_id=str(UUID(int=1))), client(Role.GUIDE)):
        assert (await caller.ok("GET", f"{_EVENTS}/{check.id}"))["attended_count"] is None


@pytest.mark.parametrize("kind", ["health_exam", "health_guard"])
async def test_who_is_entered_after_a_check_began_is_not_among_those_left_over(
    client: Callable[..., Client], session: AsyncSession, kind: str
) -> None:
    """Also where it was begun before its time, or members were moved between two of a round."""
    association, now = await make_association(session), clock.now()
    today = clock.civil_date(now)
    first, last = today - timedelta(days=20), today + timedelta(days=20)
    held = await make_round(session, starts_on=first, ends_on=last)
    facts = {"association_id": association.id, "created_at": now - timedelta(days=9)}
    event = await make_event(session, held if kind == "health_exam" else None, **facts)
    event.kind, event.starts_at = kind, now + timedelta(days=9)
    event.ends_at = now + timedelta(days=10)
    for number in range(40):
        known = _LONG_KNOWN if number < 20 else now - timedelta(days=8.5)
        member = await make_member(session, association, created_at=known)
        if number < 20:
            await make_attendance(session, event, member, recorded_at=now - timedelta(days=9))
    await _close(session, event, ago=timedelta(days=8))
    assert await _told(client, event) == 10


@pytest.mark.parametrize(("restored", "told"), [(2, 10), (0.1, None)])
async def test_a_line_counts_if_it_was_restored_in_time(
    client: Callable[..., Client], session: AsyncSession, restored: float, told: int | None
) -> None:
    association, now = await make_association(session), clock.now()
    event = await _exam_with(session, association, attended=9)
    void = [now - timedelta(days=7), now - timedelta(days=restored)]
    member = await make_member(session, association, created_at=_LONG_KNOWN)
    await make_attendance(session, event, member, was_void=void)
    await _add_absent(session, association, 10)
    await _close(session, event, ago=timedelta(days=8))
    assert await _told(client, event) == told


async def test_those_entitled_see_exact_counts(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    event = await _exam_with(session, await make_association(session), attended=3)
    path = f"{_EVENTS}/{event.id}"
    for caller in (client(Role.TOWN_OFFICER), client(Role.EVENT_STAFF, events=[str(event.id)])):
        seen = await caller.ok("GET", path)
        assert (seen["registered_count"], seen["attended_count"]) == (3, 3)
    narrow = client(Role.TOWN_OFFICER, scope="events:read")
    assert (await narrow.ok("GET", path))["attended_count"] is None


async def test_a_secretary_sees_the_exact_counts_of_a_lecture(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    event = await make_event(session, association_id=association.id)
    await make_attendance(session, event, await make_member(session, association))
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(association.id)])
    assert (await secretary.ok("GET", f"{_EVENTS}/{event.id}"))["attended_count"] == 1


async def test_counts_are_sent_though_the_event_itself_is_unchanged(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session)
    member = await make_member(session, await make_association(session))
    await session.commit()
    path = f"{_EVENTS}/{event.id}"
    first = await officer.get(path)
    await make_attendance(session, event, member)
    await session.commit()
    again = await officer.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.json()["attended_count"]) == (200, 1)


async def test_voided_attendances_and_cancelled_registrations_are_not_counted(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session)
    event = await make_event(session)
    member = await make_member(session, association)
    await make_registration(session, event, member, status="cancelled")
    for status in ("registered", "waiting"):
        other = await make_member(session, association)
        await make_registration(session, event, other, status=status)
    await make_attendance(
        session, event, member, voided_at=clock.now(), voided_by="officer-1", void_reason="误扫"
    )
    await session.commit()
    seen = await officer.ok("GET", f"{_EVENTS}/{event.id}")
    assert (seen["registered_count"], seen["waiting_count"]) == (1, 1)
    assert seen["attended_count"] == 0


async def test_events_are_listed_by_start_and_narrowed_by_every_filter(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    association = await make_association(session, area_code=VILLAGE)
    now = clock.now()
    exam = await make_event(session, held, area_code=GUICHENG)
    lecture = await make_event(
        session,
        area_code=VILLAGE,
        association_id=association.id,
        starts_at=now,
        status="closed",
        ends_at=now + timedelta(hours=1),
    )
    await session.commit()
    both = [str(exam.id), str(lecture.id)]
    for params, ids in (
        ({}, both),
        ({"kind": "health_exam,health_guard"}, both[:1]),
        ({"status": "closed"}, both[1:]),
        ({"area": SHISHAN}, both[1:]),
        ({"association_id": str(association.id)}, both[1:]),
        ({"exam_round_id": str(held.id)}, both[:1]),
        ({"starts_at_gte": now.isoformat()}, both[1:]),
        ({"starts_at_lt": now.isoformat()}, both[:1]),
        ({"updated_since": (now - timedelta(hours=1)).isoformat()}, both),
        ({"updated_since": (now + timedelta(hours=1)).isoformat()}, []),
    ):
        page = await officer.ok("GET", _EVENTS, params=params)
        assert [item["id"] for item in page["items"]] == ids, params


async def test_events_are_paged_without_gaps(officer: Client, session: AsyncSession) -> None:
    at = clock.now()
    for _ in range(5):
        await make_event(session, starts_at=at, ends_at=at + timedelta(hours=1))
    await session.commit()
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await officer.ok("GET", _EVENTS, params={"limit": 2, **cursor})
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(seen) == len(set(seen)) == 5


async def test_a_health_exam_does_not_start_before_its_round(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round_to_come(session)
    today = clock.civil_date(clock.now())
    begun = await make_round(session, 2, starts_on=today, ends_on=today + timedelta(days=9))
    event = await make_event(session, held, status="published")
    other = await make_event(session, begun, status="published")
    await session.commit()
    headers = {"If-Match": '"1"'}
    path = f"{_EVENTS}/{event.id}"
    problem = await officer.refused(
        "POST", f"{path}/start", status=409, code="round_not_begun", headers=headers
    )
    assert problem["starts_on"] == held.starts_on.isoformat()
    assert (await officer.ok("GET", path))["status"] == "published"
    started = await officer.ok("POST", f"{_EVENTS}/{other.id}/start", headers=headers)
    assert started["status"] == "in_progress"
