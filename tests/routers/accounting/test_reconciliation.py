"""Reconciliation over HTTP: each way in which the sides of a payout can disagree is told."""

from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.disbursement.payouts import PayoutOutcome, ResultLine
from app.roles import Role
from app.services.disbursement import payouts
from tests.factories.callers import SHISHAN, Client, make_caller
from tests.factories.channels.gateway import make_gateway_run, work
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.members import make_member


class Paid:
    """A run of two rules over three members, all of it paid, and who looks at it."""

    def __init__(self, thanks: Thanks, run: PayoutRun, clerk: Client) -> None:
        self.thanks, self.run, self.clerk = thanks, run, clerk
        self.path = f"/v1/payout-runs/{run.id}/reconciliation"

    async def outcomes(self) -> dict[str, tuple[int, int]]:
        """Give how many payouts came to each outcome, and their fen."""
        told = await self.clerk.ok("GET", self.path)
        return {
            each["outcome"]: (each["payout_count"], each["amount_fen"]) for each in told["outcomes"]
        }

    async def mismatches(self, **query: Any) -> list[dict[str, Any]]:
        """Give the first page of the list."""
        page = await self.clerk.ok("GET", f"{self.path}/mismatches", params=query)
        items: list[dict[str, Any]] = page["items"]
        return items


@pytest_asyncio.fixture
async def paid(session: AsyncSession, client: Callable[..., Client]) -> Paid:
    thanks = await make_thanks(session, [make_cash(amount_fen=1000), make_gift()], members=3)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING, calculated_at=clock.now())
    lines = await payouts.lines_of(session, run, range(1, 7))
    results = [
        ResultLine(line_no=number, outcome=PayoutOutcome.PAID, reason=None) for number in lines
    ]
    await payouts.record(session, make_caller(), run, lines=lines, results=results, now=clock.now())
    await session.commit()
    return Paid(thanks, run, client(Role.FINANCE_CLERK))


async def test_what_agrees_is_no_mismatch(paid: Paid) -> None:
    assert await paid.outcomes() == {"matched": (6, 3000)}
    assert await paid.mismatches() == []


_CASH = "amount_fen > 0 and member_id = '{member}'"
_CHANGES = {
    "a voided attendance": (
        (
            "update attendances set voided_at = now(), voided_by = 'o', void_reason = 'x'"
            " where member_id = '{member}'"
        ),
        {"attendance_voided": (2, 1000)},
    ),
    "a member who had left before she came": (
        (
            "with m as (update members set status = 'left' where id = '{member}')"
            " update memberships set joined_on = '2020-01-01', recorded_at = '2020-01-01',"
            " left_on = '2020-01-02', left_recorded_at = '2020-01-02' where member_id = '{member}'"
        ),
        {"no_longer_granted": (2, 1000)},
    ),
    "consent taken back": (
        "update members set thanks_withdrawn_on = now() where id = '{member}'",
        {"no_longer_granted": (2, 1000)},
    ),
    "another amount": (
        f"update payouts set amount_fen = 900 where {_CASH}",
        {"entry_without_payment": (1, 900)},
    ),
    "another amount in the rule": (
        "update incentive_rules set amount_fen = 1100 where reward = 'cash'",
        {"amount_differs": (3, 3000)},
    ),
    "a payment that the books do not know": (
        (
            "delete from transfers where kind = 'pay' and line_no in (select line_no from payouts"
            f" where {_CASH})"
        ),
        {"paid_without_entry": (1, 1000)},
    ),
    "a result that was changed": (
        f"update payouts set status = 'failed', failure_reason = 'x' where {_CASH}",
        {"entry_without_payment": (1, 1000)},
    ),
    "a line that is gone": (
        f"delete from payouts where {_CASH}",
        {"granted_but_not_in_run": (1, 1000)},
    ),
    "a gift that was not fetched": (
        (
            "update payouts set status = 'failed', failure_reason = '未领'"
            " where quantity > 0 and member_id = '{member}'"
        ),
        {"failed": (1, 0)},
    ),
    "a gift that came back": (
        (
            "update payouts set status = 'returned', failure_reason = '退回'"
            " where quantity > 0 and member_id = '{member}'"
        ),
        {"returned": (1, 0)},
    ),
    "a gift nobody can tell of": (
        (
            "update payouts set status = 'unknown', settled_at = null"
            " where quantity > 0 and member_id = '{member}'"
        ),
        {"unknown": (1, 0)},
    ),
}


@pytest.mark.parametrize(("change", "expected"), _CHANGES.values(), ids=_CHANGES)
async def test_a_mismatch_is_told_with_its_reason(
    paid: Paid, session: AsyncSession, change: str, expected: dict[str, tuple[int, int]]
) -> None:
    member = str(paid.thanks.members[1].id)
    await session.execute(text(change.format(member=member)))
    await session.commit()

    told = await paid.outcomes()
    told.pop("matched")
    listed = await paid.mismatches()

    assert told == expected
    [(reason, (number, _))] = expected.items()
    assert [each["reason"] for each in listed] == [reason] * number
    if reason != "amount_differs":
        assert {each["member_id"] for each in listed} == {member}
    assert await paid.mismatches(reason=reason) == listed
    assert await paid.mismatches(reason="proof_differs") == []


async def _refusals(clerk: Client, thanks: Thanks, member: str) -> dict[str, str | None]:
    """Give why no rule grants, as it is explained to the member."""
    explained = await clerk.ok(
        "GET", f"/v1/members/{member}/eligibility", params={"round_id": str(thanks.round.id)}
    )
    return {rule["rule_id"]: rule["reason"] for rule in explained["rules"]}


async def test_a_mismatch_shows_each_side(paid: Paid, session: AsyncSession) -> None:
    member = str(paid.thanks.members[0].id)
    await session.execute(
        text(
            "update attendances set voided_at = now(), voided_by = 'o', void_reason = 'x'"
            " where member_id = :member"
        ),
        {"member": member},
    )
    await session.commit()
    listed = await paid.mismatches()
    cash = next(each for each in listed if each["amount_fen"])
    assert cash["payout_id"] is not None
    assert (cash["attended"], cash["entitled_fen"]) == (False, 0)
    assert await _refusals(paid.clerk, paid.thanks, member) == {
        each["rule_id"]: each["refusal"] for each in listed
    }
    assert cash["refusal"] == "attendance_voided"
    assert (cash["amount_fen"], cash["entries_fen"], cash["proof"]) == (1000, 1000, "paid")
    assert cash["proved_by"] == make_caller().subject
    assert cash["proved_at"] is not None


async def test_a_lecture_that_was_voided_is_told(
    session: AsyncSession, client: Callable[..., Client]
) -> None:
    thanks = await make_thanks(session, [make_cash(event_kind="lecture")], members=0)
    lecture = await make_event(session, starts_at=thanks.event.starts_at, status="closed")
    member = await make_member(session, thanks.association)
    await make_attendance(session, lecture, member)
    run = await make_granted_run(session, thanks, calculated_at=clock.now())
    await session.execute(
        text("update attendances set voided_at = now(), voided_by = 'o', void_reason = 'x'")
    )
    await session.commit()
    auditor = client(Role.AUDITOR)
    path = f"/v1/payout-runs/{run.id}/reconciliation"
    told = await auditor.ok("GET", path)
    assert [each["outcome"] for each in told["outcomes"]] == ["attendance_voided"]
    [listed] = (await auditor.ok("GET", f"{path}/mismatches"))["items"]
    explained = await _refusals(client(Role.FINANCE_CLERK), thanks, str(member.id))
    assert explained == {listed["rule_id"]: listed["refusal"]}


@pytest.mark.parametrize("comes_to_a_lecture", ["yes", "no"])
async def test_a_town_explains_a_voided_attendance_as_its_reconciliation_does(
    session: AsyncSession, client: Callable[..., Client], comes_to_a_lecture: str
) -> None:
    rules = [make_cash(), make_cash("lecture", event_kind="lecture")]
    thanks = await make_thanks(session, rules, members=1, area_code=SHISHAN)
    [member] = thanks.members
    run = await make_granted_run(session, thanks, calculated_at=clock.now())
    await session.execute(
        text("update attendances set voided_at = now(), voided_by = 'o', void_reason = 'x'")
    )
    if comes_to_a_lecture == "yes":
        lecture = await make_event(session, starts_at=thanks.event.starts_at, status="closed")
        await make_attendance(session, lecture, member)
    await session.commit()
    clerk = client(Role.FINANCE_CLERK)
    path = f"/v1/payout-runs/{run.id}/reconciliation/mismatches"
    told = {
        each["rule_id"]: each["refusal"]
        for each in (await clerk.ok("GET", path))["items"]
        if each["payout_id"] is not None
    }
    explained = await _refusals(clerk, thanks, str(member.id))
    assert told
    assert told.items() <= explained.items()


async def test_what_another_run_granted_meanwhile_is_missing_in_none(
    session: AsyncSession, client: Callable[..., Client]
) -> None:
    thanks = await make_thanks(session, members=1)
    first = await make_granted_run(session, thanks, calculated_at=clock.now())
    late = await make_member(session, thanks.association)
    await make_attendance(session, thanks.event, late)
    second = await make_granted_run(session, thanks, calculated_at=clock.now())
    await session.commit()
    clerk = client(Role.FINANCE_CLERK)
    for run in (first, second):
        told = await clerk.ok("GET", f"/v1/payout-runs/{run.id}/reconciliation")
        assert told["outcomes"] == [
            {"outcome": "waiting", "payout_count": 1, "amount_fen": run.amount_fen}
        ]


@pytest.mark.parametrize("status", [RunStatus.DRAFT, RunStatus.REJECTED, RunStatus.CANCELLED])
async def test_a_run_that_grants_nothing_is_not_reconciled(
    session: AsyncSession, client: Callable[..., Client], status: RunStatus
) -> None:
    thanks = await make_thanks(session)
    run = await make_run(session, thanks.round, thanks.policy, status)
    await session.commit()
    for path in ("reconciliation", "reconciliation/mismatches"):
        await client(Role.FINANCE_CLERK).refused(
            "GET", f"/v1/payout-runs/{run.id}/{path}", status=409, code="run_state"
        )


@pytest.mark.usefixtures("till")
async def test_the_gateways_word_is_a_side_of_its_own(
    app: FastAPI, session: AsyncSession, client: Callable[..., Client]
) -> None:
    thanks, run = await make_gateway_run(session, app.state.keyring, calculated_at=clock.now())
    await session.commit()
    paid = Paid(thanks, run, client(Role.FINANCE_CLERK))
    assert await paid.outcomes() == {"waiting": (3, 3000)}
    await work(app)
    assert await paid.outcomes() == {"matched": (3, 3000)}

    await session.execute(
        text("update gateway_payments set state = 'failed', receipt = null, paid_on = null")
    )
    await session.execute(text("delete from gateway_payments where line_no = 1"))
    await session.commit()
    assert await paid.outcomes() == {"no_signature_line": (1, 1000), "proof_differs": (2, 2000)}
