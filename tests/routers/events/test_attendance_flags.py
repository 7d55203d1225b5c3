"""Attendance that looks forced or invented is flagged for the district, and nobody is named."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import errands
from app.database import Database, Door
from app.models.events.service_events import ServiceEvent
from app.models.membership.members import Member
from app.models.organisation.associations import Association
from app.roles import Role
from tests.contract.operations import document
from tests.factories.callers import DISTRICT, SHISHAN, Client, if_match
from tests.factories.events.attendances import make_attendance
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_PATH = "/v1/attendance-flags"


async def _members(session: AsyncSession, association: Association, count: int) -> list[Member]:
    return [await make_member(session, association) for _ in range(count)]


async def _close(officer: Client, event: ServiceEvent) -> list[dict[str, Any]]:
    path = f"/v1/service-events/{event.id}"
    known = await officer.ok("GET", path)
    await officer.ok("POST", f"{path}/close", headers=if_match(known))
    return await _flags(officer, event)


async def _flags(officer: Client, event: ServiceEvent) -> list[dict[str, Any]]:
    page = await officer.ok("GET", _PATH, params={"event_id": str(event.id)})
    items: list[dict[str, Any]] = page["items"]
    return items


async def _lower(officer: Client, **limits: int) -> None:
    for key, value in limits.items():
        await officer.ok(
            "PUT",
            f"/v1/areas/{DISTRICT}/settings/flag_{key}",
            json={"value": value, "effective_on": "2020-01-01", "provenance": "approved"},
        )


def _spread(event: ServiceEvent, number: int) -> dict[str, Any]:
    return {"occurred_at": event.starts_at + timedelta(minutes=number)}


@pytest.mark.parametrize(("stay_away", "flagged"), [(0, True), (1, False)])
async def test_everyone_on_the_roster_is_flagged_and_all_but_one_is_not(
    officer: Client,
    session: AsyncSession,
    stay_away: int,
    flagged: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    association = await make_association(session)
    members = await _members(session, association, 20)
    await make_member(session, association, status="left")
    event = await make_event(session)
    for number, member in enumerate(members[stay_away:]):
        await make_attendance(session, event, member, **_spread(event, number))
    await session.commit()
    flags = await _close(officer, event)
    expected = [("whole_roster", str(association.id), 20, 20, "assumed")] if flagged else []
    assert [
        (f["rule"], f["about_id"], f["observed"], f["threshold"], f["provenance"]) for f in flags
    ] == expected


async def test_a_small_roster_that_all_came_is_not_flagged(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session)
    event = await make_event(session)
    for number, member in enumerate(await _members(session, association, 19)):
        await make_attendance(session, event, member, **_spread(event, number))
    await session.commit()
    assert await _close(officer, event) == []


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ("rush", lambda e, n: {"occurred_at": e.starts_at + timedelta(seconds=n)}),
        (
            "one_device_at_once",
            lambda e, _n: {"occurred_at": e.starts_at, "device_id": "tablet-7"},
        ),
        ("out_of_hours", lambda e, n: {"occurred_at": e.ends_at + timedelta(hours=3 + n)}),
    ],
)
async def test_each_rule_fires_from_its_threshold_on(
    officer: Client,
    session: AsyncSession,
    rule: str,
    facts: Callable[[ServiceEvent, int], dict[str, Any]],
) -> None:
    association = await make_association(session)
    members = await _members(session, association, 7)
    below, at = await make_event(session), await make_event(session)
    for event, count in ((below, 4), (at, 5)):
        for number, member in enumerate(members[:count]):
            await make_attendance(session, event, member, **facts(event, number))
    await session.commit()
    high = {"rush": 99, "one_device_at_once": 99, "out_of_hours": 99}
    await _lower(officer, **(high | {rule: 5}))
    assert await _close(officer, below) == []
    (flag,) = await _close(officer, at)
    assert (flag["rule"], flag["observed"], flag["threshold"]) == (rule, 5, 5)
    assert (flag["about_id"], flag["provenance"]) == (str(at.id), "approved")


async def test_flags_are_computed_again_after_a_void(
    officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session)
    event = await make_event(session)
    members = await _members(session, association, 20)
    for number, member in enumerate(members):
        await make_attendance(session, event, member, **_spread(event, number))
    await session.commit()
    again = f"/v1/service-events/{event.id}/attendance-flags"
    await officer.refused("POST", again, status=409, code="event_not_closed")
    assert len(await _close(officer, event)) == 1
    assert len((await officer.ok("POST", again))["items"]) == 1
    await officer.ok(
        "POST",
        f"/v1/service-events/{event.id}/attendances/{members[0].id}/void",
        json={"reason": "误扫"},
        headers={"If-Match": '"1"'},
    )
    assert (await officer.ok("POST", again))["items"] == []
    assert (await officer.ok("GET", _PATH))["items"] == []


_READERS = {Role.DISTRICT_OFFICER, Role.AUDITOR}


@pytest.mark.parametrize("role", sorted(Role))
async def test_only_the_district_and_the_auditor_see_flags(
    client: Callable[..., Client], role: Role
) -> None:
    caller = client(role, member_id="018f0000-0000-7000-8000-000000000001")
    if role in _READERS:
        assert (await caller.ok("GET", _PATH))["items"] == []
    else:
        await caller.refused("GET", _PATH, status=403, code="forbidden")


async def test_an_auditor_of_one_town_sees_no_flag(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session)
    event = await make_event(session)
    for number, member in enumerate(await _members(session, association, 20)):
        await make_attendance(session, event, member, **_spread(event, number))
    await session.commit()
    assert await _close(officer, event)
    town = client(Role.AUDITOR, areas=[SHISHAN])
    assert (await town.ok("GET", _PATH))["items"] == []


def test_no_route_lists_who_did_not_come() -> None:
    names = {
        name
        for schema in document()["components"]["schemas"].values()
        for name in schema.get("properties", {})
    } | set(document()["paths"])
    # How many rounds a member may still attend for her next thanks.
    names.remove("rounds_missing")
    for word in (
        "absent",
        "absentee",
        "no_show",
        "no-show",
        "did_not",
        "missing",
        "missed",
    ):
        assert not [name for name in names if word in name]


async def test_what_is_sent_after_the_closing_is_looked_at_the_next_night(
    officer: Client, session: AsyncSession, database: Database
) -> None:
    event = await make_event(session)
    members = await _members(session, await make_association(session), 12)
    await session.commit()
    assert await _close(officer, event) == []
    lines = [
        {"ref": str(n), "member_id": str(member.id), "occurred_at": event.starts_at.isoformat()}
        for n, member in enumerate(members)
    ]
    path = f"/v1/service-events/{event.id}/attendances/batch"
    await officer.ok("POST", path, json={"device_id": "tablet-7", "lines": lines})
    assert await _flags(officer, event) == []
    await errands._flag_late_lines(Door(database), DISTRICT)
    (flag,) = await _flags(officer, event)
    assert (flag["rule"], flag["observed"]) == ("one_device_at_once", 12)


async def test_the_employers_side_sets_no_thresholds(client: Callable[..., Client]) -> None:
    linked = client(Role.DISTRICT_OFFICER, employer_linked=True)
    await linked.refused(
        "PUT",
        f"/v1/areas/{DISTRICT}/settings/flag_rush",
        status=403,
        code="forbidden",
        json={"value": 1_000_000, "effective_on": "2020-01-01", "provenance": "approved"},
    )
