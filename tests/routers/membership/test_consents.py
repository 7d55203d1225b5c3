"""Consents over HTTP: each for one purpose, withdrawn at once, and with a receipt to keep."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Database
from app.models.membership.members import Member
from app.models.privacy.privacy_notices import ConsentPurpose
from app.roles import Role
from tests.factories.callers import GUICHENG, Client, idempotency_key, if_match, pointers
from tests.factories.membership.consents import a_day_after
from tests.factories.membership.logins import Inbox, ask, make_member_with_phone
from tests.factories.membership.members import make_id_number, make_member, make_phone
from tests.factories.organisation.associations import make_association

_ID, _PHONE = make_id_number(1), make_phone(1)
_MINE, _WITHDRAW = "/v1/me/consents", "/v1/me/consents/withdraw"
# What the events say, counted again; nothing of it may differ from what the rows of members say.
_RECOUNT = """
select m.id from members m, unnest(array['identity', 'contact', 'payment', 'thanks']) p(purpose)
left join lateral (select c.state, c.acted_on from consents c where c.member_id = m.id
  and c.purpose = p.purpose order by c.recorded_at desc, c.id desc limit 1) l on true
where case p.purpose when 'identity' then m.identity_consented_on
  when 'contact' then m.contact_consented_on when 'payment' then m.payment_consented_on
  else m.thanks_consented_on end is distinct from case l.state when 'given' then l.acted_on end
or p.purpose = 'thanks' and (m.thanks_withdrawn_on is not null) <> (coalesce(l.state, '')
  = 'withdrawn')
"""


@pytest_asyncio.fixture
async def member(session: AsyncSession, keyring: Keyring) -> Member:
    association = await make_association(session)
    made = await make_member_with_phone(session, keyring, association, _PHONE)
    await make_member(session, association)
    await session.commit()
    return made


@pytest.fixture
def her(client: Callable[..., Client], member: Member) -> Client:
    return client(Role.MEMBER, member_id=str(member.id), subject="her")


def _path(member: Member, tail: str = "") -> str:
    return f"/v1/members/{member.id}/consents{tail}"


def _give(purpose: str, number: int = 1) -> dict[str, Any]:
    return {"purpose": purpose, "notice_number": number, "language": "zh"}


async def _agrees(owner: Database) -> bool:
    return not await owner.pool.fetch(_RECOUNT)


async def test_a_withdrawn_consent_takes_what_it_covered_at_once(
    her: Client, officer: Client, member: Member, owner: Database
) -> None:
    event = await her.ok("POST", _WITHDRAW, json={"purpose": "contact"})
    assert (event["state"], event["method"], event["purpose"]) == ("withdrawn", "app", "contact")

    me = await her.ok("GET", "/v1/me")
    assert (me["phone_masked"], me["consents"]) == (None, ["identity", "payment", "thanks"])
    row = await owner.pool.fetchrow(
        "select phone_sealed, phone_index, version from members where id = $1", member.id
    )
    assert tuple(row) == (None, None, 2)
    assert (await officer.ok("POST", "/v1/members/search", json={"phone": _PHONE}))["items"] == []
    reveal = {"json": {"field": "phone", "purpose": "contact"}}
    path = f"/v1/members/{member.id}/reveal"
    await officer.refused("POST", path, status=409, code="nothing_to_reveal", **reveal)
    assert (await officer.ok("POST", f"/v1/members/{member.id}/export"))["phone"] is None
    assert await owner.pool.fetchval("select count(*) from data_keys") == 0
    assert await _agrees(owner)


async def test_neither_a_code_under_way_nor_a_new_one_logs_in_then(
    app: FastAPI, her: Client, inbox: Inbox, owner: Database
) -> None:
    login = await ask(her, _PHONE)
    await app.state.messenger.idle()
    code = await inbox.code(_PHONE)
    await her.ok("POST", _WITHDRAW, json={"purpose": "contact"})
    path = f"/v1/logins/{login['id']}/verify"
    await her.refused("POST", path, status=403, code="code_refused", json={"code": code})
    await inbox.empty()
    await owner.pool.execute("truncate code_limits")
    await ask(her, _PHONE)
    await app.state.messenger.idle()
    assert await inbox.texts(_PHONE) == []


async def test_withdrawing_twice_changes_nothing_and_never_given_is_refused(
    client: Callable[..., Client], her: Client, officer: Client, session: AsyncSession
) -> None:
    first = await her.ok("POST", _WITHDRAW, json={"purpose": "thanks"})
    assert await her.ok("POST", _WITHDRAW, json={"purpose": "thanks"}) == first
    other = await make_member(session, await make_association(session))
    await session.commit()
    for caller, path in (
        (client(Role.MEMBER, member_id=str(other.id), subject="other"), _WITHDRAW),
        (officer, _path(other, "/withdraw")),
    ):
        refused: dict[str, Any] = {"status": 409, "code": "consent_not_given"}
        await caller.refused("POST", path, json={"purpose": "thanks"}, **refused)


async def test_consent_is_to_the_notice_that_holds_now(her: Client, owner: Database) -> None:
    await her.ok("POST", _WITHDRAW, json={"purpose": "thanks"})
    stale = await her.refused(
        "POST", _MINE, status=409, code="notice_not_in_force", json=_give("thanks", 9)
    )
    assert stale["notice_number"] == 1
    given = await her.ok("POST", _MINE, status=201, json=_give("thanks"))
    assert (given["state"], given["notice_number"], given["language"]) == ("given", 1, "zh")
    assert await her.ok("POST", _MINE, json=_give("thanks")) == given
    assert "thanks" in (await her.ok("GET", "/v1/me"))["consents"]
    assert await _agrees(owner)


async def test_a_new_notice_is_consented_to_anew(
    her: Client, officer: Client, owner: Database
) -> None:
    today = civil_date(clock.now()).isoformat()
    notice = {
        "purpose": "thanks",
        "effective_on": today,
        "controller": "南海区计生协会",
        "text_zh": "新的告知。",
        "text_en": "A new notice.",
    }
    published = await officer.ok("POST", "/v1/privacy-notices", status=201, json=notice)
    assert published["number"] == 2
    await her.refused(
        "POST", _MINE, status=409, code="notice_not_in_force", json=_give("thanks", 1)
    )
    renewed = await her.ok("POST", _MINE, status=201, json=_give("thanks", 2))
    receipt = await her.ok("GET", f"{_MINE}/{renewed['id']}/receipt")
    assert (receipt["notice"]["number"], receipt["notice"]["text"]) == (2, "新的告知。")
    assert await _agrees(owner)


async def test_an_officer_enters_and_withdraws_for_her(
    officer: Client, member: Member, owner: Database
) -> None:
    body = {"purpose": "thanks", "method": "paper", "given_on": "2026-03-01"}
    entered = await officer.ok("POST", _path(member), status=201, json=body)
    assert await officer.ok("POST", _path(member), json=body) == entered
    await officer.ok("POST", _path(member, "/withdraw"), json={"purpose": "thanks"})
    again = await officer.refused("POST", _path(member), status=422, code="invalid", json=body)
    assert pointers(again) == ["/given_on"]
    tomorrow = (civil_date(clock.now()) + timedelta(days=1)).isoformat()
    late = body | {"given_on": tomorrow}
    await officer.refused("POST", _path(member), status=422, code="invalid", json=late)
    del body["given_on"]
    again = await officer.refused("POST", _path(member), status=422, code="invalid", json=body)
    assert [error["code"] for error in again["errors"]] == ["withdrawn_since"]
    await a_day_after(owner)
    await officer.ok("POST", _path(member), status=201, json=body)
    page = await officer.ok("GET", _path(member), params={"purpose": "thanks"})
    assert [item["state"] for item in page["items"]] == ["given", "given", "withdrawn", "given"]
    assert await _agrees(owner)


async def test_a_receipt_says_all_that_was_agreed(her: Client, member: Member) -> None:
    page = await her.ok("GET", _MINE, params={"purpose": "payment"})
    (given,) = page["items"]
    withdrawn = await her.ok("POST", _WITHDRAW, json={"purpose": "payment"})
    receipt = await her.ok("GET", f"{_MINE}/{given['id']}/receipt")
    assert await her.ok("GET", f"{_MINE}/{withdrawn['id']}/receipt") == receipt
    assert receipt["record_id"] == given["id"]
    assert receipt["subject"] == str(member.id)
    assert receipt["schema_version"] == "ISO/IEC TS 27560:2023"
    assert (receipt["jurisdiction"], receipt["lawful_basis"]) == ("CN", "consent")
    assert receipt["data_categories"] == ["financial_account"]
    assert receipt["processing"] == ["collect", "store", "pay"]
    assert (receipt["notice"]["number"], len(receipt["notice"]["digest"])) == (1, 64)
    assert [event["state"] for event in receipt["events"]] == ["given", "withdrawn"]
    assert [event["method"] for event in receipt["events"]] == ["paper", "app"]
    nobody = f"{_MINE}/{member.id}/receipt"
    await her.refused("GET", nobody, status=404, code="not_found")


async def test_enrolling_takes_only_what_she_consented_to(
    officer: Client, session: AsyncSession, owner: Database
) -> None:
    association = await make_association(session)
    await session.commit()
    body: dict[str, Any] = {
        "association_id": str(association.id),
        "name": "张小样",
        "id_number": _ID,
        "phone": make_phone(7),
        "consented_on": "2026-01-02",
        "consented_to": ["contact", "thanks"],
    }
    refused = await officer.refused("POST", "/v1/members", status=422, code="invalid", json=body)
    assert pointers(refused) == ["/id_number"]
    del body["id_number"]
    enrolled = await officer.ok("POST", "/v1/members", status=201, json=body)
    assert enrolled["consents"] == ["contact", "thanks"]
    path = f"/v1/members/{enrolled['id']}"
    await officer.refused(
        "PATCH", path, json={"id_number": _ID}, headers=if_match(enrolled), status=422,
        code="invalid",
    )  # fmt: skip
    change = {"id_number": _ID, "consented_on": "2026-02-02"}
    changed = await officer.ok("PATCH", path, json=change, headers=if_match(enrolled))
    assert changed["consents"] == ["identity", "contact", "thanks"]
    for empty in ({"consented_on": None}, {"consented_on": "2026-02-02"}):
        await officer.refused(
            "PATCH", path, json=empty, headers=if_match(changed), status=422, code="invalid"
        )
    del body["consented_on"]
    await officer.refused("POST", "/v1/members", status=422, code="invalid", json=body)
    assert await _agrees(owner)


async def test_an_answer_kept_for_a_repeat_forgets_her_too(
    officer: Client, member: Member, owner: Database
) -> None:
    path = f"/v1/members/{member.id}"
    kept = (
        "select count(*) from idempotency_keys where position(convert_to($1, 'utf8') in body) > 0"
    )
    headers = idempotency_key("k") | {"If-Match": '"1"'}
    await officer.ok("POST", f"{path}/leave", json={"left_on": "2026-01-02"}, headers=headers)
    assert await owner.pool.fetchval(kept, str(member.id)) == 1
    await officer.ok("POST", f"{path}/consents/withdraw", json={"purpose": "contact"})
    forgotten: dict[str, Any] = {"status": 409, "code": "answer_forgotten"}
    leave: dict[str, Any] = {"json": {"left_on": "2026-01-02"}, "headers": headers}
    await officer.refused("POST", f"{path}/leave", **leave, **forgotten)
    assert (
        await owner.pool.fetchval("select headers || encode(body, 'hex') from idempotency_keys")
        == ""
    )
    leave["json"] = {"left_on": "2026-01-03"}
    forgotten = {"status": 422, "code": "idempotency_key_reused"}
    await officer.refused("POST", f"{path}/leave", **leave, **forgotten)


async def test_erasing_withdraws_all(officer: Client, member: Member, owner: Database) -> None:
    path = f"/v1/members/{member.id}"
    await officer.ok("POST", f"{path}/erase", headers={"If-Match": '"1"'})
    page = await officer.ok("GET", f"{path}/consents")
    assert [item["state"] for item in page["items"]] == ["given"] * 4 + ["withdrawn"] * 4
    body = {"purpose": "thanks", "method": "paper"}
    refused: dict[str, Any] = {"status": 409, "code": "member_erased"}
    await officer.refused("POST", f"{path}/consents", json=body, **refused)
    assert await _agrees(owner)


async def test_at_once_two_withdrawals_are_one(her: Client, owner: Database) -> None:
    for purpose in ConsentPurpose:
        body = {"purpose": purpose.value}
        answers = await asyncio.gather(*(her.ok("POST", _WITHDRAW, json=body) for _ in range(5)))
        assert len({answer["id"] for answer in answers}) == 1
    assert await _agrees(owner)


async def test_who_may(
    client: Callable[..., Client], member: Member, her: Client, session: AsyncSession
) -> None:
    body = {"purpose": "thanks", "method": "paper"}
    town = client(Role.TOWN_OFFICER, areas=[GUICHENG])
    for method, tail, json in (("GET", "", None), ("POST", "", body),
                               ("POST", "/withdraw", {"purpose": "thanks"})):  # fmt: skip
        await town.refused(method, _path(member, tail), status=404, code="not_found", json=json)
    for role in (Role.AUDITOR, Role.FINANCE_CLERK):
        caller = client(role)
        await caller.ok("GET", _path(member))
        await caller.refused("POST", _path(member), status=403, code="forbidden", json=body)
    guide = client(Role.GUIDE)
    await guide.refused("GET", _path(member), status=403, code="forbidden")
    secretary = client(Role.SECRETARY, associations=[str(member.association_id)])
    await secretary.ok("POST", _path(member), status=201, json=body)
    other = await make_member(session, await make_association(session))
    await session.commit()
    await her.refused("GET", _path(other), status=404, code="not_found")
    consents = await her.ok("GET", _MINE)
    stranger = client(Role.MEMBER, member_id=str(other.id), subject="other")
    receipt = f"{_MINE}/{consents['items'][0]['id']}/receipt"
    await stranger.refused("GET", receipt, status=404, code="not_found")


async def test_notices_are_told_to_everybody_and_published_by_the_district(
    client: Callable[..., Client], officer: Client, her: Client
) -> None:
    page = await her.ok("GET", "/v1/privacy-notices", params={"on": "2026-11-01"})
    assert {item["purpose"] for item in page["items"]} == set(ConsentPurpose)
    assert {item["number"] for item in page["items"]} == {1}
    assert (await her.ok("GET", "/v1/privacy-notices", params={"on": "2020-01-01"}))["items"] == []
    notice = {
        "purpose": "contact",
        "effective_on": "2026-01-01",
        "controller": "南海区计生协会",
        "text_zh": "新的告知。",
        "text_en": "A new notice.",
    }
    path = "/v1/privacy-notices"
    early = await officer.refused("POST", path, status=422, code="invalid", json=notice)
    assert pointers(early) == ["/effective_on"]
    town = client(Role.TOWN_OFFICER)
    await town.refused("POST", path, status=403, code="forbidden", json=notice)
    later = notice | {"effective_on": (civil_date(clock.now()) + timedelta(days=9)).isoformat()}
    await officer.ok("POST", path, status=201, json=later)
    params = {"purpose": "contact", "on": civil_date(clock.now()).isoformat()}
    (held,) = (await her.ok("GET", path, params=params))["items"]
    assert held["number"] == 1
    same = later | {"effective_on": civil_date(clock.now()).isoformat()}
    await officer.refused("POST", path, status=422, code="invalid", json=same)


async def test_the_employers_side_neither_withdraws_nor_gives_again(
    client: Callable[..., Client], her: Client, officer: Client, member: Member, owner: Database
) -> None:
    place = [str(member.association_id)]
    for linked in (
        client(Role.SECRETARY, employer_linked=True, associations=place, areas=[]),
        client(Role.TOWN_OFFICER, employer_linked=True, subject="linked"),
    ):
        for purpose in ConsentPurpose:
            body = {"purpose": purpose}
            await linked.refused(
                "POST", _path(member, "/withdraw"), status=403, code="forbidden", json=body
            )
        said = {"purpose": "payment", "method": "officer"}
        problem = await linked.refused("POST", _path(member), status=422, code="invalid", json=said)
        assert pointers(problem) == ["/method"]
    assert len((await her.ok("GET", "/v1/me"))["consents"]) == 4

    for taken in ("thanks", "identity"):
        await her.ok("POST", _WITHDRAW, json={"purpose": taken})
    form = {"purpose": "thanks", "method": "paper"}
    problem = await linked.refused("POST", _path(member), status=422, code="invalid", json=form)
    assert [error["code"] for error in problem["errors"]] == ["not_given_again_by_employers"]
    shown = await linked.get(f"/v1/members/{member.id}")
    number = {"id_number": _ID, "consented_on": civil_date(clock.now()).isoformat()}
    problem = await linked.refused(
        "PATCH",
        f"/v1/members/{member.id}",
        status=422,
        code="invalid",
        json=number,
        headers=if_match(shown.json()),
    )
    assert pointers(problem) == ["/consented_on"]
    assert (await her.ok("GET", "/v1/me"))["consents"] == ["contact", "payment"]
    await a_day_after(owner)
    await officer.ok("POST", _path(member), status=201, json=form)
    await officer.ok("POST", _path(member, "/withdraw"), json={"purpose": "thanks"})
    problem = await linked.refused("POST", _path(member), status=422, code="invalid", json=form)
    assert pointers(problem) == ["/purpose"], "whoever withdrew it"
    assert await _agrees(owner)


async def test_the_employers_side_enters_a_first_consent_from_a_form(
    client: Callable[..., Client], session: AsyncSession
) -> None:
    association = await make_association(session)
    bare = await make_member(session, association)
    await session.commit()
    linked = client(
        Role.SECRETARY, employer_linked=True, associations=[str(association.id)], areas=[]
    )
    form = {"purpose": "thanks", "method": "paper"}
    given = await linked.ok("POST", _path(bare), status=201, json=form)
    assert await linked.ok("POST", _path(bare), json=form) == given


async def test_what_she_withdrew_herself_no_office_gives_again_on_her_word_alone(
    her: Client, officer: Client, member: Member, owner: Database
) -> None:
    said = {"purpose": "thanks", "method": "officer"}
    await officer.ok("POST", _path(member, "/withdraw"), json={"purpose": "thanks"})
    await a_day_after(owner)
    await officer.ok("POST", _path(member), status=201, json=said)
    await her.ok("POST", _WITHDRAW, json={"purpose": "thanks"})
    problem = await officer.refused("POST", _path(member), status=422, code="invalid", json=said)
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("/method", "signed_form_needed")
    ]
    assert "thanks" not in (await her.ok("GET", "/v1/me"))["consents"]
    await a_day_after(owner)
    await officer.ok("POST", _path(member), status=201, json=said | {"method": "paper"})
    assert "thanks" in (await her.ok("GET", "/v1/me"))["consents"]
    assert await _agrees(owner)
