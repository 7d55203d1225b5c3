"""Batches of what a device noted while it was offline: an answer for each line, in order."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Member
from app.roles import Role
from tests.factories.callers import Client, idempotency_key, pointers
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association


def _path(event: ServiceEvent) -> str:
    return f"/v1/service-events/{event.id}/attendances/batch"


def _line(ref: object, member_id: UUID, event: ServiceEvent, **facts: Any) -> dict[str, Any]:
    at = facts.pop("at", event.starts_at)
    return {"ref": str(ref), "member_id": str(member_id), "occurred_at": at.isoformat()}


def _batch(*lines: dict[str, Any]) -> dict[str, Any]:
    return {"device_id": "tablet-7", "lines": list(lines)}


def _told(answer: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [
        (line["ref"], line["status"], line["problem"] and _code(line["problem"]))
        for line in answer["items"]
    ]


def _code(problem: dict[str, Any]) -> str:
    return str((problem["errors"] or [problem])[0]["code"])


async def _members(session: AsyncSession, count: int) -> list[Member]:
    association = await make_association(session)
    return [await make_member(session, association) for _ in range(count)]


async def _count(owner: Database) -> int:
    return int(await owner.pool.fetchval("select count(*) from attendances"))


async def test_each_line_is_answered_in_order(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    held = await make_round(session)
    event, elsewhere = await make_event(session, held), await make_event(session, held)
    new, known, gone, other, late = await _members(session, 5)
    await make_attendance(session, event, known)
    await make_attendance(
        session, event, gone, voided_at=clock.now(), voided_by="officer-1", void_reason="误扫"
    )
    await make_attendance(session, elsewhere, other)
    await session.commit()
    future = clock.now() + timedelta(minutes=10)
    past = event.starts_at - timedelta(days=1)
    body = _batch(
        _line("a", UUID(int=7), event),
        _line("b", other.id, event),
        _line("c", new.id, event),
        _line("d", late.id, event, at=future),
        _line("e", gone.id, event),
        _line("f", known.id, event),
        _line("g", late.id, event, at=past),
    )
    answer = await officer.ok("POST", _path(event), json=body)
    assert _told(answer) == [
        ("a", "rejected", "member_unknown"),
        ("b", "rejected", "attended_this_round"),
        ("c", "created", None),
        ("d", "rejected", "in_the_future"),
        ("e", "rejected", "attendance_voided"),
        ("f", "repeated", None),
        ("g", "rejected", "before_the_event"),
    ]
    assert (answer["created"], answer["repeated"], answer["rejected"]) == (1, 1, 5)
    assert await _count(owner) == 4
    stored = await officer.ok("GET", f"/v1/service-events/{event.id}/attendances/{new.id}")
    assert (stored["method"], stored["device_id"], stored["device_ref"]) == (
        "batch",
        "tablet-7",
        "c",
    )


async def test_a_batch_sent_again_changes_nothing_and_says_so(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, await make_round(session))
    members = await _members(session, 3)
    await session.commit()
    body = _batch(*(_line(number, member.id, event) for number, member in enumerate(members)))
    first = await officer.ok("POST", _path(event), json=body)
    again = await officer.ok("POST", _path(event), json=body)
    assert (first["created"], again["created"], again["repeated"]) == (3, 0, 3)
    assert await _count(owner) == 3


async def test_a_line_is_answered_with_the_attendance_or_a_whole_problem(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session)
    new, known = await _members(session, 2)
    await make_attendance(session, event, known, recorded_by="staff-7")
    await session.commit()
    at = f"/v1/service-events/{event.id}/attendances"
    body = _batch(
        _line("a", known.id, event, at=event.starts_at + timedelta(minutes=5)),
        _line("b", new.id, event),
        _line("c", new.id, event, at=event.starts_at + timedelta(minutes=7)),
        _line("d", UUID(int=7), event),
        _line("e", new.id, event, at=clock.now() + timedelta(days=1)),
    )
    first, second, third, *rejected = (await officer.ok("POST", _path(event), json=body))["items"]
    stored = [await officer.ok("GET", f"{at}/{member.id}") for member in (known, new)]
    names = ("event_id", "member_id", "occurred_at", "recorded_at", "recorded_by")
    there, made = ({name: read[name] for name in names} for read in stored)

    assert there["recorded_by"] == "staff-7"
    assert first == {"ref": "a", "status": "repeated", "resource": there, "problem": None}
    assert second == {"ref": "b", "status": "created", "resource": None, "problem": None}
    assert third == {"ref": "c", "status": "repeated", "resource": made, "problem": None}
    for line, status, code in zip(rejected, (404, 422), ("member_unknown", "invalid"), strict=True):
        problem = line["problem"]
        assert line["resource"] is None
        assert (problem["type"], problem["status"]) == (f"/problems/{code}", status)
        assert set(problem) == {"type", "title", "status", "code", "detail", "errors"}
    assert rejected[0]["problem"]["errors"] == []
    assert pointers(rejected[1]["problem"]) == ["/lines/4/occurred_at"]


async def test_a_batch_with_a_key_gets_its_first_answer_again(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session)
    (member,) = await _members(session, 1)
    await session.commit()
    body = _batch(_line("a", member.id, event))
    first = await officer.post(_path(event), json=body, headers=idempotency_key("k"))
    again = await officer.post(_path(event), json=body, headers=idempotency_key("k"))
    assert first.json()["created"] == 1
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"


async def test_of_two_lines_of_one_member_the_first_counts(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, await make_round(session))
    twice, stranger = (await _members(session, 1))[0].id, UUID(int=7)
    await session.commit()
    later = event.starts_at + timedelta(minutes=5)
    body = _batch(
        _line("a", stranger, event),
        _line("b", twice, event, at=later),
        _line("c", twice, event),
        _line("d", stranger, event),
    )
    answer = await officer.ok("POST", _path(event), json=body)
    assert [status for _, status, _ in _told(answer)] == [
        "rejected",
        "created",
        "repeated",
        "rejected",
    ]
    assert await _count(owner) == 1
    stored = await officer.ok("GET", f"/v1/service-events/{event.id}/attendances/{twice}")
    assert stored["device_ref"] == "b"


async def test_a_line_of_a_wrong_clock_does_not_hide_the_right_one(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session)
    (member,) = await _members(session, 1)
    await session.commit()
    body = _batch(
        _line("a", member.id, event, at=clock.now() + timedelta(days=1)),
        _line("b", member.id, event, at=event.starts_at - timedelta(days=9999)),
        _line("c", member.id, event),
    )
    answer = await officer.ok("POST", _path(event), json=body)
    assert _told(answer) == [
        ("a", "rejected", "in_the_future"),
        ("b", "rejected", "before_the_event"),
        ("c", "created", None),
    ]


async def test_lines_of_wrong_clocks_alone_are_answered(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session)
    (member,) = await _members(session, 1)
    await session.commit()
    body = _batch(_line("a", member.id, event, at=clock.now() + timedelta(days=1)))
    answer = await officer.ok("POST", _path(event), json=body)
    assert _told(answer) == [("a", "rejected", "in_the_future")]
    nowhere = f"/v1/service-events/{UUID(int=7)}/attendances/batch"
    await officer.refused("POST", nowhere, status=404, code="not_found", json=body)


async def test_a_batch_holds_up_to_a_thousand_lines(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, await make_round(session))
    members = await _members(session, 1000)
    await session.commit()
    lines = [_line(number, member.id, event) for number, member in enumerate(members)]
    answer = await officer.ok("POST", _path(event), json=_batch(*lines))
    assert answer["created"] == await _count(owner) == 1000
    assert [line["ref"] for line in answer["items"]] == [line["ref"] for line in lines]
    for wrong in ([*lines, lines[0]], []):
        problem = await officer.refused(
            "POST", _path(event), status=422, code="invalid", json=_batch(*wrong)
        )
        assert pointers(problem) == ["/lines"]


async def test_a_line_that_makes_no_sense_is_named(officer: Client, session: AsyncSession) -> None:
    event = await make_event(session)
    (member,) = await _members(session, 1)
    await session.commit()
    good = _line("a", member.id, event)
    for changed, pointer in (
        ({"member_id": "7"}, "/lines/1/member_id"),
        ({"occurred_at": "2026-02-10T09:00:00"}, "/lines/1/occurred_at"),
        ({"ref": ""}, "/lines/1/ref"),
        ({"result": "normal"}, "/lines/1/result"),
    ):
        problem = await officer.refused(
            "POST", _path(event), status=422, code="invalid", json=_batch(good, {**good, **changed})
        )
        assert pointers(problem) == [pointer]


async def test_a_closed_round_takes_late_batches_until_it_is_final(
    officer: Client, session: AsyncSession
) -> None:
    now = clock.now()
    (member,) = await _members(session, 1)
    for sequence, accepts_until, told in (
        (1, now + timedelta(minutes=1), ("a", "created", None)),
        (2, now - timedelta(minutes=1), ("a", "rejected", "event_not_open")),
    ):
        held = await make_round(
            session, sequence, status="closed", closed_at=now, accepts_until=accepts_until
        )
        event = await make_event(session, held, status="closed")
        await session.commit()
        answer = await officer.ok("POST", _path(event), json=_batch(_line("a", member.id, event)))
        assert _told(answer) == [told]


async def test_the_words_of_a_rejected_line_are_the_callers(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session)
    await session.commit()
    body = _batch(_line("a", UUID(int=7), event))
    details = set()
    for language in ("zh-CN", "en"):
        headers = {"Accept-Language": language}
        answer = await officer.ok("POST", _path(event), json=body, headers=headers)
        details.add(answer["items"][0]["problem"]["detail"])
    assert details == {
        "本区没有这位会员。请核对会员码。",
        "The district has no such member. Check the member's code.",
    }


async def test_only_who_runs_an_event_sends_its_batches(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    event = await make_event(session)
    (member,) = await _members(session, 1)
    await session.commit()
    body = _batch(_line("a", member.id, event))
    stranger = client(Role.EVENT_STAFF, events=[str(UUID(int=7))])
    await stranger.refused("POST", _path(event), status=404, code="not_found", json=body)
    herself = client(Role.MEMBER, member_id=str(member.id))
    await herself.refused("POST", _path(event), status=403, code="forbidden", json=body)
    staff = client(Role.EVENT_STAFF, events=[str(event.id)])
    assert (await staff.ok("POST", _path(event), json=body))["created"] == 1
