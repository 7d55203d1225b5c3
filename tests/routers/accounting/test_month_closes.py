"""Month closes over HTTP: summed, closed by another, signed, chained, and closed for good."""

import asyncio
import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.disbursement.payout_runs import RunStatus
from app.models.disbursement.payouts import PayoutOutcome, ResultLine
from app.models.finance.funds import Fund
from app.roles import Role
from app.services.disbursement import payouts
from tests.factories.callers import DISTRICT, Client, idempotency_key, if_match, make_caller
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.finance.funds import TODAY, agree, make_fund
from tests.factories.incentives.incentive_policies import make_cash

_CLOSES = "/v1/month-closes"
_THIS = TODAY.replace(day=1)
_LAST = (_THIS - timedelta(days=1)).replace(day=1)
_BEFORE = (_LAST - timedelta(days=1)).replace(day=1)


def _month(first: date) -> str:
    return f"{first:%Y-%m}"


class Books:
    """A fund with documents of two months, and those who close them."""

    def __init__(self, client: Callable[..., Client], fund: Fund) -> None:
        self.fund = fund
        self.clerk = client(Role.FINANCE_CLERK)
        self.approver = client(Role.FINANCE_APPROVER)

    def receipt(self, amount: int, on: date, number: str) -> dict[str, Any]:
        return {"amount_fen": amount, "document_no": number, "occurred_on": on.isoformat()}

    async def receive(self, amount: int, on: date, number: str) -> None:
        await self.clerk.ok(
            "POST",
            f"/v1/funds/{self.fund.id}/receipts",
            status=201,
            json=self.receipt(amount, on, number),
            headers=idempotency_key(number),
        )

    async def sum(self, first: date) -> dict[str, Any]:
        made: dict[str, Any] = await self.clerk.ok(
            "POST",
            _CLOSES,
            status=201,
            json={"area_code": DISTRICT, "month": _month(first)},
            headers=idempotency_key(f"{first}"),
        )
        return made

    async def close(self, month: dict[str, Any]) -> dict[str, Any]:
        closed: dict[str, Any] = await self.approver.ok(
            "POST", f"{_CLOSES}/{month['id']}/close", headers=if_match(month)
        )
        return closed


@pytest_asyncio.fixture
async def kept(session: AsyncSession, client: Callable[..., Client]) -> Books:
    fund = await make_fund(session, name="区级经费")
    await session.commit()
    kept = Books(client, fund)
    await kept.receive(1000, _BEFORE, "a")
    await kept.receive(500, _LAST, "b")
    await kept.receive(70, TODAY, "c")
    return kept


async def test_a_month_is_summed_by_the_days_on_the_documents(kept: Books) -> None:
    await kept.clerk.ok(
        "PUT", f"/v1/funds/{kept.fund.id}/budget", json={"planned_fen": list(range(100, 112))}
    )
    month = await kept.sum(_LAST)
    [fund] = month["totals"]["funds"]
    moved = {name: value for name, value in fund.items() if name.endswith("_fen") and value}
    planned = 100 + _LAST.month - 1 if _LAST.year == kept.fund.fiscal_year else None
    assert moved == {
        "opening_available_fen": 1000,
        "received_fen": 500,
        "closing_available_fen": 1500,
    } | ({"planned_fen": planned, "variance_fen": planned} if planned else {})
    assert month["totals"]["control"] == {
        "fund_count": 1,
        "transfer_count": 1,
        "opening_fen": 1000,
        "received_fen": 500,
        "withdrawn_fen": 0,
        "spent_fen": 0,
        "returned_fen": 0,
        "closing_fen": 1500,
        "payout_count": 0,
        "payout_fen": 0,
    }
    assert [each["kind"] for each in month["totals"]["exceptions"]] == ["entered_late"]
    assert month["status"] == "draft"
    assert (await kept.clerk.ok("GET", _CLOSES))["items"][0]["id"] == month["id"]
    again = await kept.clerk.ok("GET", f"{_CLOSES}/{month['id']}")
    assert again == month


async def test_the_file_is_verified_without_the_service(kept: Books, tmp_path: Path) -> None:
    closed = await kept.close(await kept.sum(_LAST))
    response = await kept.clerk.get(f"{_CLOSES}/{closed['id']}/file")
    again = await kept.clerk.get(f"{_CLOSES}/{closed['id']}/file")
    [key] = (await kept.clerk.ok("GET", "/v1/signing-keys"))["items"]

    assert response.content == again.content
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    content = (tmp_path / "month.json").read_bytes()
    assert json.loads(content) == closed["totals"]
    assert hashlib.sha256(content).hexdigest() == closed["sha256"]
    assert base64.b64decode(closed["signature"]) == (tmp_path / "month.json.sig").read_bytes()
    assert key["key_id"] == closed["key_id"]
    (tmp_path / "key.pem").write_text(key["public_key_pem"])
    assert await _is_verified(tmp_path)
    (tmp_path / "month.json").write_bytes(content.replace(b"1500", b"1501"))
    assert not await _is_verified(tmp_path)


async def _is_verified(folder: Path) -> bool:
    """Tell whether OpenSSL, as the handbook has it called, finds the signature right."""
    command = (
        "openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in month.json"
        " -sigfile month.json.sig"
    )
    process = await asyncio.create_subprocess_exec(*command.split(), cwd=folder)
    return await process.wait() == 0


async def test_a_closed_month_takes_no_document(kept: Books, database: Database) -> None:
    await kept.close(await kept.sum(_LAST))
    refused = await kept.clerk.refused(
        "POST",
        f"/v1/funds/{kept.fund.id}/receipts",
        status=409,
        code="month_closed",
        json=kept.receipt(1, _LAST.replace(day=28), "late"),
        headers=idempotency_key("late"),
    )
    assert refused["closed_through"] == _month(_LAST)
    await kept.receive(1, TODAY, "late")
    await agree(database)


async def test_the_next_month_names_the_digest_of_the_last(kept: Books) -> None:
    first = await kept.close(await kept.sum(_BEFORE))
    second = await kept.close(await kept.sum(_LAST))
    assert first["totals"]["previous"] is None
    assert second["totals"]["previous"] == {"month": _month(_BEFORE), "sha256": first["sha256"]}
    [fund] = second["totals"]["funds"]
    assert fund["opening_available_fen"] == 1000


async def test_months_are_closed_in_order(kept: Books) -> None:
    earlier = (_BEFORE - timedelta(days=1)).replace(day=1)
    await kept.close(await kept.sum(earlier))
    refused = await kept.clerk.refused(
        "POST",
        _CLOSES,
        status=409,
        code="month_out_of_order",
        json={"area_code": DISTRICT, "month": _month(_LAST)},
        headers=idempotency_key("o"),
    )
    assert refused["next"] == _month(_BEFORE)


async def test_a_month_closes_by_another_than_who_summed_it(
    kept: Books, client: Callable[..., Client]
) -> None:
    month = await kept.sum(_LAST)
    same = client(Role.FINANCE_APPROVER, subject="finance_clerk-1")
    path = f"{_CLOSES}/{month['id']}/close"
    await same.refused(
        "POST", path, status=403, code="month_maker_is_checker", headers=if_match(month)
    )
    stale = client(Role.FINANCE_APPROVER, step_up=False)
    await stale.refused(
        "POST", path, status=401, code="insufficient_user_authentication", headers=if_match(month)
    )
    await kept.close(month)


async def test_what_changed_since_is_summed_anew(kept: Books) -> None:
    month = await kept.sum(_LAST)
    await kept.receive(9, _LAST, "d")
    path = f"{_CLOSES}/{month['id']}"
    await kept.approver.refused(
        "POST", f"{path}/close", status=409, code="month_outdated", headers=if_match(month)
    )
    month = await kept.clerk.ok("POST", f"{path}/calculate", headers=if_match(month))
    closed = await kept.close(month)
    assert closed["totals"]["control"]["received_fen"] == 509
    for step, caller in (("calculate", kept.clerk), ("close", kept.approver)):
        await caller.refused(
            "POST", f"{path}/{step}", status=409, code="month_is_closed", headers=if_match(closed)
        )


async def test_no_month_closes_while_the_books_disagree(kept: Books, session: AsyncSession) -> None:
    month = await kept.sum(_LAST)
    await session.execute(text("update funds set received_fen = 1, available_fen = 1"))
    await session.commit()
    refused = await kept.approver.refused(
        "POST",
        f"{_CLOSES}/{month['id']}/close",
        status=409,
        code="books_disagree",
        headers=if_match(month),
    )
    assert refused["questions"] == ["fund_balances"]


@pytest.mark.parametrize(
    ("month", "code"), [(_month(_THIS), "month_not_over"), (_month(_LAST), "month_taken")]
)
async def test_a_month_is_summed_once_and_when_it_is_over(
    kept: Books, month: str, code: str
) -> None:
    await kept.sum(_LAST)
    body = {"area_code": DISTRICT, "month": month}
    await kept.clerk.refused(
        "POST", _CLOSES, status=409, code=code, json=body, headers=idempotency_key("n")
    )


async def test_there_is_no_file_before_the_close(kept: Books) -> None:
    month = await kept.sum(_LAST)
    await kept.clerk.refused("GET", f"{_CLOSES}/{month['id']}/file", status=409, code="month_open")


async def test_a_fund_below_zero_by_its_documents_is_told(kept: Books) -> None:
    await kept.clerk.ok(
        "POST",
        f"/v1/funds/{kept.fund.id}/withdrawals",
        status=201,
        json=kept.receipt(1570, _LAST, "w"),
        headers=idempotency_key("w"),
    )
    await kept.clerk.refused(
        "POST",
        _CLOSES,
        status=409,
        code="month_negative",
        json={"area_code": DISTRICT, "month": _month(_LAST)},
        headers=idempotency_key("x"),
    )


async def test_payouts_and_what_to_look_at_are_in_the_month(
    session: AsyncSession, client: Callable[..., Client]
) -> None:
    thanks = await make_thanks(session, [make_cash(amount_fen=1000)], members=3)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING, calculated_at=clock.now())
    lines = await payouts.lines_of(session, run, range(1, 3))
    results = [ResultLine(line_no=n, outcome=PayoutOutcome.PAID, reason=None) for n in lines]
    await payouts.record(session, make_caller(), run, lines=lines, results=results, now=clock.now())
    await session.commit()
    # What happened today is moved into the month before, which is over.
    await session.execute(text("update transfers set occurred_on = :day"), {"day": _LAST})
    await session.execute(
        text("update attendances set voided_at = now(), voided_by = 'o', void_reason = 'x'")
    )
    await session.execute(
        text("update payout_runs set status = 'settled', settled_at = :at"), {"at": _LAST}
    )
    await session.commit()
    kept = Books(client, thanks.fund)
    month = await kept.sum(_LAST)
    [paid] = month["totals"]["payouts"]
    assert (paid["paid_count"], paid["paid_fen"]) == (2, 2000)
    assert (paid["association_name"], paid["event_kind"]) == (
        thanks.association.name,
        "health_exam",
    )
    told = {(each["kind"], each["reason"]): each for each in month["totals"]["exceptions"]}
    assert told["run_mismatch", "attendance_voided"]["count"] == 3
    assert told["reserved_at_the_end", None]["amount_fen"] == 1000
    assert ("books_disagree", None) in told
    assert "会员" not in json.dumps(month["totals"], ensure_ascii=False)
    await session.execute(
        text("update payout_runs set status = 'closed', closed_at = :at, closed_by = 'o'"),
        {"at": _LAST},
    )
    await session.commit()
    path = f"{_CLOSES}/{month['id']}/calculate"
    again = await kept.clerk.ok("POST", path, headers=if_match(month))
    assert {(each["kind"], each["reason"]) for each in again["totals"]["exceptions"]} >= {
        ("run_mismatch", "attendance_voided")
    }
