"""A district lived at random over the API: after each step it, the books and a model agree."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.database import Database
from app.models.finance.funds import BALANCES
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, VILLAGE, Client
from tests.factories.finance.funds import agree
from tests.faults.founding import DAYS, Founding
from tests.faults.model import NEXT, SOURCES, District, Refused, Run
from tests.faults.stage import Stage
from tests.rules import histories

_LIVES = int(os.environ.get("JIXIE_FAULT_LIVES", "5"))
_ACTS = int(os.environ.get("JIXIE_FAULT_ACTS", "40"))
_LINES = (
    "select run_id::text, line_no, status, failure_reason, amount_fen, released = 0 as is_granted"
    " from payouts"
)
_ONWARD = {
    "draft": "calculate", "calculated": "submit", "submitted": "approve", "approved": "disburse",
    "disbursing": "settle",
}  # fmt: skip
_NEW = st.integers(0, 2**20)
_FEN = st.sampled_from([500, 999, 1500, 2000, 10_000])
_OUTCOME = st.sampled_from([None, None, "本人未到"])


@pytest_asyncio.fixture
async def stage(owner: Database, database: Database, client: Callable[..., Client]) -> Stage:
    stage = Stage(owner, database, client)
    for caller in (stage.officer, stage.clerk, stage.approver):
        # Only who calls is stored; her grants outlive each example.
        await caller.get("/v1/code-lists")
    return stage


class Life(Founding, RuleBasedStateMachine):
    """What offices may do in any order; what is refused must be refused for the reason expected."""

    @initialize(
        rules=st.data(),
        members=st.lists(st.integers(0, 2), min_size=2, max_size=4),
        came=st.sets(st.tuples(st.integers(0, 1), st.integers(0, 3)), min_size=3),
    )
    def found(self, rules: st.DataObject, members: list[int], came: set[tuple[int, int]]) -> None:
        """Begin with members, rounds, some who came, a policy, money, and a run that may go on."""
        self.model = District()
        places = self.stage.do(self.stage.empty())
        for number, association in enumerate(members):
            body = {
                "association_id": places[association],
                "name": f"会员{number}",
                "joined_on": histories.FIRST_DAY.isoformat(),
            }
            made = self.stage.call(self.stage.officer, "POST", "/v1/members", json=body)
            self.model.members.append((made["id"], association))
        for place in range(3):
            self.open_round(place)
        self.add_policy(rules.draw)
        for source in SOURCES:
            self.add_fund(source, DISTRICT)
            self.move(self.model.funds[-1], "receipts", 4000, "first")
        for place, member in sorted(came):
            self.check_in(place, member, is_late=False)
        self.close_a_round(0)
        self.draft_a_run(0, 0, DISTRICT)

    @rule(place=st.integers(0, 2), area=st.sampled_from([SHISHAN, GUICHENG]))
    @precondition(lambda self: len(self.model.events) < 6)
    def hold_a_health_check(self, place: int, area: str) -> None:
        if place not in self.model.closed:
            self.hold(place, area)

    @rule(event=_NEW, member=_NEW, is_late=st.booleans())
    def check_in(self, event: int, member: int, *, is_late: bool) -> None:
        event, member = event % len(self.model.events), member % len(self.model.members)
        held = self.model.events[event]
        path = f"/v1/service-events/{held.id}/attendances/{self.model.members[member][0]}"
        day = DAYS.starts_on(held.place)
        body = {"occurred_at": f"{day}T02:00:00Z"} if is_late else {}
        self.agree(
            lambda: self.model.check_in(event, member, is_late=is_late),
            lambda: self.stage.call(self.stage.officer, "PUT", path, json=body),
        )

    @rule(member=_NEW)
    def leave(self, member: int) -> None:
        """End a membership, as if it had been over before anything began."""
        member %= len(self.model.members)
        if member in self.model.gone:
            return
        path = f"/v1/members/{self.model.members[member][0]}/leave"
        body = {"left_on": histories.FIRST_DAY.isoformat()}
        headers = {"If-Match": '"1"'}
        self.stage.call(self.stage.officer, "POST", path, json=body, headers=headers)
        self.model.gone.add(member)
        self.stage.met["left"] += 1

    @rule(which=_NEW, back=st.booleans())
    @precondition(lambda self: self.model.attendances)
    def void_or_restore(self, which: int, *, back: bool) -> None:
        event, member = list(self.model.attendances)[which % len(self.model.attendances)]
        version = self.model.attendances[event, member].version
        path = (
            f"/v1/service-events/{self.model.events[event].id}/attendances"
            f"/{self.model.members[member][0]}/{'restore' if back else 'void'}"
        )
        options: dict[str, Any] = {"headers": {"If-Match": f'"{version}"'}}
        options |= {} if back else {"json": {"reason": "误签"}}
        act = self.model.restore if back else self.model.void
        self.agree(
            lambda: act(event, member),
            lambda: self.stage.call(self.stage.officer, "POST", path, **options),
        )
        self.decide()

    def decide(self) -> None:
        """Pay what an attendance that is void held, and write off what was paid for it."""
        call, approver, path = self.stage.call, self.stage.approver, "/v1/payout-decisions"
        for each in call(approver, "GET", path, params={"status": "open"})["items"]:
            choice = "pay" if each["payout_status"] == "held" else "write_off"
            body = {"choice": choice, "reason": "已核对"}
            headers = {"If-Match": f'"{each["version"]}"'}
            call(approver, "POST", f"{path}/{each['id']}/decide", json=body, headers=headers)

    @rule(place=st.integers(0, 2))
    def close_a_round(self, place: int) -> None:
        path = f"/v1/exam-rounds/{self.model.rounds[place]}/close"
        headers = {"If-Match": f'"{1 if place not in self.model.closed else 2}"'}
        self.agree(
            lambda: self.model.close_round(place),
            lambda: self.stage.call(self.stage.officer, "POST", path, headers=headers),
        )

    @rule(data=st.data())
    @precondition(lambda self: len(self.model.policies) < 2)
    def add_a_policy(self, data: st.DataObject) -> None:
        self.add_policy(data.draw)

    @rule(source=st.sampled_from(SOURCES), area=st.sampled_from([DISTRICT, SHISHAN, VILLAGE]))
    def keep_a_fund(self, source: str, area: str) -> None:
        if all((fund.source, fund.area) != (source, area) for fund in self.model.funds):
            self.add_fund(source, area)

    @rule(
        fund=_NEW,
        other=_NEW,
        what=st.sampled_from(["receipts", "withdrawals", "allocations"]),
        fen=_FEN,
        document=st.integers(0, 9),
    )
    def move_money(self, fund: int, other: int, what: str, fen: int, document: int) -> None:
        funds = self.model.funds
        giver, taker = funds[fund % len(funds)], funds[other % len(funds)]
        if what == "allocations" and giver is taker:
            return
        more = {"to_fund_id": taker.id} if what == "allocations" else {}
        self.move(giver, what, fen, f"测〔2026〕{document}号", **more)

    @rule(fund=_NEW)
    def close_a_fund(self, fund: int) -> None:
        empty = [each for each in self.model.funds if each.balances["available_fen"] == 0]
        among = empty or self.model.funds
        chosen = among[fund % len(among)]

        def close() -> None:
            chosen.require_open()
            if chosen.balances["available_fen"] or chosen.balances["reserved_fen"]:
                raise Refused("fund_not_empty")
            chosen.is_open, chosen.version = False, chosen.version + 1

        path = f"/v1/funds/{chosen.id}/close"
        headers = {"If-Match": f'"{chosen.version}"'}
        self.agree(close, lambda: self.stage.call(self.stage.clerk, "POST", path, headers=headers))

    @rule(place=st.integers(0, 2), policy=_NEW, area=st.sampled_from([DISTRICT, SHISHAN]))
    @precondition(lambda self: len(self.model.runs) < 8)
    def draft_a_run(self, place: int, policy: int, area: str) -> None:
        chosen = self.model.policies[policy % len(self.model.policies)]
        body = {
            "exam_round_id": self.model.rounds[place],
            "policy_id": chosen.id,
            "area_code": area,
        }
        made = self.stage.call(self.stage.clerk, "POST", "/v1/payout-runs", json=body)
        self.model.runs.append(Run(made["id"], place, chosen, area))

    @rule(which=_NEW, step=st.sampled_from(list(NEXT)))
    @precondition(lambda self: self.model.runs)
    def take_a_step(self, which: int, step: str) -> None:
        self._step(self.model.runs[which % len(self.model.runs)], step)

    @rule(which=_NEW, steps=st.integers(2, 5))
    @precondition(lambda self: self.model.runs)
    def go_on(self, which: int, steps: int) -> None:
        """Take a run on by the way that leads to its end."""
        run = self.model.runs[which % len(self.model.runs)]
        for _ in range(steps):
            if run.status in _ONWARD:
                self._step(run, _ONWARD[run.status])

    def _step(self, run: Run, step: str) -> None:
        caller = self.stage.approver if step in {"approve", "reject"} else self.stage.clerk
        options: dict[str, Any] = {"headers": {"If-Match": f'"{run.version}"'}}
        if step == "reject":
            options["json"] = {"reason": "金额不符"}
        path = f"/v1/payout-runs/{run.id}/{step}"
        before = run.status
        _, told = self.agree(
            lambda: self.model.step(run, step),
            lambda: self.stage.call(caller, "POST", path, **options),
        )
        if told is not None:
            assert (told["status"], told["version"]) == (run.status, run.version)
            assert (told["payout_count"], told["amount_fen"]) == run.counted
            self.stage.met[f"{before} to {run.status}"] += 1
        if told is not None and step == "calculate":
            self._number_lines(run)

    def _number_lines(self, run: Run) -> None:
        """Compare what was granted, and number the model's lines as the API does."""
        path = f"/v1/payout-runs/{run.id}/payouts"
        items = self.stage.call(self.stage.clerk, "GET", path, params={"limit": 200})["items"]
        people = [member for member, _ in self.model.members]
        told = {(people.index(i["member_id"]), i["rule_code"]): i["line_no"] for i in items}
        fen = {(people.index(i["member_id"]), i["rule_code"]): i["amount_fen"] for i in items}
        lines = list(run.lines.values())
        assert fen == {(line.member, line.code): line.fen for line in lines}
        for line in lines:
            line.number = told[line.member, line.code]
        run.lines = {line.number: line for line in lines}

    @rule(which=_NEW, said=st.dictionaries(st.integers(1, 8), _OUTCOME, min_size=1))
    @precondition(lambda self: self.model.runs)
    def enter_results(self, which: int, said: dict[int, str | None]) -> None:
        self._enter(self.model.runs[which % len(self.model.runs)], said)

    @rule(which=_NEW, said=st.lists(_OUTCOME, min_size=12, max_size=12))
    @precondition(lambda self: any(run.status == "disbursing" for run in self.model.runs))
    def come_to_an_end(self, which: int, said: list[str | None]) -> None:
        """Enter the results of all that is open in a run, and settle it."""
        runs = [run for run in self.model.runs if run.status == "disbursing"]
        run = runs[which % len(runs)]
        lines = [line.number for line in run.lines.values() if line.status == "pending"]
        if lines:
            self._enter(run, dict(zip(lines, said, strict=False)))
        self._step(run, "settle")

    def _enter(self, run: Run, said: dict[int, str | None]) -> None:
        results: list[dict[str, Any]] = [
            {"line_no": number, "outcome": "paid" if reason is None else "failed", "reason": reason}
            for number, reason in said.items()
        ]
        path = f"/v1/payout-runs/{run.id}/results"
        expected, told = self.agree(
            lambda: self.model.results(run, said),
            lambda: self.stage.call(self.stage.clerk, "POST", path, json={"results": results}),
        )
        if told is not None:
            assert [item["status"] for item in told["items"]] == expected

    @rule(which=_NEW)
    @precondition(lambda self: any(run.lines for run in self.model.runs))
    def take_money_back(self, which: int) -> None:
        lines = [(run, line) for run in self.model.runs for line in run.lines.values()]
        paid = [each for each in lines if each[1].status == "paid"]
        run, line = (paid or lines)[which % len(paid or lines)]
        path = f"/v1/payouts/{self.stage.payout(run.id, line.number)}/return"
        self.agree(
            lambda: self.model.take_back(run, line, "银行退回"),
            lambda: self.stage.call(self.stage.clerk, "POST", path, json={"reason": "银行退回"}),
        )

    @rule(member=_NEW, place=st.integers(0, 2))
    def ask_why(self, member: int, place: int) -> None:
        member %= len(self.model.members)
        path = f"/v1/members/{self.model.members[member][0]}/eligibility"
        params = {"round_id": self.model.rounds[place]}
        told = self.stage.call(self.stage.officer, "GET", path, params=params)
        rules: dict[str, dict[str, Any]] = {}
        for each in told["rules"]:
            rules.setdefault(each["policy_id"], {})[each["code"]] = each["reason"]
        answer = (told["standing"], told["streak"], rules)
        assert answer == self.model.explained(member, place)
        self.stage.met["steps"] += 1

    @invariant()
    def all_say_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        self.stage.do(self._compare())

    async def _compare(self) -> None:
        await agree(self.stage.database)
        clerk, params = self.stage.clerk, {"limit": 200}
        funds = await clerk.ok("GET", "/v1/funds", params=params)
        runs = await clerk.ok("GET", "/v1/payout-runs", params=params)
        self.stage.met["requests"] += 2
        told = {fund["id"]: {name: fund[name] for name in BALANCES} for fund in funds["items"]}
        assert told == {fund.id: fund.balances for fund in self.model.funds}
        assert {fund["id"]: fund["status"] == "open" for fund in funds["items"]} == {
            fund.id: fund.is_open for fund in self.model.funds
        }
        assert {run["id"]: (run["status"], run["version"]) for run in runs["items"]} == {
            run.id: (run.status, run.version) for run in self.model.runs
        }
        rows = await self.stage.owner.pool.fetch(_LINES)
        assert {tuple(row) for row in rows} == {
            (
                run.id, line.number, line.status, line.reason, line.fen,
                not (run.status == "settled" and line.status in {"failed", "returned"}),
            )
            for run in self.model.runs
            for line in run.lines.values()
        }  # fmt: skip


@pytest.mark.usefixtures("app")
def test_a_life_at_random_is_as_the_model_says(stage: Stage, tell: Callable[[str], None]) -> None:
    Life.stage = stage
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=_LIVES,
            stateful_step_count=_ACTS,
            deadline=None,
            # Each step is some requests: shrinking a life would take minutes.
            phases=phases,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    counts = ", ".join(f"{number} {what}" for what, number in sorted(stage.met.items()))
    tell(f"{_LIVES} lives of up to {_ACTS} acts: {counts}")
