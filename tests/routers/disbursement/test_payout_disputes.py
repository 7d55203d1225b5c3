"""Payout disputes over HTTP: one waits, the others go on, and the member has an answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.roles import Role
from tests.factories.callers import GUICHENG, SHISHAN, Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.disbursement.vouchers import make_issued
from tests.factories.finance.funds import agree

_MINE, _OFFICE = "/v1/me/payout-disputes", "/v1/payout-disputes"
_REASON = {"reason": "核对签名，非本人"}


@dataclass
class Life:
    """A run under way, its clerk, and the member whose payout is on a line."""

    run: PayoutRun
    thanks: Thanks
    clerk: Client
    client: Callable[..., Client]
    members: dict[int, Client] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where the run is."""
        return f"/v1/payout-runs/{self.run.id}"

    async def line(self, number: int = 0) -> dict[str, Any]:
        """Give the payout of a member of the thanks."""
        params = {"member_id": str(self.thanks.members[number].id)}
        page = await self.clerk.ok("GET", f"{self.path}/payouts", params=params)
        return dict(page["items"][0])

    def member(self, number: int = 0) -> Client:
        """Call as a member of the thanks."""
        if number not in self.members:
            member_id = str(self.thanks.members[number].id)
            self.members[number] = self.client(Role.MEMBER, member_id=member_id)
        return self.members[number]

    async def enter(self, *lines: dict[str, Any], outcome: str = "paid") -> list[dict[str, Any]]:
        """Enter a result for some lines."""
        reason = {"reason": "本人未到"} if outcome == "failed" else {}
        results = [{"line_no": each["line_no"], "outcome": outcome} | reason for each in lines]
        answer = await self.clerk.ok("POST", f"{self.path}/results", json={"results": results})
        return list(answer["items"])

    async def dispute(self, kind: str = "not_me", **options: Any) -> Any:
        """Say that the first member's payout is wrong."""
        path = f"/v1/me/payouts/{(await self.line())['id']}/dispute"
        sent: dict[str, Any] = {"status": 201, "json": {"kind": kind}} | options
        return await self.member().ok("POST", path, **sent)

    async def step(self, caller: Client, name: str, **options: Any) -> Any:
        """Take the run a step on."""
        run = await self.clerk.ok("GET", self.path)
        return await caller.ok("POST", f"{self.path}/{name}", headers=if_match(run), **options)


@pytest_asyncio.fixture
async def life(client: Callable[..., Client], session: AsyncSession) -> Life:
    thanks = await make_thanks(session)
    run = await make_granted_run(session, thanks)
    await session.commit()
    return Life(run, thanks, client(Role.FINANCE_CLERK), client)


async def test_a_disputed_payout_waits_and_the_others_go_on(life: Life, database: Database) -> None:
    dispute = await life.dispute()
    first, second = await life.line(0), await life.line(1)
    answers = await life.enter(first, second)

    assert (dispute["status"], dispute["holds"], dispute["kind"]) == ("open", True, "not_me")
    assert dispute["payout_id"] == first["id"]
    assert date.fromisoformat(dispute["due_on"]) > date.fromisoformat(dispute["created_at"][:10])
    assert (first["status"], second["status"]) == ("held", "pending")
    assert [answer["status"] for answer in answers] == ["rejected", "recorded"]
    assert answers[0]["problem"]["code"] == "payout_held"
    problem = await life.clerk.refused(
        "POST",
        f"{life.path}/settle",
        headers=if_match(await life.clerk.ok("GET", life.path)) | {"Accept-Language": "en"},
        status=409,
        code="payouts_pending",
    )
    assert {name: count for name, count in problem.items() if name.endswith("_count")} == {
        "pending_count": 1,
        "waiting_count": 0,
        "sending_count": 0,
        "unknown_count": 0,
        "held_count": 1,
        "disputes_count": 1,
        "decisions_count": 0,
    }
    assert "1 are held, and take no result before the open disputes (1)" in problem["detail"]
    (mine,) = (await life.member().ok("GET", "/v1/me/payouts"))["items"]
    assert mine["status"] == "held"
    await agree(database)


async def test_a_second_click_answers_the_same(life: Life) -> None:
    first = await life.dispute(headers=idempotency_key("d"))
    assert await life.dispute(headers=idempotency_key("d")) == first
    assert await life.dispute(status=200) == first
    path = f"/v1/me/payouts/{first['payout_id']}/dispute"
    answer = await life.member().post(path, json={"kind": "not_me"})
    assert answer.headers["location"] == f"{_MINE}/{first['id']}"
    other = {"json": {"kind": "wrong_amount"}}
    await life.member().refused("POST", path, status=409, code="dispute_already_open", **other)
    assert (await life.member().ok("GET", _MINE))["items"] == [first]


async def test_clicks_at_the_same_moment_are_one_dispute(life: Life) -> None:
    path = f"/v1/me/payouts/{(await life.line())['id']}/dispute"
    me = life.member()
    answers = await asyncio.gather(*(me.post(path, json={"kind": "not_me"}) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_only_her_own_payout_of_an_approved_run_is_disputed(
    life: Life, session: AsyncSession
) -> None:
    said = {"json": {"kind": "not_me"}}
    theirs = (await life.line(1))["id"]
    for path in (
        f"/v1/me/payouts/{theirs}/dispute",
        f"/v1/me/payouts/{life.run.id}/dispute",
        f"/v1/me/payouts/{life.thanks.round.id}/dispute",
    ):
        await life.member().refused("POST", path, status=404, code="not_found", **said)
    other = await make_thanks(session, sequence=2, members=1)
    run = await make_granted_run(session, other, RunStatus.SUBMITTED)
    await session.commit()
    page = await life.clerk.ok("GET", f"/v1/payout-runs/{run.id}/payouts")
    path = f"/v1/me/payouts/{page['items'][0]['id']}/dispute"
    me = life.client(Role.MEMBER, member_id=str(other.members[0].id))
    await me.refused("POST", path, status=404, code="not_found", **said)


@pytest.mark.parametrize("status", ["sending", "unknown", "failed", "held"])
async def test_what_is_on_its_way_or_was_not_paid_is_refused_with_a_remedy(
    life: Life, owner: Database, status: str
) -> None:
    settled = "failure_reason = 'x', settled_at = now()," if status == "failed" else ""
    await owner.pool.execute(f"update payouts set {settled} status = '{status}'")
    path = f"/v1/me/payouts/{(await life.line())['id']}/dispute"
    said = {"json": {"kind": "not_me"}}
    problem = await life.member().refused(
        "POST", path, status=409, code="payout_undisputable", **said
    )
    assert problem["payout_status"] == status
    assert "/v1/me/corrections" in problem["detail"]


async def test_a_withdrawn_dispute_lets_the_payout_go_on(life: Life, database: Database) -> None:
    dispute = await life.dispute("wrong_amount")
    path = f"{_MINE}/{dispute['id']}"
    await life.member(1).refused("GET", path, status=404, code="not_found")
    await life.member(1).refused(
        "POST", f"{path}/withdraw", headers=if_match(dispute), status=404, code="not_found"
    )
    withdrawn = await life.member().ok("POST", f"{path}/withdraw", headers=if_match(dispute))

    assert (withdrawn["status"], withdrawn["version"]) == ("withdrawn", 2)
    assert (await life.member().ok("GET", path)) == withdrawn
    assert (await life.line())["status"] == "pending"
    await life.member().refused(
        "POST", f"{path}/withdraw", headers=if_match(withdrawn), status=409, code="dispute_closed"
    )
    assert (await life.dispute("wrong_amount"))["id"] != dispute["id"]
    await agree(database)


async def test_upheld_fails_with_the_reason_and_frees_the_grant(
    life: Life, database: Database
) -> None:
    dispute = await life.dispute()
    path = f"{_OFFICE}/{dispute['id']}/uphold"
    upheld = await life.clerk.ok("POST", path, headers=if_match(dispute), json=_REASON)
    await life.enter(await life.line(1))
    settled = await life.step(life.clerk, "settle")

    assert (upheld["status"], upheld["answered_by"]) == ("upheld", "finance_clerk-1")
    mine = await life.member().ok("GET", f"{_MINE}/{dispute['id']}")
    assert (mine["status"], mine["answer"]) == ("upheld", _REASON["reason"])
    assert mine["closed_at"] is not None
    line = await life.line()
    assert (line["status"], line["failure_reason"]) == ("failed", _REASON["reason"])
    assert settled["status"] == "settled"
    await agree(database)


async def test_dismissed_goes_on_and_is_not_disputed_again(life: Life, database: Database) -> None:
    dispute = await life.dispute()
    path = f"{_OFFICE}/{dispute['id']}/dismiss"
    body: dict[str, Any] = {"headers": if_match(dispute), "json": _REASON}
    dismissed = await life.clerk.ok("POST", path, **body)
    assert (dismissed["status"], dismissed["answer"]) == ("dismissed", _REASON["reason"])
    line = await life.line()
    assert line["status"] == "pending"
    said = {"json": {"kind": "not_me"}}
    again = f"/v1/me/payouts/{line['id']}/dispute"
    await life.member().refused("POST", again, status=409, code="dispute_answered", **said)
    body["headers"] = if_match(dismissed)
    await life.clerk.refused("POST", path, status=409, code="dispute_closed", **body)
    (entered,) = await life.enter(line)
    assert entered["status"] == "recorded"
    await agree(database)


async def test_who_entered_a_payment_does_not_say_that_the_member_is_wrong(
    life: Life, client: Callable[..., Client], database: Database
) -> None:
    await life.enter(await life.line())
    dispute = await life.dispute()
    path = f"{_OFFICE}/{dispute['id']}/dismiss"
    body: dict[str, Any] = {"headers": if_match(dispute), "json": _REASON}
    await life.clerk.refused("POST", path, status=403, code="giver_is_judge", **body)
    assert await life.member().ok("GET", f"{_MINE}/{dispute['id']}") == dispute
    another = client(Role.FINANCE_CLERK, subject="another-clerk")
    dismissed = await another.ok("POST", path, **body)
    assert (dismissed["status"], dismissed["answered_by"]) == ("dismissed", "another-clerk")
    await agree(database)


async def test_not_me_of_a_paid_payout_is_for_a_person_to_decide(
    life: Life, database: Database
) -> None:
    line = await life.line()
    await life.enter(line)
    dispute = await life.dispute()
    assert dispute["holds"] is False
    assert (await life.line())["status"] == "paid"
    approver = life.client(Role.FINANCE_APPROVER)
    path = f"{_OFFICE}/{dispute['id']}/uphold"
    await life.clerk.ok("POST", path, headers=if_match(dispute), json=_REASON)
    (decision,) = (await approver.ok("GET", "/v1/payout-decisions"))["items"]
    assert (decision["cause"], decision["dispute_id"]) == ("dispute_upheld", dispute["id"])
    assert (decision["status"], decision["payout_status"]) == ("open", "paid")
    choice = {"choice": "recover", "reason": "冒领，追回"}
    decided = await approver.ok(
        "POST",
        f"/v1/payout-decisions/{decision['id']}/decide",
        headers=if_match(decision),
        json=choice,
    )
    assert decided["status"] == "recovering"
    await life.clerk.ok(
        "POST",
        f"/v1/payouts/{line['id']}/return",
        json={"reason": "冒领款已收回"},
        headers=idempotency_key("back"),
        status=204,
    )
    back = await approver.ok("GET", f"/v1/payout-decisions/{decision['id']}")
    assert (back["status"], back["payout_status"]) == ("recovered", "returned")
    assert back["closed_at"] is not None
    await agree(database)


async def test_each_office_sees_the_disputes_of_its_places(life: Life) -> None:
    dispute = await life.dispute()
    path = f"{_OFFICE}/{dispute['id']}"
    for role, areas, sees in (
        (Role.TOWN_OFFICER, [SHISHAN], True),
        (Role.AUDITOR, [SHISHAN], True),
        (Role.FINANCE_APPROVER, [SHISHAN], True),
        (Role.TOWN_OFFICER, [GUICHENG], False),
    ):
        office = life.client(role, areas=areas)
        page = await office.ok("GET", _OFFICE, params={"status": "open", "kind": "not_me"})
        assert [each["id"] for each in page["items"]] == ([dispute["id"]] if sees else [])
        assert (await office.get(path)).status_code == (200 if sees else 404)
    far = life.client(Role.TOWN_OFFICER, areas=[GUICHENG])
    body = {"headers": if_match(dispute), "json": _REASON}
    await far.refused("POST", f"{path}/uphold", status=404, code="not_found", **body)
    auditor = life.client(Role.AUDITOR)
    await auditor.refused("POST", f"{path}/dismiss", status=403, code="forbidden", **body)
    for params, found in (
        ({"overdue": "true"}, 0),
        ({"area": SHISHAN}, 1),
        ({"area": GUICHENG}, 0),
        ({"run_id": str(life.run.id)}, 1),
        ({"member_id": str(life.thanks.members[1].id)}, 0),
        ({"due_on_lt": "2026-01-01"}, 0),
        ({"due_on_gte": "2026-01-01"}, 1),
    ):
        assert len((await life.clerk.ok("GET", _OFFICE, params=params))["items"]) == found


async def test_of_a_dispute_and_a_result_at_the_same_moment_one_wins(
    life: Life, database: Database
) -> None:
    outcomes = set()
    for number in range(2):
        line = await life.line(number)
        me = life.member(number)
        said = me.post(f"/v1/me/payouts/{line['id']}/dispute", json={"kind": "not_me"})
        entered, dispute = await asyncio.gather(life.enter(line), said)
        now = (await life.line(number))["status"]
        outcomes.add((entered[0]["status"], dispute.status_code, dispute.json()["holds"], now))
        await agree(database)
    # Whoever comes second sees what the first did: a held line takes no result, a paid one is not
    # held but disputed.
    assert outcomes <= {("rejected", 201, True, "held"), ("recorded", 201, False, "paid")}


async def test_an_upheld_dispute_ends_the_voucher_of_its_payout(
    client: Callable[..., Client], session: AsyncSession, keyring: Keyring, database: Database
) -> None:
    issued = await make_issued(session, keyring, members=2)
    await session.commit()
    life = Life(issued.run, issued.thanks, client(Role.FINANCE_CLERK), client)
    dispute = await life.dispute()
    path = f"{_OFFICE}/{dispute['id']}/uphold"
    await life.clerk.ok("POST", path, headers=if_match(dispute), json=_REASON)

    page = await life.member().ok("GET", "/v1/me/vouchers")
    assert [(each["status"], each["code"]) for each in page["items"]] == [("cancelled", None)]
    await agree(database)
