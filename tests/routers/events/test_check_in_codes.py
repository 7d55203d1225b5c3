"""Checking oneself in by the code that an event shows: rotating, signed, for oneself alone."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database, Statements
from app.models.events.attendances import CheckInCodeRead
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Member
from app.roles import Role
from app.services.events import check_in_codes
from app.services.events.check_in_codes import WINDOW_SECONDS
from tests.factories.callers import Client, make_caller, pointers
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round, make_round_to_come
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

# In the middle of a window, so that a step of a window is a step of exactly one.
_NOON = datetime.fromisoformat("2026-02-10T12:00:15Z")


def _path(event: ServiceEvent) -> str:
    return f"/v1/service-events/{event.id}/check-in"


async def _shown(caller: Client, event: ServiceEvent) -> str:
    answer = await caller.ok("GET", f"/v1/service-events/{event.id}/check-in-code")
    return str(answer["code"])


async def _member(session: AsyncSession) -> Member:
    return await make_member(session, await make_association(session))


def _scans(caller: Client, event: ServiceEvent, code: str) -> Any:
    return caller.post(_path(event), json={"code": code})


async def _count(owner: Database) -> int:
    return int(await owner.pool.fetchval("select count(*) from attendances"))


async def test_a_member_checks_herself_in(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    herself = await _member(session)
    event = await make_event(session, await make_round(session))
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    answer = await _scans(member, event, await _shown(officer, event))
    assert answer.status_code == 201, answer.text
    created = answer.json()
    assert (created["member_id"], created["method"]) == (str(herself.id), "code")
    assert (created["round_sequence"], created["repeated"]) == (1, False)
    kept = {k: v for k, v in created.items() if k != "repeated"}
    assert await member.ok("GET", answer.headers["location"]) == kept


async def test_scanning_twice_changes_nothing_and_says_so(
    client: Callable[..., Client], officer: Client, session: AsyncSession, owner: Database
) -> None:
    herself, event = await _member(session), await make_event(session)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    code = await _shown(officer, event)
    first, again = await _scans(member, event, code), await _scans(member, event, code)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "repeated": True}
    assert await _count(owner) == 1


async def test_a_phone_that_lost_its_answer_is_told_though_the_code_has_expired(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    herself, colleague = await _member(session), await _member(session)
    event, other = await make_event(session), await make_event(session)
    await make_attendance(session, event, herself)
    await make_attendance(session, other, colleague)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    answer = await _scans(member, event, "expired")
    assert (answer.status_code, answer.json()["repeated"]) == (200, True)
    assert (await _scans(member, other, "expired")).status_code == 422


async def test_a_wrong_code_is_refused(
    client: Callable[..., Client], officer: Client, session: AsyncSession, owner: Database
) -> None:
    herself = await _member(session)
    event, other = await make_event(session), await make_event(session)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    right = await _shown(officer, event)
    wrong = (
        await _shown(officer, other),
        right[:-1] + ("A" if right[-1] != "A" else "B"),
        right + "A",
        str(event.id),
        "签到码",
    )
    for code in wrong:
        problem = await member.refused(
            "POST", _path(event), status=422, code="invalid", json={"code": code}
        )
        assert pointers(problem) == ["/code"]
        assert problem["errors"][0]["code"] == "check_in_code"
    assert await _count(owner) == 0


async def test_an_expired_code_is_refused(
    client: Callable[..., Client], session: AsyncSession, statements: Statements, keyring: Keyring
) -> None:
    herself, event = await _member(session), await make_event(session)
    await session.commit()
    past = clock.now() - timedelta(seconds=2 * WINDOW_SECONDS)
    shown = await check_in_codes.current(
        statements, make_caller(), keyring, event_id=event.id, now=past
    )
    member = client(Role.MEMBER, member_id=str(herself.id))
    body = {"code": shown.code}
    await member.refused("POST", _path(event), status=422, code="invalid", json=body)


async def test_a_voided_check_in_is_not_scanned_back(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    herself, event = await _member(session), await make_event(session)
    await make_attendance(
        session, event, herself, voided_at=clock.now(), voided_by="officer-1", void_reason="误扫"
    )
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    code = await _shown(officer, event)
    await member.refused(
        "POST", _path(event), status=409, code="attendance_voided", json={"code": code}
    )
    await member.refused("POST", _path(event), status=422, code="invalid", json={"code": "x"})


async def test_a_member_checks_in_nobody_else(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    herself, colleague = await _member(session), await _member(session)
    event = await make_event(session)
    await session.commit()
    code = await _shown(officer, event)
    member = client(Role.MEMBER, member_id=str(herself.id))
    body = {"code": code, "member_id": str(colleague.id)}
    problem = await member.refused("POST", _path(event), status=422, code="invalid", json=body)
    assert pointers(problem) == ["/member_id"]
    for role in (Role.DISTRICT_OFFICER, Role.EVENT_STAFF, Role.SECRETARY):
        caller = client(role, member_id=str(colleague.id), events=[str(event.id)])
        await caller.refused(
            "POST", _path(event), status=403, code="forbidden", json={"code": code}
        )


async def test_a_code_is_of_no_use_to_who_is_no_member(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session)
    await session.commit()
    nobody = client(Role.MEMBER, member_id=str(UUID(int=7)))
    body = {"code": await _shown(officer, event)}
    await nobody.refused("POST", _path(event), status=404, code="member_unknown", json=body)


async def test_a_health_exam_is_scanned_once_a_round(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    herself, held = await _member(session), await make_round(session)
    here, elsewhere = await make_event(session, held), await make_event(session, held)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    assert (await _scans(member, here, await _shown(officer, here))).status_code == 201
    problem = await member.refused(
        "POST",
        _path(elsewhere),
        status=409,
        code="attended_this_round",
        json={"code": await _shown(officer, elsewhere)},
    )
    assert problem["event_id"] == str(here.id)


async def test_a_code_ends_with_the_event(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    herself, event = await _member(session), await make_event(session)
    await session.commit()
    code = await _shown(officer, event)
    headers = {"If-Match": '"1"'}
    await officer.ok("POST", f"/v1/service-events/{event.id}/close", headers=headers)
    member = client(Role.MEMBER, member_id=str(herself.id))
    await member.refused(
        "POST", _path(event), status=409, code="event_not_open", json={"code": code}
    )


async def test_a_closed_round_is_scanned_no_more(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    herself = await _member(session)
    held = await make_round(session, status="closed", closed_at=clock.now())
    event = await make_event(session, held)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    body = {"code": await _shown(officer, event)}
    await member.refused("POST", _path(event), status=409, code="event_not_open", json=body)


@pytest.mark.parametrize("status", ["draft", "published", "closed", "cancelled"])
async def test_only_an_event_in_progress_shows_a_code(
    officer: Client, session: AsyncSession, status: str
) -> None:
    event = await make_event(session, status=status, status_reason="雨")
    await session.commit()
    path = f"/v1/service-events/{event.id}/check-in-code"
    await officer.refused("GET", path, status=409, code="event_not_open")


async def test_a_code_is_shown_by_those_who_run_the_event(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    event = await make_event(session)
    await session.commit()
    path = f"/v1/service-events/{event.id}/check-in-code"
    staff = client(Role.EVENT_STAFF, events=[str(event.id)])
    picture = await staff.get(path, params={"format": "svg"})
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert b"<svg" in picture.content
    stranger = client(Role.EVENT_STAFF, events=[str(UUID(int=7))])
    await stranger.refused("GET", path, status=404, code="not_found")
    member = client(Role.MEMBER, member_id=str(UUID(int=1)))
    await member.refused("GET", path, status=403, code="forbidden")


async def test_a_code_rotates_and_holds_for_two_turns(
    session: AsyncSession, statements: Statements, keyring: Keyring
) -> None:
    event = await make_event(session)
    await session.commit()

    async def shown_at(now: datetime) -> CheckInCodeRead:
        return await check_in_codes.current(
            statements, make_caller(), keyring, event_id=event.id, now=now
        )

    def holds(code: str, now: datetime) -> bool:
        return check_in_codes.is_valid(
            keyring, district_code=event.district_code, event_id=event.id, code=code, now=now
        )

    turn = timedelta(seconds=WINDOW_SECONDS)
    shown = await shown_at(_NOON)
    assert shown.code == (await shown_at(_NOON + timedelta(seconds=14))).code
    assert shown.code != (await shown_at(_NOON + turn)).code
    assert [holds(shown.code, _NOON + turn * n) for n in (-1, 0, 1, 2)] == [
        False,
        True,
        True,
        False,
    ]
    assert holds(shown.code, shown.expires_at - timedelta(microseconds=1))
    assert not holds(shown.code, shown.expires_at)


async def test_a_code_belongs_to_one_event_one_district_and_one_key(
    session: AsyncSession, statements: Statements, keyring: Keyring
) -> None:
    event = await make_event(session)
    await session.commit()
    code = (
        await check_in_codes.current(
            statements, make_caller(), keyring, event_id=event.id, now=_NOON
        )
    ).code
    right: dict[str, Any] = {"district_code": event.district_code, "event_id": event.id}
    assert check_in_codes.is_valid(keyring, code=code, now=_NOON, **right)
    for wrong in ({"event_id": UUID(int=7)}, {"district_code": "440604000000"}):
        assert not check_in_codes.is_valid(keyring, code=code, now=_NOON, **(right | wrong))
    other = Keyring(bytes(32))
    assert not check_in_codes.is_valid(other, code=code, now=_NOON, **right)


async def test_a_code_takes_nobody_before_the_rounds_first_day(
    client: Callable[..., Client], officer: Client, session: AsyncSession, owner: Database
) -> None:
    herself, held = await _member(session), await make_round_to_come(session)
    event = await make_event(session, held)
    await session.commit()
    member = client(Role.MEMBER, member_id=str(herself.id))
    body = {"code": await _shown(officer, event)}
    await member.refused("POST", _path(event), status=409, code="round_not_begun", json=body)
    assert await _count(owner) == 0
