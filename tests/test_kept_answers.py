"""Answers that are kept for a repeat are forgotten with all of whom they tell, named or not."""

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.membership.members import Member
from app.roles import Role
from app.services.audit.audit_seals import UNSEALED
from tests.factories.callers import Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.service_events import make_event
from tests.factories.membership.logins import Inbox, make_member_with_phone
from tests.factories.membership.members import make_member, make_phone
from tests.factories.membership.payout_accounts import make_account
from tests.factories.organisation.associations import make_association

_FORGOTTEN: dict[str, Any] = {"status": 409, "code": "answer_forgotten"}
_NAMED = f"select person_ids from ({UNSEALED}) e where act = $1 order by id"


@pytest.fixture
async def thanks(session: AsyncSession) -> Thanks:
    return await make_thanks(session)


@pytest.fixture
async def run(session: AsyncSession, thanks: Thanks) -> str:
    """The path of a run of which money is handed out, a line for each of two members."""
    run = await make_granted_run(session, thanks)
    await session.commit()
    return f"/v1/payout-runs/{run.id}"


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_CLERK)


async def _failed(clerk: Client, run: str, member: Member) -> dict[str, Any]:
    """Give what says that her payout failed, in words that name her."""
    page = await clerk.ok("GET", f"{run}/payouts")
    (line,) = (each["line_no"] for each in page["items"] if each["member_id"] == str(member.id))
    result = {"line_no": line, "outcome": "failed", "reason": f"{member.name}未到"}
    return {"json": {"results": [result]}, "headers": idempotency_key(member.id)}


async def _go(session: AsyncSession, officer: Client, member_id: object, how: str) -> None:
    """Withdraw, leave, move or be erased."""
    path = f"/v1/members/{member_id}"
    today = clock.civil_date(clock.now()).isoformat()
    other = await make_association(session)
    await session.commit()
    headers = if_match(await officer.ok("GET", path))
    sent: dict[str, dict[str, Any]] = {
        "consents/withdraw": {"json": {"purpose": "thanks"}},
        "erase": {"headers": headers},
        "leave": {"json": {"left_on": today}, "headers": headers},
        "transfer": {
            "json": {"association_id": str(other.id), "moved_on": today}, "headers": headers,
        },
    }  # fmt: skip
    if how == "consents/withdraw":
        body = {"purpose": "thanks", "method": "paper"}
        await officer.ok("POST", f"{path}/consents", json=body, status=201)
    await officer.ok("POST", f"{path}/{how}", **sent[how])


@pytest.mark.parametrize("how", ["consents/withdraw", "erase", "leave", "transfer"])
async def test_results_that_name_nobody_by_id_are_forgotten_with_whom_they_are_about(
    officer: Client, clerk: Client, session: AsyncSession, owner: Database, *, thanks: Thanks,
    run: str, how: str,
) -> None:  # fmt: skip
    member, other = thanks.members
    sent = await _failed(clerk, run, member)
    for each in (sent, await _failed(clerk, run, other)):
        await clerk.ok("POST", f"{run}/results", **each)
    await _go(session, officer, other.id, how)
    again = await clerk.post(f"{run}/results", **sent)
    assert again.headers["idempotency-replayed"] == "true"
    await _go(session, officer, member.id, how)
    problem = await clerk.refused("POST", f"{run}/results", **sent, **_FORGOTTEN)
    assert member.name not in str(problem)
    kept = "select count(*) from idempotency_keys where body <> '' or persons <> '{}'"
    assert await owner.pool.fetchval(kept) == 0


async def test_a_replay_is_noted_with_whom_the_first_answer_told_of(
    clerk: Client, owner: Database, thanks: Thanks, run: str
) -> None:
    member = thanks.members[0]
    sent = await _failed(clerk, run, member)
    first = await clerk.ok("POST", f"{run}/results", **sent)
    assert str(member.id) not in str(first)
    assert await clerk.ok("POST", f"{run}/results", **sent) == first
    noted = await owner.pool.fetch(_NAMED, "enter_payout_run_results")
    assert [row["person_ids"] for row in noted] == [[member.id]] * 2


async def test_a_signed_list_is_forgotten_with_whom_it_lists(
    officer: Client, clerk: Client, session: AsyncSession, thanks: Thanks, run: str
) -> None:
    printed = await clerk.get(f"{run}/cash-list", params={"format": "csv"})
    rows = list(csv.reader(io.StringIO(printed.content.decode("utf-8-sig"), newline="")))
    for row in rows[1:3]:
        row[8:10] = ["未领", "本人未到"]
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    sent: dict[str, Any] = {
        "files": {"file": ("list.csv", written.getvalue().encode(), "text/csv")},
        "headers": idempotency_key("signed"),
    }
    first = await clerk.ok("POST", f"{run}/results/import", **sent)
    assert await clerk.ok("POST", f"{run}/results/import", **sent) == first
    await _go(session, officer, thanks.members[1].id, "consents/withdraw")
    await clerk.refused("POST", f"{run}/results/import", **sent, **_FORGOTTEN)


@pytest.mark.parametrize("what", ["payout-account", "phone"])
async def test_what_she_gave_up_is_forgotten_with_her_consent(
    app: FastAPI, client: Callable[..., Client], officer: Client, session: AsyncSession,
    *, keyring: Keyring, inbox: Inbox, owner: Database, what: str,
) -> None:  # fmt: skip
    association = await make_association(session)
    member = await make_member_with_phone(session, keyring, association, make_phone(1))
    await session.commit()
    her = client(Role.MEMBER, member_id=str(member.id), subject="her")
    path = f"/v1/me/{what}"
    body = make_account()
    if what == "phone":
        key = idempotency_key("code")
        code = await her.ok(
            "POST", f"{path}/codes", status=202, json={"phone": make_phone(2)}, headers=key
        )
        await app.state.messenger.idle()
        body = {"code_id": code["id"], "code": await inbox.code(make_phone(2))}
        body |= {"phone": make_phone(2)}
    held = await her.ok("PATCH", path, json=body, headers=if_match(await her.ok("GET", path)))
    headers = idempotency_key("cancel") | if_match(held)
    first = await her.ok("POST", f"{path}/cancel", headers=headers)
    assert str(member.id) not in str(first)
    assert await her.ok("POST", f"{path}/cancel", headers=headers) == first
    await _go(session, officer, member.id, "consents/withdraw")
    await her.refused("POST", f"{path}/cancel", headers=headers, **_FORGOTTEN)
    assert await owner.pool.fetchval("select count(*) from idempotency_keys where body <> ''") == 0


@pytest.mark.parametrize("how", ["leave", "transfer"])
async def test_whom_an_association_enrolled_it_is_not_shown_when_she_is_gone(
    client: Callable[..., Client], officer: Client, session: AsyncSession, how: str
) -> None:
    here = await make_association(session)
    await session.commit()
    secretary = client(Role.SECRETARY, associations=[str(here.id)])
    body = {"association_id": str(here.id), "name": "张示例"}
    sent: dict[str, Any] = {"json": body, "headers": idempotency_key("enrol")}
    enrolled = await secretary.ok("POST", "/v1/members", status=201, **sent)
    await _go(session, officer, enrolled["id"], how)
    if how == "transfer":
        path = f"/v1/members/{enrolled['id']}"
        await secretary.refused("GET", path, status=404, code="not_found")
    problem = await secretary.refused("POST", "/v1/members", **sent, **_FORGOTTEN)
    assert enrolled["id"] not in str(problem)


async def test_who_moves_a_member_is_answered_again_as_before(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    member = await make_member(session, await make_association(session))
    there = await make_association(session)
    await session.commit()
    today = clock.civil_date(clock.now()).isoformat()
    for number, (step, body) in enumerate(
        (
            ("leave", {"left_on": today}),
            ("transfer", {"association_id": str(there.id), "moved_on": today}),
        ),
        1,
    ):
        path = f"/v1/members/{member.id}/{step}"
        headers = idempotency_key(step) | {"If-Match": f'"{number}"'}
        first = await officer.ok("POST", path, json=body, headers=headers)
        again = await officer.post(path, json=body, headers=headers)
        assert (again.json(), again.headers["idempotency-replayed"]) == (first, "true")
    kept = await owner.pool.fetch("select key, persons from idempotency_keys where body <> ''")
    assert [tuple(row) for row in kept] == [("transfer", [member.id])]


async def test_an_answer_that_the_version_before_kept_is_forgotten_by_its_body(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    association = await make_association(session)
    await session.commit()
    body = {"association_id": str(association.id), "name": "张示例"}
    sent: dict[str, Any] = {"json": body, "headers": idempotency_key("enrol")}
    enrolled = await officer.ok("POST", "/v1/members", status=201, **sent)
    await owner.pool.execute("update idempotency_keys set persons = default")
    await officer.ok("POST", "/v1/members", status=201, **sent)
    noted = await owner.pool.fetch(_NAMED, "create_member")
    assert [[str(each) for each in row["person_ids"]] for row in noted] == [[enrolled["id"]]] * 2
    await _go(session, officer, enrolled["id"], "consents/withdraw")
    await officer.refused("POST", "/v1/members", **sent, **_FORGOTTEN)


@pytest.mark.parametrize("came", [False, True])
async def test_of_an_event_that_is_over_a_repeat_tells_of_no_place(
    officer: Client, client: Callable[..., Client], session: AsyncSession, owner: Database,
    *, came: bool,
) -> None:  # fmt: skip
    event = await make_event(session, ends_at=clock.now() + timedelta(hours=2))
    member = await make_member(session, await make_association(session))
    await session.commit()
    path = f"/v1/service-events/{event.id}/registrations"
    sent: dict[str, Any] = {
        "json": {"member_id": str(member.id)}, "headers": idempotency_key("register"),
    }  # fmt: skip
    first = await officer.ok("POST", path, status=201, **sent)
    again = await officer.post(path, **sent)
    assert (again.status_code, again.json()) == (200, first)
    assert again.headers["location"] == f"{path}/{member.id}"
    assert "idempotency-replayed" not in again.headers
    kept = "select headers, body, persons from idempotency_keys"
    assert [tuple(row) for row in await owner.pool.fetch(kept)] == [("", b"", [])]
    if came:
        await make_attendance(session, event, member)
        await session.commit()
    await owner.pool.execute("update service_events set status = 'closed'")
    refused: dict[str, Any] = {"status": 409, "code": "registration_not_open"}
    await officer.refused("POST", path, **sent, **refused)
    herself = client(Role.MEMBER, member_id=str(member.id))
    assert (await herself.ok("GET", f"{path}/{member.id}"))["status"] == "registered"


async def test_a_place_that_was_given_back_is_not_taken_again_by_a_late_repeat(
    officer: Client, session: AsyncSession
) -> None:
    event = await make_event(session, ends_at=clock.now() + timedelta(hours=2))
    member, other = [await make_member(session, await make_association(session)) for _ in range(2)]
    await session.commit()
    path = f"/v1/service-events/{event.id}/registrations"
    sent: dict[str, Any] = {
        "json": {"member_id": str(member.id)}, "headers": idempotency_key("register"),
    }  # fmt: skip
    place = await officer.ok("POST", path, status=201, **sent)
    headers = idempotency_key("cancel") | if_match(place)
    cancel = f"{path}/{member.id}/cancel"
    first = await officer.ok("POST", cancel, headers=headers)
    again = await officer.post(cancel, headers=headers)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first, "true")
    late = await officer.ok("POST", path, **sent)
    assert (late["status"], late["version"]) == ("cancelled", 2)
    reused: dict[str, Any] = {"status": 422, "code": "idempotency_key_reused"}
    body = {"member_id": str(other.id)}
    await officer.refused("POST", path, json=body, headers=sent["headers"], **reused)
    anew = sent | {"headers": idempotency_key("once more")}
    assert (await officer.ok("POST", path, status=201, **anew))["status"] == "registered"
