"""Payout runs over HTTP: from a draft to settled, by two people, each fen accounted for."""

import asyncio
import csv
import io
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.disbursement.payout_runs import Channel, RunStatus
from app.models.membership.members import Member
from app.roles import Role
from app.services.disbursement import payout_marks
from app.services.events import exam_rounds
from tests.factories.callers import (
    DISTRICT,
    GUICHENG,
    SHISHAN,
    VILLAGE,
    Client,
    idempotency_key,
    if_match,
    pointers,
)
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_run, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.incentives.incentive_policies import (
    make_cash,
    make_gift,
    make_policy,
    make_version,
)
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association
from tests.waiting import SOMEBODY_WAITS, until

_RUNS = "/v1/payout-runs"
_GUICHENG_VILLAGE = "440605011001"
_STEPS = ("calculate", "submit", "approve", "reject", "cancel", "disburse", "settle", "close")
_CHECKED = {"approve", "reject", "close"}
_ALLOWED = {
    "calculate": {RunStatus.DRAFT, RunStatus.CALCULATED},
    "submit": {RunStatus.CALCULATED},
    "approve": {RunStatus.SUBMITTED},
    "reject": {RunStatus.SUBMITTED},
    "cancel": {RunStatus.DRAFT, RunStatus.CALCULATED, RunStatus.SUBMITTED},
    "disburse": {RunStatus.APPROVED},
    "settle": {RunStatus.DISBURSING},
    "close": {RunStatus.SETTLED},
}
_BLANK_LIST = (
    b"\xef\xbb\xbf"
    + (
        "序号,姓名,工号,协会,项目,金额(元),礼品,签名,结果,原因\r\n"
        "合计笔数,0\r\n合计金额(元),0.00\r\n校验值,0\r\n"
    ).encode()
)


class Offices:
    """The people that a run passes through, each a caller of the district."""

    def __init__(self, client: Callable[..., Client]) -> None:
        self.clerk = client(Role.FINANCE_CLERK)
        self.approver = client(Role.FINANCE_APPROVER)

    async def draft(self, thanks: Thanks, **facts: Any) -> dict[str, Any]:
        """Draft a run."""
        headers = idempotency_key(clock.new_id())
        body = thanks.draft | facts
        run: dict[str, Any] = await self.clerk.ok(
            "POST", _RUNS, json=body, headers=headers, status=201
        )
        return run

    async def step(self, run: dict[str, Any], *steps: str) -> dict[str, Any]:
        """Take a run through some steps."""
        for step in steps:
            caller = self.approver if step in _CHECKED else self.clerk
            body = {"reason": "金额与方案不符"} if step == "reject" else None
            path = f"{_RUNS}/{run['id']}/{step}"
            run = await caller.ok("POST", path, headers=if_match(run), json=body)
        return run

    async def lines(self, run: dict[str, Any], **params: str) -> list[dict[str, Any]]:
        """Give the lines of a run."""
        page = await self.clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts", params=params)
        return list(page["items"])


@pytest.fixture
def offices(client: Callable[..., Client]) -> Offices:
    return Offices(client)


@pytest_asyncio.fixture
async def thanks(session: AsyncSession) -> Thanks:
    thanks = await make_thanks(session, [make_cash(), make_gift(quantity=2)])
    await session.commit()
    return thanks


async def test_a_run_goes_from_a_draft_to_settled(offices: Offices, thanks: Thanks) -> None:
    draft = await offices.draft(thanks)
    assert (draft["status"], draft["version"], draft["policy_number"]) == ("draft", 1, None)
    assert (draft["area_code"], draft["round_sequence"]) == (DISTRICT, 1)
    run = await offices.step(draft, "calculate")
    assert (run["payout_count"], run["amount_fen"], run["policy_number"]) == (4, 2000, 1)
    run = await offices.step(run, "submit", "approve", "disburse")
    results = [{"line_no": n, "outcome": "paid"} for n in (1, 2, 3)]
    results += [{"line_no": 4, "outcome": "failed", "reason": "本人未到"}]
    path = f"{_RUNS}/{run['id']}"
    answers = await offices.clerk.ok("POST", f"{path}/results", json={"results": results})
    settled = await offices.step(run, "settle")

    assert [answer["status"] for answer in answers["items"]] == ["recorded"] * 4
    assert (settled["status"], settled["version"]) == ("settled", 6)
    assert settled["created_by"] == settled["submitted_by"] == "finance_clerk-1"
    assert settled["approved_by"] == "finance_approver-1"
    moments = [settled[f"{step}_at"] for step in ("calculated", "submitted", "approved", "settled")]
    assert moments == sorted(moments)
    read = await offices.clerk.get(path)
    assert read.json() == settled
    assert read.headers["etag"] == '"6"'
    total = (await offices.clerk.ok("GET", f"{path}/summary"))["total"]
    assert (total["paid_count"], total["failed_count"], total["pending_count"]) == (3, 1, 0)


async def test_drafting_needs_a_key_so_that_two_clicks_are_one_run(
    offices: Offices, thanks: Thanks
) -> None:
    clerk = offices.clerk
    await clerk.refused(
        "POST", _RUNS, json=thanks.draft, status=400, code="idempotency_key_required"
    )
    options: dict[str, Any] = {"json": thanks.draft, "headers": idempotency_key("once")}
    answers = [await clerk.post(_RUNS, **options) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].headers["location"] == f"{_RUNS}/{answers[0].json()['id']}"
    assert answers[1].headers["idempotency-replayed"] == "true"
    page = await clerk.ok("GET", _RUNS)
    assert page["items"] == [answers[0].json()] == [answers[1].json()]


async def test_clicks_at_the_same_moment_give_runs_of_different_ids(
    offices: Offices, thanks: Thanks
) -> None:
    runs = await asyncio.gather(*(offices.draft(thanks) for _ in range(8)))
    assert len({run["id"] for run in runs}) == 8


async def test_what_a_draft_refers_to_exists_and_is_within_reach(
    client: Callable[..., Client], session: AsyncSession, thanks: Thanks
) -> None:
    other = await make_policy(session, area_code=GUICHENG)
    await session.commit()
    clerk = client(Role.FINANCE_CLERK, areas=[SHISHAN])
    for changed, pointer, code in (
        ({"exam_round_id": str(other.id)}, "/exam_round_id", "unknown_reference"),
        ({"policy_id": str(thanks.round.id)}, "/policy_id", "unknown_reference"),
        ({"policy_id": str(other.id)}, "/policy_id", "unknown_reference"),
        ({"area_code": GUICHENG}, "/area_code", "out_of_reach"),
        ({"area_code": DISTRICT}, "/area_code", "out_of_reach"),
        ({"area_code": "440605124999"}, "/area_code", "unknown_reference"),
    ):
        problem = await clerk.refused(
            "POST",
            _RUNS,
            json=thanks.draft | changed,
            headers=idempotency_key("k"),
            status=422,
            code="invalid",
        )
        named = [(error["pointer"], error["code"]) for error in problem["errors"]]
        assert named == [(pointer, code)]
    district = client(Role.FINANCE_CLERK)
    problem = await district.refused(
        "POST",
        _RUNS,
        json=thanks.draft | {"policy_id": str(other.id), "area_code": SHISHAN},
        headers=idempotency_key("k"),
        status=422,
        code="invalid",
    )
    assert problem["errors"][0]["code"] == "area_outside_policy"


@pytest.mark.parametrize(
    ("areas", "chosen"),
    [
        ([DISTRICT], DISTRICT),
        ([SHISHAN], SHISHAN),
        ([VILLAGE, SHISHAN], SHISHAN),
        ([VILLAGE], VILLAGE),
        ([SHISHAN, GUICHENG], None),
    ],
)
async def test_a_run_covers_what_caller_and_policy_share(
    client: Callable[..., Client], thanks: Thanks, areas: list[str], chosen: str | None
) -> None:
    clerk = client(Role.FINANCE_CLERK, areas=areas)
    options: dict[str, Any] = {"json": thanks.draft, "headers": idempotency_key("k")}
    if chosen is not None:
        run = await clerk.ok("POST", _RUNS, status=201, **options)
        assert run["area_code"] == chosen
        return
    problem = await clerk.refused("POST", _RUNS, status=422, code="invalid", **options)
    assert pointers(problem) == ["/area_code"]


async def test_a_calculation_may_be_repeated_and_finds_who_came_since(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    first = await offices.step(await offices.draft(thanks), "calculate")
    before = await offices.lines(first)
    second = await offices.step(first, "calculate")
    assert await offices.lines(second) == before
    assert second["amount_fen"] == first["amount_fen"]

    late = await make_member(session, thanks.association)
    await make_attendance(session, thanks.event, late)
    await _void(session, thanks, thanks.members[0])
    third = await offices.step(second, "calculate")
    lines = await offices.lines(third)
    assert third["payout_count"] == 4
    assert {line["member_id"] for line in lines} == {str(thanks.members[1].id), str(late.id)}
    assert [line["line_no"] for line in lines] == [1, 2, 3, 4]


async def test_totals_per_rule_town_and_association_add_up_to_the_whole(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    neighbour = await make_association(session, "village", name="狮山村")
    distant = await make_association(session, "village", name="桂城村", area_code=_GUICHENG_VILLAGE)
    for association in (neighbour, distant, distant):
        member = await make_member(session, association)
        await make_attendance(session, thanks.event, member)
    await session.commit()
    run = await offices.step(await offices.draft(thanks), "calculate")
    summary = await offices.clerk.ok("GET", f"{_RUNS}/{run['id']}/summary")

    names = ("payout_count", "amount_fen", "gift_quantity", "pending_count")
    assert [summary["total"][name] for name in names] == [10, 5000, 10, 10]
    assert summary["total"]["payout_count"] == run["payout_count"]
    by_rule = {row["rule_code"]: [row[n] for n in names] for row in summary["by_rule"]}
    assert by_rule == {"subsidy": [5, 5000, 0, 5], "towel": [5, 0, 10, 5]}
    by_town = {row["area_name"]: row["amount_fen"] for row in summary["by_town"]}
    assert by_town == {"狮山镇": 3000, "桂城街道": 2000}
    by_place = {row["association_name"]: row["payout_count"] for row in summary["by_association"]}
    assert by_place == {"测试计生协会": 4, "狮山村": 2, "桂城村": 4}


async def test_a_draft_has_a_summary_of_nothing(offices: Offices, thanks: Thanks) -> None:
    run = await offices.draft(thanks)
    summary = await offices.clerk.ok("GET", f"{_RUNS}/{run['id']}/summary")
    assert set(summary["total"].values()) == {0}
    assert summary["by_rule"] == summary["by_town"] == summary["by_association"] == []


async def test_a_run_of_an_open_round_is_calculated_and_not_submitted(
    offices: Offices, session: AsyncSession
) -> None:
    thanks = await make_thanks(session)
    thanks.round.status, thanks.round.closed_at = "open", None
    await session.commit()
    run = await offices.step(await offices.draft(thanks), "calculate")
    path = f"{_RUNS}/{run['id']}/submit"
    await offices.clerk.refused(
        "POST", path, headers=if_match(run), status=409, code="round_still_open"
    )
    thanks.round.status, thanks.round.closed_at = "closed", clock.now()
    await session.commit()
    await offices.clerk.refused(
        "POST", path, headers=if_match(run), status=409, code="calculation_outdated"
    )
    again = await offices.step(run, "calculate", "submit")
    assert again["status"] == "submitted"


async def _void(session: AsyncSession, thanks: Thanks, member: Member) -> None:
    await session.execute(
        text(
            "update attendances set voided_at = :now, voided_by = 'officer-1', void_reason = '误签'"
            " where event_id = :event_id and member_id = :member_id"
        ),
        {"now": clock.now(), "event_id": thanks.event.id, "member_id": member.id},
    )
    await session.commit()


async def test_an_attendance_voided_since_is_not_submitted_nor_approved(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    run = await offices.step(await offices.draft(thanks), "calculate")
    await _void(session, thanks, thanks.members[0])
    path = f"{_RUNS}/{run['id']}"
    await offices.clerk.refused(
        "POST", f"{path}/submit", headers=if_match(run), status=409, code="calculation_outdated"
    )
    run = await offices.step(run, "calculate", "submit")
    assert run["payout_count"] == 2
    await _void(session, thanks, thanks.members[1])
    await offices.approver.refused(
        "POST", f"{path}/approve", headers=if_match(run), status=409, code="calculation_outdated"
    )
    assert (await offices.step(run, "reject"))["status"] == "rejected"


@pytest.mark.parametrize("step", ["reject", "cancel"])
async def test_a_run_that_was_given_up_has_no_payouts_and_counts_none(
    offices: Offices, thanks: Thanks, step: str
) -> None:
    run = await offices.step(await offices.draft(thanks), "calculate", "submit")
    assert run["payout_count"] > 0
    assert run["amount_fen"] > 0
    given_up = await offices.step(run, step)
    path = f"{_RUNS}/{run['id']}"
    for told in (given_up, await offices.clerk.ok("GET", path)):
        assert (told["payout_count"], told["amount_fen"]) == (0, 0)
    listed = await offices.clerk.ok("GET", f"{path}/payouts", params={"include_total": "true"})
    assert listed["total"] == 0


async def _voided(officer: Client, thanks: Thanks) -> Any:
    """Void the first member's attendance as an officer does."""
    path = f"/v1/service-events/{thanks.event.id}/attendances/{thanks.members[0].id}/void"
    return await officer.ok("POST", path, json={"reason": "误签"}, headers={"If-Match": '"1"'})


async def _overtaken(
    offices: Offices,
    monkeypatch: pytest.MonkeyPatch,
    run: dict[str, Any],
    slow: Coroutine[Any, Any, Any],
    *,
    waits_for: str = "hold_all",
) -> dict[str, Any]:
    """Calculate a run while another step stands in line for its round, or for all rounds."""
    asked, calculated = asyncio.Event(), asyncio.Event()
    held = getattr(exam_rounds, waits_for)

    async def in_line(*words: Any, **named: Any) -> Any:
        asked.set()
        await calculated.wait()
        return await held(*words, **named)

    monkeypatch.setattr(exam_rounds, waits_for, in_line)
    asking = asyncio.create_task(slow)
    await asked.wait()
    run = await offices.step(run, "calculate")
    calculated.set()
    await asking
    return run


async def test_a_voiding_that_a_calculation_overtook_is_later_than_it(
    offices: Offices, officer: Client, thanks: Thanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await offices.draft(thanks)
    run = await _overtaken(offices, monkeypatch, run, _voided(officer, thanks))
    await offices.clerk.refused(
        "POST",
        f"{_RUNS}/{run['id']}/submit",
        headers=if_match(run),
        status=409,
        code="calculation_outdated",
    )
    again = await offices.step(run, "calculate", "submit")
    assert again["payout_count"] < run["payout_count"]


async def test_a_restoring_that_a_calculation_overtook_is_later_than_it(
    offices: Offices, officer: Client, thanks: Thanks, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _voided(officer, thanks)
    path = f"/v1/service-events/{thanks.event.id}/attendances/{thanks.members[0].id}"
    restoring = officer.ok("POST", f"{path}/restore", headers={"If-Match": '"2"'})
    run = await _overtaken(offices, monkeypatch, await offices.draft(thanks), restoring)
    basis = await offices.clerk.ok("GET", f"{_RUNS}/{run['id']}/basis")
    assert basis["grants"]["payout_count"] == run["payout_count"]
    again = await offices.step(run, "calculate")
    assert again["payout_count"] > run["payout_count"]


async def test_a_calculation_waits_for_a_voiding_under_way(
    offices: Offices,
    officer: Client,
    thanks: Thanks,
    monkeypatch: pytest.MonkeyPatch,
    owner: Database,
) -> None:
    flushed, go_on = asyncio.Event(), asyncio.Event()
    mark = payout_marks.mark_voided

    async def slowly(*words: Any, **named: Any) -> None:
        flushed.set()
        await go_on.wait()
        await mark(*words, **named)

    monkeypatch.setattr(payout_marks, "mark_voided", slowly)
    run = await offices.draft(thanks)
    voiding = asyncio.create_task(_voided(officer, thanks))
    await flushed.wait()
    calculating = asyncio.create_task(offices.step(run, "calculate"))
    await until(owner.pool, SOMEBODY_WAITS)
    go_on.set()
    await voiding
    hers = "select count(*) from payouts where member_id = $1"
    assert (await calculating)["payout_count"]
    assert await owner.pool.fetchval(hers, thanks.members[0].id) == 0


async def test_a_round_whose_closing_waited_for_the_calculation_was_closed_after_it(
    offices: Offices,
    officer: Client,
    session: AsyncSession,
    thanks: Thanks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thanks.round.status, thanks.round.closed_at = "open", None
    await session.commit()
    path, headers = f"/v1/exam-rounds/{thanks.round.id}/close", {"If-Match": '"1"'}
    closing = officer.ok("POST", path, headers=headers)
    run = await offices.draft(thanks)
    run = await _overtaken(offices, monkeypatch, run, closing, waits_for="locked")
    await offices.clerk.refused(
        "POST",
        f"{_RUNS}/{run['id']}/submit",
        headers=if_match(run),
        status=409,
        code="calculation_outdated",
    )


@pytest.mark.parametrize("begun_before", [0, 20])
async def test_who_took_her_consent_back_since_is_not_paid_by_that_calculation(
    offices: Offices, officer: Client, thanks: Thanks, owner: Database, begun_before: int
) -> None:
    path, purpose = f"/v1/members/{thanks.members[0].id}/consents", {"purpose": "thanks"}
    await officer.ok("POST", path, status=201, json=purpose | {"method": "paper"})
    run = await offices.step(await offices.draft(thanks), "calculate")
    granted = run["payout_count"]
    await officer.ok("POST", f"{path}/withdraw", json=purpose)
    # A withdrawal that was on its way meanwhile has begun before the calculation did.
    await owner.pool.execute(
        "update consents set recorded_at = recorded_at - make_interval(secs => $1)"
        " where withdraws is not null",
        begun_before,
    )
    await offices.clerk.refused(
        "POST",
        f"{_RUNS}/{run['id']}/submit",
        headers=if_match(run),
        status=409,
        code="calculation_outdated",
    )
    run = await offices.step(run, "calculate", "submit", "approve")
    assert run["payout_count"] == granted // 2


async def test_an_attendance_voided_elsewhere_holds_nobody_up(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    distant = await make_association(session, "village", area_code=_GUICHENG_VILLAGE)
    other = await make_member(session, distant)
    await make_attendance(session, thanks.event, other)
    await session.commit()
    run = await offices.step(await offices.draft(thanks, area_code=SHISHAN), "calculate")
    await _void(session, thanks, other)
    assert (await offices.step(run, "submit", "approve"))["status"] == "approved"


async def test_a_policy_that_does_not_hold_on_the_last_day_grants_nothing(
    offices: Offices, session: AsyncSession
) -> None:
    thanks = await make_thanks(session, effective_on=clock.civil_date(clock.now()))
    await session.commit()
    run = await offices.draft(thanks)
    path = f"{_RUNS}/{run['id']}/calculate"
    await offices.clerk.refused(
        "POST", path, headers=if_match(run), status=409, code="policy_not_in_force"
    )
    assert await offices.clerk.ok("GET", f"{_RUNS}/{run['id']}") == run


async def test_a_round_closed_early_is_thanked_by_what_held_on_that_day(
    session: AsyncSession, offices: Offices, thanks: Thanks
) -> None:
    last = thanks.round.ends_on
    rules = [make_cash(amount_fen=99_00)]
    await make_version(session, thanks.policy, rules, effective_on=last)
    thanks.round.status = "closed"
    thanks.round.closed_at = datetime.combine(last - timedelta(days=1), time(12), UTC)
    session.add(thanks.round)
    await session.commit()
    run = await offices.step(await offices.draft(thanks), "calculate", "submit")
    assert (run["policy_number"], run["amount_fen"]) == (1, 2000)
    basis = await offices.clerk.ok("GET", f"{_RUNS}/{run['id']}/basis")
    assert (basis["policy_number"], basis["in_force"]) == (1, True)


async def test_a_run_keeps_the_version_that_it_was_calculated_by(
    session: AsyncSession, offices: Offices, thanks: Thanks
) -> None:
    run = await offices.step(await offices.draft(thanks), "calculate", "submit")
    await make_version(session, thanks.policy, [make_cash(amount_fen=99_00, name="新补贴")])
    await session.commit()
    approved = await offices.step(run, "approve", "disburse")

    assert (approved["policy_number"], approved["amount_fen"]) == (1, 2000)
    summary = await offices.clerk.ok("GET", f"{_RUNS}/{run['id']}/summary")
    assert {row["rule_name"] for row in summary["by_rule"]} == {"误工补贴", "纪念品"}
    lines = await offices.lines(run)
    assert {line["amount_fen"] for line in lines} == {0, 1000}
    later = await offices.step(await offices.draft(thanks), "calculate")
    assert (later["policy_number"], later["payout_count"]) == (2, 0)


@pytest.mark.parametrize("step", _STEPS)
@pytest.mark.parametrize("status", RunStatus)
async def test_each_step_is_possible_from_its_states_only(
    client: Callable[..., Client],
    offices: Offices,
    session: AsyncSession,
    status: RunStatus,
    step: str,
) -> None:
    thanks = await make_thanks(session, members=0)
    stored = await make_run(session, thanks.round, thanks.policy, status)
    stored.calculated_at = clock.now() if stored.calculated_at else None
    # What grants nothing is not submitted.
    stored.payout_count = 1
    await session.commit()
    run = await offices.clerk.ok("GET", f"{_RUNS}/{stored.id}")
    if status in _ALLOWED[step]:
        after = await offices.step(run, step)
        assert after["version"] == 2
        return
    caller = client(Role.FINANCE_APPROVER if step in _CHECKED else Role.FINANCE_CLERK)
    problem = await caller.refused(
        "POST",
        f"{_RUNS}/{stored.id}/{step}",
        json={"reason": "x"} if step == "reject" else None,
        headers=if_match(run),
        status=409,
        code="run_state",
    )
    assert problem["run_status"] == status.value
    assert set(problem["allowed"]) == {allowed.value for allowed in _ALLOWED[step]}
    assert await offices.clerk.ok("GET", f"{_RUNS}/{stored.id}") == run


@pytest.mark.parametrize("step", _STEPS)
async def test_a_step_needs_the_version_that_was_read(
    offices: Offices, session: AsyncSession, thanks: Thanks, step: str
) -> None:
    status = min(_ALLOWED[step])
    stored = await make_run(session, thanks.round, thanks.policy, status, version=3)
    await session.commit()
    path = f"{_RUNS}/{stored.id}/{step}"
    caller = offices.approver if step in _CHECKED else offices.clerk
    body = {"reason": "x"} if step == "reject" else None
    await caller.refused("POST", path, status=428, code="precondition_required", json=body)
    for tag in ('"2"', '"4"'):
        headers = {"If-Match": tag}
        await caller.refused("POST", path, headers=headers, status=412, code="stale", json=body)
    unread: dict[str, Any] = {"status": 400, "code": "if_match_not_one_version"}
    await caller.refused("POST", path, headers={"If-Match": "*"}, json=body, **unread)


async def test_of_clicks_on_approve_at_the_same_moment_one_counts(
    client: Callable[..., Client], offices: Offices, thanks: Thanks
) -> None:
    run = await offices.step(await offices.draft(thanks), "calculate", "submit")
    approvers = [client(Role.FINANCE_APPROVER, subject=f"approver-{n}") for n in range(6)]
    answers = await asyncio.gather(
        *(
            approver.post(f"{_RUNS}/{run['id']}/approve", headers=if_match(run))
            for approver in approvers
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 5]
    (first,) = (answer.json() for answer in answers if answer.status_code == 200)
    assert await offices.clerk.ok("GET", f"{_RUNS}/{run['id']}") == first


async def test_a_repeated_approval_with_its_key_is_answered_again(
    offices: Offices, thanks: Thanks
) -> None:
    run = await offices.step(await offices.draft(thanks), "calculate", "submit")
    headers = if_match(run) | idempotency_key("once")
    path = f"{_RUNS}/{run['id']}/approve"
    first = await offices.approver.ok("POST", path, headers=headers)
    assert await offices.approver.ok("POST", path, headers=headers) == first


@pytest.mark.parametrize("part", ["creates", "submits"])
async def test_who_makes_a_run_cannot_approve_it_under_another_role(
    client: Callable[..., Client], offices: Offices, thanks: Thanks, part: str
) -> None:
    maker = client(Role.FINANCE_CLERK, subject="two hats")
    other = offices.clerk
    creator, submitter = (maker, other) if part == "creates" else (other, maker)
    run = await creator.ok(
        "POST", _RUNS, json=thanks.draft, headers=idempotency_key("k"), status=201
    )
    run = await creator.ok("POST", f"{_RUNS}/{run['id']}/calculate", headers=if_match(run))
    run = await submitter.ok("POST", f"{_RUNS}/{run['id']}/submit", headers=if_match(run))
    same_person = client(Role.FINANCE_APPROVER, subject="two hats")
    path = f"{_RUNS}/{run['id']}/approve"
    await same_person.refused(
        "POST", path, headers=if_match(run), status=403, code="maker_is_checker"
    )
    assert (await offices.step(run, "approve"))["approved_by"] == "finance_approver-1"


@pytest.mark.parametrize("end", ["reject", "cancel"])
async def test_what_a_rejected_or_cancelled_run_granted_another_may_grant(
    offices: Offices, thanks: Thanks, end: str
) -> None:
    run = await offices.step(await offices.draft(thanks), "calculate", "submit")
    rival = await offices.step(await offices.draft(thanks), "calculate")
    assert rival["payout_count"] == 0
    ended = await offices.step(run, end)
    assert ended["status_reason"] == ("金额与方案不符" if end == "reject" else None)
    assert (await offices.lines(ended)) == []
    rival = await offices.step(rival, "calculate")
    assert (rival["payout_count"], rival["amount_fen"]) == (4, 2000)


async def test_overlapping_runs_of_town_and_district_grant_each_member_once(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    distant = await make_association(session, "village", area_code=_GUICHENG_VILLAGE)
    member = await make_member(session, distant)
    await make_attendance(session, thanks.event, member)
    await session.commit()
    town = await offices.step(await offices.draft(thanks, area_code=SHISHAN), "calculate")
    district = await offices.step(await offices.draft(thanks), "calculate")

    assert (town["payout_count"], district["payout_count"]) == (4, 2)
    assert {line["member_id"] for line in await offices.lines(district)} == {str(member.id)}


async def test_runs_calculated_at_the_same_moment_grant_each_member_once(
    offices: Offices, session: AsyncSession, owner: Database
) -> None:
    thanks = await make_thanks(session, [make_cash(), make_gift()], members=30)
    await session.commit()
    places = [DISTRICT, SHISHAN, VILLAGE, DISTRICT, SHISHAN, VILLAGE]
    drafts = [await offices.draft(thanks, area_code=place) for place in places]
    runs = await asyncio.gather(*(offices.step(draft, "calculate") for draft in drafts))

    assert sum(run["payout_count"] for run in runs) == 60
    assert sum(run["amount_fen"] for run in runs) == 30_000
    rows = await owner.pool.fetch("select run_id, count(*) as n from payouts group by run_id")
    assert {str(row["run_id"]): row["n"] for row in rows} == {
        run["id"]: run["payout_count"] for run in runs if run["payout_count"]
    }


async def test_who_moved_is_thanked_where_she_was_when_she_came(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    new = await make_association(session, "village", area_code=_GUICHENG_VILLAGE)
    await session.commit()
    mover = thanks.members[0]
    mover.association_id, mover.area_code = new.id, new.area_code
    await session.commit()
    there = await offices.step(await offices.draft(thanks, area_code=GUICHENG), "calculate")
    here = await offices.step(await offices.draft(thanks, area_code=SHISHAN), "calculate")

    assert (there["payout_count"], here["payout_count"]) == (0, 4)
    lines = await offices.lines(here, member_id=str(mover.id))
    assert {line["association_id"] for line in lines} == {str(thanks.association.id)}


async def test_a_policy_of_one_association_thanks_its_members_only(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    other = await make_association(session, "village")
    await make_attendance(session, thanks.event, await make_member(session, other))
    policy = await make_policy(session, area_code=VILLAGE, association_id=thanks.association.id)
    await session.commit()
    run = await offices.step(await offices.draft(replace(thanks, policy=policy)), "calculate")

    assert run["area_code"] == VILLAGE
    assert {line["member_id"] for line in await offices.lines(run)} == {
        str(member.id) for member in thanks.members
    }


async def _disbursing(session: AsyncSession, thanks: Thanks) -> str:
    stored = await make_granted_run(session, thanks)
    await session.commit()
    return f"{_RUNS}/{stored.id}"


async def test_results_are_answered_line_by_line_in_order(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    path = await _disbursing(session, thanks)
    entered = [
        {"line_no": 2, "outcome": "failed", "reason": "本人未到"},
        {"line_no": 1, "outcome": "paid"},
        {"line_no": 1, "outcome": "paid"},
        {"line_no": 2, "outcome": "paid"},
        {"line_no": 5, "outcome": "paid"},
    ]
    answer = await offices.clerk.ok("POST", f"{path}/results", json={"results": entered})
    told = [
        (item["ref"], item["status"], item["problem"] and item["problem"]["code"])
        for item in answer["items"]
    ]
    assert told == [
        (2, "recorded", None),
        (1, "recorded", None),
        (1, "unchanged", None),
        (2, "rejected", "payout_contradiction"),
        (5, "rejected", "not_found"),
    ]
    again = await offices.clerk.ok("POST", f"{path}/results", json={"results": entered[:2]})
    assert [item["status"] for item in again["items"]] == ["unchanged"] * 2
    other = {"line_no": 2, "outcome": "failed", "reason": "另有原因"}
    again = await offices.clerk.ok("POST", f"{path}/results", json={"results": [other]})
    assert again["items"][0]["problem"]["code"] == "payout_contradiction"


async def test_a_result_says_why_it_failed_and_only_then(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    path = await _disbursing(session, thanks)
    entered = [
        {"line_no": 1, "outcome": "paid"},
        {"line_no": 2, "outcome": "failed"},
        {"line_no": 3, "outcome": "paid", "reason": "家属代领"},
    ]
    problem = await offices.clerk.refused(
        "POST", f"{path}/results", json={"results": entered}, status=422, code="invalid"
    )
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [
        ("/results/1/reason", "result_needs_reason"),
        ("/results/2/reason", "result_paid_has_no_reason"),
    ]
    page = await offices.clerk.ok("GET", f"{path}/payouts", params={"status": "paid,failed"})
    assert page["items"] == []


@pytest.mark.parametrize("status", sorted(set(RunStatus) - {RunStatus.DISBURSING}))
async def test_no_result_is_entered_before_or_after_handing_out(
    offices: Offices, session: AsyncSession, thanks: Thanks, status: RunStatus
) -> None:
    stored = await make_granted_run(session, thanks, status)
    await session.commit()
    body = {"results": [{"line_no": 1, "outcome": "paid"}]}
    path = f"{_RUNS}/{stored.id}/results"
    await offices.clerk.refused("POST", path, json=body, status=409, code="run_state")


@pytest.mark.parametrize("channel", [Channel.BANK_FILE, Channel.GATEWAY])
async def test_a_run_by_another_channel_is_paid_by_no_cash_list(
    offices: Offices, session: AsyncSession, thanks: Thanks, channel: Channel
) -> None:
    path = await _disbursing(session, thanks)
    await session.execute(text("update payout_runs set channel = :channel"), {"channel": channel})
    await session.commit()
    body = {"results": [{"line_no": 1, "outcome": "paid"}]}
    sheet = {"file": ("list.csv", _BLANK_LIST, "text/csv")}
    for method, what, sent in (
        ("GET", "cash-list", {}),
        ("POST", "results", {"json": body}),
        ("POST", "results/import", {"files": sheet}),
    ):
        problem = await offices.clerk.refused(
            method, f"{path}/{what}", status=409, code="run_channel", **sent
        )
        assert problem["channel"] == channel
    assert {line["status"] for line in await offices.lines({"id": path[-36:]})} == {"pending"}


@pytest.mark.parametrize(
    "told",
    [
        ("held", "payout_held", "暂缓"),
        ("sending", "payout_sending", "发送中"),
        ("unknown", "payout_sending", "待查"),
        ("returned", "payout_contradiction", "已退回"),
    ],
)
async def test_a_line_that_waits_takes_no_result_and_the_others_do(
    offices: Offices, session: AsyncSession, thanks: Thanks, told: tuple[str, str, str]
) -> None:
    status, code, word = told
    path = await _disbursing(session, thanks)
    is_over = status == "returned"
    await session.execute(
        text(
            "update payouts set status = :status, failure_reason = :reason, settled_at = :at"
            " where line_no = 2"
        ),
        {
            "status": status,
            "reason": "银行退回" if is_over else None,
            "at": clock.now() if is_over else None,
        },
    )
    await session.commit()
    results = [{"line_no": n, "outcome": "paid"} for n in (1, 2)]
    answered = await offices.clerk.ok("POST", f"{path}/results", json={"results": results})
    first, second = answered["items"]
    assert (first["status"], second["problem"]["code"]) == ("recorded", code)
    printed = await offices.clerk.get(f"{path}/cash-list", params={"format": "csv"})
    rows = list(csv.reader(io.StringIO(printed.content.decode("utf-8-sig"), newline="")))
    assert [row[8] for row in rows[1:5]] == ["已领", word, "", ""]
    again = {"file": ("list.csv", printed.content, "text/csv")}
    taken = await offices.clerk.ok("POST", f"{path}/results/import", files=again)
    assert [item["status"] for item in taken["items"]] == ["unchanged"]


async def test_of_contradictory_results_at_the_same_moment_one_counts(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    path = await _disbursing(session, thanks)
    outcomes = [{"outcome": "paid"}, {"outcome": "failed", "reason": "本人未到"}] * 3
    answers = await asyncio.gather(
        *(
            offices.clerk.ok("POST", f"{path}/results", json={"results": [{"line_no": 1} | each]})
            for each in outcomes
        )
    )
    told = sorted(answer["items"][0]["status"] for answer in answers)
    assert told == ["recorded", *["rejected"] * 3, *["unchanged"] * 2]


async def test_a_result_is_answered_with_its_payout_or_a_whole_problem(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    path = await _disbursing(session, thanks)
    failed = {"line_no": 2, "outcome": "failed", "reason": "本人未到"}
    results = [{"line_no": 1, "outcome": "paid"}, failed, {"line_no": 99, "outcome": "paid"}]
    answers = [
        await offices.clerk.ok(
            "POST",
            f"{path}/results",
            json={"results": [*results, *more]},
            headers={"Accept-Language": "en"},
        )
        for more in ([], [{"line_no": 2, "outcome": "paid"}])
    ]
    first, again = (answer["items"] for answer in answers)
    listed = await offices.clerk.ok("GET", f"{path}/payouts")
    payout = next(each for each in listed["items"] if each["line_no"] == 2)

    assert first[1] == {
        "ref": 2,
        "status": "recorded",
        "resource": {name: payout[name] for name in ("id", "line_no", "status", "failure_reason")},
        "problem": None,
    }
    assert again[1] == first[1] | {"status": "unchanged"}
    for item, code, status in (
        (first[2], "not_found", 404),
        (again[3], "payout_contradiction", 409),
    ):
        problem = item["problem"]
        assert (item["resource"], problem["code"], problem["status"]) == (None, code, status)
        assert problem["type"] == f"/problems/{code}"
        assert set(problem) == {"type", "title", "status", "code", "detail", "errors"}
    assert again[3]["problem"]["detail"] == "Another result was entered for this line before."


async def test_a_run_that_grants_nothing_is_cancelled_and_not_submitted(
    offices: Offices, session: AsyncSession
) -> None:
    thanks = await make_thanks(session, members=0)
    await session.commit()
    run = await offices.step(await offices.draft(thanks), "calculate")
    assert run["payout_count"] == 0
    await offices.clerk.refused(
        "POST", f"{_RUNS}/{run['id']}/submit", headers=if_match(run), status=409, code="run_empty"
    )
    assert (await offices.step(run, "cancel"))["status"] == "cancelled"


async def test_a_run_with_open_lines_is_not_settled(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    path = await _disbursing(session, thanks)
    results = [{"line_no": n, "outcome": "paid"} for n in (1, 2, 3)]
    await offices.clerk.ok("POST", f"{path}/results", json={"results": results})
    run = await offices.clerk.ok("GET", path)
    problem = await offices.clerk.refused(
        "POST", f"{path}/settle", headers=if_match(run), status=409, code="payouts_pending"
    )
    assert problem["pending_count"] == 1


async def test_what_a_settled_run_could_not_pay_another_may_grant(
    offices: Offices, thanks: Thanks
) -> None:
    async def hand_out(run: dict[str, Any], *failed: int) -> dict[str, Any]:
        lines = range(1, run["payout_count"] + 1)
        results = [{"line_no": n, "outcome": "paid"} for n in lines if n not in failed]
        results += [{"line_no": n, "outcome": "failed", "reason": "本人未到"} for n in failed]
        run = await offices.step(run, "submit", "approve", "disburse")
        path = f"{_RUNS}/{run['id']}/results"
        await offices.clerk.ok("POST", path, json={"results": results})
        return run

    first = await hand_out(await offices.step(await offices.draft(thanks), "calculate"), 2, 3)
    lines = await offices.lines(first)
    second = await offices.step(await offices.draft(thanks), "calculate")
    assert second["payout_count"] == 0, "the first is not settled yet"
    await offices.step(first, "settle")
    second = await hand_out(await offices.step(second, "calculate"), 1)
    assert [(line["member_id"], line["rule_id"]) for line in await offices.lines(second)] == [
        (line["member_id"], line["rule_id"]) for line in lines[1:3]
    ]
    await offices.step(second, "settle")
    third = await offices.step(await offices.draft(thanks), "calculate")

    assert third["payout_count"] == 1
    assert await offices.lines(first) == lines
    totals = [
        (await offices.clerk.ok("GET", f"{_RUNS}/{run['id']}/summary"))["total"]
        for run in (first, second, third)
    ]
    names = ("paid_count", "failed_count", "pending_count")
    assert [[total[name] for name in names] for total in totals] == [
        [2, 2, 0],
        [1, 1, 0],
        [0, 0, 1],
    ]
    page = await offices.clerk.ok("GET", "/v1/payouts", params={"limit": "3"})
    listed = page["items"]
    while page["next_cursor"]:
        params = {"limit": "3", "cursor": page["next_cursor"]}
        page = await offices.clerk.ok("GET", "/v1/payouts", params=params)
        listed += page["items"]
    assert len({item["id"] for item in listed}) == len(listed) == 7


async def test_a_signed_list_comes_back_by_upload(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    path = await _disbursing(session, thanks)
    printed = await offices.clerk.get(f"{path}/cash-list", params={"format": "csv"})
    assert printed.headers["content-type"] == "text/csv; charset=utf-8"
    assert printed.headers["content-disposition"].endswith('.csv"')
    assert printed.headers["cache-control"] == "no-store"
    rows = list(csv.reader(io.StringIO(printed.content.decode("utf-8-sig"), newline="")))
    for row in rows[1:5]:
        row[8] = "已领"
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    signed = {"file": ("签领表.csv", written.getvalue().encode("gbk"), "text/csv")}
    headers = idempotency_key("signed")
    upload = f"{path}/results/import"
    first = await offices.clerk.ok("POST", upload, files=signed, headers=headers)
    replayed = await offices.clerk.post(upload, files=signed, headers=headers)
    again = await offices.clerk.ok("POST", upload, files=signed)

    assert [item["status"] for item in first["items"]] == ["recorded"] * 4
    assert replayed.json() == first
    assert replayed.headers["idempotency-replayed"] == "true"
    assert [item["status"] for item in again["items"]] == ["unchanged"] * 4
    damaged = {"file": ("签领表.csv", written.getvalue().replace("10.00", "99.00").encode("gbk"))}
    problem = await offices.clerk.refused(
        "POST", upload, files=damaged, status=409, code="control_totals_mismatch"
    )
    assert {error["code"] for error in problem["errors"]} == {"cash_list_amount_changed"}
    assert {error["in"] for error in problem["errors"]} == {"file"}


async def test_the_list_is_given_as_the_caller_accepts_it(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    path = f"{await _disbursing(session, thanks)}/cash-list"
    sheet = await offices.clerk.get(path)
    assert sheet.content.startswith(b"PK")
    assert sheet.headers["vary"] == "Accept"
    text_list = await offices.clerk.get(path, headers={"Accept": "text/csv"})
    assert text_list.headers["content-type"].startswith("text/csv")
    headers = {"Accept": "application/pdf"}
    await offices.clerk.refused("GET", path, headers=headers, status=406, code="not_acceptable")


async def test_runs_are_listed_newest_first_and_narrowed_by_each_filter(
    offices: Offices, session: AsyncSession, thanks: Thanks
) -> None:
    other = replace(
        thanks,
        round=await make_round(session, 2),
        policy=await make_policy(session, area_code=GUICHENG),
    )
    first = await make_run(session, thanks.round, thanks.policy, RunStatus.DRAFT)
    # Runs of one millisecond are in no order: the last bits of their ids are their lines'.
    await asyncio.sleep(0.002)
    second = await make_run(session, other.round, other.policy, RunStatus.SETTLED)
    await session.commit()

    async def ids(**params: str) -> list[str]:
        page = await offices.clerk.ok("GET", _RUNS, params=params)
        return [item["id"] for item in page["items"]]

    assert await ids() == [str(second.id), str(first.id)]
    assert await ids(status="draft") == [str(first.id)]
    assert await ids(status="draft,settled") == [str(second.id), str(first.id)]
    assert await ids(exam_round_id=str(other.round.id)) == [str(second.id)]
    assert await ids(policy_id=str(thanks.policy.id)) == [str(first.id)]
    assert await ids(area=GUICHENG) == [str(second.id)]
    assert await ids(area=SHISHAN) == []


async def test_a_run_beyond_reach_is_not_found(
    client: Callable[..., Client], session: AsyncSession, thanks: Thanks
) -> None:
    stored = await make_granted_run(session, thanks)
    await session.commit()
    path = f"{_RUNS}/{stored.id}"
    outsiders = [
        client(Role.FINANCE_CLERK, areas=[SHISHAN]),
        client(Role.FINANCE_CLERK, district_code="440604000000"),
    ]
    for outsider in outsiders:
        assert (await outsider.ok("GET", _RUNS))["items"] == []
        for part in ("", "/summary", "/payouts", "/cash-list"):
            await outsider.refused("GET", path + part, status=404, code="not_found")
        for step in ("calculate", "submit", "cancel", "disburse", "settle"):
            await outsider.refused(
                "POST",
                f"{path}/{step}",
                headers={"If-Match": '"1"'},
                status=404,
                code="not_found",
            )
        body = {"results": [{"line_no": 1, "outcome": "paid"}]}
        await outsider.refused("POST", f"{path}/results", json=body, status=404, code="not_found")
    approver = client(Role.FINANCE_APPROVER, areas=[SHISHAN])
    headers = {"If-Match": '"1"'}
    await approver.refused("POST", f"{path}/approve", headers=headers, status=404, code="not_found")
    own = await make_run(session, thanks.round, thanks.policy, area_code=SHISHAN)
    await session.commit()
    page = await outsiders[0].ok("GET", _RUNS)
    assert [item["id"] for item in page["items"]] == [str(own.id)]


_MAY: dict[Role, set[str]] = {
    Role.TOWN_OFFICER: {"read", "create", "calculate", "submit", "cancel"},
    Role.DISTRICT_OFFICER: {"read", "create", "calculate", "submit", "cancel"},
    Role.FINANCE_CLERK: {
        "read", "create", "calculate", "submit", "cancel", "disburse", "results", "settle",
    },
    Role.FINANCE_APPROVER: {"read", "approve", "reject", "close"},
    Role.AUDITOR: {"read"},
}  # fmt: skip


@pytest.mark.parametrize("role", Role)
async def test_each_role_may_do_its_part_and_the_employers_side_nothing(
    client: Callable[..., Client], session: AsyncSession, thanks: Thanks, role: Role
) -> None:
    stored = await make_run(session, thanks.round, thanks.policy, RunStatus.SETTLED)
    await session.commit()
    caller = client(
        role,
        member_id=str(thanks.members[0].id),
        associations=[str(thanks.association.id)],
        events=[str(thanks.event.id)],
    )
    path = f"{_RUNS}/{stored.id}"
    requests: dict[str, tuple[str, str, Any]] = {
        "read": ("GET", path, None),
        "create": ("POST", _RUNS, thanks.draft),
        "results": ("POST", f"{path}/results", {"results": [{"line_no": 1, "outcome": "paid"}]}),
        "reject": ("POST", f"{path}/reject", {"reason": "x"}),
    }
    requests |= {step: ("POST", f"{path}/{step}", None) for step in set(_STEPS) - {"reject"}}
    may = set()
    for part, (method, where, body) in requests.items():
        headers = {"If-Match": '"1"'} | idempotency_key(clock.new_id())
        answer = await caller.request(method, where, json=body, headers=headers)
        if answer.status_code != 403:
            may.add(part)
    for where in (_RUNS, f"{path}/summary", f"{path}/payouts", f"{path}/cash-list"):
        answer = await caller.get(where)
        assert (answer.status_code != 403) == ("read" in may), where
    assert may == _MAY.get(role, set())
