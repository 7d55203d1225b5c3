"""Funds over HTTP: filled, passed on, given back and closed, with every movement to be read."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.shapes import rfc3339
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
from tests.factories.finance.funds import TODAY, agree, make_fund
from tests.factories.organisation.associations import make_association

PATH = "/v1/funds"
NOWHERE = str(UUID(int=7))


def _body(**facts: Any) -> dict[str, Any]:
    return {
        "name": "狮山镇计生协会经费",
        "source": "town",
        "fiscal_year": TODAY.year,
        "area_code": SHISHAN,
        **facts,
    }


def _money(amount_fen: int = 500_000, document_no: str = "南财〔2026〕12号", **facts: Any) -> Any:
    return {
        "amount_fen": amount_fen,
        "document_no": document_no,
        "occurred_on": TODAY.isoformat(),
        **facts,
    }


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_CLERK)


async def _post(clerk: Client, path: str, body: Any, *, status: int = 201) -> Any:
    headers = idempotency_key(clock.new_id())
    return await clerk.ok("POST", f"{PATH}{path}", json=body, headers=headers, status=status)


async def _refused(clerk: Client, path: str, body: Any, *, status: int, code: str) -> Any:
    headers = idempotency_key(clock.new_id())
    return await clerk.refused(
        "POST", f"{PATH}{path}", json=body, headers=headers, status=status, code=code
    )


async def test_money_comes_in_is_passed_on_and_goes_back(clerk: Client, database: Database) -> None:
    giver = await _post(clerk, "", _body(source="district", area_code=DISTRICT))
    taker = await _post(clerk, "", _body())
    received = await _post(clerk, f"/{giver['id']}/receipts", _money())
    passed = _money(200_000, "南计协〔2026〕3号", to_fund_id=taker["id"])
    allocated = await _post(clerk, f"/{giver['id']}/allocations", passed)
    gift = _money(70_000, "狮财〔2026〕1号")
    await _post(clerk, f"/{taker['id']}/receipts", gift)
    back = await _post(clerk, f"/{taker['id']}/withdrawals", _money(50_000, note="多拨"))

    assert (received["available_fen"], received["received_fen"]) == (500_000, 500_000)
    assert (allocated["available_fen"], allocated["allocated_out_fen"]) == (300_000, 200_000)
    assert (back["allocated_in_fen"], back["available_fen"]) == (200_000, 220_000)
    assert back["received_fen"] == 20_000
    read = await clerk.ok("GET", f"{PATH}/{taker['id']}")
    assert read == back
    entries = (await clerk.ok("GET", f"{PATH}/{taker['id']}/entries"))["items"]
    assert [entry["kind"] for entry in entries] == ["allocate", "receive", "withdraw"]
    first = entries[0]
    assert (first["fund_id"], first["debit"]) == (taker["id"], "available")
    assert (first["credit_fund_id"], first["credit"]) == (giver["id"], "available")
    assert (first["recorded_by"], first["document_no"]) == ("finance_clerk-1", "南计协〔2026〕3号")
    await agree(database)


async def test_a_document_is_entered_once(clerk: Client) -> None:
    fund = await _post(clerk, "", _body())
    await _post(clerk, f"/{fund['id']}/receipts", _money())
    path = f"/{fund['id']}/receipts"
    await _refused(clerk, path, _money(1), status=409, code="document_entered")
    assert (await clerk.ok("GET", f"{PATH}/{fund['id']}"))["available_fen"] == 500_000


async def test_a_second_click_with_its_key_is_answered_again(clerk: Client) -> None:
    fund = await _post(clerk, "", _body())
    path, key = f"{PATH}/{fund['id']}/receipts", idempotency_key("once")
    first = await clerk.post(path, json=_money(), headers=key)
    again = await clerk.post(path, json=_money(), headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content


@pytest.mark.parametrize("act", ["withdrawals", "allocations"])
async def test_what_is_not_there_is_not_given(clerk: Client, act: str) -> None:
    fund, other = await _post(clerk, "", _body()), await _post(clerk, "", _body(source="village"))
    await _post(clerk, f"/{fund['id']}/receipts", _money(100))
    body = _money(101) | ({"to_fund_id": other["id"]} if act == "allocations" else {})
    problem = await _refused(clerk, f"/{fund['id']}/{act}", body, status=409, code="fund_short")
    assert (problem["available_fen"], problem["needed_fen"]) == (100, 101)
    assert (await clerk.ok("GET", f"{PATH}/{fund['id']}"))["available_fen"] == 100


async def test_a_source_gets_back_no_more_than_it_gave(clerk: Client) -> None:
    giver = await _post(clerk, "", _body(source="district", area_code=DISTRICT))
    taker = await _post(clerk, "", _body())
    await _post(clerk, f"/{giver['id']}/receipts", _money(100))
    await _post(clerk, f"/{giver['id']}/allocations", _money(100, to_fund_id=taker["id"]))
    path = f"/{taker['id']}/withdrawals"
    problem = await _refused(clerk, path, _money(1), status=409, code="beyond_receipts")
    assert problem["received_fen"] == 0


async def test_one_source_has_one_fund_a_year_and_scope(clerk: Client) -> None:
    await _post(clerk, "", _body())
    await _refused(clerk, "", _body(name="另一名"), status=409, code="fund_scope_taken")
    await _post(clerk, "", _body(fiscal_year=TODAY.year + 1))


async def test_balances_are_told_as_they_were_known(clerk: Client, session: AsyncSession) -> None:
    fund = await make_fund(session, 700)
    await session.commit()
    path = f"{PATH}/{fund.id}/balance"
    before = rfc3339(fund.created_at - timedelta(days=1))
    assert (await clerk.ok("GET", path, params={"as_of": before}))["available_fen"] == 0
    now = await clerk.ok("GET", path)
    assert (now["available_fen"], now["received_fen"], now["fund_id"]) == (700, 700, str(fund.id))


async def test_an_empty_fund_is_closed_for_good(clerk: Client) -> None:
    fund = await _post(clerk, "", _body())
    await _post(clerk, f"/{fund['id']}/receipts", _money(100))
    path = f"{PATH}/{fund['id']}/close"
    full = await clerk.refused(
        "POST", path, status=409, code="fund_not_empty", headers=if_match(fund)
    )
    assert full["available_fen"] == 100
    await _post(clerk, f"/{fund['id']}/withdrawals", _money(100))
    closed = await clerk.ok("POST", path, headers=if_match(fund))
    assert (closed["status"], closed["closed_by"], closed["version"]) == (
        "closed", "finance_clerk-1", 2,
    )  # fmt: skip
    await _refused(clerk, f"/{fund['id']}/receipts", _money(), status=409, code="fund_closed")


async def test_a_fund_is_renamed_and_nothing_else(clerk: Client) -> None:
    fund = await _post(clerk, "", _body())
    path = f"{PATH}/{fund['id']}"
    named = await clerk.ok("PATCH", path, json={"name": "新名"}, headers=if_match(fund))
    assert (named["name"], named["version"]) == ("新名", 2)
    problem = await clerk.refused(
        "PATCH", path, json={"source": "other"}, headers=if_match(named), status=422, code="invalid"
    )
    assert pointers(problem) == ["/source"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"area_code": "440605999000"}, "/area_code"),
        ({"association_id": NOWHERE}, "/association_id"),
        ({"fiscal_year": 1999}, "/fiscal_year"),
        ({"source": "bank"}, "/source"),
        ({"name": " "}, "/name"),
    ],
)
async def test_a_wrong_field_is_named(clerk: Client, change: Any, pointer: str) -> None:
    problem = await _refused(clerk, "", _body(**change), status=422, code="invalid")
    assert pointers(problem) == [pointer]
    assert (await clerk.ok("GET", PATH))["items"] == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"amount_fen": 0}, "/amount_fen"),
        ({"amount_fen": 2**53}, "/amount_fen"),
        ({"document_no": ""}, "/document_no"),
        ({"occurred_on": (TODAY + timedelta(days=2)).isoformat()}, "/occurred_on"),
        ({"to_fund_id": NOWHERE}, "/to_fund_id"),
        ({"to_fund_id": "itself"}, "/to_fund_id"),
    ],
)
async def test_a_wrong_movement_changes_nothing(clerk: Client, change: Any, pointer: str) -> None:
    fund, other = await _post(clerk, "", _body()), await _post(clerk, "", _body(source="village"))
    await _post(clerk, f"/{fund['id']}/receipts", _money(900, "收"))
    body = _money(to_fund_id=other["id"]) | {"amount_fen": 1} | change
    if body["to_fund_id"] == "itself":
        body["to_fund_id"] = fund["id"]
    problem = await _refused(clerk, f"/{fund['id']}/allocations", body, status=422, code="invalid")
    assert pointer in pointers(problem)
    assert (await clerk.ok("GET", f"{PATH}/{fund['id']}"))["available_fen"] == 900


async def test_reach_decides_which_funds_there_are(
    client: Callable[..., Client], clerk: Client, session: AsyncSession
) -> None:
    association = await make_association(session)
    here = await make_fund(session, 5, source="town", area_code=SHISHAN)
    hers = await make_fund(
        session, 5, source="enterprise", area_code=SHISHAN, association_id=association.id
    )
    there = await make_fund(session, 5, source="town", area_code=GUICHENG)
    await session.commit()
    town = client(Role.FINANCE_CLERK, subject="town-clerk", areas=[SHISHAN])

    assert {fund["id"] for fund in (await town.ok("GET", PATH))["items"]} == {
        str(here.id),
        str(hers.id),
    }
    params = {"source": "enterprise", "association_id": str(association.id)}
    assert [f["id"] for f in (await clerk.ok("GET", PATH, params=params))["items"]] == [
        str(hers.id)
    ]
    for path in ("", "/entries", "/balance"):
        await town.refused("GET", f"{PATH}/{there.id}{path}", status=404, code="not_found")
    path = f"/{there.id}/receipts"
    await _refused(town, path, _money(), status=404, code="not_found")
    body = _money(1, to_fund_id=str(there.id))
    problem = await _refused(town, f"/{here.id}/allocations", body, status=422, code="invalid")
    assert pointers(problem) == ["/to_fund_id"]
    await _refused(town, "", _body(area_code=DISTRICT), status=403, code="forbidden")


@pytest.mark.parametrize(
    "role", [Role.TOWN_OFFICER, Role.DISTRICT_OFFICER, Role.FINANCE_APPROVER, Role.AUDITOR]
)
async def test_offices_read_what_only_the_clerk_writes(
    client: Callable[..., Client], session: AsyncSession, role: Role
) -> None:
    fund = await make_fund(session, 5)
    await session.commit()
    reader = client(role)
    assert (await reader.ok("GET", f"{PATH}/{fund.id}"))["available_fen"] == 5
    await _refused(reader, "", _body(), status=403, code="forbidden")
    await _refused(reader, f"/{fund.id}/receipts", _money(), status=403, code="forbidden")


async def test_an_employers_side_sees_no_fund(client: Callable[..., Client]) -> None:
    linked = client(Role.FINANCE_CLERK, employer_linked=True)
    await linked.refused("GET", PATH, status=403, code="forbidden")
