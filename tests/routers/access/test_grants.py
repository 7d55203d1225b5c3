"""Grants over HTTP: given downwards, taken back at once, named when there are several."""

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, identity
from app.database import Database
from app.issuer import DevelopmentIssuer
from app.roles import Role
from app.services.access.admission import FRESH_SECONDS, Admission, GrantMissing
from app.settings import Settings
from app.tokens import AccessToken
from tests.factories.access.grants import make_grant
from tests.factories.callers import (
    DISTRICT,
    GUICHENG,
    SHISHAN,
    VILLAGE,
    Client,
    idempotency_key,
    if_match,
    pointers,
)
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

PATH = "/v1/grants"
NOWHERE = str(UUID(int=7))


def _body(**facts: Any) -> dict[str, Any]:
    return {"subject": "new-1", "role": "town_officer", "areas": [SHISHAN], **facts}


async def _give(by: Client, **facts: Any) -> dict[str, Any]:
    headers = idempotency_key(clock.new_id())
    given: dict[str, Any] = await by.ok(
        "POST", PATH, status=201, headers=headers, json=_body(**facts)
    )
    return given


async def _refused(by: Client, status: int, code: str, **facts: Any) -> dict[str, Any]:
    headers = idempotency_key(clock.new_id())
    return await by.refused(
        "POST", PATH, status=status, code=code, headers=headers, json=_body(**facts)
    )


@pytest.fixture
def by_token(app: FastAPI, config: Settings) -> Callable[..., Client]:
    """Make callers to whom the tests grant nothing: their tokens say only who they are."""
    issuer = DevelopmentIssuer(config)

    def make(subject: str, grant_id: str | None = None, **claims: Any) -> Client:
        headers = {"Accept-Language": "en"}
        headers["Authorization"] = f"Bearer {issuer.token(subject, **claims)}"
        if grant_id is not None:
            headers["Jixie-Grant"] = grant_id
        transport = httpx.ASGITransport(app=app)
        return Client(transport=transport, base_url="http://jixie.test", headers=headers)

    return make


@pytest.fixture
def newcomer() -> str:
    """Somebody whom no test before has made known to the service."""
    return f"new-{clock.new_id()}"


async def test_a_grant_is_given_read_listed_and_taken_back(officer: Client) -> None:
    ends_at = (clock.now() + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    given = await _give(officer, ends_at=ends_at)
    assert given["granted_by"] == "district_officer-1"
    assert (given["area_code"], given["areas"], given["ends_at"]) == (SHISHAN, [SHISHAN], ends_at)
    assert given["employer_linked"] is False
    assert await officer.ok("GET", f"{PATH}/{given['id']}") == given

    found = await officer.ok("GET", PATH, params={"subject": "new-1", "in_force": True})
    assert found["items"] == [given]
    path, body = f"{PATH}/{given['id']}/revoke", {"reason": "调离岗位"}
    await officer.refused("POST", path, status=428, code="precondition_required", json=body)
    stale = {"If-Match": '"7"'}
    await officer.refused("POST", path, status=412, code="stale", json=body, headers=stale)
    revoked = await officer.ok("POST", path, json=body, headers=if_match(given))
    assert (revoked["revoked_by"], revoked["revoke_reason"]) == ("district_officer-1", "调离岗位")
    assert revoked["version"] == given["version"] + 1
    await officer.refused(
        "POST", path, status=409, code="grant_revoked", json=body, headers=if_match(revoked)
    )
    assert (await officer.ok("GET", PATH, params={"in_force": False}))["items"] == [revoked]


async def test_a_repeated_request_grants_once(officer: Client) -> None:
    headers = idempotency_key("twice")
    first = await officer.ok("POST", PATH, status=201, headers=headers, json=_body())
    assert await officer.ok("POST", PATH, status=201, headers=headers, json=_body()) == first
    await officer.refused(
        "POST", PATH, status=400, code="idempotency_key_required", json=_body(subject="new-2")
    )


async def test_a_list_is_narrowed(officer: Client, session: AsyncSession) -> None:
    village = await make_association(session, area_code=VILLAGE)
    await session.commit()
    first = await _give(officer)
    reach = {"role": "association_secretary", "areas": [], "association_ids": [str(village.id)]}
    second = await _give(officer, subject="new-2", employer_linked=True, **reach)
    for params, expected in (
        ({"role": "town_officer"}, [first]),
        ({"role": "town_officer,association_secretary"}, [first, second]),
        ({"area": VILLAGE}, [second]),
        ({"area": SHISHAN}, [first, second]),
        ({"association_id": str(village.id)}, [second]),
        ({"employer_linked": True}, [second]),
        ({"subject": "nobody"}, []),
    ):
        assert (await officer.ok("GET", PATH, params=params))["items"] == expected, params
    page = await officer.ok("GET", PATH, params={"area": SHISHAN, "limit": 1})
    after = {"area": SHISHAN, "limit": 1, "cursor": page["next_cursor"]}
    assert (await officer.ok("GET", PATH, params=after))["items"] == [second]


async def test_roles_are_given_only_to_those_below_and_never_to_oneself(
    client: Callable[..., Client], officer: Client
) -> None:
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    await _refused(officer, 403, "grant_role_not_below", role="district_officer", areas=[DISTRICT])
    for role in ("town_officer", "auditor", "finance_approver", "district_officer"):
        await _refused(town, 403, "grant_role_not_below", role=role)
    await _refused(town, 403, "grant_role_not_below", role="operations", areas=[])
    await _refused(officer, 403, "grant_to_oneself", subject="district_officer-1")
    await _give(town, role="guide")
    await _give(officer, role="operations", areas=[])
    for role in (Role.AUDITOR, Role.FINANCE_APPROVER, Role.SECRETARY, Role.MEMBER, Role.GUIDE):
        reach = {"member_id": NOWHERE} if role is Role.MEMBER else {}
        await _refused(client(role, **reach), 403, "forbidden")


async def test_reach_is_given_only_within_ones_own(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    here = await make_association(session, area_code=VILLAGE)
    there = await make_association(session, area_code=GUICHENG)
    event = await make_event(session, await make_round(session), area_code=GUICHENG)
    await session.commit()
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    secretary = {"role": "association_secretary", "areas": []}
    both = [str(here.id), str(there.id)]
    for facts, pointer in (
        ({"role": "guide", "areas": [SHISHAN, GUICHENG]}, "/areas/1"),
        ({"role": "guide", "areas": [DISTRICT]}, "/areas/0"),
        ({"role": "guide", "areas": ["440605999999"]}, "/areas/0"),
        ({**secretary, "association_ids": both}, "/association_ids"),
        ({**secretary, "association_ids": [NOWHERE]}, "/association_ids"),
        ({"role": "event_staff", "areas": [], "event_ids": [str(event.id)]}, "/event_ids"),
    ):
        assert pointers(await _refused(town, 422, "invalid", **facts)) == [pointer]
    given = await _give(town, **secretary, association_ids=[str(here.id)])
    assert given["area_code"] == VILLAGE


async def test_a_role_has_its_own_kind_of_reach(officer: Client) -> None:
    yesterday = (clock.now() - timedelta(days=1)).isoformat()
    tomorrow = (clock.now() + timedelta(days=1)).isoformat()
    for facts, pointer in (
        ({"areas": []}, "/areas"),
        ({"event_ids": [NOWHERE]}, "/event_ids"),
        ({"role": "association_secretary", "areas": []}, "/association_ids"),
        ({"role": "event_staff", "areas": []}, "/event_ids"),
        ({"role": "operations"}, "/areas"),
        ({"ends_at": yesterday}, "/ends_at"),
        ({"starts_at": tomorrow, "ends_at": tomorrow}, "/ends_at"),
        ({"subject": "a\u2028b"}, "/subject"),
        ({"subject": "domain\\somebody"}, "/subject"),
        ({"areas": [SHISHAN] * 51}, "/areas"),
    ):
        assert pointers(await _refused(officer, 422, "invalid", **facts)) == [pointer], facts


async def test_the_area_of_a_grant_is_the_smallest_that_holds_its_reach(officer: Client) -> None:
    for areas, smallest in (
        ([VILLAGE], VILLAGE),
        ([VILLAGE, SHISHAN], SHISHAN),
        ([VILLAGE, "440605124202"], SHISHAN),
        ([SHISHAN, GUICHENG], DISTRICT),
    ):
        assert (await _give(officer, areas=areas))["area_code"] == smallest


async def test_grants_beyond_reach_are_not_there(
    client: Callable[..., Client], officer: Client
) -> None:
    given = await _give(officer)
    path, body = f"{PATH}/{given['id']}", {"reason": "误"}
    elsewhere = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    await elsewhere.refused("GET", path, status=404, code="not_found")
    await elsewhere.refused(
        "POST", f"{path}/revoke", status=404, code="not_found", json=body, headers=if_match(given)
    )
    assert given not in (await elsewhere.ok("GET", PATH))["items"]
    auditor, same = client(Role.AUDITOR), client(Role.TOWN_OFFICER, areas=[SHISHAN])
    assert await auditor.ok("GET", path) == given
    for caller, code in ((auditor, "forbidden"), (same, "grant_role_not_below")):
        await caller.refused(
            "POST", f"{path}/revoke", status=403, code=code, json=body, headers=if_match(given)
        )
    for role in (Role.SECRETARY, Role.GUIDE, Role.DATA_PLATFORM, Role.FINANCE_CLERK):
        await client(role).refused("GET", PATH, status=403, code="forbidden")


async def test_what_the_token_claims_of_role_and_reach_counts_for_nothing(
    by_token: Callable[..., Client], newcomer: str, officer: Client
) -> None:
    claims = {"role": "district_officer", "areas": [DISTRICT], "district_code": DISTRICT}
    caller = by_token(newcomer, **claims)
    await caller.refused("GET", "/v1/areas", status=403, code="grant_missing")
    await _give(officer, subject=newcomer, role="guide")
    await caller.ok("GET", "/v1/areas")
    await caller.refused("GET", "/v1/members", status=403, code="forbidden")


async def test_several_grants_ask_which_one_is_meant(
    by_token: Callable[..., Client], newcomer: str, officer: Client
) -> None:
    town = await _give(officer, subject=newcomer)
    guide = await _give(officer, subject=newcomer, role="guide")
    other = await _give(officer, subject="new-2")
    caller = by_token(newcomer)
    problem = await caller.refused("GET", "/v1/members", status=403, code="grant_ambiguous")
    assert problem["grants"] == [town["id"], guide["id"]]
    await by_token(newcomer, town["id"]).ok("GET", "/v1/members")
    await by_token(newcomer, guide["id"]).refused(
        "GET", "/v1/members", status=403, code="forbidden"
    )
    for wrong in (other["id"], NOWHERE, "none", "'; --"):
        await by_token(newcomer, wrong).refused(
            "GET", "/v1/members", status=403, code="grant_missing"
        )


@pytest.mark.parametrize(
    "facts",
    [
        {"starts_at": clock.now() + timedelta(hours=1)},
        {"starts_at": clock.now() - timedelta(hours=2), "ends_at": clock.now()},
        {"revoked_at": clock.now(), "revoked_by": "officer-2", "revoke_reason": "误"},
    ],
    ids=["not yet", "over", "revoked"],
)
async def test_a_grant_holds_only_in_its_time(
    by_token: Callable[..., Client], newcomer: str, session: AsyncSession, facts: dict[str, Any]
) -> None:
    await make_grant(session, subject=newcomer, **facts)
    await session.commit()
    await by_token(newcomer).refused("GET", "/v1/areas", status=403, code="grant_missing")


async def test_a_revoked_caller_is_out_within_five_seconds(
    by_token: Callable[..., Client], newcomer: str, officer: Client
) -> None:
    given = await _give(officer, subject=newcomer)
    caller = by_token(newcomer)
    await caller.ok("GET", "/v1/members")
    await officer.ok(
        "POST", f"{PATH}/{given['id']}/revoke", json={"reason": "调离"}, headers=if_match(given)
    )
    revoked_at = time.monotonic()
    while (answer := await caller.get("/v1/members")).status_code == 200:
        assert time.monotonic() - revoked_at < 5
        await asyncio.sleep(0.1)
    assert answer.json()["code"] == "grant_missing"


async def test_what_is_granted_is_remembered_for_seconds_and_not_beyond_its_end(
    database: Database, session: AsyncSession
) -> None:
    now = 100.0
    admission = Admission(database, seconds=lambda: now)
    token = AccessToken("new-1")
    grant = await make_grant(session, subject="new-1")
    await session.commit()
    assert (await admission.admit(token, None)).grant_id == grant.id
    grant.revoked_at, grant.revoked_by, grant.revoke_reason = clock.now(), "officer-2", "误"
    short = await make_grant(session, subject="new-1", ends_at=clock.now() + timedelta(seconds=1))
    await session.commit()
    now += FRESH_SECONDS - 0.01
    assert (await admission.admit(token, None)).grant_id == grant.id
    now += 0.01
    assert (await admission.admit(token, None)).grant_id == short.id
    await asyncio.sleep(1)
    now += 1
    with pytest.raises(GrantMissing):
        await admission.admit(token, None)


async def test_a_secretary_reaches_what_is_affiliated_to_hers(
    by_token: Callable[..., Client], newcomer: str, officer: Client, session: AsyncSession
) -> None:
    village = await make_association(session, area_code=VILLAGE)
    shop = await make_association(
        session, area_code=VILLAGE, mode="affiliated", parent_id=village.id
    )
    apart = await make_association(session, area_code=VILLAGE, mode="community")
    await session.commit()
    ids = [str(village.id)]
    await _give(
        officer, subject=newcomer, role="association_secretary", areas=[], association_ids=ids
    )
    secretary = by_token(newcomer)
    found = (await secretary.ok("GET", "/v1/associations"))["items"]
    assert {item["id"] for item in found} == {str(village.id), str(shop.id)}
    await secretary.refused("GET", f"/v1/associations/{apart.id}", status=404, code="not_found")


async def test_the_employers_side_is_known_by_its_grant(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    secretary = {"role": "association_secretary", "areas": []}
    linked = {}
    for mode, housed in (
        ("independent", False),
        ("affiliated", False),
        ("community", False),
        ("community", True),
    ):
        association = await make_association(session, area_code=VILLAGE, mode=mode)
        if housed:
            kind = text("update host_organisations set kind = 'employee_village' where id = :id")
            await session.execute(kind, {"id": association.host_id})
        await session.commit()
        facts = {"subject": f"of-{mode}-{housed}", "association_ids": [str(association.id)]}
        given = await _give(officer, **secretary | facts)
        linked[mode, housed] = given["employer_linked"]
    assert [each for each, is_linked in linked.items() if not is_linked] == [("community", False)]
    assert (await _give(officer, employer_linked=True))["employer_linked"] is True
    personnel = client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True)
    assert (await _give(personnel, subject="new-2", role="guide"))["employer_linked"] is True


async def test_what_stands_is_not_given_a_second_time(
    officer: Client, by_token: Callable[..., Client]
) -> None:
    given = await _give(officer)
    headers = idempotency_key(clock.new_id())
    assert await officer.ok("POST", PATH, headers=headers, json=_body()) == given
    await by_token("new-1").ok("GET", "/v1/members")
    path, reason = f"{PATH}/{given['id']}/revoke", {"reason": "调离岗位"}
    await officer.ok("POST", path, headers=if_match(given), json=reason)
    again = await _give(officer)
    assert again["id"] != given["id"]
    until = (clock.now() + timedelta(days=9)).isoformat()
    assert (await _give(officer, ends_at=until))["id"] != again["id"]


async def test_nobody_is_let_act_as_a_member(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session, area_code=VILLAGE))
    await session.commit()
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    personnel = client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True)
    for caller in (officer, town, personnel):
        for areas in ([], [SHISHAN]):
            problem = await _refused(caller, 422, "invalid", role="member", areas=areas)
            assert pointers(problem) == ["/role"]
            assert problem["errors"][0]["code"] == "members_log_in"
    for role in ("member", "guide"):
        facts: dict[str, Any] = {"role": role, "areas": [], "member_id": str(member.id)}
        assert pointers(await _refused(officer, 422, "invalid", **facts)) == ["/member_id"]


async def test_a_members_login_by_phone_is_given_again_after_it_was_taken_back(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session, area_code=VILLAGE))
    erased = await make_member(session, await make_association(session, area_code=VILLAGE))
    erased.erased_at, erased.status = clock.now(), "left"
    await session.commit()
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    facts = {"subject": f"member:{member.id}", "role": "member", "areas": []}
    given = await _give(town, **facts)
    assert (given["member_id"], given["employer_linked"]) == (str(member.id), False)
    for caller, changed, pointer in (
        (town, {"subject": f"member:{erased.id}"}, "/subject"),
        (town, {"subject": f"member:{NOWHERE}"}, "/subject"),
        (client(Role.TOWN_OFFICER, areas=[GUICHENG], subject="town-2"), {}, "/subject"),
        (client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True), {}, "/role"),
        (town, {"subject": f"MEMBER:{member.id}"}, "/role"),
        (town, {"subject": f"member:{str(member.id).upper()}"}, "/role"),
        (town, {"employer_linked": True}, "/employer_linked"),
    ):
        refused = await _refused(caller, 422, "invalid", **facts | changed)
        assert pointers(refused) == [pointer]


@pytest.mark.parametrize("days", [0, 3], ids=["in force", "to come"])
async def test_a_login_that_stands_is_not_given_again(
    client: Callable[..., Client], session: AsyncSession, days: int
) -> None:
    member = await make_member(session, await make_association(session, area_code=VILLAGE))
    await session.commit()
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    facts = {"subject": f"member:{member.id}", "role": "member", "areas": []}
    starts_at = (clock.now() + timedelta(days=days)).isoformat()
    first = await _give(town, **facts, starts_at=starts_at)
    await _refused(town, 409, "login_stands", **facts)
    path, body = f"{PATH}/{first['id']}/revoke", {"reason": "手机遗失"}
    await town.ok("POST", path, headers=if_match(first), json=body)
    await _give(town, **facts)


async def test_of_two_who_give_a_login_at_once_one_does(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    towns = [client(Role.TOWN_OFFICER, subject=each, areas=[SHISHAN]) for each in ("t-1", "t-2")]
    for town in towns:
        await town.ok("GET", PATH)
    for _ in range(5):
        member = await make_member(session, await make_association(session, area_code=VILLAGE))
        await session.commit()
        facts = {"subject": f"member:{member.id}", "role": "member"}
        answers = await asyncio.gather(
            *(
                town.post(PATH, headers=idempotency_key(clock.new_id()), json=facts)
                for town in towns
            )
        )
        assert sorted(each.status_code for each in answers) == [201, 409]


async def test_nobody_frees_herself_or_another_from_being_the_employers(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    association = await make_association(session, area_code=VILLAGE, mode="independent")
    await session.commit()
    facts = {"role": "association_secretary", "areas": []}
    linked = await _give(officer, subject="town-1", **facts, association_ids=[str(association.id)])
    options: dict[str, Any] = {"headers": if_match(linked), "json": {"reason": "调离岗位"}}
    path = f"{PATH}/{linked['id']}/revoke"
    herself = client(Role.TOWN_OFFICER, areas=[SHISHAN], subject="town-1")
    personnel = client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True)
    await herself.refused("POST", path, status=403, code="grant_to_oneself", **options)
    await personnel.refused("POST", path, status=403, code="grant_linked", **options)
    another = client(Role.TOWN_OFFICER, areas=[SHISHAN], subject="town-2")
    await another.ok("POST", path, **options)


@pytest.mark.parametrize(
    "subject", [*sorted(identity._OURS), " clock ", f"member:{NOWHERE}", "member:"]
)
async def test_nobody_is_granted_a_role_under_a_name_of_the_service(
    officer: Client, subject: str
) -> None:
    problem = await _refused(officer, 422, "invalid", subject=subject)
    assert pointers(problem) == ["/subject"]
    assert problem["errors"][0]["code"] == "subject_reserved"


async def test_a_grant_begins_today_in_china_or_later(officer: Client) -> None:
    today = datetime.combine(clock.civil_date(clock.now()), dt.time.min, clock.CIVIL_ZONE)
    before = today - timedelta(seconds=1)
    for early in (before.isoformat(), "2020-01-01T00:00:00Z"):
        problem = await _refused(officer, 422, "invalid", starts_at=early)
        assert pointers(problem) == ["/starts_at"]
        assert problem["errors"][0]["code"] == "starts_before_today"
    for number, start in enumerate((today, clock.now(), today + timedelta(days=400))):
        given = await _give(officer, subject=f"new-{number}", starts_at=start.isoformat())
        assert datetime.fromisoformat(given["starts_at"]) == start


async def test_an_employer_linked_officer_sees_nobodys_health_checks(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    member = await make_member(session, await make_association(session, area_code=VILLAGE))
    round_ = await make_round(session)
    event = await make_event(session, round_, area_code=VILLAGE)
    await session.commit()
    officer = client(Role.TOWN_OFFICER, areas=[SHISHAN])
    personnel = client(Role.TOWN_OFFICER, areas=[SHISHAN], employer_linked=True)
    checked_in = f"/v1/service-events/{event.id}/attendances/{member.id}"
    await officer.ok("PUT", checked_in, status=201, json={})
    for path in (
        checked_in,
        f"/v1/service-events/{event.id}/attendances",
        f"/v1/service-events/{event.id}/registrations",
    ):
        await officer.get(path)
        answer = await personnel.get(path)
        assert answer.status_code in {403, 404}, f"{path}: {answer.text}"
    seen = await personnel.ok("GET", f"/v1/members/{member.id}/attendances")
    assert seen["items"] == []
    for path in (
        f"/v1/members/{member.id}/eligibility?round_id={round_.id}",
        "/v1/payout-runs",
        "/v1/payouts",
        f"/v1/exam-rounds/{round_.id}/excuses",
    ):
        await personnel.refused("GET", path, status=403, code="forbidden")


async def test_granting_and_revoking_need_a_fresh_sign_in(
    client: Callable[..., Client], officer: Client
) -> None:
    tired = client(Role.DISTRICT_OFFICER, step_up=False)
    assert (await tired.ok("GET", PATH))["items"] != []
    given = await _give(officer)
    headers = if_match(given) | idempotency_key("stale")
    code = "insufficient_user_authentication"
    for path, body in ((PATH, _body()), (f"{PATH}/{given['id']}/revoke", {"reason": "误"})):
        await tired.refused("POST", path, status=401, code=code, json=body, headers=headers)
