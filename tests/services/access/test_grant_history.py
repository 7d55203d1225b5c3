"""A new grant keeps what earlier ones of its subject say: whom she works for, what she ended."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, granting
from app.crypto import Keyring
from app.database import Database
from app.models.membership.members import Member
from app.roles import Role
from tests.factories.access.grants import make_grant
from tests.factories.callers import (
    DISTRICT,
    GUICHENG,
    SHISHAN,
    VILLAGE,
    Client,
    idempotency_key,
    if_match,
)
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone, verify
from tests.factories.membership.members import make_member, make_phone
from tests.factories.organisation.associations import make_association

_PATH = "/v1/grants"
_PHONE = make_phone(1)


async def _give(by: Client, **facts: Any) -> dict[str, Any]:
    headers = idempotency_key(clock.new_id())
    given: dict[str, Any] = await by.ok("POST", _PATH, status=201, headers=headers, json=facts)
    return given


async def _event(session: AsyncSession, mode: str) -> tuple[UUID, UUID]:
    """Store an association and an event of it in a round, and give their ids."""
    association = await make_association(session, area_code=VILLAGE, mode=mode)
    held = await make_round(session)
    facts = {"area_code": VILLAGE, "association_id": association.id}
    event = await make_event(session, held, **facts)
    await session.commit()
    return association.id, event.id


async def test_who_staffs_an_employers_event_need_not_be_of_its_side(
    officer: Client, session: AsyncSession
) -> None:
    _, event_id = await _event(session, "independent")
    staff = {"role": "event_staff", "event_ids": [str(event_id)]}
    assert (await _give(officer, subject="nurse", **staff))["employer_linked"] is False
    linked = await _give(officer, subject="clerk", employer_linked=True, **staff)
    assert linked["employer_linked"] is True


def _in_days(days: int) -> str:
    return (clock.now() + timedelta(days=days)).isoformat()


async def _may_not(by: Client, subject: str, association_id: UUID, **facts: Any) -> None:
    secretary = {"role": "association_secretary", "association_ids": [str(association_id)]}
    await by.refused(
        "POST",
        _PATH,
        status=409,
        code="grants_beyond_yours",
        headers=idempotency_key(clock.new_id()),
        json={"subject": subject, **secretary, **facts},
    )


_BEYOND: dict[str, dict[str, Any]] = {
    "an auditor": {"role": "auditor"},
    "an approver": {"role": "finance_approver"},
    "a district officer": {"role": "district_officer"},
    "a peer": {"role": "town_officer", "areas": [SHISHAN], "area_code": SHISHAN},
    "elsewhere": {"role": "guide", "areas": [GUICHENG], "area_code": GUICHENG},
    "here and elsewhere": {
        "role": "guide",
        "areas": [SHISHAN, GUICHENG],
        "area_code": DISTRICT,
    },
    "to come": {"role": "auditor", "starts_at": clock.now() + timedelta(days=9)},
    "for a time": {"role": "auditor", "ends_at": clock.now() + timedelta(days=9)},
}


@pytest.mark.parametrize("held", _BEYOND.values(), ids=_BEYOND)
@pytest.mark.parametrize("is_linked", [False, True])
async def test_nobody_adds_to_offices_that_she_could_not_take_back(
    client: Callable[..., Client], session: AsyncSession, held: dict[str, Any], *, is_linked: bool
) -> None:
    subject = f"holder-{clock.new_id()}"
    place = await make_association(session, area_code=VILLAGE, mode="independent")
    await make_grant(session, subject=subject, **held)
    await session.commit()
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=is_linked)
    await _may_not(town, subject, place.id)
    await _may_not(town, subject, place.id, starts_at=_in_days(3))
    listed = (await client(Role.AUDITOR).ok("GET", _PATH, params={"subject": subject}))["items"]
    assert len(listed) == 1


async def test_a_peer_is_left_alone_and_who_reaches_all_gives(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    place = await make_association(session, area_code=VILLAGE)
    await make_grant(session, subject="peer")
    await make_grant(session, subject="the auditor", role="auditor")
    await session.commit()
    secretary = {"role": "association_secretary", "association_ids": [str(place.id)]}
    await _may_not(officer, "peer", place.id)
    await _give(officer, subject="the auditor", **secretary)
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    for days in (5, 9):
        guide = {"role": "guide", "areas": [SHISHAN], "ends_at": _in_days(days)}
        await _give(town, subject="hers", **guide)
    await _give(town, subject="hers", **secretary)


async def _station(session: AsyncSession, *areas: str) -> list[dict[str, Any]]:
    """Give what staffs an event in each of some areas."""
    held = await make_round(session)
    events = [await make_event(session, held, area_code=area) for area in areas]
    await session.commit()
    return [{"role": "event_staff", "event_ids": [str(event.id)]} for event in events]


async def test_who_staffs_events_of_one_town_may_staff_those_of_another(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    here, there = await _station(session, SHISHAN, GUICHENG)
    first = client(Role.TOWN_OFFICER, subject="first", areas=[SHISHAN])
    second = client(Role.TOWN_OFFICER, subject="second", areas=[GUICHENG])
    linked = client(Role.TOWN_OFFICER, subject="third", areas=[GUICHENG], employer_linked=True)
    await _give(first, subject="nurse", **here)
    beyond = {"association_ids": [], **there}
    await _may_not(second, "nurse", UUID(int=1), **beyond, employer_linked=True)
    await _may_not(linked, "nurse", UUID(int=1), **beyond)
    elsewhere = {"association_ids": [], "role": "guide", "areas": [GUICHENG]}
    await _may_not(second, "nurse", UUID(int=1), **elsewhere)
    assert (await _give(second, subject="nurse", **there))["employer_linked"] is False
    await _give(first, subject="nurse", **here, ends_at=_in_days(9))


@pytest.mark.parametrize("held", _BEYOND.values(), ids=_BEYOND)
async def test_who_holds_another_office_is_not_made_staff_by_whom_it_is_beyond(
    client: Callable[..., Client], session: AsyncSession, held: dict[str, Any]
) -> None:
    subject = f"holder-{clock.new_id()}"
    (here,) = await _station(session, SHISHAN)
    await make_grant(session, subject=subject, **held)
    await make_grant(session, subject=subject, role="event_staff", areas=[], area_code=GUICHENG)
    await session.commit()
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    await _may_not(town, subject, UUID(int=1), **here, association_ids=[])


async def _take(by: Client, grant: dict[str, Any], *, code: str = "") -> None:
    path, body = f"{_PATH}/{grant['id']}/revoke", {"reason": "误"}
    answer = await by.post(path, json=body, headers=if_match(grant))
    assert answer.status_code == (403 if code else 200), answer.text
    assert answer.json().get("code", "") == code


async def test_the_employers_side_takes_back_what_it_gave_where_nobody_is_freed(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    personnel = client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True)
    (there,) = await _station(session, GUICHENG)
    guide = {"role": "guide", "areas": [SHISHAN]}
    await _take(personnel, await _give(personnel, subject="only this", **guide))
    linked = [
        await _give(personnel, subject="both linked", **guide, ends_at=_in_days(days))
        for days in (5, 9)
    ]
    for each in linked:
        await _take(personnel, each)
    for number, kept in enumerate((there, there | {"starts_at": _in_days(3)})):
        subject = f"freed-{number}"
        given = await _give(personnel, subject=subject, **guide)
        other = await _give(officer, subject=subject, **kept)
        await _take(personnel, given, code="grant_linked")
        await _take(officer, other)
        await _take(personnel, given)


async def test_a_members_own_record_is_no_office_that_is_freed(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session, area_code=VILLAGE))
    herself = {"role": "member", "areas": [], "member_id": member.id}
    await make_grant(session, subject="also a member", **herself)
    await session.commit()
    personnel = client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True)
    guide = {"subject": "also a member", "role": "guide", "areas": [SHISHAN]}
    await _take(personnel, await _give(personnel, **guide))


async def test_what_is_over_or_a_members_own_is_no_office(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    now, day = clock.now(), timedelta(days=1)
    past = {"starts_at": now - day, "role": "auditor", "subject": "former"}
    taken = {"revoked_at": now, "revoked_by": "officer-2", "revoke_reason": "误"}
    elsewhere = await make_association(session, area_code=GUICHENG)
    member = await make_member(session, elsewhere)
    await make_grant(session, **past, ends_at=now)
    await make_grant(session, **past, **taken)
    herself = {"role": "member", "areas": [], "area_code": GUICHENG, "member_id": member.id}
    await make_grant(session, subject="former", **herself)
    await session.commit()
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    await _give(town, subject="former", role="guide", areas=[SHISHAN])


async def test_of_two_grants_to_one_subject_at_once_the_second_sees_the_first(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    await session.commit()
    for _ in range(5):
        subject = f"wanted-{clock.new_id()}"
        towns = [client(Role.TOWN_OFFICER, subject=at, areas=[at]) for at in (SHISHAN, GUICHENG)]
        for town in towns:
            await town.ok("GET", _PATH)
        answers = await asyncio.gather(
            *(
                town.post(
                    _PATH,
                    headers=idempotency_key(clock.new_id()),
                    json={"subject": subject, "role": "guide", "areas": [at]},
                )
                for town, at in zip(towns, (SHISHAN, GUICHENG), strict=True)
            )
        )
        assert sorted(each.status_code for each in answers) == [201, 409]


@pytest.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    """A member with a phone."""
    association = await make_association(session, area_code=VILLAGE)
    made = await make_member_with_phone(session, keyring, association, _PHONE)
    await session.commit()
    return made


@pytest.fixture
async def signed(
    app: FastAPI, client: Callable[..., Client], inbox: Inbox, member: Member
) -> dict[str, str]:
    """Give the header of a member who has just logged in."""
    assert member.phone_index
    login = await ask(client(None), _PHONE)
    await app.state.messenger.idle()
    outcome = await verify(client(None), login, await inbox.code(_PHONE))
    return {"Authorization": f"Bearer {outcome['token']['access_token']}"}


@pytest.mark.parametrize("giver", ["shell", "office"])
async def test_a_token_that_was_signed_out_stays_out_under_a_new_grant(
    app: FastAPI,
    client: Callable[..., Client],
    signed: dict[str, str],
    owner: Database,
    giver: str,
) -> None:
    nobody, officer = client(None), client(Role.DISTRICT_OFFICER)
    await nobody.ok("POST", "/v1/me/sign-out", status=204, headers=signed)
    (grant,) = (await officer.ok("GET", _PATH, params={"role": "member"}))["items"]
    path, body = f"{_PATH}/{grant['id']}/revoke", {"reason": "手机丢失"}
    await officer.ok("POST", path, json=body, headers=if_match(grant))
    subject = grant["subject"]
    if giver == "office":
        await _give(officer, subject=subject, role="member", areas=[])
    else:
        again = granting.Order(Role.MEMBER, subject, member_id=UUID(grant["member_id"]))
        await granting.provide(owner, again)
    app.state.admit.__self__._known.clear()
    problem = await nobody.refused(
        "GET", "/v1/me", status=401, code="unauthenticated", headers=signed
    )
    assert "out" in problem["detail"]
