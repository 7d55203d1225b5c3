"""Killed before and after each commit and call of a run's life, nothing is lost or done twice.

A client knows nothing of the death but a lost connection: it sends the same request again under the
same key. `JIXIE_FAULT_REPEATS` says how often the whole life is lived.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.main import create_app
from app.roles import Role
from app.settings import Settings
from tests.factories.callers import DISTRICT, Client, idempotency_key, if_match
from tests.factories.channels.gateway import Till
from tests.factories.finance.funds import TODAY
from tests.faults.nursery import Child, Nursery
from tests.faults.town import (
    Town,
    audit_holds,
    faults_of,
    let_leases_run_out,
    make_town,
    start_worker,
)

_REPEATS = int(os.environ.get("JIXIE_FAULT_REPEATS", "1"))
_MEMBERS = 4
_RUNS = "/v1/payout-runs"
_ACTS = (
    "create_fund",
    "create_receipt",
    "create_allocation",
    "create_payout_run",
    "calculate_payout_run",
    "submit_payout_run",
    "approve_payout_run",
    "disburse_payout_run",
    "settle_payout_run",
    "return_payout",
    "enter_payout_run_results",
    "create_withdrawal",
)
"""What clients ask of the service in a run's life, in this order."""
SERVICE_POINTS = [f"{act}.{side}_commit" for act in _ACTS for side in ("before", "after")]
WORKER_POINTS = [
    "claim_gateway_payments.before_commit",
    "claim_gateway_payments.after_commit",
    # All four are claimed: from here on the gateway is asked first what became of each.
    "gateway.before_call",
    "gateway.after_call",
    "resend_gateway_payments.before_commit",
    "resend_gateway_payments.after_commit",
    # After four questions in vain comes the first payment.
    "gateway.before_call:5",
    "gateway.after_call:5",
    # Now one answer tells of a payment, after which nothing was stored.
    "gateway.after_call:4",
    "record_gateway_payments.before_commit",
    "record_gateway_payments.after_commit",
    "seal_audit.before_commit",
    "seal_audit.after_commit",
]
_ELSEWHERE = {
    "update_fund", "close_fund", "reject_payout_run", "cancel_payout_run", "resolve_payout",
    "ask_payout_again", "import_payout_run_results", "close_payout_run", "create_bank_file",
    "take_bank_results", "hand_out_gift", "put_fund_budget",
}  # fmt: skip
"""Acts on money whose transaction is of the same kind as another's in the list."""


@dataclass
class Peril:
    """The processes of a town, and the points at which they are killed next."""

    nursery: Nursery
    town: Town
    owner: Database
    points: Iterator[str]
    reached: list[str] = field(default_factory=list)
    replays: int = 0

    async def begin(self) -> None:
        self.armed = next(self.points, None)
        self.service = await self._start()

    async def _start(self) -> Child:
        service = self.nursery.start("service", **dict(self.town.settings) | self._armed())
        await service.until_ready()
        return service

    def _armed(self) -> dict[str, str]:
        return {} if self.armed is None else {"crash_at": self.armed}

    async def post(self, act: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request until it is answered, through every death that is set for its act."""
        key, deaths = idempotency_key(clock.new_id()), 0
        while self.armed is not None and self.armed.startswith(f"{act}."):
            with pytest.raises(httpx.TransportError):
                await self._send(act, path, body, headers | key)
            how = await self.service.until_dead()
            assert how == -signal.SIGKILL, f"{self.armed} was never reached"
            self.reached.append(self.armed)
            self.armed, deaths = next(self.points, None), deaths + 1
            self.service = await self._start()
        answer = await self._send(act, path, body, headers | key)
        assert answer.is_success, f"{act}: {answer.status_code} {answer.text}"
        is_replay = answer.headers.get("idempotency-replayed") == "true"
        assert is_replay == (deaths > 0), f"{act}: what was committed is told again"
        self.replays += is_replay
        return answer.json() if answer.content else None

    async def _send(
        self, act: str, path: str, body: Any, headers: dict[str, str]
    ) -> httpx.Response:
        role = Role.FINANCE_APPROVER if act.startswith("approve") else Role.FINANCE_CLERK
        async with self.town.caller(self.service, role) as caller:
            return await caller.post(path, json=body, headers=headers)

    async def step(self, run: dict[str, Any], step: str) -> dict[str, Any]:
        path = f"{_RUNS}/{run['id']}/{step}"
        after: dict[str, Any] = await self.post(f"{step}_payout_run", path, **if_match(run))
        return after

    async def work(self) -> None:
        """Have the run paid by workers that are killed one after the other."""
        for point in WORKER_POINTS:
            worker = start_worker(self.nursery, self.town, crash_at=point)
            how = await worker.until_dead()
            worker.kill()
            assert how == -signal.SIGKILL, f"{point} was never reached\n{worker.said()}"
            self.reached.append(point)
            await let_leases_run_out(self.owner)

    def clerk(self) -> Client:
        return self.town.caller(self.service, Role.FINANCE_CLERK)


def _money(fen: int, document: str, **more: str) -> dict[str, Any]:
    body = {"amount_fen": fen, "document_no": document, "occurred_on": TODAY.isoformat()}
    return body | more


async def _live(peril: Peril) -> None:
    """Take in money, pay a run over the gateway and another by a list, and give money back."""
    town = peril.town
    body = {"name": "备用经费", "source": "other", "fiscal_year": 2024, "area_code": DISTRICT}
    fund = await peril.post("create_fund", "/v1/funds", body)
    path = f"/v1/funds/{fund['id']}"
    await peril.post("create_receipt", f"{path}/receipts", _money(9000, "收1"))
    passed = _money(5000, "拨1", to_fund_id=str(town.fund.id))
    await peril.post("create_allocation", f"{path}/allocations", passed)
    draft = town.thanks.draft | {"channel": "gateway"}
    run = await peril.post("create_payout_run", _RUNS, draft)
    for step in ("calculate", "submit", "approve", "disburse"):
        run = await peril.step(run, step)
    await peril.work()
    run = await peril.step(run, "settle")
    assert (run["status"], run["payout_count"]) == ("settled", _MEMBERS)
    async with peril.clerk() as clerk:
        lines = (await clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts"))["items"]
    assert {line["status"] for line in lines} == {"paid"}
    back = f"/v1/payouts/{lines[0]['id']}/return"
    await peril.post("return_payout", back, {"reason": "账户已销户"})
    await _pay_by_list(peril)
    await peril.post("create_withdrawal", f"{path}/withdrawals", _money(4000, "退1"))


async def _pay_by_list(peril: Peril) -> None:
    draft = peril.town.thanks.draft | {"policy_id": peril.town.other_policy}
    run = await peril.post("create_payout_run", _RUNS, draft)
    for step in ("calculate", "submit", "approve", "disburse"):
        run = await peril.step(run, step)
    results = [{"line_no": number, "outcome": "paid"} for number in range(1, _MEMBERS + 1)]
    path = f"{_RUNS}/{run['id']}/results"
    told = await peril.post("enter_payout_run_results", path, {"results": results})
    assert [item["status"] for item in told["items"]] == ["recorded"] * _MEMBERS
    await peril.step(run, "settle")


async def _effects(owner: Database) -> dict[str, int]:
    rows = await owner.pool.fetch("select kind, count(*) as n from transfers group by kind")
    counts = {row["kind"]: row["n"] for row in rows}
    counts["runs"] = await owner.pool.fetchval("select count(*) from payout_runs")
    counts["funds"] = await owner.pool.fetchval("select count(*) from funds")
    return counts


@pytest.mark.parametrize("repeat", range(_REPEATS))
async def test_a_run_lived_through_every_crash_point_is_paid_once(
    *,
    nursery: Nursery,
    session: AsyncSession,
    keyring: Keyring,
    config: Settings,
    database_url: str,
    owner: Database,
    till: Till,
    said: dict[str, Any],
    tell: Callable[[str], None],
    repeat: int,
) -> None:
    said["database_url"] = database_url
    town = await make_town(session, keyring, config, said, members=_MEMBERS)
    peril = Peril(nursery, town, owner, iter(SERVICE_POINTS))
    await peril.begin()
    await _live(peril)
    peril.service.kill()

    assert Counter(peril.reached) == Counter(SERVICE_POINTS + WORKER_POINTS)
    assert peril.replays == len(_ACTS)
    assert await _effects(owner) == {
        "receive": 2, "allocate": 1, "withdraw": 1, "reserve": 2, "pay": 2 * _MEMBERS, "return": 1,
        "runs": 2, "funds": 2,
    }  # fmt: skip
    assert await faults_of(owner, till) == []
    figures = await till.figures()
    holds = await audit_holds(owner, town.heads)
    tell(
        f"life {repeat + 1} of {_REPEATS}: killed at {len(peril.reached)} points, {peril.replays}"
        f" answers told again, {figures['effects']} payments by {figures['calls']} calls; {holds}"
    )


def test_every_act_on_money_is_in_the_list(config: Settings) -> None:
    paths = create_app(config).openapi()["paths"]
    acts = {
        operation["operationId"]
        for path, methods in paths.items()
        if path.startswith(("/v1/funds", "/v1/payout-runs", "/v1/payouts"))
        for method, operation in methods.items()
        if method in {"post", "patch", "put", "delete"}
    }
    assert acts == {*_ACTS, *_ELSEWHERE}
