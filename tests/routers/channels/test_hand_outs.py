"""Hand-outs over HTTP: a code is scanned, what is due is shown, and each gift is given once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.events.service_events import ServiceEvent
from app.roles import Role
from app.services.channels.hand_outs import DESK_DAYS
from tests.factories.callers import GUICHENG, SHISHAN, Client, idempotency_key, if_match
from tests.factories.disbursement.payout_disputes import hold_lines
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.service_events import make_event
from tests.factories.finance.funds import agree
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.members import make_member

_PENDING = "本人未到"
_LECTURE_AT = datetime(2024, 2, 12, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def thanks(session: AsyncSession) -> Thanks:
    """Two members, thanked with ten yuan and two towels each."""
    return await make_thanks(session, [make_cash(), make_gift(quantity=2)])


@pytest_asyncio.fixture
async def run(session: AsyncSession, thanks: Thanks) -> PayoutRun:
    """A run that is being handed out."""
    run = await make_granted_run(session, thanks)
    await session.commit()
    return run


@pytest_asyncio.fixture(autouse=True)
async def books(database: Database) -> AsyncIterator[None]:
    """Whatever a test does, the books agree after it."""
    yield
    await agree(database)


async def _held(
    session: AsyncSession, thanks: Thanks, *, ended: timedelta, kind: str = "health_guard"
) -> ServiceEvent:
    """Store an event that ended so long ago, to which those who are thanked came."""
    ends_at = clock.now() - ended
    event = await make_event(
        session, kind=kind, starts_at=ends_at - timedelta(hours=8), ends_at=ends_at
    )
    for member in thanks.members:
        await make_attendance(session, event, member)
    await session.commit()
    return event


@pytest_asyncio.fixture
async def staff(client: Callable[..., Client], session: AsyncSession, thanks: Thanks) -> Client:
    """The staff of a health check of today."""
    desk = await _held(session, thanks, ended=timedelta())
    return client(Role.EVENT_STAFF, events=[str(desk.id)])


async def _due(caller: Client, member_id: UUID) -> list[dict[str, Any]]:
    answer = await caller.ok("GET", f"/v1/members/{member_id}/due-gifts")
    assert answer["member_id"] == str(member_id)
    return list(answer["items"])


def _give(gift: dict[str, Any], member_id: UUID) -> dict[str, Any]:
    return {
        "method": "POST",
        "path": f"/v1/payouts/{gift['payout_id']}/hand-out",
        "json": {"member_id": str(member_id)},
        "headers": idempotency_key(clock.new_id()),
    }


async def _stock(clerk: Client) -> tuple[int, int]:
    [found] = (await clerk.ok("GET", "/v1/stock"))["items"]
    return found["reserved"], found["handed_out"]


async def test_a_scan_shows_what_is_due_and_gives_it_once(
    client: Callable[..., Client], staff: Client, thanks: Thanks, run: PayoutRun
) -> None:
    member = thanks.members[0]
    [gift] = await _due(staff, member.id)
    shown = {
        "gift_code": "towel", "gift_item": "毛巾", "unit": "条", "quantity": 2,
        "depot_name": "测试仓库", "status": "pending", "settled_at": None, "statement": "协会福利",
    }  # fmt: skip
    assert gift.items() >= shown.items()
    given = await staff.ok(**_give(gift, member.id))
    assert (given["repeated"], given["handed_out_by"], given["quantity"]) == (
        False, "event_staff-1", 2,
    )  # fmt: skip
    again = await staff.ok(**_give(gift, member.id))
    assert again == given | {"repeated": True}
    [gift] = await _due(staff, member.id)
    assert (gift["status"], gift["settled_at"]) == ("paid", given["handed_out_at"])
    clerk = client(Role.FINANCE_CLERK)
    assert await _stock(clerk) == (2, 2)
    read = await clerk.ok("GET", f"/v1/payouts/{gift['payout_id']}")
    assert (read["status"], read["settled_at"]) == ("paid", given["handed_out_at"])
    movements = f"/v1/gifts/{await _gift_id(clerk)}/stock-movements"
    listed = (await clerk.ok("GET", movements, params={"run_id": str(run.id)}))["items"]
    assert [(each["kind"], each["payout_id"], each["quantity"]) for each in listed] == [
        ("reserve", None, 4),
        ("hand_out", gift["payout_id"], 2),
    ]


async def _gift_id(clerk: Client) -> str:
    return str((await clerk.ok("GET", "/v1/gifts"))["items"][0]["id"])


async def test_of_desks_that_scan_at_once_one_gives(
    client: Callable[..., Client], staff: Client, thanks: Thanks, run: PayoutRun
) -> None:
    member = thanks.members[0]
    [gift] = await _due(staff, member.id)
    answers = await asyncio.gather(*(staff.ok(**_give(gift, member.id)) for _ in range(8)))
    told = [answer["repeated"] for answer in answers]
    assert run.status == RunStatus.DISBURSING
    assert sorted(told) == [False, *[True] * 7]
    assert await _stock(client(Role.FINANCE_CLERK)) == (2, 2)


async def test_a_gift_is_given_to_her_whose_it_is(
    client: Callable[..., Client], staff: Client, thanks: Thanks, run: PayoutRun
) -> None:
    clerk, mine = client(Role.FINANCE_CLERK), thanks.members[0].id
    [gift] = await _due(staff, mine)
    wrong = _give(gift, thanks.members[1].id)
    problem = await staff.refused(**wrong, status=422, code="invalid")
    assert [error["code"] for error in problem["errors"]] == ["not_the_payee"]
    rows = (await clerk.ok("GET", f"/v1/payout-runs/{run.id}/payouts"))["items"]
    cash = next(each for each in rows if each["member_id"] == str(mine) and each["amount_fen"])
    await staff.refused(**_give({"payout_id": cash["id"]}, mine), status=404, code="not_found")


async def test_without_a_key_nothing_is_given(
    staff: Client, thanks: Thanks, run: PayoutRun
) -> None:
    [gift] = await _due(staff, thanks.members[0].id)
    request = _give(gift, thanks.members[0].id) | {"headers": {}}
    await staff.refused(**request, status=400, code="idempotency_key_required")
    assert run.status == RunStatus.DISBURSING


async def test_only_a_run_under_way_is_handed_out(
    client: Callable[..., Client], session: AsyncSession, staff: Client, thanks: Thanks
) -> None:
    run = await make_granted_run(session, thanks, RunStatus.APPROVED)
    await session.commit()
    member = thanks.members[0]
    assert await _due(staff, member.id) == []
    lines = await client(Role.FINANCE_CLERK).ok("GET", f"/v1/payout-runs/{run.id}/payouts")
    gift = next(
        {"payout_id": each["id"]}
        for each in lines["items"]
        if each["quantity"] and each["member_id"] == str(member.id)
    )
    await staff.refused(**_give(gift, member.id), status=409, code="run_state")


async def test_a_list_and_a_desk_give_the_same_gift_once(
    client: Callable[..., Client], staff: Client, thanks: Thanks, run: PayoutRun
) -> None:
    clerk = client(Role.FINANCE_CLERK)
    first, second = thanks.members
    [given], [failed] = await _due(staff, first.id), await _due(staff, second.id)
    await staff.ok(**_give(given, first.id))
    lines = (await clerk.ok("GET", f"/v1/payout-runs/{run.id}/payouts"))["items"]
    by_id = {each["id"]: each["line_no"] for each in lines}
    results = [
        {"line_no": by_id[given["payout_id"]], "outcome": "paid"},
        {"line_no": by_id[failed["payout_id"]], "outcome": "failed", "reason": _PENDING},
        *({"line_no": each["line_no"], "outcome": "paid"} for each in lines if each["amount_fen"]),
    ]
    path = f"/v1/payout-runs/{run.id}/results"
    answers = (await clerk.ok("POST", path, json={"results": results}))["items"]
    assert [answer["status"] for answer in answers] == [
        "unchanged", "recorded", "recorded", "recorded",
    ]  # fmt: skip
    assert await _stock(clerk) == (2, 2)
    late = _give(failed, second.id)
    await staff.refused(**late, status=409, code="payout_contradiction")
    read = await clerk.ok("GET", f"/v1/payout-runs/{run.id}")
    await clerk.ok("POST", f"/v1/payout-runs/{run.id}/settle", headers=if_match(read))
    assert await _stock(clerk) == (0, 2)
    assert (await staff.ok(**_give(given, first.id)))["repeated"] is True


async def test_a_gift_that_comes_back_is_in_its_depot_again(
    client: Callable[..., Client], staff: Client, thanks: Thanks, run: PayoutRun
) -> None:
    member, clerk = thanks.members[0], client(Role.FINANCE_CLERK)
    [gift] = await _due(staff, member.id)
    await staff.ok(**_give(gift, member.id))
    path, key = f"/v1/payouts/{gift['payout_id']}/return", idempotency_key("back")
    await clerk.ok("POST", path, json={"reason": "破损"}, headers=key, status=204)
    assert await _stock(clerk) == (2, 0)
    movements = f"/v1/gifts/{await _gift_id(clerk)}/stock-movements"
    back = (await clerk.ok("GET", movements, params={"kind": "return"}))["items"]
    assert [(each["debit"], each["quantity"], each["note"]) for each in back] == [
        ("available", 2, None)
    ]
    await staff.refused(**_give(gift, member.id), status=409, code="payout_contradiction")
    assert run.status == RunStatus.DISBURSING


async def test_reach_and_the_promises_decide_who_gives_what(
    client: Callable[..., Client], session: AsyncSession, thanks: Thanks, run: PayoutRun
) -> None:
    member = thanks.members[0]
    place = [str(thanks.association.id)]
    [gift] = await _due(client(Role.TOWN_OFFICER, areas=[SHISHAN]), member.id)
    other = await make_event(session, association_id=thanks.association.id)
    today = await _held(session, thanks, ended=timedelta())
    hidden: dict[str, Any] = {"status": 404, "code": "not_found"}
    for caller in (
        client(Role.TOWN_OFFICER, subject="there", areas=[GUICHENG]),
        client(Role.EVENT_STAFF, subject="another's", events=[str(other.id)]),
        client(Role.EVENT_STAFF, subject="e", events=[str(today.id)], employer_linked=True),
    ):
        await caller.refused("GET", f"/v1/members/{member.id}/due-gifts", **hidden)
        await caller.refused(**_give(gift, member.id), **hidden)
    for blind in (
        client(Role.SECRETARY, associations=place),
        client(Role.TOWN_OFFICER, subject="linked", areas=[SHISHAN], employer_linked=True),
    ):
        assert await _due(blind, member.id) == []
        await blind.refused(**_give(gift, member.id), **hidden)
    assert run.status == RunStatus.DISBURSING


async def test_a_secretary_gives_what_was_earned_at_a_lecture(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    thanks = await make_thanks(session, [make_gift(), make_gift("heard", event_kind="lecture")])
    hours: dict[str, Any] = {"starts_at": _LECTURE_AT, "ends_at": _LECTURE_AT.replace(hour=3)}
    lecture = await make_event(session, **hours)
    listener = await make_member(session, thanks.association)
    for member in (thanks.members[0], listener):
        await make_attendance(session, lecture, member)
    await make_granted_run(session, thanks)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(thanks.association.id)])
    for member in (thanks.members[0], listener):
        [gift] = await _due(secretary, member.id)
        assert gift["rule_code"] == "heard"
        assert (await secretary.ok(**_give(gift, member.id)))["repeated"] is False
    stranger = clock.new_id()
    await secretary.refused(
        "GET", f"/v1/members/{stranger}/due-gifts", status=404, code="not_found"
    )


async def test_a_gift_that_gives_way_to_one_of_a_health_check_tells_nobody_who_came(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    """As older policies may have it: both were at the lecture, and one at the check."""
    group = {"exclusive_group": "thanks"}
    heard = make_gift("heard", event_kind="lecture", priority=1, **group)
    thanks = await make_thanks(
        session,
        [make_gift(priority=2, **group), heard, make_gift("also_heard", event_kind="lecture")],
    )
    hours: dict[str, Any] = {"starts_at": _LECTURE_AT, "ends_at": _LECTURE_AT.replace(hour=3)}
    lecture = await make_event(session, **hours)
    listener = await make_member(session, thanks.association)
    for member in (thanks.members[0], listener):
        await make_attendance(session, lecture, member)
    await make_granted_run(session, thanks)
    film = await _held(session, thanks, ended=timedelta(), kind="film_screening")
    await make_attendance(session, film, listener)
    await session.commit()
    officer = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    gifts = {each["rule_code"]: each for each in await _due(officer, listener.id)}
    assert gifts.keys() == {"heard", "also_heard"}
    place = [str(thanks.association.id)]
    for blind in (
        client(Role.SECRETARY, associations=place),
        client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True),
        client(Role.EVENT_STAFF, events=[str(film.id)]),
    ):
        for member in (thanks.members[0], listener):
            [due] = await _due(blind, member.id)
            assert due["payout_id"] != gifts["heard"]["payout_id"]
        await blind.refused(**_give(gifts["heard"], listener.id), status=404, code="not_found")


async def test_a_gift_that_waits_for_a_person_is_not_given(
    session: AsyncSession, staff: Client, thanks: Thanks, run: PayoutRun
) -> None:
    await hold_lines(session, *range(1, run.payout_count + 1))
    await session.commit()
    [gift] = await _due(staff, thanks.members[0].id)
    assert gift["status"] == "held"
    await staff.refused(**_give(gift, thanks.members[0].id), status=409, code="payout_held")


async def test_staff_of_another_event_do_not_learn_who_was_at_a_health_check(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    thanks = await make_thanks(session, [make_gift(), make_gift("heard", event_kind="lecture")])
    hours: dict[str, Any] = {"starts_at": _LECTURE_AT, "ends_at": _LECTURE_AT.replace(hour=3)}
    lecture, member = await make_event(session, **hours), thanks.members[0]
    await make_attendance(session, lecture, member)
    await make_granted_run(session, thanks)
    film = await _held(session, thanks, ended=timedelta(), kind="film_screening")
    check = await _held(session, thanks, ended=timedelta())
    at_both = client(Role.EVENT_STAFF, subject="both", events=[str(film.id), str(check.id)])
    at_film = client(Role.EVENT_STAFF, subject="film", events=[str(film.id)])
    officer = client(Role.TOWN_OFFICER, subject="o", areas=[SHISHAN])
    of_rule = {gift["rule_code"]: gift for gift in await _due(officer, member.id)}
    [heard] = await _due(at_film, member.id)
    assert heard["payout_id"] == of_rule["heard"]["payout_id"]
    [exam] = [gift for code, gift in of_rule.items() if code != "heard"]
    await at_film.refused(**_give(exam, member.id), status=404, code="not_found")
    assert {gift["payout_id"] for gift in await _due(at_both, member.id)} == {
        exam["payout_id"], heard["payout_id"],
    }  # fmt: skip
    assert await _due(at_film, thanks.members[1].id) == []


async def test_staff_are_not_told_by_which_rule_she_earned_it(
    session: AsyncSession, client: Callable[..., Client]
) -> None:
    rule = make_gift("six-in-a-row") | {"gift_item": "连续六期大礼"}
    thanks = await make_thanks(session, [rule])
    await make_granted_run(session, thanks)
    check, member = await _held(session, thanks, ended=timedelta()), thanks.members[0]
    staff = client(Role.EVENT_STAFF, events=[str(check.id)])
    [gift] = await _due(staff, member.id)
    assert (gift["rule_code"], gift["association_id"], gift["gift_code"]) == (None, None, "towel")
    given = await staff.ok(**_give(gift, member.id))
    assert "六" not in f"{gift}{given}"
    [known] = await _due(client(Role.TOWN_OFFICER, subject="o", areas=[SHISHAN]), member.id)
    assert (known["rule_code"], known["gift_item"]) == ("six-in-a-row", "连续六期大礼")


async def test_the_desk_of_an_event_closes_some_days_after_it(
    client: Callable[..., Client], session: AsyncSession, thanks: Thanks, run: PayoutRun
) -> None:
    member, week = thanks.members[0], timedelta(days=DESK_DAYS)
    late = await _held(session, thanks, ended=week - timedelta(hours=1))
    over = await _held(session, thanks, ended=week + timedelta(minutes=1))
    [gift] = await _due(client(Role.EVENT_STAFF, subject="late", events=[str(late.id)]), member.id)
    gone = client(Role.EVENT_STAFF, subject="over", events=[str(over.id)])
    hidden: dict[str, Any] = {"status": 404, "code": "not_found"}
    await gone.refused("GET", f"/v1/members/{member.id}/due-gifts", **hidden)
    await gone.refused(**_give(gift, member.id), **hidden)
    assert run.status == RunStatus.DISBURSING
