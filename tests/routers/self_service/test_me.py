"""A member sees what is hers, and nothing that is another's."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.disbursement.payout_runs import RunStatus
from app.models.membership.members import Member, Membership
from app.roles import Role
from app.telling import tells
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, VILLAGE, Client, if_match
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import (
    make_cash,
    make_gift,
    make_ticket,
    make_voucher,
)
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_member, make_phone
from tests.factories.organisation.associations import make_association

_PROMISED = {RunStatus.APPROVED, RunStatus.DISBURSING, RunStatus.SETTLED, RunStatus.CLOSED}
_OTHER_VILLAGE = "440605124202"
_PATHS = (
    "/v1/me",
    "/v1/me/memberships",
    "/v1/me/events",
    "/v1/me/registrations",
    "/v1/me/attendances",
    "/v1/me/streak",
    "/v1/me/payouts",
    "/v1/me/phone",
)


def _as(client: Callable[..., Client], member: Member | UUID) -> Client:
    member_id = member if isinstance(member, UUID) else member.id
    return client(Role.MEMBER, member_id=str(member_id), subject=f"of-{member_id}")


@pytest.mark.parametrize("path", _PATHS)
async def test_only_members_have_a_me(client: Callable[..., Client], path: str) -> None:
    await client(None).refused("GET", path, status=401, code="unauthenticated")
    for role in set(Role) - {Role.MEMBER}:
        await client(role).refused("GET", path, status=403, code="forbidden")


@pytest.mark.parametrize("path", ["/v1/me", "/v1/me/streak", "/v1/me/phone"])
async def test_a_member_who_is_no_more_is_not_found(
    client: Callable[..., Client], path: str
) -> None:
    gone = _as(client, clock.new_id())
    await gone.refused("GET", path, status=404, code="not_found")


async def test_a_member_sees_herself_masked(
    client: Callable[..., Client], session: AsyncSession, keyring: Keyring
) -> None:
    association = await make_association(session, name="测试厂计生协会")
    member = await make_member_with_phone(session, keyring, association, make_phone(1))
    await session.commit()
    me = await _as(client, member).ok("GET", "/v1/me")
    assert me["member_id"] == str(member.id)
    assert me["association"] == {
        "id": str(association.id),
        "name": "测试厂计生协会",
        "area_code": VILLAGE,
        "area_name": me["association"]["area_name"],
    }
    assert (me["phone_masked"], me["id_number_masked"]) == ("138****0001", None)
    assert me["consents"] == ["identity", "contact", "payment", "thanks"]


async def test_me_has_an_etag_and_is_sent_every_time(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    await session.commit()
    caller = _as(client, member)
    answer = await caller.request("GET", "/v1/me")
    assert answer.headers["etag"] == '"1"'
    # The association's name may change without her.
    again = {"If-None-Match": answer.headers["etag"]}
    assert (await caller.request("GET", "/v1/me", headers=again)).status_code == 200


async def test_memberships_are_listed_from_the_first(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    before = await make_association(session, name="甲协会")
    now = await make_association(session, name="乙协会")
    member = await make_member(session, now, first_joined_on=date(2022, 1, 1))
    session.add(
        Membership(
            district_code=DISTRICT,
            member_id=member.id,
            joined_on=date(2020, 1, 1),
            association_id=before.id,
            left_on=date(2022, 1, 1),
            reason="换厂",
            recorded_at=clock.now(),
            left_recorded_at=clock.now(),
        )
    )
    await make_member(session, before)
    await session.commit()
    ties = (await _as(client, member).ok("GET", "/v1/me/memberships"))["items"]
    assert [(each["association_name"], each["joined_on"], each["left_on"]) for each in ties] == [
        ("甲协会", "2020-01-01", "2022-01-01"),
        ("乙协会", "2022-01-01", None),
    ]
    first = await _as(client, member).ok("GET", "/v1/me/memberships", params={"limit": 1})
    assert first["items"] == ties[:1]
    after = {"cursor": first["next_cursor"]}
    rest = await _as(client, member).ok("GET", "/v1/me/memberships", params=after)
    assert rest["items"] == ties[1:]


async def test_events_near_her_are_those_of_her_village_town_and_district(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    village = await make_association(session, "village")
    own = await make_association(session, "affiliated", parent_id=village.id)
    other = await make_association(session)
    soon = clock.now() + timedelta(days=2)
    different: dict[str, dict[str, Any]] = {
        "village": {"area_code": VILLAGE},
        "town": {"area_code": SHISHAN},
        "district": {"area_code": DISTRICT},
        "own": {"area_code": VILLAGE, "association_id": own.id},
        "parent": {"area_code": VILLAGE, "association_id": village.id},
        "another's": {"area_code": VILLAGE, "association_id": other.id},
        "next village": {"area_code": _OTHER_VILLAGE},
        "another town": {"area_code": GUICHENG},
        "draft": {"area_code": VILLAGE, "status": "draft"},
        "closed": {"area_code": VILLAGE, "status": "closed"},
        "off": {"area_code": VILLAGE, "status": "cancelled", "status_reason": "台风"},
        "over": {"starts_at": soon - timedelta(days=9), "ends_at": soon - timedelta(days=8)},
        "far ahead": {
            "starts_at": soon + timedelta(weeks=9),
            "ends_at": soon + timedelta(weeks=10),
        },
    }
    for title, facts in different.items():
        ends_at = soon + timedelta(hours=2)
        usual: dict[str, Any] = {
            "starts_at": soon,
            "ends_at": ends_at,
            "status": "published",
            "title": title,
        }
        await make_event(session, **(usual | facts))
    member = await make_member(session, own)
    await session.commit()
    caller = _as(client, member)
    near = await caller.ok("GET", "/v1/me/events")
    titles = {each["title"] for each in near["items"]}
    assert titles == {"village", "town", "district", "own", "parent"}
    ahead = await caller.ok("GET", "/v1/me/events", params={"weeks": 12, "include_total": "true"})
    assert titles | {"far ahead"} == {each["title"] for each in ahead["items"]}
    assert ahead["total"] == 6


async def test_an_event_says_whether_she_is_registered(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    member, other = [await make_member(session, association) for _ in range(2)]
    later = clock.now() + timedelta(hours=5)
    events = [await make_event(session, ends_at=later + timedelta(hours=n)) for n in range(2)]
    await make_registration(session, events[0], member)
    await make_registration(session, events[1], other)
    await session.commit()
    near = await _as(client, member).ok("GET", "/v1/me/events")
    found = {each["id"]: each["registration_status"] for each in near["items"]}
    assert found == {str(events[0].id): "registered", str(events[1].id): None}


async def test_events_near_her_come_in_pages(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    for days in (3, 1, 2):
        at = clock.now() + timedelta(days=days)
        ends_at = at + timedelta(hours=1)
        await make_event(
            session, title=str(days), status="published", starts_at=at, ends_at=ends_at
        )
    await session.commit()
    caller, seen, params = _as(client, member), [], {"limit": "2"}
    while True:
        page = await caller.ok("GET", "/v1/me/events", params=params)
        seen += [each["title"] for each in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == ["1", "2", "3"]


async def test_registrations_are_her_own_with_what_became_of_the_event(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    member, other = [await make_member(session, association) for _ in range(2)]
    held = await make_event(session, title="讲座")
    off = await make_event(
        session,
        title="电影",
        starts_at=held.starts_at + timedelta(days=1),
        ends_at=held.starts_at + timedelta(days=2),
        status="cancelled",
        status_reason="台风",
    )
    await make_registration(session, held, other)
    await make_registration(session, held, member)
    await make_registration(session, off, member, status="waiting")
    await session.commit()
    listed = await _as(client, member).ok("GET", "/v1/me/registrations")
    shown = [
        (each["event_title"], each["event_status_reason"], each["position"], each["status"])
        for each in listed["items"]
    ]
    assert shown == [("电影", "台风", 1, "waiting"), ("讲座", None, None, "registered")]
    waiting = await _as(client, member).ok(
        "GET", "/v1/me/registrations", params={"status": "waiting"}
    )
    assert [each["event_title"] for each in waiting["items"]] == ["电影"]


async def test_attendances_are_her_own(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    member, other = [await make_member(session, association) for _ in range(2)]
    events = [await make_event(session, await make_round(session)), await make_event(session)]
    await make_attendance(session, events[0], member)
    await make_attendance(session, events[1], other)
    await session.commit()
    listed = await _as(client, member).ok("GET", "/v1/me/attendances")
    assert [each["event_id"] for each in listed["items"]] == [str(events[0].id)]


async def test_her_streak_names_the_next_step(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    thanks = await make_thanks(session, [make_cash(min_streak=3)])
    await session.commit()
    streak = await _as(client, thanks.members[0]).ok("GET", "/v1/me/streak")
    assert (streak["streak"], streak["round"]["standing"]) == (1, "attended")
    (step,) = streak["next_steps"]
    assert (step["rule_code"], step["rounds_missing"]) == ("subsidy", 2)


@pytest.mark.parametrize("status", sorted(set(RunStatus) - {RunStatus.DRAFT}))
async def test_a_payout_is_hers_to_see_from_its_approval_on(
    client: Callable[..., Client], session: AsyncSession, status: RunStatus
) -> None:
    thanks = await make_thanks(session)
    await make_granted_run(session, thanks, status)
    await session.commit()
    listed = await _as(client, thanks.members[0]).ok("GET", "/v1/me/payouts")
    seen = [(each["amount_fen"], each["status"]) for each in listed["items"]]
    assert seen == ([(1000, "pending")] if status in _PROMISED else [])


async def test_a_payout_names_no_health_check_and_nobody_else(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    thanks = await make_thanks(session, members=3)
    await make_granted_run(session, thanks)
    await session.commit()
    (payout,) = (await _as(client, thanks.members[1]).ok("GET", "/v1/me/payouts"))["items"]
    assert payout["statement"] == "协会福利"
    words = " ".join(str(value) for value in payout.values())
    assert not tells(words)
    assert "health" not in words
    assert set(payout) == {
        "id", "round_sequence", "rule_id", "reward", "amount_fen", "gift_item", "quantity",
        "status", "failure_reason", "settled_at", "statement",
    }  # fmt: skip


async def test_a_payout_says_what_is_given(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    thanks = await make_thanks(session, [make_cash(), make_gift(), make_ticket(), make_voucher()])
    await make_granted_run(session, thanks)
    await session.commit()
    listed = await _as(client, thanks.members[0]).ok("GET", "/v1/me/payouts")
    names = ("reward", "amount_fen", "gift_item", "quantity")
    assert {tuple(each[name] for name in names) for each in listed["items"]} == {
        ("cash", 1000, None, 0),
        ("gift", 0, "毛巾", 1),
        ("draw_ticket", 0, None, 1),
        ("service_voucher", 5000, None, 0),
    }


@pytest.mark.parametrize("path", _PATHS)
async def test_no_answer_holds_another_members_record(
    client: Callable[..., Client], session: AsyncSession, keyring: Keyring, path: str
) -> None:
    thanks = await make_thanks(session)
    mine, other = thanks.members
    stranger = await make_member_with_phone(
        session, keyring, thanks.association, make_phone(7), name="秘密"
    )
    event = await make_event(session)
    for each in (other, stranger):
        await make_registration(session, event, each)
    await make_granted_run(session, thanks)
    await session.commit()
    answer = await _as(client, mine).request("GET", path)
    assert answer.status_code == 200
    for each in (other, stranger):
        assert str(each.id) not in answer.text
        assert each.name not in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_the_version_of_me_guards_the_phone(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session))
    await session.commit()
    caller = _as(client, member)
    phone = await caller.ok("GET", "/v1/me/phone")
    body = {"phone": make_phone(2), "code_id": str(clock.new_id()), "code": "000000"}
    await caller.refused(
        "PATCH", "/v1/me/phone", status=428, code="precondition_required", json=body
    )
    stale: dict[str, Any] = {"If-Match": '"99"'}
    await caller.refused(
        "PATCH", "/v1/me/phone", status=412, code="stale", json=body, headers=stale
    )
    await caller.refused(
        "POST",
        "/v1/me/phone/cancel",
        status=409,
        code="no_phone_change",
        headers=if_match(phone),
    )
