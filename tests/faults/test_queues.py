"""A queue of workers at the door, and everybody's phone at once: every row is there once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Member
from app.roles import Role
from tests.factories.callers import Client, idempotency_key
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_CLIENTS = 64


async def _members(session: AsyncSession, count: int) -> list[Member]:
    association = await make_association(session)
    return [await make_member(session, association) for _ in range(count)]


async def _all(requests: Sequence[Awaitable[httpx.Response]]) -> list[httpx.Response]:
    return list(await asyncio.gather(*requests))


def _registrations(event: ServiceEvent, *more: object) -> str:
    return "/".join([f"/v1/service-events/{event.id}/registrations", *map(str, more)])


def _attendances(event: ServiceEvent, *more: object) -> str:
    return "/".join([f"/v1/service-events/{event.id}/attendances", *map(str, more)])


def _register(caller: Client, event: ServiceEvent, member: Member) -> Awaitable[httpx.Response]:
    return caller.post(
        _registrations(event),
        json={"member_id": str(member.id)},
        headers=idempotency_key(clock.new_id()),
    )


def _batch(event: ServiceEvent, members: Sequence[Member]) -> dict[str, Any]:
    at = event.starts_at.isoformat()
    lines = [
        {"ref": str(number), "member_id": str(member.id), "occurred_at": at}
        for number, member in enumerate(members)
    ]
    return {"device_id": "tablet-7", "lines": lines}


async def test_fifty_phones_at_once_fill_the_seats_and_the_waiting_list(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session, status="published", capacity=20)
    members = await _members(session, 50)
    await session.commit()
    answers = await _all([_register(officer, event, member) for member in members])
    assert {answer.status_code for answer in answers} == {201}
    places = sorted((each.json() for each in answers), key=lambda place: place["registered_at"])
    assert [place["position"] for place in places] == [None] * 20 + list(range(1, 31))
    assert [place["status"] for place in places] == ["registered"] * 20 + ["waiting"] * 30


async def test_an_impatient_thumb_registers_once(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, status="published", capacity=5)
    (member,) = await _members(session, 1)
    await session.commit()
    answers = await _all([_register(officer, event, member) for _ in range(20)])
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 19}
    assert len({answer.content for answer in answers}) == 1
    assert await owner.pool.fetchval("select count(*) from registrations") == 1


async def test_seats_of_those_who_go_meanwhile_are_all_filled(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event, other = [await make_event(session, status="published", capacity=10) for _ in range(2)]
    members = await _members(session, 60)
    for number, member in enumerate(members[:20]):
        if number < 10:
            await make_registration(session, event, member)
        status = "registered" if number < 10 else "waiting"
        await make_registration(session, other, member, status=status)
    await session.commit()
    headers = {"If-Match": '"1"'}
    body = {"left_on": clock.civil_date(clock.now()).isoformat()}
    going = [
        officer.post(f"/v1/members/{member.id}/leave", json=body, headers=headers)
        for member in members[:2]
    ]
    going += [
        officer.post(f"/v1/members/{member.id}/erase", headers=headers) for member in members[2:4]
    ]
    coming = [_register(officer, event, member) for member in members[10:]]
    answers = await _all([*coming[:25], *going, *coming[25:]])
    assert {answer.status_code for answer in answers} == {200, 201}
    for held, waiting in ((event, 46), (other, 6)):
        rows = await owner.pool.fetch(
            "select status, array_agg(position order by position) as positions"
            " from registrations where event_id = $1 group by status",
            held.id,
        )
        positions = {row["status"]: row["positions"] for row in rows}
        assert {status: len(each) for status, each in positions.items()} == {
            "registered": 10,
            "waiting": waiting,
            "cancelled": 4,
        }
        assert max(positions["registered"]) < min(positions["waiting"])


async def test_nobody_is_seated_while_she_is_erased(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, status="published", capacity=5)
    members = await _members(session, 12)
    await session.commit()
    asked = [
        request
        for member in members
        for request in (
            _register(officer, event, member),
            officer.post(f"/v1/members/{member.id}/erase", headers={"If-Match": '"1"'}),
        )
    ]
    answers = await _all(asked)
    assert {answer.status_code for answer in answers} <= {200, 201, 409, 422}
    assert not await owner.pool.fetch(
        "select 1 from registrations g join members m on m.id = g.member_id"
        " where m.erased_at is not null and g.status <> 'cancelled'"
    )


async def test_seats_given_back_and_added_meanwhile_are_all_filled(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, status="published", capacity=10)
    members = await _members(session, 40)
    for member in members[:10]:
        await make_registration(session, event, member)
    await session.commit()
    headers = {"If-Match": '"1"'}
    cancels = [
        officer.post(_registrations(event, member.id, "cancel"), headers=headers)
        for member in members[:6]
    ]
    added = officer.patch(f"/v1/service-events/{event.id}", json={"capacity": 15}, headers=headers)
    registering = [_register(officer, event, member) for member in members[10:]]
    answers = await _all([*registering[:15], *cancels[:3], added, *registering[15:], *cancels[3:]])
    assert {answer.status_code for answer in answers} == {200, 201}
    rows = await owner.pool.fetch(
        "select status, array_agg(position order by position) as positions from registrations"
        " group by status"
    )
    positions = {row["status"]: row["positions"] for row in rows}
    assert {status: len(each) for status, each in positions.items()} == {
        "registered": 15,
        "waiting": 19,
        "cancelled": 6,
    }
    # Whoever waits asked after everybody who has a seat.
    assert max(positions["registered"]) < min(positions["waiting"])


async def test_seats_taken_away_meanwhile_are_those_that_nobody_took(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, status="published", capacity=20)
    members = await _members(session, 20)
    await session.commit()
    lowered = officer.patch(
        f"/v1/service-events/{event.id}", json={"capacity": 8}, headers={"If-Match": '"1"'}
    )
    registering = [_register(officer, event, member) for member in members]
    answers = await _all([*registering[:6], lowered, *registering[6:]])
    assert {answer.status_code for answer in answers} <= {200, 201, 422}
    [seats] = await owner.pool.fetch("select capacity from service_events")
    taken = await owner.pool.fetchval(
        "select count(*) from registrations where status = 'registered'"
    )
    assert taken <= seats["capacity"]


async def test_nobody_registers_for_an_event_that_is_being_cancelled(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, status="published")
    members = await _members(session, 30)
    await session.commit()
    cancel = officer.post(
        f"/v1/service-events/{event.id}/cancel",
        json={"reason": "因台风取消"},
        headers={"If-Match": '"1"'},
    )
    requests = [_register(officer, event, member) for member in members]
    answers = await _all([*requests[:10], cancel, *requests[10:]])
    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    taken = sum(answer.status_code == 201 for answer in answers)
    assert await owner.pool.fetchval("select count(*) from registrations") == taken
    seen = await officer.ok("GET", f"/v1/service-events/{event.id}")
    assert (seen["status"], seen["registered_count"]) == ("cancelled", taken)
    late = await _register(officer, event, members[0])
    assert late.status_code in {200, 409}


async def test_sixty_four_clients_check_the_same_people_in_once_each(
    officer: Client, client: Callable[..., Client], session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, await make_round(session))
    members = await _members(session, 8)
    await session.commit()
    phones = [client(Role.MEMBER, member_id=str(member.id)) for member in members]
    shown = await officer.ok("GET", f"/v1/service-events/{event.id}/check-in-code")
    code = {"code": shown["code"]}
    path = f"/v1/service-events/{event.id}/check-in"
    scans = [
        phones[number].post(path, json=code)
        if tablet % 8 == 0
        else officer.put(_attendances(event, members[number].id), json={})
        for tablet in range(_CLIENTS)
        for number in range(len(members))
    ]
    answers = await _all(scans)
    assert Counter(a.status_code for a in answers) == {201: 8, 200: 8 * (_CLIENTS - 1)}
    created = {a.json()["member_id"] for a in answers if a.status_code == 201}
    assert created == {str(member.id) for member in members}
    for member in members:
        own = [a.json() for a in answers if a.json()["member_id"] == str(member.id)]
        assert len({(a["recorded_at"], a["recorded_by"], a["method"]) for a in own}) == 1
    assert await owner.pool.fetchval("select count(*) from attendances") == 8


async def test_sixty_four_tablets_send_the_same_batch_in_any_order(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    event = await make_event(session, await make_round(session))
    members = await _members(session, 50)
    await session.commit()
    turned = [members[n % 50 :] + members[: n % 50] for n in range(_CLIENTS)]
    orders = [order if n % 2 else order[::-1] for n, order in enumerate(turned)]
    answers = await _all(
        [officer.post(_attendances(event, "batch"), json=_batch(event, o)) for o in orders]
    )
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["created"] for answer in answers) == 50
    assert sum(answer.json()["repeated"] for answer in answers) == 50 * (_CLIENTS - 1)
    assert await owner.pool.fetchval("select count(*) from attendances") == 50


@pytest.mark.parametrize("in_batches", [False, True])
async def test_one_round_is_attended_once_though_many_events_check_in_at_once(
    officer: Client, session: AsyncSession, owner: Database, *, in_batches: bool
) -> None:
    held = await make_round(session)
    events = [await make_event(session, held) for _ in range(8)]
    members = await _members(session, 10)
    await session.commit()
    if in_batches:
        answers = await _all(
            [officer.post(_attendances(e, "batch"), json=_batch(e, members)) for e in events]
        )
        lines = [line for answer in answers for line in answer.json()["items"]]
        told = Counter(line["problem"]["code"] if line["problem"] else "" for line in lines)
    else:
        answers = await _all(
            [officer.put(_attendances(e, m.id), json={}) for m in members for e in events]
        )
        told = Counter(answer.json().get("code", "") for answer in answers)
    assert told == {"": 10, "attended_this_round": 70}
    assert await owner.pool.fetchval("select count(*) from attendances") == 10


async def test_a_wrong_check_in_voided_meanwhile_leaves_one_in_force(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    held = await make_round(session)
    wrong, right = await make_event(session, held), await make_event(session, held)
    members = await _members(session, 10)
    await session.commit()
    for member in members:
        await officer.ok("PUT", _attendances(wrong, member.id), status=201, json={})
    void: dict[str, Any] = {"json": {"reason": "误扫"}, "headers": {"If-Match": '"1"'}}
    requests = [
        request
        for member in members
        for request in (
            officer.put(_attendances(right, member.id), json={}),
            officer.post(_attendances(wrong, member.id, "void"), **void),
            officer.post(_attendances(wrong, member.id, "restore"), headers={"If-Match": '"2"'}),
            officer.put(_attendances(right, member.id), json={}),
        )
    ]
    answers = await _all(requests)
    assert {answer.status_code for answer in answers} <= {200, 201, 409, 412}
    in_force = await owner.pool.fetch(
        "select count(*) as n from attendances where voided_at is null group by member_id"
    )
    assert {row["n"] for row in in_force} <= {1}
    assert await owner.pool.fetchval("select count(*) from attendances where version > 1") == 10
