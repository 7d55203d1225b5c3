"""Settlements with stations over HTTP: made, approved by somebody else, paid, and printed."""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.roles import Role
from tests.factories.callers import GUICHENG, SHISHAN, Client, idempotency_key, if_match
from tests.factories.channels.service_stations import make_station
from tests.factories.disbursement.vouchers import Issued, make_issued
from tests.factories.finance.funds import agree, make_fund
from tests.factories.incentives.incentive_policies import make_voucher

_SETTLEMENTS = "/v1/station-settlements"
_MONTH = f"{clock.civil_date(clock.now()):%Y-%m}"


def _key() -> dict[str, str]:
    return idempotency_key(clock.new_id())


@dataclass
class Offices:
    """The people that a settlement passes through, and what it is about."""

    clerk: Client
    approver: Client
    desk: Client
    issued: Issued

    async def redeem(self, line_no: int) -> None:
        """Redeem a voucher."""
        body = self.issued.body(line_no)
        await self.desk.ok("POST", "/v1/vouchers/redeem", json=body, headers=_key())

    @property
    def body(self) -> dict[str, str]:
        """What settles this month with the station."""
        return {"station_id": str(self.issued.station.id), "month": _MONTH}

    async def make(self) -> dict[str, Any]:
        """Settle this month with the station."""
        made: dict[str, Any] = await self.clerk.ok(
            "POST", _SETTLEMENTS, json=self.body, headers=_key(), status=201
        )
        return made

    async def step(
        self, made: dict[str, Any], step: str, body: Any = None, **options: Any
    ) -> dict[str, Any]:
        """Take a settlement through a step."""
        caller = self.clerk if step == "pay" else self.approver
        path = f"{_SETTLEMENTS}/{made['id']}/{step}"
        after: dict[str, Any] = await caller.ok(
            "POST", path, json=body, headers=if_match(made), **options
        )
        return after


@pytest_asyncio.fixture
async def offices(
    client: Callable[..., Client], session: AsyncSession, keyring: Keyring
) -> Offices:
    await make_fund(session, 50_000, source="town", area_code=SHISHAN, fiscal_year=2024)
    rule = make_voucher(amount_fen=999, district_bp=3333, town_bp=6667)
    issued = await make_issued(session, keyring, [rule], members=4)
    await session.commit()
    return Offices(
        client(Role.FINANCE_CLERK),
        client(Role.FINANCE_APPROVER),
        client(Role.GUIDE, areas=[SHISHAN]),
        issued,
    )


async def test_what_a_station_redeemed_is_settled_once(
    offices: Offices, database: Database
) -> None:
    for line_no in (1, 2):
        await offices.redeem(line_no)
    made = await offices.make()
    assert (made["status"], made["voucher_count"], made["amount_fen"]) == ("submitted", 2, 1998)
    assert made["station_name"] == offices.issued.station.name
    assert {fund["source"]: fund["amount_fen"] for fund in made["by_fund"]} == {
        "district": 2 * 332,
        "town": 2 * 667,
    }
    await agree(database)
    await offices.clerk.refused(
        "POST", _SETTLEMENTS, json=offices.body, headers=_key(), status=409, code="settlement_empty"
    )
    approved = await offices.step(made, "approve")
    paid = await offices.step(
        approved, "pay", {"document_no": "付〔2026〕1号", "paid_on": "2026-11-01"}
    )
    assert (paid["status"], paid["document_no"]) == ("paid", "付〔2026〕1号")
    assert (paid["created_by"], paid["approved_by"]) == ("finance_clerk-1", "finance_approver-1")
    assert await offices.clerk.ok("GET", f"{_SETTLEMENTS}/{made['id']}") == paid
    await offices.redeem(3)
    later = await offices.make()
    assert later["voucher_count"] == 1
    await agree(database)


async def test_a_rejected_settlement_frees_its_vouchers(
    offices: Offices, database: Database
) -> None:
    await offices.redeem(1)
    made = await offices.make()
    rejected = await offices.step(made, "reject", {"reason": "与台账不符"})
    assert (rejected["status"], rejected["status_reason"]) == ("rejected", "与台账不符")
    assert rejected["by_fund"] == []
    await agree(database)
    sheet = await offices.clerk.get(f"{_SETTLEMENTS}/{made['id']}/sheet")
    assert (sheet.status_code, sheet.json()["code"]) == (409, "settlement_state")
    again = await offices.make()
    assert (again["id"] != made["id"], again["voucher_count"]) == (True, 1)
    await agree(database)


async def test_steps_have_their_order(offices: Offices) -> None:
    await offices.redeem(1)
    made = await offices.make()
    path = f"{_SETTLEMENTS}/{made['id']}"
    document = {"document_no": "付1", "paid_on": "2026-11-01"}
    refused: dict[str, Any] = {"status": 409, "code": "settlement_state"}
    await offices.clerk.refused(
        "POST", f"{path}/pay", json=document, headers=if_match(made), **refused
    )
    approved = await offices.step(made, "approve")
    for step, body in (("approve", None), ("reject", {"reason": "误"})):
        await offices.approver.refused(
            "POST", f"{path}/{step}", json=body, headers=if_match(approved), **refused
        )
    await offices.clerk.refused(
        "POST", f"{path}/pay", json=document, headers=if_match(made), status=412, code="stale"
    )
    ahead = document | {"paid_on": "2199-01-01"}
    problem = await offices.clerk.refused(
        "POST", f"{path}/pay", json=ahead, headers=if_match(approved), status=422, code="invalid"
    )
    assert problem["errors"][0]["code"] == "document_in_the_future"


async def test_whoever_made_a_settlement_cannot_approve_it(
    client: Callable[..., Client], offices: Offices
) -> None:
    await offices.redeem(1)
    made = await offices.make()
    maker = client(Role.FINANCE_APPROVER, subject="finance_clerk-1")
    await maker.refused(
        "POST",
        f"{_SETTLEMENTS}/{made['id']}/approve",
        headers=if_match(made),
        status=403,
        code="settlement_maker_is_checker",
    )


async def test_a_month_has_civil_days_and_is_not_ahead(
    offices: Offices, session: AsyncSession
) -> None:
    for line_no, at in enumerate(
        ("2026-09-30 15:59:59", "2026-09-30 16:00", "2026-10-31 15:59:59", "2026-10-31 16:00"), 1
    ):
        await offices.redeem(line_no)
        await session.execute(
            text(f"update vouchers set redeemed_at = '{at}+00' where line_no = {line_no}")
        )
    await session.commit()
    for month, count in (("2026-10", 2), ("2026-09", 1)):
        made = await offices.clerk.ok(
            "POST",
            _SETTLEMENTS,
            json=offices.body | {"month": month},
            headers=_key(),
            status=201,
        )
        assert (made["month"], made["voucher_count"]) == (month, count)
    for month in ("2099-12", "2026-13", "2026-1"):
        await offices.clerk.refused(
            "POST",
            _SETTLEMENTS,
            json=offices.body | {"month": month},
            headers=_key(),
            status=422,
            code="invalid",
        )


async def test_settlements_are_listed_within_reach(
    client: Callable[..., Client], offices: Offices, session: AsyncSession
) -> None:
    await offices.redeem(1)
    made = await offices.make()
    other = await make_station(session, area_code=GUICHENG)
    await session.commit()
    for filters, found in (
        ({}, True),
        ({"station_id": made["station_id"]}, True),
        ({"station_id": str(other.id)}, False),
        ({"month": _MONTH}, True),
        ({"month": "2020-01"}, False),
        ({"status": "submitted,approved"}, True),
        ({"status": "paid"}, False),
        ({"area": SHISHAN}, True),
        ({"area": GUICHENG}, False),
    ):
        listed = await offices.clerk.ok("GET", _SETTLEMENTS, params=filters)
        assert [each["id"] for each in listed["items"]] == ([made["id"]] if found else [])
    neighbour = client(Role.FINANCE_CLERK, areas=[GUICHENG], subject="neighbour")
    assert (await neighbour.ok("GET", _SETTLEMENTS))["items"] == []
    for path in (f"{_SETTLEMENTS}/{made['id']}", f"{_SETTLEMENTS}/{made['id']}/sheet"):
        await neighbour.refused("GET", path, status=404, code="not_found")
    await neighbour.refused(
        "POST", _SETTLEMENTS, json=offices.body, headers=_key(), status=422, code="invalid"
    )


@pytest.mark.parametrize("form", ["csv", "xlsx"])
async def test_a_sheet_has_masked_codes_totals_and_no_name(offices: Offices, form: str) -> None:
    for line_no in (1, 2):
        await offices.redeem(line_no)
    made = await offices.make()
    answer = await offices.clerk.get(f"{_SETTLEMENTS}/{made['id']}/sheet", params={"format": form})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].endswith(f'{made["id"]}.{form}"')
    if form == "xlsx":
        assert answer.content[:2] == b"PK"
        return
    said = answer.content.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(said)))
    assert rows[0] == ["序号", "券码", "核销时间", "金额(元)"]
    codes = [f"****-****-****-{code[-4:]}" for code in offices.issued.codes[:2]]
    assert [row[1] for row in rows[1:3]] == codes
    assert [row[3] for row in rows[1:3]] == ["9.99", "9.99"]
    assert rows[-3] == ["合计笔数", "2"]
    assert rows[-2] == ["合计金额(元)", "19.98"]
    assert [len(cell) for cell in rows[-1]] == [3, 64]
    assert not any(member.name in said for member in offices.issued.members)
