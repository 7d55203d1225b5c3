"""What a life at random begins with and is made of: each act in the model and over the API."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st

from tests.factories.callers import DISTRICT, SHISHAN
from tests.factories.finance.funds import TODAY
from tests.faults.model import District, Event, Fund, Policy, Refused
from tests.faults.stage import Stage
from tests.rules import histories

_T = TypeVar("_T")
DAYS = histories.World([], [], set(), DISTRICT, None, False, [])


def _rules(count: int, draw: Callable[..., Any]) -> list[dict[str, Any]]:
    return [
        {
            "code": f"rule_{number}",
            "name": f"规则{number}",
            "reward": "cash",
            "amount_fen": draw(st.sampled_from([500, 999, 1500])),
            "priority": number,
            "event_kind": "health_exam",
            "min_streak": draw(st.integers(1, 2)),
            "every": draw(st.sampled_from([None, None, 2])),
            "exclusive_group": draw(st.sampled_from([None, "thanks"])),
            "yearly_cap_fen": draw(st.sampled_from([None, 2500])),
            "funding": draw(
                st.sampled_from([10_000, 10_000, 3333, 0]).map(
                    lambda bp: {"district_bp": bp, "town_bp": 10_000 - bp}
                )
            ),
        }
        for number in range(count)
    ]


class Founding:
    """The acts that make what other acts are about."""

    stage: ClassVar[Stage]
    model: District

    def open_round(self, place: int) -> None:
        body = {
            "name": f"第{place + 1}期",
            "starts_on": DAYS.starts_on(place).isoformat(),
            "ends_on": DAYS.ends_on(place).isoformat(),
            "accepts_until": "2100-01-01T00:00:00Z",
        }
        made = self.stage.call(self.stage.officer, "POST", "/v1/exam-rounds", json=body)
        self.model.rounds.append(made["id"])
        self.hold(place, SHISHAN)

    def hold(self, place: int, area: str) -> None:
        day = DAYS.starts_on(place)
        body = {
            "kind": "health_exam",
            "title": "便民服务",
            "venue": "服务室",
            "area_code": area,
            "exam_round_id": self.model.rounds[place],
            "starts_at": f"{day}T01:00:00Z",
            "ends_at": f"{day}T09:00:00Z",
        }
        event = self.stage.call(self.stage.officer, "POST", "/v1/service-events", json=body)
        for step in ("publish", "start"):
            path = f"/v1/service-events/{event['id']}/{step}"
            headers = {"If-Match": f'"{event["version"]}"'}
            event = self.stage.call(self.stage.officer, "POST", path, headers=headers)
        self.model.events.append(Event(event["id"], place, area))

    def add_policy(self, draw: Callable[..., Any]) -> None:
        rules = _rules(draw(st.integers(1, 3)), draw)
        body = {
            "name": f"办法{len(self.model.policies)}",
            "area_code": DISTRICT,
            "effective_on": "2020-01-01",
            "consent_required": False,
            "provenance": "assumed",
            "rules": rules,
        }
        made = self.stage.call(self.stage.officer, "POST", "/v1/incentive-policies", json=body)
        self.model.policies.append(Policy(made["id"], rules))

    def add_fund(self, source: str, area: str) -> None:
        body = {"name": "经费", "source": source, "fiscal_year": 2024, "area_code": area}
        made = self.stage.call(self.stage.clerk, "POST", "/v1/funds", json=body)
        self.model.funds.append(Fund(made["id"], source, area))

    def move(self, fund: Fund, what: str, fen: int, document: str, **more: str) -> None:
        body = {"amount_fen": fen, "document_no": document, "occurred_on": TODAY.isoformat()}
        path = f"/v1/funds/{fund.id}/{what}"
        self.agree(
            lambda: self._moved(fund, what, fen, document, **more),
            lambda: self.stage.call(self.stage.clerk, "POST", path, json=body | more),
        )

    def _moved(self, fund: Fund, what: str, fen: int, document: str, to_fund_id: str = "") -> None:
        """Move money in the model, as far as it may be moved."""
        taker = next((each for each in self.model.funds if each.id == to_fund_id), fund)
        for each in (fund, taker):
            each.require_open()
        if what != "receipts":
            fund.require(fen)
        if what == "withdrawals" and fund.balances["received_fen"] < fen:
            raise Refused("beyond_receipts")
        fund.enter(what, document, to_fund_id)
        if what == "allocations":
            fund.add(available=-fen, allocated_out=fen)
            taker.add(available=fen, allocated_in=fen)
            return
        signed = fen if what == "receipts" else -fen
        fund.add(available=signed, received=signed)

    def agree(self, expected: Callable[[], _T], asked: Callable[[], Any]) -> tuple[_T | None, Any]:
        """Do something in the model and over the API: both do it, or refuse for one reason."""
        self.model.tick += 1
        self.stage.met["steps"] += 1
        outcomes: list[Any] = []
        refusals: list[str | None] = []
        for act in (expected, asked):
            try:
                outcomes.append(act())
                refusals.append(None)
            except Refused as refusal:
                outcomes.append(None)
                refusals.append(refusal.code)
        assert refusals[0] == refusals[1], f"expected {refusals[0]}, answered {refusals[1]}"
        return outcomes[0], outcomes[1]
