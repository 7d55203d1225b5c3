"""Registrations over HTTP: seats in the order of asking, and a waiting list that moves up."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Member
from app.roles import Role
from tests.factories.callers import (
    GUICHENG,
    SHISHAN,
    VILLAGE,
    Client,
    idempotency_key,
    if_match,
    pointers,
)
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_STORED = "select cast(member_id as text), status from registrations where event_id = $1"


def _path(event: ServiceEvent, *more: object) -> str:
    return "/".join([f"/v1/service-events/{event.id}/registrations", *map(str, more)])


async def _event(session: AsyncSession, **facts: Any) -> ServiceEvent:
    soon = clock.now() + timedelta(hours=1)
    coming = {"starts_at": soon, "ends_at": soon + timedelta(hours=2)}
    return await make_event(session, **({"status": "published"} | coming | facts))


async def _members(session: AsyncSession, count: int) -> list[Member]:
    association = await make_association(session)
    return [await make_member(session, association) for _ in range(count)]


async def _register(
    caller: Client, event: ServiceEvent, member: Member, *, status: int = 201
) -> dict[str, Any]:
    answer: dict[str, Any] = await caller.ok(
        "POST",
        _path(event),
        status=status,
        json={"member_id": str(member.id)},
        headers=idempotency_key(clock.new_id()),
    )
    return answer


async def _standing(caller: Client, event: ServiceEvent) -> dict[str, str]:
    page = await caller.ok("GET", _path(event))
    return {item["member_id"]: item["status"] for item in page["items"]}


async def test_seats_go_in_the_order_of_asking_and_then_a_waiting_list(
    officer: Client, session: AsyncSession
) -> None:
    event = await _event(session, capacity=2)
    members = await _members(session, 4)
    await session.commit()
    places = [await _register(officer, event, member) for member in members]
    assert [place["position"] for place in places] == [None, None, 1, 2]
    assert [place["status"] for place in places] == ["registered"] * 2 + ["waiting"] * 2
    page = await officer.ok("GET", _path(event))
    assert page["items"] == places


async def test_registering_twice_changes_nothing(officer: Client, session: AsyncSession) -> None:
    event = await _event(session, capacity=1)
    seated, waiting = await _members(session, 2)
    await session.commit()
    for member in (seated, waiting):
        first = await _register(officer, event, member)
        assert await _register(officer, event, member, status=200) == first
    assert len(await _standing(officer, event)) == 2


async def test_a_seat_given_back_goes_to_the_first_who_waits(
    officer: Client, session: AsyncSession
) -> None:
    event = await _event(session, capacity=1)
    seated, first, second = await _members(session, 3)
    await session.commit()
    place = await _register(officer, event, seated)
    await _register(officer, event, first)
    await _register(officer, event, second)
    path = _path(event, seated.id, "cancel")
    cancelled = await officer.ok("POST", path, headers=if_match(place))
    assert (cancelled["status"], cancelled["version"]) == ("cancelled", 2)
    assert await _standing(officer, event) == {
        str(seated.id): "cancelled",
        str(first.id): "registered",
        str(second.id): "waiting",
    }
    assert (await officer.ok("GET", _path(event, first.id)))["version"] == 2


async def test_one_who_stops_waiting_frees_no_seat(officer: Client, session: AsyncSession) -> None:
    event = await _event(session, capacity=1)
    seated, first, second = await _members(session, 3)
    await session.commit()
    await _register(officer, event, seated)
    place = await _register(officer, event, first)
    await _register(officer, event, second)
    await officer.ok("POST", _path(event, first.id, "cancel"), headers=if_match(place))
    assert (await _standing(officer, event))[str(second.id)] == "waiting"


async def test_who_comes_back_stands_at_the_end(officer: Client, session: AsyncSession) -> None:
    event = await _event(session, capacity=1)
    returning, other = await _members(session, 2)
    await session.commit()
    place = await _register(officer, event, returning)
    await _register(officer, event, other)
    path = _path(event, returning.id, "cancel")
    await officer.ok("POST", path, headers=if_match(place))
    back = await _register(officer, event, returning)
    assert (back["status"], back["position"], back["version"]) == ("waiting", 1, 3)


async def test_a_place_is_counted_among_those_who_wait(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    event = await _event(session, round_=await make_round(session), capacity=2)
    members = await _members(session, 6)
    await session.commit()
    places = [await _register(officer, event, member) for member in members]
    # One of the seated and the first who waits go; the second gets the seat.
    for number in (2, 0):
        path = _path(event, members[number].id, "cancel")
        cancelled = await officer.ok("POST", path, headers=if_match(places[number]))
        assert cancelled["position"] is None
    page = await officer.ok("GET", _path(event))
    assert [item["member_id"] for item in page["items"]] == [str(each.id) for each in members]
    assert [item["position"] for item in page["items"]] == [None, None, None, None, 1, 2]
    assert await _through(officer, _path(event)) == page["items"]
    waiting = await officer.ok("GET", _path(event), params={"status": "waiting"})
    assert waiting["items"] == page["items"][4:]
    for item in page["items"]:
        herself = client(Role.MEMBER, member_id=item["member_id"])
        (mine,) = (await herself.ok("GET", _path(event)))["items"]
        assert mine == item
        assert await herself.ok("GET", _path(event, item["member_id"])) == item
        (listed,) = (await herself.ok("GET", "/v1/me/registrations"))["items"]
        assert listed["position"] == item["position"]
        assert await officer.ok("GET", _path(event, item["member_id"])) == item
    assert await _register(officer, event, members[5], status=200) == page["items"][5]


async def _through(caller: Client, path: str) -> list[dict[str, Any]]:
    """Read a list by pages of two."""
    items: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        page = await caller.ok("GET", path, params=params)
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        params["cursor"] = page["next_cursor"]


@pytest.mark.parametrize(
    ("capacity", "statuses"),
    [
        (2, ["registered", "registered", "waiting", "waiting"]),
        (3, ["registered", "registered", "registered", "waiting"]),
        (None, ["registered"] * 4),
    ],
)
async def test_more_seats_admit_the_waiting_in_their_order(
    officer: Client, session: AsyncSession, capacity: int | None, statuses: list[str]
) -> None:
    event = await _event(session, capacity=1)
    members = await _members(session, 4)
    await session.commit()
    for member in members:
        await _register(officer, event, member)
    changed = await officer.ok(
        "PATCH",
        f"/v1/service-events/{event.id}",
        json={"capacity": capacity},
        headers={"If-Match": '"1"'},
    )
    assert changed["waiting_count"] == statuses.count("waiting")
    standing = await _standing(officer, event)
    assert [standing[str(member.id)] for member in members] == statuses


async def test_fewer_seats_than_are_taken_are_refused(
    officer: Client, session: AsyncSession
) -> None:
    event = await _event(session, capacity=4)
    members = await _members(session, 5)
    await session.commit()
    places = [await _register(officer, event, member) for member in members]
    await officer.ok("POST", _path(event, members[0].id, "cancel"), headers=if_match(places[0]))
    path = f"/v1/service-events/{event.id}"
    refused: dict[str, Any] = {"status": 422, "code": "invalid"}
    headers = {"If-Match": '"1"', "Accept-Language": "en"}
    for capacity in (3, 1):
        body = {"capacity": capacity, "venue": "新会场"}
        problem = await officer.refused("PATCH", path, json=body, headers=headers, **refused)
        assert pointers(problem) == ["/capacity"]
        assert problem["errors"][0]["code"] == "fewer_than_registered"
        assert problem["errors"][0]["detail"].startswith("4 are registered")
    kept = await officer.ok("GET", path)
    assert (kept["capacity"], kept["version"]) == (4, 1)
    assert kept["venue"] != "新会场"
    await officer.ok("POST", _path(event, members[1].id, "cancel"), headers=if_match(places[1]))
    fewer = await officer.ok("PATCH", path, json={"capacity": 3}, headers=headers)
    assert (fewer["capacity"], fewer["registered_count"]) == (3, 3)


async def test_an_event_without_limit_gets_one_no_lower_than_who_is_registered(
    officer: Client, session: AsyncSession
) -> None:
    event = await _event(session, capacity=None)
    members = await _members(session, 2)
    await session.commit()
    for member in members:
        await _register(officer, event, member)
    path, headers = f"/v1/service-events/{event.id}", {"If-Match": '"1"'}
    body = {"capacity": 1}
    await officer.refused("PATCH", path, json=body, headers=headers, status=422, code="invalid")
    await officer.ok("PATCH", path, json={"capacity": 2}, headers=headers)


async def test_a_window_bounds_when_to_register(officer: Client, session: AsyncSession) -> None:
    now, hour = clock.now(), timedelta(hours=1)
    early = await _event(session, registration_opens_at=now + hour)
    late = await _event(session, registration_closes_at=now - hour)
    within = await _event(
        session, registration_opens_at=now - hour, registration_closes_at=now + hour
    )
    (member,) = await _members(session, 1)
    await session.commit()
    for event, name in ((early, "opens_at"), (late, "closes_at")):
        problem = await officer.refused(
            "POST",
            _path(event),
            status=409,
            code="registration_not_open",
            json={"member_id": str(member.id)},
            headers=idempotency_key("k"),
        )
        shown = (await officer.ok("GET", f"/v1/service-events/{event.id}"))[f"registration_{name}"]
        assert problem[name] == shown
    await _register(officer, within, member)


@pytest.mark.parametrize("status", ["draft", "closed", "cancelled"])
async def test_an_event_that_is_not_on_takes_no_registrations(
    officer: Client, session: AsyncSession, status: str
) -> None:
    event = await _event(session, status=status, status_reason="雨")
    (member,) = await _members(session, 1)
    await session.commit()
    problem = await officer.refused(
        "POST",
        _path(event),
        status=409,
        code="registration_not_open",
        json={"member_id": str(member.id)},
        headers=idempotency_key("k"),
    )
    assert problem["event_status"] == status


async def test_a_check_of_a_closed_round_takes_no_registrations(
    officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session, status="closed", closed_at=clock.now())
    event = await _event(session, round_=held)
    member, seated = await _members(session, 2)
    await make_registration(session, event, seated)
    await session.commit()
    await officer.refused(
        "POST",
        _path(event),
        status=409,
        code="round_closed",
        json={"member_id": str(member.id)},
        headers=idempotency_key("k"),
    )
    assert list(await _standing(officer, event)) == [str(seated.id)]
    await _register(officer, event, seated, status=200)


async def test_members_who_register_themselves_share_the_seats_of_a_check(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    event = await _event(session, round_=await make_round(session), capacity=1)
    members = await _members(session, 2)
    await session.commit()
    for each in members:
        herself = client(Role.MEMBER, member_id=str(each.id))
        await herself.ok(
            "POST", _path(event), status=201, json={}, headers=idempotency_key(each.id)
        )
    assert await _standing(officer, event) == {
        str(members[0].id): "registered",
        str(members[1].id): "waiting",
    }


@pytest.mark.parametrize("step", ["leave", "erase"])
async def test_who_goes_frees_her_places_for_those_who_wait(
    officer: Client, session: AsyncSession, owner: Database, step: str
) -> None:
    seats, line = await _event(session, capacity=1), await _event(session, capacity=1)
    over = await _event(session, status="closed", capacity=1)
    under_way = await _event(session, status="in_progress", capacity=1)
    gone, first, second = await _members(session, 3)
    for event, members in (
        (seats, (gone, first, second)),
        (line, (first, gone, second)),
        (over, (gone, first)),
        (under_way, (gone, first)),
    ):
        for number, member in enumerate(members):
            status = "waiting" if number else "registered"
            await make_registration(session, event, member, status=status)
    await make_attendance(session, under_way, gone)
    await session.commit()
    body = {"left_on": clock.civil_date(clock.now()).isoformat()} if step == "leave" else None
    path = f"/v1/members/{gone.id}/{step}"
    await officer.ok("POST", path, json=body, headers={"If-Match": '"1"'})
    ids = [str(member.id) for member in (gone, first, second)]
    for event, statuses in (
        (seats, ("cancelled", "registered", "waiting")),
        (line, ("cancelled", "registered", "waiting")),
        (over, ("registered", "waiting")),
        (under_way, ("registered", "waiting")),
    ):
        rows = await owner.pool.fetch(_STORED, event.id)
        assert dict(map(tuple, rows)) == dict(zip(ids, statuses, strict=False))


@pytest.mark.parametrize(("step", "then"), [("leave", "waiting"), ("erase", "registered")])
@pytest.mark.parametrize("came", [False, True])
async def test_leaving_tells_her_employer_nothing_of_a_health_check(
    client: Callable[..., Client], session: AsyncSession, *, step: str, then: str, came: bool
) -> None:
    """Whoever waits there would see by her own place whether one who is left had come."""
    check = await _event(session, round_=await make_round(session), capacity=1)
    guard = await _event(session, kind="health_guard", capacity=1)
    gone, waits = await _members(session, 2)
    for event in (check, guard):
        await make_registration(session, event, gone)
        await make_registration(session, event, waits, status="waiting")
        if came:
            await make_attendance(session, event, gone)
    await session.commit()
    by = {"leave": Role.SECRETARY, "erase": Role.DISTRICT_OFFICER}[step]
    caller = client(by, **({"associations": [str(gone.association_id)]} if step == "leave" else {}))
    body = {"left_on": clock.civil_date(clock.now()).isoformat()} if step == "leave" else None
    path = f"/v1/members/{gone.id}/{step}"
    await caller.ok("POST", path, json=body, headers={"If-Match": '"1"'})
    herself = client(Role.MEMBER, member_id=str(waits.id))
    for event in (check, guard):
        hers = await herself.ok("GET", _path(event, waits.id))
        assert hers["status"] == ("waiting" if came else then)


async def test_who_has_a_place_at_a_health_check_alone_may_leave(
    officer: Client, session: AsyncSession
) -> None:
    check = await _event(session, kind="health_guard", capacity=1)
    (gone,) = await _members(session, 1)
    await make_registration(session, check, gone)
    await session.commit()
    body = {"left_on": clock.civil_date(clock.now()).isoformat()}
    path = f"/v1/members/{gone.id}/leave"
    await officer.ok("POST", path, json=body, headers={"If-Match": '"1"'})
    assert await _standing(officer, check) == {str(gone.id): "registered"}
    kept = await officer.ok("GET", _path(check, gone.id))
    freed = await officer.ok("POST", _path(check, gone.id, "cancel"), headers=if_match(kept))
    assert freed["status"] == "cancelled"


@pytest.mark.parametrize("kind", ["lecture", "health_guard"])
async def test_who_is_there_does_not_give_her_seat_to_another(
    officer: Client, client: Callable[..., Client], session: AsyncSession, kind: str
) -> None:
    event = await _event(session, kind=kind, status="in_progress", capacity=1)
    there, waits = await _members(session, 2)
    await make_registration(session, event, there)
    await make_registration(session, event, waits, status="waiting")
    attendance = await make_attendance(session, event, there)
    await session.commit()
    herself = client(Role.MEMBER, member_id=str(there.id))
    path, headers = _path(event, there.id, "cancel"), {"If-Match": '"1"'}
    for caller in (herself, officer):
        await caller.refused("POST", path, status=409, code="already_checked_in", headers=headers)
    assert await _standing(officer, event) == {
        str(there.id): "registered",
        str(waits.id): "waiting",
    }
    attendance.voided_at, attendance.voided_by = clock.now(), "officer-1"
    attendance.void_reason = "entered_twice"
    await session.commit()
    await herself.ok("POST", path, headers=headers)
    assert (await _standing(officer, event))[str(waits.id)] == "registered"


async def test_who_moves_keeps_her_seat(officer: Client, session: AsyncSession) -> None:
    event = await _event(session, capacity=1)
    (member,) = await _members(session, 1)
    other = await make_association(session, "village", area_code=GUICHENG)
    await make_registration(session, event, member)
    await session.commit()
    moved_on = clock.civil_date(clock.now()).isoformat()
    body = {"association_id": str(other.id), "moved_on": moved_on}
    await officer.ok(
        "POST", f"/v1/members/{member.id}/transfer", json=body, headers={"If-Match": '"1"'}
    )
    assert await _standing(officer, event) == {str(member.id): "registered"}


async def test_a_registration_stands_when_the_window_has_closed(
    officer: Client, session: AsyncSession
) -> None:
    past = clock.now() - timedelta(hours=1)
    event = await _event(session, capacity=1, registration_closes_at=past)
    seated, waiting = await _members(session, 2)
    await make_registration(session, event, seated)
    await make_registration(session, event, waiting, status="waiting")
    await session.commit()
    again = await _register(officer, event, seated, status=200)
    await officer.ok("POST", _path(event, seated.id, "cancel"), headers=if_match(again))
    assert (await _standing(officer, event))[str(waiting.id)] == "registered"


async def test_a_past_events_registrations_are_kept(officer: Client, session: AsyncSession) -> None:
    event = await _event(session, status="closed")
    (member,) = await _members(session, 1)
    await make_registration(session, event, member)
    await session.commit()
    await officer.refused(
        "POST",
        _path(event, member.id, "cancel"),
        status=409,
        code="event_step_refused",
        headers={"If-Match": '"1"'},
    )


def _over(status: str) -> dict[str, Any]:
    """Give what makes an event one that is over: that it is closed, or ended long ago."""
    past = clock.now() - timedelta(days=1, minutes=1)
    times = {"starts_at": past - timedelta(hours=2), "ends_at": past}
    return {"status": status} | ({} if status == "closed" else times)


@pytest.mark.parametrize("status", ["closed", "in_progress"])
@pytest.mark.parametrize("kind", ["health_guard", "lecture"])
async def test_of_an_event_that_is_over_nobody_but_herself_learns_who_did_not_come(
    client: Callable[..., Client], session: AsyncSession, kind: str, status: str
) -> None:
    came, absent, cancelled, voided = members = await _members(session, 4)
    facts = {"kind": kind, "association_id": came.association_id}
    event = await _event(session, **facts, **_over(status))
    for member in members:
        status = "cancelled" if member is cancelled else "registered"
        await make_registration(session, event, member, status=status)
    await make_attendance(session, event, came)
    await make_attendance(
        session,
        event,
        voided,
        voided_at=clock.now(),
        voided_by="officer-1",
        void_reason="entered_twice",
    )
    await session.commit()
    association = str(came.association_id)
    offices = [
        client(Role.DISTRICT_OFFICER),
        client(Role.TOWN_OFFICER, areas=[SHISHAN]),
        client(Role.EVENT_STAFF, events=[str(event.id)]),
        client(Role.AUDITOR),
    ]
    if kind == "lecture":
        offices.append(client(Role.SECRETARY, associations=[association], areas=[]))
    for office in offices:
        assert await _standing(office, event) == {str(came.id): "registered"}
        await office.ok("GET", _path(event, came.id))
        for member in (absent, cancelled, voided):
            await office.refused("GET", _path(event, member.id), status=404, code="not_found")
    herself = client(Role.MEMBER, member_id=str(absent.id))
    assert await _standing(herself, event) == {str(absent.id): "registered"}
    assert (await herself.ok("GET", _path(event, absent.id)))["status"] == "registered"
    mine = await herself.ok("GET", "/v1/me/registrations")
    assert [each["event_id"] for each in mine["items"]] == [str(event.id)]


@pytest.mark.parametrize("status", ["closed", "in_progress"])
async def test_no_step_tells_who_had_a_place_at_an_event_that_is_over(
    officer: Client, client: Callable[..., Client], session: AsyncSession, status: str
) -> None:
    event = await _event(session, **_over(status))
    absent, stranger = await _members(session, 2)
    await make_registration(session, event, absent)
    await session.commit()
    for member in (absent, stranger):
        body = {"json": {"member_id": str(member.id)}, "headers": idempotency_key(clock.new_id())}
        code = "registration_not_open"
        await officer.refused("POST", _path(event), status=409, code=code, **body)
        for version in (1, 2):
            await officer.refused(
                "POST",
                _path(event, member.id, "cancel"),
                status=409,
                code="event_step_refused",
                headers={"If-Match": f'"{version}"'},
            )
    copy = await officer.ok("POST", f"/v1/members/{absent.id}/export")
    assert copy["tables"]["registrations"] == []
    herself = client(Role.MEMBER, member_id=str(absent.id))
    copy = await herself.ok("POST", f"/v1/members/{absent.id}/export")
    assert len(copy["tables"]["registrations"]) == 1


@pytest.mark.parametrize("step", ["leave", "erase"])
async def test_whoever_goes_frees_no_place_at_an_event_that_is_over(
    officer: Client, session: AsyncSession, step: str
) -> None:
    """Of who came none is freed: by the count it would be seen who did not."""
    event = await _event(session, **_over("in_progress"))
    came, absent = await _members(session, 2)
    for member in (came, absent):
        await make_registration(session, event, member)
    await make_attendance(session, event, came)
    await session.commit()
    body = {"left_on": clock.civil_date(clock.now()).isoformat()} if step == "leave" else None
    for member in (came, absent):
        path = f"/v1/members/{member.id}/{step}"
        await officer.ok("POST", path, json=body, headers={"If-Match": '"1"'})
        seen = await officer.ok("GET", f"/v1/service-events/{event.id}")
        assert seen["registered_count"] == 2


async def test_a_cancelled_registration_is_not_cancelled_again(
    officer: Client, session: AsyncSession
) -> None:
    event = await _event(session, capacity=1)
    gone, seated, waiting = await _members(session, 3)
    await make_registration(session, event, gone, status="cancelled", version=2)
    await make_registration(session, event, seated)
    await make_registration(session, event, waiting, status="waiting")
    await session.commit()
    path = _path(event, gone.id, "cancel")
    await officer.refused("POST", path, status=412, code="stale", headers={"If-Match": '"1"'})
    again = await officer.ok("POST", path, headers={"If-Match": '"2"'})
    assert (again["status"], again["version"]) == ("cancelled", 2)
    assert (await _standing(officer, event))[str(waiting.id)] == "waiting"


async def test_registering_needs_an_idempotency_key(officer: Client, session: AsyncSession) -> None:
    event = await _event(session)
    (member,) = await _members(session, 1)
    await session.commit()
    body = {"member_id": str(member.id)}
    await officer.refused(
        "POST", _path(event), status=400, code="idempotency_key_required", json=body
    )


async def test_a_member_registers_herself_and_nobody_else(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    event = await _event(session)
    herself, colleague = await _members(session, 2)
    await make_registration(session, event, colleague)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    headers = idempotency_key("k")
    answer = await member.post(_path(event), json={}, headers=headers)
    assert answer.status_code == 201
    place = answer.json()
    assert place["member_id"] == str(herself.id)
    assert await member.ok("GET", answer.headers["location"]) == place

    problem = await member.refused(
        "POST",
        _path(event),
        status=422,
        code="invalid",
        json={"member_id": str(colleague.id)},
        headers=idempotency_key("other"),
    )
    assert pointers(problem) == ["/member_id"]
    await member.refused("GET", _path(event, colleague.id), status=404, code="not_found")
    await member.refused(
        "POST",
        _path(event, colleague.id, "cancel"),
        status=404,
        code="not_found",
        headers={"If-Match": '"1"'},
    )
    listed = await member.ok("GET", _path(event))
    assert [place["member_id"] for place in listed["items"]] == [str(herself.id)]
    cancel = _path(event, herself.id, "cancel")
    assert (await member.ok("POST", cancel, headers=if_match(place)))["status"] == "cancelled"


async def test_a_draft_is_no_event_to_a_member(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    event = await _event(session, status="draft")
    (herself,) = await _members(session, 1)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    headers = idempotency_key("k")
    await member.refused(
        "POST", _path(event), status=404, code="not_found", json={}, headers=headers
    )


async def test_whom_to_register_is_named_and_within_reach(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    event = await _event(session, association_id=association.id)
    stranger = await make_member(session, await make_association(session))
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(association.id)])
    for body in ({}, {"member_id": str(stranger.id)}, {"member_id": str(UUID(int=7))}):
        problem = await secretary.refused(
            "POST",
            _path(event),
            status=422,
            code="invalid",
            json=body,
            headers=idempotency_key("k"),
        )
        assert pointers(problem) == ["/member_id"]


async def test_the_staff_of_an_event_register_whoever_comes(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    mine, other = await _event(session), await _event(session)
    (member,) = await _members(session, 1)
    await session.commit()
    staff = client(Role.EVENT_STAFF, events=[str(mine.id)])
    place = await _register(staff, mine, member)
    assert await staff.ok("GET", _path(mine, member.id)) == place
    for method, path in (("GET", _path(other)), ("GET", _path(other, member.id))):
        await staff.refused(method, path, status=404, code="not_found")
    await staff.refused(
        "POST",
        _path(other),
        status=404,
        code="not_found",
        json={"member_id": str(member.id)},
        headers=idempotency_key("k"),
    )


async def test_a_guests_registration_is_managed_by_who_holds_the_event(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    host = await make_association(session, area_code=VILLAGE)
    event = await _event(session, area_code=VILLAGE, association_id=host.id)
    elsewhere = await make_association(session, area_code=GUICHENG)
    guest = await make_member(session, elsewhere)
    await make_registration(session, event, guest)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(host.id)])
    officer = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    for caller in (secretary, officer):
        place = await caller.ok("GET", _path(event, guest.id))
        assert place["member_id"] == str(guest.id)
    cancel = _path(event, guest.id, "cancel")
    await secretary.ok("POST", cancel, headers={"If-Match": '"1"'})
    stranger = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    await stranger.refused("GET", _path(event, guest.id), status=404, code="not_found")


@pytest.mark.parametrize("kind", ["health_exam", "health_guard"])
async def test_the_employers_side_learns_nothing_of_who_registers_for_a_health_check(
    client: Callable[..., Client], session: AsyncSession, kind: str
) -> None:
    association = await make_association(session)
    held = await make_round(session) if kind == "health_exam" else None
    event = await _event(session, round_=held, kind=kind, association_id=association.id, capacity=1)
    registered = await make_member(session, association)
    absent = await make_member(session, association)
    await make_registration(session, event, registered)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(association.id)])
    await _tells_nothing(secretary, "GET", _path(event))
    answers = []
    for member in (registered, absent):
        headers = idempotency_key(member.id)
        body = {"member_id": str(member.id)}
        answers += [
            await _tells_nothing(secretary, "GET", _path(event, member.id)),
            await _tells_nothing(secretary, "POST", _path(event), json=body, headers=headers),
            await _tells_nothing(
                secretary,
                "POST",
                _path(event, member.id, "cancel"),
                headers={"If-Match": '"7"'},
            ),
        ]
    assert answers[:3] == answers[3:]


async def _tells_nothing(caller: Client, method: str, path: str, **options: Any) -> dict[str, Any]:
    """Expect the refusal, and give what of it could differ."""
    refusal = await caller.refused(
        method, path, status=403, code="health_checks_are_run_by_officers", **options
    )
    return {k: v for k, v in refusal.items() if k not in {"instance", "request_id"}}


async def test_registrations_are_narrowed_by_status(officer: Client, session: AsyncSession) -> None:
    event = await _event(session)
    seated, waiting, gone = await _members(session, 3)
    await make_registration(session, event, seated)
    await make_registration(session, event, waiting, status="waiting")
    await make_registration(session, event, gone, status="cancelled")
    await session.commit()
    for status, members in (
        ("waiting", [waiting]),
        ("registered,cancelled", [seated, gone]),
    ):
        page = await officer.ok("GET", _path(event), params={"status": status})
        assert [i["member_id"] for i in page["items"]] == [str(m.id) for m in members]
