"""Runs over the gateway by HTTP: drafted where there is one, settled once nothing is unknown."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun
from app.roles import Role
from tests.factories.callers import Client, idempotency_key, if_match, pointers
from tests.factories.channels.gateway import Till, make_gateway_run, work
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.disbursement.payouts import known_id
from tests.factories.finance.funds import agree
from tests.factories.incentives.incentive_policies import make_cash, make_gift

_RUNS, _PAYOUTS = "/v1/payout-runs", "/v1/payouts"
_LATER = "update gateway_payments set lease_until = lease_until - interval '1 hour'"
_UNKNOWN = (
    "with g as (update gateway_payments set state = 'unknown', lease_until = null, receipt = null,"
    " paid_on = null, last_answer = 'timeout' where state = 'sending' returning *)"
    " update payouts p set status = 'unknown' from g where p.run_id = g.run_id"
    " and p.line_no = g.line_no"
)


@pytest.fixture
def clerk(client: Callable[..., Client]) -> Client:
    return client(Role.FINANCE_CLERK)


@pytest_asyncio.fixture
async def run(session: AsyncSession, keyring: Keyring) -> PayoutRun:
    _, run = await make_gateway_run(session, keyring)
    await session.commit()
    return run


@pytest_asyncio.fixture
async def unknown(app: FastAPI, run: PayoutRun, till: Till, owner: Database) -> str:
    """The id of a payout that the gateway made without ever saying so; the others are paid."""
    await till.behave(lose_next=1)
    await work(app)
    await owner.pool.execute(_UNKNOWN)
    await agree(owner)
    line = await owner.pool.fetchval("select line_no from payouts where status = 'unknown'")
    return str(known_id(app.state.keyring, run.id, line))


async def _post(clerk: Client, payout: str, step: str, body: Any = None) -> httpx.Response:
    headers = idempotency_key(clock.new_id())
    return await clerk.post(f"{_PAYOUTS}/{payout}/{step}", json=body, headers=headers)


async def test_a_run_over_the_gateway_is_drafted_where_there_is_one(
    app: FastAPI, clerk: Client, session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    thanks = await make_thanks(session)
    await session.commit()
    draft = thanks.draft | {"channel": "gateway"}
    headers = idempotency_key(clock.new_id())
    run = await clerk.ok("POST", _RUNS, json=draft, headers=headers, status=201)
    assert run["channel"] == "gateway"

    without = app.state.settings.model_copy(update={"gateway_url": None})
    monkeypatch.setitem(app.state._state, "settings", without)
    options: dict[str, Any] = {"json": draft, "headers": idempotency_key(clock.new_id())}
    await clerk.refused("POST", _RUNS, status=409, code="no_gateway", **options)


async def test_what_is_sending_or_unknown_is_listed_and_keeps_a_run_from_being_settled(
    clerk: Client, run: PayoutRun, unknown: str
) -> None:
    page = await clerk.ok("GET", _PAYOUTS, params={"status": "unknown"})
    assert [item["id"] for item in page["items"]] == [unknown]
    path = f"{_RUNS}/{run.id}"
    found = await clerk.ok("GET", path)
    problem = await clerk.refused(
        "POST", f"{path}/settle", status=409, code="payouts_pending", headers=if_match(found)
    )
    assert (problem["pending_count"], problem["sending_count"]) == (1, 0)
    assert problem["unknown_count"] == 1
    assert "/resolve" in problem["detail"]

    answer = await _post(clerk, unknown, "resolve", {"outcome": "failed", "reason": "查无此笔"})
    assert answer.status_code == 204, answer.text
    settled = await clerk.ok("POST", f"{path}/settle", headers=if_match(found))
    assert settled["status"] == "settled"


@pytest.mark.parametrize(
    ("body", "status", "reason", "spent"),
    [
        ({"outcome": "paid", "receipt": "R-1"}, "paid", None, 3000),
        ({"outcome": "failed", "reason": "查无此笔"}, "failed", "查无此笔", 2000),
    ],
)
async def test_a_person_says_what_became_of_an_unknown_payout(
    clerk: Client,
    owner: Database,
    unknown: str,
    *,
    body: dict[str, str],
    status: str,
    reason: str | None,
    spent: int,
) -> None:
    answer = await _post(clerk, unknown, "resolve", body)
    assert answer.status_code == 204, answer.text
    payout = await clerk.ok("GET", f"{_PAYOUTS}/{unknown}")
    assert (payout["status"], payout["failure_reason"]) == (status, reason)
    assert await owner.pool.fetchval("select spent_fen from funds") == spent
    entries = await clerk.ok("GET", f"{_PAYOUTS}/{unknown}/entries")
    assert [item["recorded_by"] for item in entries["items"] if item["kind"] == "pay"] == (
        ["finance_clerk-1"] if status == "paid" else []
    )
    await agree(owner)

    again = await _post(clerk, unknown, "resolve", body)
    assert (again.status_code, again.json()["code"]) == (409, "payout_not_unknown")


async def test_only_what_is_unknown_is_resolved_or_asked_about(
    clerk: Client, owner: Database, unknown: str
) -> None:
    found = await clerk.ok("GET", _PAYOUTS, params={"status": "paid"})
    paid = found["items"][0]["id"]
    body = {"outcome": "paid", "receipt": "R-1"}
    for step, sent in (("resolve", body), ("ask-again", None)):
        answer = await _post(clerk, paid, step, sent)
        assert (answer.status_code, answer.json()["code"]) == (409, "payout_not_unknown")
        nowhere = await _post(clerk, str(clock.new_id()), step, sent)
        assert nowhere.status_code == 404
    assert unknown
    receipt = await owner.pool.fetchval("select receipt from gateway_payments where state = 'paid'")
    answer = await _post(clerk, unknown, "resolve", {"outcome": "paid", "receipt": receipt})
    assert (answer.status_code, answer.json()["code"]) == (409, "receipt_taken")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"outcome": "paid"}, "/receipt"),
        ({"outcome": "paid", "receipt": "两"}, "/receipt"),
        ({"outcome": "paid", "receipt": "R", "reason": "x"}, "/reason"),
        ({"outcome": "failed"}, "/reason"),
        ({"outcome": "failed", "receipt": "R", "reason": "x"}, "/receipt"),
    ],
)
async def test_a_result_is_proven_by_a_receipt_or_explained(
    clerk: Client, unknown: str, body: dict[str, str], pointer: str
) -> None:
    answer = await _post(clerk, unknown, "resolve", body)
    assert answer.status_code == 422
    assert pointers(answer.json()) == [pointer]


async def test_asking_again_finds_what_was_paid_without_sending_it(
    app: FastAPI, clerk: Client, owner: Database, till: Till, unknown: str
) -> None:
    answer = await _post(clerk, unknown, "ask-again")
    assert answer.status_code == 204, answer.text
    assert (await clerk.ok("GET", f"{_PAYOUTS}/{unknown}"))["status"] == "sending"
    calls = (await till.figures())["calls"]
    await work(app)

    assert (await clerk.ok("GET", f"{_PAYOUTS}/{unknown}"))["status"] == "paid"
    assert (await till.figures())["calls"] == calls
    await agree(owner)


async def test_asking_about_what_the_gateway_does_not_know_sends_nothing(
    app: FastAPI, clerk: Client, owner: Database, till: Till, unknown: str
) -> None:
    await till.empty()
    await _post(clerk, unknown, "ask-again")
    await work(app)

    assert (await clerk.ok("GET", f"{_PAYOUTS}/{unknown}"))["status"] == "unknown"
    assert not await till.effects()
    await agree(owner)


async def test_the_gifts_of_a_run_over_the_gateway_are_handed_out_by_results(
    clerk: Client, session: AsyncSession, owner: Database
) -> None:
    thanks = await make_thanks(session, [make_cash(), make_gift()], members=1)
    run = await make_granted_run(session, thanks, channel="gateway")
    await session.commit()
    path = f"{_RUNS}/{run.id}/results"
    gift = await owner.pool.fetchval("select line_no from payouts where amount_fen = 0")
    body = {"results": [{"line_no": gift, "outcome": "paid"}]}
    answer = await clerk.ok("POST", path, json=body)
    assert answer["items"][0]["status"] == "recorded"
    body["results"].append({"line_no": 3 - gift, "outcome": "paid"})
    await clerk.refused("POST", path, status=409, code="run_channel", json=body)
