"""Attendances over HTTP: checked in by staff, read by few, voided with a reason."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Membership
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
from tests.factories.events.exam_rounds import make_round, make_round_to_come
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_VOID: dict[str, Any] = {"json": {"reason": "误扫他人的码"}, "headers": {"If-Match": '"1"'}}


def _path(event: ServiceEvent, *more: object) -> str:
    return "/".join([f"/v1/service-events/{event.id}/attendances", *map(str, more)])


async def _count(owner: Database) -> int:
    return int(await owner.pool.fetchval("select count(*) from attendances"))


async def test_staff_check_a_member_in(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session)
    await session.commit()
    staff = client(Role.EVENT_STAFF, events=[str(event.id)])
    body = {
        "occurred_at": event.starts_at.isoformat(),
        "device_id": "tablet-7",
        "device_ref": "000123",
    }
    created = await staff.ok("PUT", _path(event, member.id), status=201, json=body)
    assert created.pop("repeated") is False
    assert (created["association_id"], created["round_sequence"]) == (
        str(member.association_id),
        None,
    )
    assert (created["method"], created["recorded_by"]) == ("staff", "event_staff-1")
    assert (created["device_id"], created["device_ref"]) == ("tablet-7", "000123")
    assert datetime.fromisoformat(created["occurred_at"]) == event.starts_at
    assert await officer.ok("GET", _path(event, member.id)) == created


async def test_a_repeated_check_in_changes_nothing_and_says_so(
    client: Callable[..., Client], officer: Client, session: AsyncSession, owner: Database
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session, await make_round(session))
    await session.commit()
    first = await officer.ok("PUT", _path(event, member.id), status=201, json={})
    colleague = client(Role.EVENT_STAFF, events=[str(event.id)])
    later = {"occurred_at": clock.now().isoformat(), "device_id": "tablet-8"}
    again = await colleague.ok("PUT", _path(event, member.id), status=200, json=later)
    assert again == {**first, "repeated": True}
    assert await _count(owner) == 1


async def test_a_repeat_is_told_even_when_the_event_is_over(
    officer: Client, session: AsyncSession
) -> None:
    long_ago = clock.now() - timedelta(days=30)
    member = await make_member(session, await make_association(session))
    event = await make_event(session, status="closed", updated_at=long_ago)
    await make_attendance(session, event, member)
    await session.commit()
    assert (await officer.ok("PUT", _path(event, member.id), json={}))["repeated"] is True


async def test_a_health_exam_counts_once_a_round_wherever_it_took_place(
    officer: Client, client: Callable[..., Client], session: AsyncSession, owner: Database
) -> None:
    member = await make_member(session, await make_association(session))
    held, following = await make_round(session), await make_round(session, 2)
    here = await make_event(session, held, area_code=SHISHAN)
    elsewhere = await make_event(session, held, area_code=GUICHENG)
    later = await make_event(session, following, area_code=GUICHENG)
    await session.commit()
    await officer.ok("PUT", _path(here, member.id), status=201, json={})

    refusal: dict[str, Any] = {"status": 409, "code": "attended_this_round"}
    problem = await officer.refused("PUT", _path(elsewhere, member.id), json={}, **refusal)
    assert problem["event_id"] == str(here.id)
    staff = client(Role.EVENT_STAFF, events=[str(elsewhere.id)])
    problem = await staff.refused("PUT", _path(elsewhere, member.id), json={}, **refusal)
    assert "event_id" not in problem
    assert await _count(owner) == 1
    await officer.ok("PUT", _path(later, member.id), status=201, json={})


async def test_other_events_count_each(officer: Client, session: AsyncSession) -> None:
    member = await make_member(session, await make_association(session))
    for kind in ("lecture", "lecture", "health_guard", "health_guard"):
        event = await make_event(session, kind=kind)
        await session.commit()
        await officer.ok("PUT", _path(event, member.id), status=201, json={})


@pytest.mark.parametrize("status", ["draft", "published", "closed", "cancelled"])
async def test_who_comes_now_comes_to_an_event_in_progress(
    officer: Client, session: AsyncSession, status: str
) -> None:
    member = await make_member(session, await make_association(session))
    held = await make_round(session)
    for event in (
        await make_event(session, status=status, status_reason="雨"),
        await make_event(session, held, status=status, status_reason="雨"),
    ):
        await session.commit()
        await officer.refused(
            "PUT", _path(event, member.id), status=409, code="event_not_open", json={}
        )


@pytest.mark.parametrize(
    ("status", "closed_ago", "answer"),
    [
        ("in_progress", timedelta(0), 201),
        ("closed", timedelta(days=6), 201),
        ("closed", timedelta(days=8), 409),
        ("published", timedelta(0), 409),
        ("cancelled", timedelta(0), 409),
    ],
)
async def test_an_event_takes_what_was_noted_for_a_week_after_closing(
    officer: Client, session: AsyncSession, status: str, closed_ago: timedelta, answer: int
) -> None:
    member = await make_member(session, await make_association(session))
    closed_at = clock.now() - closed_ago
    event = await make_event(
        session,
        status=status,
        status_reason="雨",
        starts_at=closed_at - timedelta(hours=2),
        ends_at=closed_at - timedelta(hours=1),
        updated_at=closed_at,
    )
    await session.commit()
    body = {"occurred_at": event.starts_at.isoformat()}
    got = await officer.put(_path(event, member.id), json=body)
    assert got.status_code == answer, got.text


@pytest.mark.parametrize("status", ["in_progress", "closed"])
async def test_a_closed_round_takes_what_was_noted_until_it_is_final(
    officer: Client, session: AsyncSession, status: str
) -> None:
    now = clock.now()
    association = await make_association(session)
    for sequence, accepts_until, answer in (
        (1, now + timedelta(minutes=1), 201),
        (2, now - timedelta(minutes=1), 409),
    ):
        held = await make_round(
            session, sequence, status="closed", closed_at=now, accepts_until=accepts_until
        )
        event = await make_event(session, held, status=status, updated_at=now - timedelta(days=60))
        member = await make_member(session, association)
        await session.commit()
        path = _path(event, member.id)
        await officer.refused("PUT", path, status=409, code="event_not_open", json={})
        noted = {"occurred_at": event.starts_at.isoformat()}
        assert (await officer.put(path, json=noted)).status_code == answer


async def test_a_check_in_from_the_future_is_a_wrong_clock(
    officer: Client, session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session)
    await session.commit()
    for minutes, is_taken in ((10, False), (4, True)):
        at = clock.now() + timedelta(minutes=minutes)
        answer = await officer.put(_path(event, member.id), json={"occurred_at": at.isoformat()})
        assert answer.status_code == (201 if is_taken else 422), answer.text


async def test_a_check_in_from_before_the_event_is_a_wrong_clock(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    member = await make_member(session, await make_association(session))
    # In China it is the 10th of February from 16:00 UTC on.
    starts_at = datetime.fromisoformat("2024-02-10T01:00:00Z")
    event = await make_event(session, starts_at=starts_at, ends_at=starts_at + timedelta(hours=8))
    await session.commit()
    for at in ("1970-01-01T00:00:00Z", "2024-02-09T15:59:59Z"):
        problem = await officer.refused(
            "PUT", _path(event, member.id), status=422, code="invalid", json={"occurred_at": at}
        )
        assert pointers(problem) == ["/occurred_at"]
        assert problem["errors"][0]["code"] == "before_the_event"
    assert await _count(owner) == 0
    early = {"occurred_at": "2024-02-09T16:00:00Z"}
    await officer.ok("PUT", _path(event, member.id), status=201, json=early)


@pytest.mark.parametrize(("late", "is_taken"), [(0, True), (4, True), (6, False)])
async def test_nobody_comes_after_an_event_was_closed(
    officer: Client, session: AsyncSession, owner: Database, late: int, *, is_taken: bool
) -> None:
    member = await make_member(session, await make_association(session))
    closed_at = clock.now() - timedelta(hours=1)
    event = await make_event(
        session,
        status="closed",
        starts_at=closed_at - timedelta(hours=2),
        ends_at=closed_at,
        updated_at=closed_at,
    )
    await session.commit()
    at = (closed_at + timedelta(minutes=late)).isoformat()
    if is_taken:
        await officer.ok("PUT", _path(event, member.id), status=201, json={"occurred_at": at})
        return
    problem = await officer.refused(
        "PUT", _path(event, member.id), status=422, code="invalid", json={"occurred_at": at}
    )
    assert pointers(problem) == ["/occurred_at"]
    assert problem["errors"][0]["code"] == "after_the_event"
    lines = [{"ref": "a", "member_id": str(member.id), "occurred_at": at}]
    batch = {"device_id": "tablet-7", "lines": lines}
    answer = await officer.ok("POST", f"{_path(event, 'batch')}", json=batch)
    assert answer["items"][0]["problem"]["errors"][0]["code"] == "after_the_event"
    assert await _count(owner) == 0


async def test_who_was_erased_comes_to_nothing_more(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    member = await make_member(
        session, await make_association(session), status="left", erased_at=clock.now()
    )
    held = await make_round(session)
    event = await make_event(session)
    coming = await make_event(session, status="published")
    await session.commit()
    await officer.refused(
        "PUT", _path(event, member.id), status=404, code="member_unknown", json={}
    )
    for path, body in (
        (f"service-events/{coming.id}/registrations", {}),
        (f"exam-rounds/{held.id}/excuses", {"reason": "away"}),
    ):
        await officer.refused(
            "POST",
            f"/v1/{path}",
            status=422,
            code="invalid",
            json={"member_id": str(member.id), **body},
            headers=idempotency_key(path),
        )
    assert await _count(owner) == 0
    assert await owner.pool.fetchval("select count(*) from registrations") == 0


async def test_an_event_may_begin_before_its_day(officer: Client, session: AsyncSession) -> None:
    member = await make_member(session, await make_association(session))
    starts_at = clock.now() + timedelta(days=3)
    event = await make_event(session, starts_at=starts_at, ends_at=starts_at + timedelta(hours=8))
    await session.commit()
    await officer.ok("PUT", _path(event, member.id), status=201, json={})


async def test_an_attendance_counts_for_the_association_of_that_day(
    officer: Client, session: AsyncSession
) -> None:
    before, after = await make_association(session), await make_association(session)
    moved_on = date(2024, 3, 1)
    member = await make_member(session, after, first_joined_on=moved_on)
    session.add(
        Membership(
            district_code=member.district_code,
            member_id=member.id,
            joined_on=date(2024, 1, 1),
            association_id=before.id,
            left_on=moved_on,
            reason=None,
            recorded_at=clock.now(),
            left_recorded_at=clock.now(),
        )
    )
    last_day = datetime.combine(moved_on - timedelta(days=1), time.max, clock.CIVIL_ZONE)
    for at, association in (
        (last_day, before),
        (last_day + timedelta(seconds=1), after),
        (last_day - timedelta(days=365), after),
    ):
        event = await make_event(session, starts_at=at, ends_at=at + timedelta(hours=1))
        await session.commit()
        body = {"occurred_at": at.isoformat()}
        created = await officer.ok("PUT", _path(event, member.id), status=201, json=body)
        assert created["association_id"] == str(association.id)


async def test_nobody_unknown_is_checked_in(officer: Client, session: AsyncSession) -> None:
    event = await make_event(session)
    abroad = await make_association(session, district_code="440604000000")
    stranger = await make_member(session, abroad)
    await session.commit()
    for member_id in (UUID(int=7), stranger.id):
        await officer.refused(
            "PUT", _path(event, member_id), status=404, code="member_unknown", json={}
        )


async def test_a_guest_is_checked_in_where_she_comes(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    host = await make_association(session)
    guest = await make_member(session, await make_association(session, area_code=GUICHENG))
    event = await make_event(session, association_id=host.id)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(host.id)])
    created = await secretary.ok("PUT", _path(event, guest.id), status=201, json={})
    assert created["association_id"] == str(guest.association_id)


async def test_only_who_runs_an_event_checks_in(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    member = await make_member(session, association)
    event = await make_event(session, association_id=association.id, area_code=VILLAGE)
    await session.commit()
    path = _path(event, member.id)
    for stranger in (
        client(Role.EVENT_STAFF, events=[str(UUID(int=7))]),
        client(Role.TOWN_OFFICER, areas=[GUICHENG]),
        client(Role.SECRETARY, associations=[str(UUID(int=7))]),
        client(Role.DISTRICT_OFFICER, district_code="440604000000"),
    ):
        await stranger.refused("PUT", path, status=404, code="not_found", json={})
    for reader in (
        client(Role.MEMBER, member_id=str(member.id)),
        client(Role.AUDITOR),
        client(Role.FINANCE_CLERK),
        client(Role.GUIDE),
    ):
        await reader.refused("PUT", path, status=403, code="forbidden", json={})


@pytest.mark.parametrize("kind", ["health_exam", "health_guard"])
async def test_the_employers_side_learns_nothing_of_who_came_to_a_health_check(
    client: Callable[..., Client], session: AsyncSession, owner: Database, kind: str
) -> None:
    association = await make_association(session)
    held = await make_round(session) if kind == "health_exam" else None
    event = await make_event(session, held, kind=kind, association_id=association.id)
    came, absent = (
        await make_member(session, association),
        await make_member(session, association),
    )
    await make_attendance(session, event, came)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(association.id)])
    told = []
    for member in (came, absent):
        line = {
            "ref": "1",
            "member_id": str(member.id),
            "occurred_at": event.starts_at.isoformat(),
        }
        batch = {"device_id": "tablet-7", "lines": [line]}
        for method, path, body in (
            ("PUT", _path(event, member.id), {}),
            ("PUT", _path(event, member.id), {"occurred_at": event.starts_at.isoformat()}),
            ("GET", _path(event, member.id), None),
            ("POST", _path(event, "batch"), batch),
        ):
            problem = await secretary.refused(
                method, path, status=403, code="health_checks_are_run_by_officers", json=body
            )
            told.append({k: problem[k] for k in problem.keys() - {"instance", "request_id"}})
    assert told[:4] == told[4:]
    assert await _count(owner) == 1
    refusal: dict[str, Any] = {"status": 403, "code": "health_checks_are_run_by_officers"}
    await secretary.refused("GET", _path(event), **refusal)
    await secretary.refused("GET", f"/v1/service-events/{event.id}/check-in-code", **refusal)
    await secretary.refused(
        "POST", _path(event, came.id, "void"), status=403, code="forbidden", **_VOID
    )


async def test_the_employers_side_sees_what_else_a_member_attended(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session)
    member = await make_member(session, association)
    lecture = await make_event(session, association_id=association.id)
    for event in (
        lecture,
        await make_event(session, await make_round(session)),
        await make_event(session, kind="health_guard"),
    ):
        await make_attendance(session, event, member)
    await session.commit()
    path = f"/v1/members/{member.id}/attendances"
    secretary = client(Role.SECRETARY, associations=[str(association.id)])
    for params in ({}, {"kind": "health_exam,health_guard,lecture"}, {"voided": "false"}):
        page = await secretary.ok("GET", path, params={**params, "include_total": "true"})
        assert [item["event_id"] for item in page["items"]] == [str(lecture.id)]
        assert page["total"] == 1
    for params in ({"kind": "health_exam"}, {"kind": "health_guard"}, {"voided": "true"}):
        page = await secretary.ok("GET", path, params={**params, "include_total": "true"})
        assert (page["items"], page["total"]) == ([], 0)
    assert len((await officer.ok("GET", path))["items"]) == 3


async def test_a_secretary_runs_the_check_in_of_her_lecture(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    member = await make_member(session, association)
    event = await make_event(session, association_id=association.id)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(association.id)])
    await secretary.ok("PUT", _path(event, member.id), status=201, json={})
    assert len((await secretary.ok("GET", _path(event)))["items"]) == 1
    await secretary.ok("GET", _path(event, member.id))
    await secretary.refused(
        "POST", _path(event, member.id, "void"), status=403, code="forbidden", **_VOID
    )


async def test_a_member_reads_her_own_attendances_alone(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    herself, colleague = (
        await make_member(session, association),
        await make_member(session, association),
    )
    event = await make_event(session, await make_round(session))
    for each in (herself, colleague):
        await make_attendance(session, event, each)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    assert (await member.ok("GET", _path(event, herself.id)))["member_id"] == str(herself.id)
    await member.refused("GET", _path(event, colleague.id), status=404, code="not_found")
    page = await member.ok("GET", _path(event), params={"include_total": "true"})
    assert ([item["member_id"] for item in page["items"]], page["total"]) == ([str(herself.id)], 1)
    own = await member.ok("GET", f"/v1/members/{herself.id}/attendances")
    assert [item["event_kind"] for item in own["items"]] == ["health_exam"]
    await member.refused(
        "GET", f"/v1/members/{colleague.id}/attendances", status=404, code="not_found"
    )


async def test_attendances_are_listed_latest_first_and_narrowed(
    officer: Client, session: AsyncSession
) -> None:
    association, other = await make_association(session), await make_association(session)
    event = await make_event(session)
    first = await make_member(session, association)
    second, voided = await make_member(session, other), await make_member(session, other)
    at = event.starts_at
    await make_attendance(session, event, first, occurred_at=at)
    await make_attendance(
        session, event, second, occurred_at=at + timedelta(minutes=1), method="code"
    )
    await make_attendance(
        session,
        event,
        voided,
        occurred_at=at + timedelta(minutes=2),
        voided_at=at,
        voided_by="officer-1",
        void_reason="误扫",
    )
    await session.commit()
    for params, members in (
        ({}, [voided, second, first]),
        ({"voided": "true"}, [voided]),
        ({"voided": "false"}, [second, first]),
        ({"method": "code,batch"}, [second]),
        ({"association_id": str(other.id)}, [voided, second]),
    ):
        page = await officer.ok("GET", _path(event), params=params)
        assert [i["member_id"] for i in page["items"]] == [str(m.id) for m in members], params


async def test_no_answer_lists_who_did_not_come(officer: Client, session: AsyncSession) -> None:
    association = await make_association(session)
    event = await make_event(session, await make_round(session))
    absent = await make_member(session, association)
    await session.commit()
    assert (await officer.ok("GET", _path(event)))["items"] == []
    await officer.refused("GET", _path(event, absent.id), status=404, code="not_found")
    for name in ("attended", "absent", "missed"):
        await officer.refused(
            "GET", _path(event), status=422, code="invalid", params={name: "false"}
        )


async def test_a_voided_attendance_stays_on_record(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session, await make_round(session))
    await session.commit()
    created = await officer.ok("PUT", _path(event, member.id), status=201, json={})
    voided = await officer.ok("POST", _path(event, member.id, "void"), **_VOID)
    assert (voided["void_reason"], voided["voided_by"]) == ("误扫他人的码", "district_officer-1")
    assert voided["version"] == 2
    unchanged = ("occurred_at", "recorded_at", "recorded_by", "method", "association_id")
    assert all(voided[name] == created[name] for name in unchanged)
    assert await officer.ok("GET", _path(event, member.id)) == voided
    assert await _count(owner) == 1

    refusal: dict[str, Any] = {"status": 409, "code": "attendance_voided"}
    await officer.refused("PUT", _path(event, member.id), json={}, **refusal)
    again = {**_VOID, "headers": if_match(voided)}
    await officer.refused("POST", _path(event, member.id, "void"), **again, **refusal)


async def test_voiding_needs_a_reason_that_tells_nothing_of_health(
    officer: Client, session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session, await make_round(session))
    await make_attendance(session, event, member)
    await session.commit()
    for body in ({}, {"reason": " "}, {"reason": "已怀孕，不必查"}):
        problem = await officer.refused(
            "POST",
            _path(event, member.id, "void"),
            status=422,
            code="invalid",
            json=body,
            headers={"If-Match": '"1"'},
        )
        assert pointers(problem) == ["/reason"]


async def test_a_void_frees_the_round_for_the_right_event(
    officer: Client, session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    held = await make_round(session)
    wrong, right = await make_event(session, held), await make_event(session, held)
    await session.commit()
    await officer.ok("PUT", _path(wrong, member.id), status=201, json={})
    voided = await officer.ok("POST", _path(wrong, member.id, "void"), **_VOID)
    await officer.ok("PUT", _path(right, member.id), status=201, json={})
    await officer.refused(
        "POST",
        _path(wrong, member.id, "restore"),
        status=409,
        code="attended_this_round",
        headers=if_match(voided),
    )
    assert (await officer.ok("GET", _path(wrong, member.id)))["voided_at"] is not None


async def test_an_attendance_voided_by_mistake_is_restored(
    officer: Client, session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session, await make_round(session))
    await session.commit()
    created = await officer.ok("PUT", _path(event, member.id), status=201, json={})
    restore = _path(event, member.id, "restore")
    await officer.refused(
        "POST", restore, status=409, code="attendance_in_force", headers=if_match(created)
    )
    voided = await officer.ok("POST", _path(event, member.id, "void"), **_VOID)
    await officer.refused("POST", restore, status=412, code="stale", headers=if_match(created))
    restored = await officer.ok("POST", restore, headers=if_match(voided))
    assert restored == {k: v for k, v in created.items() if k != "repeated"} | {"version": 3}
    assert (await officer.ok("PUT", _path(event, member.id), json={}))["repeated"] is True


async def test_nobody_is_put_back_into_a_cancelled_event(
    officer: Client, session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session)
    await session.commit()
    await officer.ok("PUT", _path(event, member.id), status=201, json={})
    voided = await officer.ok("POST", _path(event, member.id, "void"), **_VOID)
    await officer.ok(
        "POST",
        f"/v1/service-events/{event.id}/cancel",
        json={"reason": "停电"},
        headers={"If-Match": '"1"'},
    )
    await officer.refused(
        "POST",
        _path(event, member.id, "restore"),
        status=409,
        code="event_step_refused",
        headers=if_match(voided),
    )


async def test_what_was_stored_while_its_event_was_cancelled_can_be_voided(
    officer: Client, session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session, status="cancelled", status_reason="停电")
    await make_attendance(session, event, member)
    await session.commit()
    assert (await officer.ok("POST", _path(event, member.id, "void"), **_VOID))["voided_at"]


async def test_an_attendance_is_voided_within_reach(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    event = await make_event(session, area_code=SHISHAN)
    await make_attendance(session, event, member)
    await session.commit()
    path = _path(event, member.id, "void")
    stranger = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    await stranger.refused("POST", path, status=404, code="not_found", **_VOID)
    staff = client(Role.EVENT_STAFF, events=[str(event.id)])
    await staff.refused("POST", path, status=403, code="forbidden", **_VOID)
    officer = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    unknown = _path(event, UUID(int=7), "void")
    await officer.refused("POST", unknown, status=404, code="not_found", **_VOID)
    await officer.ok("POST", path, **_VOID)


async def test_nobody_is_checked_in_before_the_rounds_first_day(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    held = await make_round_to_come(session)
    today = clock.civil_date(clock.now())
    begun = await make_round(session, 2, starts_on=today, ends_on=today + timedelta(days=9))
    event, other = await make_event(session, held), await make_event(session, begun)
    yesterday = clock.now() - timedelta(days=1)
    early = await make_event(session, begun, created_at=yesterday)
    member = await make_member(session, await make_association(session))
    await session.commit()
    problem = await officer.refused(
        "PUT", _path(event, member.id), status=409, code="round_not_begun", json={}
    )
    assert problem["starts_on"] == held.starts_on.isoformat()
    await officer.refused(
        "PUT",
        _path(early, member.id),
        status=409,
        code="round_not_begun",
        json={"occurred_at": yesterday.isoformat()},
    )
    line = {"ref": "a", "member_id": str(member.id), "occurred_at": clock.now().isoformat()}
    batch = {"device_id": "tablet-7", "lines": [line]}
    answer = await officer.ok(
        "POST", f"/v1/service-events/{event.id}/attendances/batch", json=batch
    )
    assert answer["items"][0]["problem"]["code"] == "round_not_begun"
    assert await _count(owner) == 0
    await officer.ok("PUT", _path(other, member.id), status=201, json={})


async def test_of_a_members_lines_the_one_before_the_round_is_refused_beside_the_good_one(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    today, now = clock.civil_date(clock.now()), clock.now()
    begun = await make_round(session, 2, starts_on=today, ends_on=today + timedelta(days=9))
    event = await make_event(session, begun, created_at=now - timedelta(days=1))
    member = await make_member(session, await make_association(session))
    await session.commit()
    lines = [
        {"ref": ref, "member_id": str(member.id), "occurred_at": at.isoformat()}
        for ref, at in (("early", now - timedelta(days=1)), ("good", now))
    ]
    answer = await officer.ok(
        "POST",
        f"/v1/service-events/{event.id}/attendances/batch",
        json={"device_id": "tablet-7", "lines": lines},
    )
    early, good = answer["items"]
    assert early["problem"]["code"] == "round_not_begun"
    assert (early["status"], good["status"]) == ("rejected", "created")
    assert await owner.pool.fetchval("select occurred_at from attendances") == now
