"""Runs of what failed in another: nobody is paid twice, and nobody whom the first did not grant."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.roles import Role
from tests.factories.callers import GUICHENG, Client, idempotency_key, if_match, pointers
from tests.factories.disbursement.payout_runs import Thanks, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.finance.funds import agree
from tests.factories.incentives.incentive_policies import make_cash, make_gift, make_version
from tests.factories.membership.members import make_member

_RUNS = "/v1/payout-runs"


@dataclass
class Life:
    """Three members thanked in cash and by a gift, and the offices."""

    thanks: Thanks
    clerk: Client
    approver: Client

    async def draft(self, **body: Any) -> dict[str, Any]:
        """Draft a run."""
        headers = idempotency_key(clock.new_id())
        run: dict[str, Any] = await self.clerk.ok(
            "POST", _RUNS, json=body, headers=headers, status=201
        )
        return run

    async def step(self, run: dict[str, Any], *steps: str) -> dict[str, Any]:
        """Take a run through some steps."""
        for step in steps:
            caller = self.approver if step in {"approve", "close"} else self.clerk
            run = await caller.ok("POST", f"{_RUNS}/{run['id']}/{step}", headers=if_match(run))
        return run

    async def lines(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        """Give a run's lines."""
        return list((await self.clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts"))["items"])

    async def hand_out(self, run: dict[str, Any], *failed: int) -> dict[str, Any]:
        """Pay a run but for some lines, and settle it."""
        run = await self.step(run, "submit", "approve", "disburse")
        results = [
            {"line_no": n, "outcome": "failed", "reason": "本人未到"}
            if n in failed
            else {"line_no": n, "outcome": "paid"}
            for n in range(1, run["payout_count"] + 1)
        ]
        path = f"{_RUNS}/{run['id']}/results"
        await self.clerk.ok("POST", path, json={"results": results})
        return await self.step(run, "settle")

    async def first(self, *failed: int) -> dict[str, Any]:
        """Give the first run, settled, in which some lines failed."""
        run = await self.step(await self.draft(**self.thanks.draft), "calculate")
        return await self.hand_out(run, *failed)


@pytest_asyncio.fixture
async def life(client: Callable[..., Client], session: AsyncSession) -> Life:
    thanks = await make_thanks(session, [make_cash(), make_gift()], members=3)
    await session.commit()
    return Life(thanks, client(Role.FINANCE_CLERK), client(Role.FINANCE_APPROVER))


def _granted(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(line["member_id"], line["rule_code"]) for line in lines]


async def test_a_run_of_the_failed_grants_those_and_no_others(
    life: Life, session: AsyncSession, database: Database
) -> None:
    first = await life.first(2, 5)
    failed = [(await life.lines(first))[n] for n in (1, 4)]
    # Who came late would be granted by any other run of the round.
    late = await make_member(session, life.thanks.association)
    await make_attendance(session, life.thanks.event, late)
    await session.commit()
    second = await life.draft(failed_of=first["id"])
    assert (second["failed_of"], second["policy_number"]) == (first["id"], 1)
    for name in ("exam_round_id", "policy_id", "area_code", "channel"):
        assert second[name] == first[name]
    second = await life.step(second, "calculate")

    assert _granted(await life.lines(second)) == _granted(failed)
    summary = await life.clerk.ok("GET", f"{_RUNS}/{second['id']}/summary")
    assert summary["failed_of"] == first["id"]
    listed = await life.clerk.ok("GET", _RUNS, params={"failed_of": first["id"]})
    assert [each["id"] for each in listed["items"]] == [second["id"]]
    settled = await life.hand_out(second)
    assert settled["status"] == "settled"
    third = await life.step(await life.draft(failed_of=first["id"]), "calculate")
    assert third["payout_count"] == 0, "what failed was paid by the second"
    await agree(database)


async def test_who_left_meanwhile_is_granted_again_what_failed(life: Life, officer: Client) -> None:
    first = await life.first(1)
    (failed, *_) = await life.lines(first)
    path = f"/v1/members/{failed['member_id']}"
    headers = if_match(await officer.ok("GET", path))
    await officer.ok("POST", f"{path}/leave", json={"left_on": "2020-01-01"}, headers=headers)
    second = await life.step(await life.draft(failed_of=first["id"]), "calculate")
    assert _granted(await life.lines(second)) == _granted([failed])
    assert (await life.hand_out(second))["status"] == "settled"


async def test_what_came_back_is_free_and_what_another_granted_meanwhile_is_not(
    life: Life, database: Database
) -> None:
    first = await life.first(1, 2)
    lines = await life.lines(first)
    back = lines[4]
    await life.clerk.ok(
        "POST",
        f"/v1/payouts/{back['id']}/return",
        json={"reason": "退回"},
        headers=idempotency_key("b"),
        status=204,
    )
    total = (await life.clerk.ok("GET", f"{_RUNS}/{first['id']}/summary"))["total"]
    ended = [total[f"{name}_count"] for name in ("pending", "paid", "failed", "returned")]
    assert (ended[3], sum(ended)) == (1, total["payout_count"])
    one = await life.draft(failed_of=first["id"])
    other = await life.step(await life.draft(failed_of=first["id"]), "calculate")
    assert _granted(await life.lines(other)) == _granted([lines[0], lines[1], back])
    one = await life.step(one, "calculate")
    assert one["payout_count"] == 0
    await life.step(other, "cancel")
    assert (await life.step(one, "calculate"))["payout_count"] == 3
    await agree(database)


async def test_by_another_channel_and_by_the_version_of_the_first(
    life: Life, session: AsyncSession
) -> None:
    first = await life.first(1)
    await make_version(session, life.thanks.policy, [make_cash("other", amount_fen=1)])
    await session.commit()
    second = await life.draft(failed_of=first["id"], channel="bank_file")
    assert second["channel"] == "bank_file"
    second = await life.step(second, "calculate")
    assert second["policy_number"] == 1
    assert _granted(await life.lines(second)) == _granted((await life.lines(first))[:1])


async def test_an_attendance_voided_since_is_not_thanked_for_again(
    life: Life, client: Callable[..., Client]
) -> None:
    first = await life.first(1, 3)
    lines = await life.lines(first)
    officer = client(Role.DISTRICT_OFFICER)
    path = f"/v1/service-events/{life.thanks.event.id}/attendances/{lines[0]['member_id']}"
    read = await officer.ok("GET", path)
    await officer.ok("POST", f"{path}/void", headers=if_match(read), json={"reason": "误扫"})
    second = await life.step(await life.draft(failed_of=first["id"]), "calculate")
    assert _granted(await life.lines(second)) == _granted([lines[2]])


async def test_it_is_of_a_settled_run_within_reach_and_of_nothing_else(
    life: Life, session: AsyncSession, client: Callable[..., Client]
) -> None:
    running = await life.step(await life.draft(**life.thanks.draft), "calculate")
    other = await make_round(session, 2)
    await session.commit()

    async def refused(clerk: Client, **body: Any) -> tuple[list[str], str]:
        problem = await clerk.refused(
            "POST",
            _RUNS,
            json=body,
            headers=idempotency_key(clock.new_id()),
            status=422,
            code="invalid",
        )
        return pointers(problem), problem["errors"][0]["code"]

    clerk = life.clerk
    assert await refused(clerk, failed_of=running["id"]) == (["/failed_of"], "run_not_settled")
    assert await refused(clerk) == (["/exam_round_id", "/policy_id"], "missing")
    assert await refused(clerk, failed_of=str(other.id)) == (["/failed_of"], "unknown_reference")
    first = await life.hand_out(running, 1)
    for name, value in (
        ("exam_round_id", str(other.id)),
        ("policy_id", str(other.id)),
        ("area_code", GUICHENG),
    ):
        body = {"failed_of": first["id"], name: value}
        assert await refused(clerk, **body) == ([f"/{name}"], "other_than_failed_of")
    far = client(Role.FINANCE_CLERK, areas=[GUICHENG])
    assert (await refused(far, failed_of=first["id"]))[1] == "unknown_reference"
    same = {**life.thanks.draft, "failed_of": first["id"], "area_code": first["area_code"]}
    assert (await life.draft(**same))["failed_of"] == first["id"]


@pytest.mark.parametrize("step", ["settled", "closed"])
async def test_a_closed_run_may_still_have_one_of_its_failed(life: Life, step: str) -> None:
    first = await life.first(1)
    if step == "closed":
        first = await life.step(first, "close")
    assert first["status"] == step
    second = await life.step(await life.draft(failed_of=first["id"]), "calculate")
    assert second["payout_count"] == 1
