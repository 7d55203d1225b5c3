"""Corrections over HTTP: a member says what is wrong, her office answers once, and in time."""

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, errands
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Database, Door
from app.metrics import CORRECTIONS_OVERDUE
from app.models.membership.members import Member
from app.roles import Role
from tests.factories.callers import (
    DISTRICT,
    GUICHENG,
    SHISHAN,
    Client,
    idempotency_key,
    if_match,
    pointers,
)
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.service_events import make_event
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_id_number, make_member, make_phone
from tests.factories.organisation.associations import make_association

MINE, ALL = "/v1/me/corrections", "/v1/corrections"
_NAME = {"subject": "name", "value": "张小样", "note": "错一字"}
_ATTENDANCE = {"subject": "attendance", "note": "三月我来了，没有签到记录"}


@pytest_asyncio.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    """A member who consented, in a town."""
    made = await make_member_with_phone(
        session, keyring, await make_association(session), make_phone(1)
    )
    await session.commit()
    return made


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


@pytest.fixture
def secretary(client: Callable[..., Client], member: Member) -> Client:
    return client(Role.SECRETARY, associations=[str(member.association_id)])


async def _file(her: Client, **body: Any) -> dict[str, Any]:
    filed: dict[str, Any] = await her.ok("POST", MINE, json=body or _NAME, status=201)
    return filed


async def _answer(
    office: Client, filed: dict[str, Any], step: str = "accept", **body: Any
) -> dict[str, Any]:
    path, headers = f"{ALL}/{filed['id']}/{step}", if_match(filed)
    answered: dict[str, Any] = await office.ok("POST", path, json=body, headers=headers)
    return answered


async def test_a_name_is_put_right_by_accepting_it(
    her: Client, officer: Client, member: Member
) -> None:
    filed = await _file(her)
    assert (filed["status"], filed["applied"], filed["is_overdue"]) == ("open", False, False)
    assert "note" not in filed

    read = await officer.ok("GET", f"{ALL}/{filed['id']}")
    assert (read["value"], read["note"], read["answer"]) == ("张小样", "错一字", None)
    answered = await _answer(officer, filed, answer="已按身份证更正")
    assert (answered["status"], answered["applied"]) == ("accepted", True)
    assert answered["answered_by"] == "district_officer-1"

    assert (await officer.ok("GET", f"/v1/members/{member.id}"))["name"] == "张小样"
    mine = await her.ok("GET", f"{MINE}/{filed['id']}")
    assert (mine["status"], mine["answer"]) == ("accepted", "已按身份证更正")
    assert mine["closed_at"] is not None
    assert "answered_by" not in mine


async def test_it_is_due_in_15_civil_days_or_as_many_as_the_area_says(
    her: Client, officer: Client
) -> None:
    today = civil_date(clock.now())
    assert (await _file(her))["due_on"] == str(today + timedelta(days=15))
    path = f"/v1/areas/{SHISHAN}/settings/correction_days"
    body = {"value": 7, "effective_on": "2026-01-01", "provenance": "approved"}
    await officer.ok("PUT", path, json=body)
    assert (await _file(her, **_ATTENDANCE))["due_on"] == str(today + timedelta(days=7))


async def test_what_waits_too_long_is_overdue_and_counted(
    app: FastAPI, her: Client, officer: Client, owner: Database
) -> None:
    today = civil_date(clock.now())
    late, due_today = await _file(her), await _file(her, **_ATTENDANCE)
    for filed, due_on in ((late, today - timedelta(days=1)), (due_today, today)):
        await owner.pool.execute(
            "update corrections set due_on = $1 where id::text = $2", due_on, filed["id"]
        )
    page = await officer.ok("GET", ALL, params={"overdue": "true"})
    assert [(item["id"], item["is_overdue"]) for item in page["items"]] == [(late["id"], True)]
    assert (await her.ok("GET", f"{MINE}/{late['id']}"))["is_overdue"]
    page = await officer.ok("GET", ALL, params={"overdue": "false", "status": "open"})
    assert [item["id"] for item in page["items"]] == [due_today["id"]]

    state = app.state
    await errands.run(Door(state.database), state.keyring, state.settings, None)
    assert CORRECTIONS_OVERDUE.labels(DISTRICT)._value.get() == 1
    await _answer(officer, late, "refuse", reason="与身份证一致")
    await errands.run(Door(state.database), state.keyring, state.settings, None)
    assert CORRECTIONS_OVERDUE.labels(DISTRICT)._value.get() == 0
    assert (await officer.ok("GET", ALL, params={"overdue": "true"}))["items"] == []


async def test_the_soonest_due_comes_first_page_by_page(
    her: Client, officer: Client, owner: Database
) -> None:
    filed = [await _file(her, subject=s, note="不对") for s in ("membership", "excuse", "other")]
    for days, each in zip((3, 1, 2), filed, strict=True):
        await owner.pool.execute(
            "update corrections set due_on = $1 where id::text = $2",
            date(2026, 1, days),
            each["id"],
        )
    found, cursor = [], None
    for _ in filed:
        params = {"limit": 1, **({"cursor": cursor} if cursor else {})}
        page = await officer.ok("GET", ALL, params=params)
        found += [item["due_on"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert (found, cursor) == (["2026-01-01", "2026-01-02", "2026-01-03"], None)
    between = {"due_on_gte": "2026-01-02", "due_on_lt": "2026-01-03", "include_total": "true"}
    page = await officer.ok("GET", ALL, params=between)
    assert ([item["due_on"] for item in page["items"]], page["total"]) == (["2026-01-02"], 1)


async def test_a_second_click_is_answered_and_not_stored(her: Client, owner: Database) -> None:
    headers = idempotency_key("once")
    first = [await her.ok("POST", MINE, json=_NAME, headers=headers, status=201) for _ in "ab"]
    assert first[0] == first[1]
    taken: dict[str, Any] = {"status": 409, "code": "correction_already_open"}
    await her.refused("POST", MINE, json=_NAME, **taken)
    clicks = [her.post(MINE, json=_ATTENDANCE) for _ in range(6)]
    codes = sorted(answer.status_code for answer in await asyncio.gather(*clicks))
    assert codes == [201, 409, 409, 409, 409, 409]
    assert await owner.pool.fetchval("select count(*) from corrections") == 2
    kept = await owner.pool.fetch("select body from idempotency_keys")
    assert kept
    assert not any("错一字".encode() in row["body"] for row in kept)


async def test_one_correction_has_one_answer(her: Client, officer: Client) -> None:
    filed = await _file(her)
    path, headers = f"{ALL}/{filed['id']}", if_match(filed)
    both = [
        officer.post(f"{path}/accept", json={}, headers=headers),
        officer.post(f"{path}/refuse", json={"reason": "无误"}, headers=headers),
    ]
    codes = sorted(answer.status_code for answer in await asyncio.gather(*both))
    assert codes == [200, 412]
    read = await officer.ok("GET", path)
    closed: dict[str, Any] = {"status": 409, "code": "correction_closed"}
    await officer.refused("POST", f"{path}/accept", json={}, headers=if_match(read), **closed)
    withdraw = f"{MINE}/{filed['id']}/withdraw"
    await her.refused("POST", withdraw, headers=if_match(read), **closed)
    await officer.refused(
        "POST", f"{path}/accept", json={}, status=428, code="precondition_required"
    )
    await _file(her)


async def test_accepting_what_has_no_value_says_what_was_changed(
    her: Client, officer: Client
) -> None:
    filed = await _file(her, **_ATTENDANCE)
    path, headers = f"{ALL}/{filed['id']}/accept", if_match(filed)
    problem = await officer.refused(
        "POST", path, json={}, headers=headers, status=422, code="invalid"
    )
    assert pointers(problem) == ["/answer"]
    answered = await _answer(officer, filed, answer="已补签到")
    assert (answered["status"], answered["applied"]) == ("accepted", False)


async def test_a_change_that_is_refused_leaves_the_correction_open(
    her: Client, officer: Client, member: Member, session: AsyncSession
) -> None:
    association = member.association_id
    other = await make_member(session, await make_association(session))
    other.association_id, other.employee_no = association, "A1"
    await session.commit()
    filed = await _file(her, subject="employee_no", value="A1")
    path, headers = f"{ALL}/{filed['id']}/accept", if_match(filed)
    await officer.refused(
        "POST", path, json={}, headers=headers, status=409, code="employee_no_taken"
    )
    assert (await officer.ok("GET", f"{ALL}/{filed['id']}"))["status"] == "open"


async def test_an_id_number_is_masked_until_it_is_put_in_place(
    her: Client, officer: Client, member: Member, owner: Database
) -> None:
    number = make_id_number(5)
    filed = await _file(her, subject="id_number", value=number.lower())
    for caller, path in ((officer, ALL), (her, MINE)):
        read = await caller.get(f"{path}/{filed['id']}")
        assert number not in read.text
        assert read.json()["value"].startswith(number[:6] + "*")
    await _answer(officer, filed)
    page = await officer.ok("POST", "/v1/members/search", json={"id_number": number})
    assert [item["id"] for item in page["items"]] == [str(member.id)]
    rows = await owner.pool.fetch("select c::text as row from corrections c")
    assert not any(number in row["row"] for row in rows)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"subject": "name", "note": "错"}, "/value"),
        ({"subject": "name", "value": "  "}, "/value"),
        ({"subject": "name", "value": make_id_number(5)}, "/value"),
        ({"subject": "membership", "value": "2026-01-01", "note": "x"}, "/value"),
        ({"subject": "other"}, "/note"),
        ({"subject": "other", "note": "长" * 501}, "/note"),
        ({"subject": "employee_no", "value": "9" * 41}, "/value"),
        ({"subject": "id_number", "value": "440605199001010000"}, "/value"),
        ({"subject": "phone", "value": "13800000000"}, "/subject"),
        ({"subject": "other", "note": "x", "event_id": str(clock.new_id())}, "/event_id"),
        ({"subject": "attendance", "note": "x", "event_id": str(clock.new_id())}, "/event_id"),
        ({"subject": "excuse", "note": "x", "round_id": str(clock.new_id())}, "/round_id"),
    ],
)
async def test_what_cannot_be_answered_is_refused_by_field(
    her: Client, body: dict[str, Any], pointer: str
) -> None:
    problem = await her.refused("POST", MINE, json=body, status=422, code="invalid")
    assert pointers(problem) == [pointer]


async def test_each_event_and_each_round_has_a_correction_of_its_own(
    her: Client, officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    events = [await make_event(session, held) for _ in "ab"]
    draft = await make_event(session, held, status="draft")
    await session.commit()
    for event in events:
        await _file(her, **_ATTENDANCE, event_id=str(event.id))
    await _file(her, **_ATTENDANCE)
    await _file(her, subject="excuse", note="我那时在老家", round_id=str(held.id))
    page = await officer.ok("GET", ALL, params={"subject": "attendance,excuse"})
    assert {item["event_id"] for item in page["items"]} == {None, *(str(e.id) for e in events)}
    body = {**_ATTENDANCE, "event_id": str(draft.id)}
    await her.refused("POST", MINE, json=body, status=422, code="invalid")


async def test_withdrawing_erases_what_was_written(
    her: Client, officer: Client, owner: Database
) -> None:
    filed = await _file(her)
    path = f"{MINE}/{filed['id']}/withdraw"
    gone = await her.ok("POST", path, headers=if_match(filed))
    assert gone["status"] == "withdrawn"
    assert await owner.pool.fetchval("select said_sealed from corrections") is None
    read = await officer.ok("GET", f"{ALL}/{filed['id']}")
    assert (read["value"], read["note"]) == (None, None)
    assert [c["status"] for c in (await her.ok("GET", MINE))["items"]] == ["withdrawn"]
    assert (await her.ok("GET", MINE, params={"status": "open"}))["items"] == []


async def test_nobody_sees_the_corrections_of_others(
    client: Callable[..., Client], her: Client, session: AsyncSession, keyring: Keyring
) -> None:
    filed = await _file(her)
    stranger = await make_member(session, await make_association(session))
    theirs = await make_correction(session, keyring, stranger)
    await session.commit()
    him = client(Role.MEMBER, member_id=str(stranger.id), subject="him")
    gone: dict[str, Any] = {"status": 404, "code": "not_found"}
    await him.refused("GET", f"{MINE}/{filed['id']}", **gone)
    await him.refused("POST", f"{MINE}/{filed['id']}/withdraw", headers=if_match(filed), **gone)
    assert [c["id"] for c in (await him.ok("GET", MINE))["items"]] == [str(theirs.id)]
    other_town = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    assert (await other_town.ok("GET", ALL))["items"] == []
    for method, step in (("GET", ""), ("POST", "/accept"), ("POST", "/refuse")):
        body = {"reason": "无误"} if "refuse" in step else {}
        path = f"{ALL}/{filed['id']}{step}"
        sent: dict[str, Any] = {"json": body, "headers": if_match(filed)} if step else {}
        await other_town.refused(method, path, **sent, **gone)
    town = client(Role.TOWN_OFFICER, areas=[SHISHAN], subject="town")
    assert len((await town.ok("GET", ALL))["items"]) == 2
    forbidden: dict[str, Any] = {"status": 403, "code": "forbidden"}
    await her.refused("GET", ALL, **forbidden)
    await client(Role.FINANCE_CLERK).refused("GET", ALL, **forbidden)
    await client(Role.AUDITOR).refused(
        "POST", f"{ALL}/{filed['id']}/accept", json={}, headers=if_match(filed), **forbidden
    )


async def test_the_employers_side_answers_only_what_tells_of_no_check(
    her: Client, secretary: Client, client: Callable[..., Client]
) -> None:
    plain = await _file(her)
    telling = [await _file(her, **_ATTENDANCE)]
    telling += [await _file(her, subject=each, note="我那时不在") for each in ("excuse", "other")]
    linked = client(Role.TOWN_OFFICER, employer_linked=True, subject="linked")
    for blind in (secretary, linked):
        page = await blind.ok("GET", ALL, params={"include_total": "true"})
        assert ([item["id"] for item in page["items"]], page["total"]) == ([plain["id"]], 1)
        for filed in telling:
            await blind.refused("GET", f"{ALL}/{filed['id']}", status=404, code="not_found")
            path, headers = f"{ALL}/{filed['id']}/refuse", if_match(filed)
            body = {"reason": "无误"}
            await blind.refused(
                "POST", path, json=body, headers=headers, status=404, code="not_found"
            )
    assert (await _answer(secretary, plain))["applied"]


async def test_what_was_written_is_sealed_under_her_key_and_in_her_copy(
    her: Client, officer: Client, member: Member, owner: Database
) -> None:
    filed = await _file(her)
    row = await owner.pool.fetchval("select c::text from corrections c")
    assert "张小样" not in row
    copy = await her.ok("GET", f"/v1/members/{member.id}/export")
    (kept,) = copy["tables"]["corrections"]
    assert (kept["id"], kept["value"], kept["note"]) == (filed["id"], "张小样", "错一字")
    await owner.pool.execute("delete from data_keys")
    read = await officer.ok("GET", f"{ALL}/{filed['id']}")
    assert (read["value"], read["note"]) == (None, None)


async def test_withdrawn_consent_destroys_the_key_and_leaves_the_correction(
    her: Client, officer: Client, owner: Database
) -> None:
    filed = await _file(her)
    number = await _file(her, subject="id_number", value=make_id_number(5))
    before = await owner.pool.fetchval("select wrapped from data_keys")
    for purpose in ("identity", "contact"):
        await her.ok("POST", "/v1/me/consents/withdraw", json={"purpose": purpose})

    assert await owner.pool.fetchval("select wrapped from data_keys") != before
    mine = await her.ok("GET", f"{MINE}/{filed['id']}")
    assert (mine["status"], mine["value"]) == ("open", "张小样")
    ended = await her.ok("GET", f"{MINE}/{number['id']}")
    assert (ended["status"], ended["value"]) == ("withdrawn", None)
    assert (await _answer(officer, filed, answer="已更正"))["applied"]
    assert (await her.ok("GET", f"{MINE}/{filed['id']}"))["answer"] == "已更正"
    body = {"subject": "id_number", "value": make_id_number(5)}
    problem = await her.refused("POST", MINE, json=body, status=422, code="invalid")
    assert pointers(problem) == ["/value"]
    assert problem["errors"][0]["code"] == "identity_consent_needed"


async def test_a_correction_of_the_id_number_ends_with_the_consent_to_hold_one_alone(
    her: Client, officer: Client, member: Member, owner: Database
) -> None:
    number = await _file(her, subject="id_number", value=make_id_number(5))
    before = await owner.pool.fetchval("select wrapped from data_keys")
    path = f"/v1/members/{member.id}"
    read = await officer.ok("GET", path)
    await officer.ok("PATCH", path, json={"name": "李示例"}, headers=if_match(read))
    assert (await her.ok("GET", f"{MINE}/{number['id']}"))["status"] == "open"
    await her.ok("POST", "/v1/me/consents/withdraw", json={"purpose": "identity"})
    ended = await her.ok("GET", f"{MINE}/{number['id']}")
    assert (ended["status"], ended["value"]) == ("withdrawn", None)
    assert await owner.pool.fetchval("select wrapped from data_keys") == before, "of her phone"


async def test_erasing_her_ends_and_empties_her_corrections(
    her: Client, officer: Client, member: Member, owner: Database
) -> None:
    answered, waiting = await _file(her), await _file(her, **_ATTENDANCE)
    await _answer(officer, answered, answer="已更正")
    path = f"/v1/members/{member.id}"
    read = await officer.ok("GET", path)
    await officer.ok("POST", f"{path}/erase", headers=if_match(read))
    rows = await owner.pool.fetch("select * from corrections order by id")
    assert [row["status"] for row in rows] == ["accepted", "withdrawn"]
    assert all(row["said_sealed"] is None and row["answer_sealed"] is None for row in rows)
    assert await owner.pool.fetchval("select count(*) from data_keys") == 0
    read = await officer.ok("GET", f"{ALL}/{waiting['id']}")
    assert (read["note"], read["status"]) == (None, "withdrawn")
