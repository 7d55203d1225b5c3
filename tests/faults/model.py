"""A district in plain Python: what attendance grants, how a run goes, what each fund then holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.models.finance.funds import BALANCES
from tests.factories.callers import DISTRICT
from tests.rules import histories
from tests.rules.histories import AREAS, History, World

SOURCES = ("district", "town")
NEXT = {
    "calculate": ({"draft", "calculated"}, "calculated"),
    "submit": ({"calculated"}, "submitted"),
    "approve": ({"submitted"}, "approved"),
    "reject": ({"submitted"}, "rejected"),
    "cancel": ({"draft", "calculated", "submitted"}, "cancelled"),
    "disburse": ({"approved"}, "disbursing"),
    "settle": ({"disbursing"}, "settled"),
}
"""The steps of a run: from which states, to which."""


class Refused(Exception):
    """What the API is expected to refuse, by the code of its problem."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Fund:
    """What a fund holds."""

    id: str
    source: str
    area: str
    version: int = 1
    is_open: bool = True
    balances: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BALANCES, 0))
    documents: set[tuple[str, str, str]] = field(default_factory=set)

    def require_open(self) -> None:
        if not self.is_open:
            raise Refused("fund_closed")

    def require(self, fen: int) -> None:
        if self.balances["available_fen"] < fen:
            raise Refused("fund_short")

    def enter(self, kind: str, document: str, other: str = "") -> None:
        if (kind, document, other) in self.documents:
            raise Refused("document_entered")
        self.documents.add((kind, document, other))

    def add(self, **fen: int) -> None:
        for name, more in fen.items():
            self.balances[f"{name}_fen"] += more


class Share(NamedTuple):
    """Which fund pays what lies between two points of an amount."""

    fund: Fund
    low: int
    high: int

    def of(self, fen: int) -> int:
        return fen * self.high // 10_000 - fen * self.low // 10_000


@dataclass
class Line:
    """A payout."""

    number: int
    member: int
    code: str
    fen: int
    status: str = "pending"
    reason: str | None = None
    paid_by: Sequence[Share] = ()


@dataclass
class Run:
    """A payout run with its lines."""

    id: str
    place: int
    policy: "Policy"
    area: str
    status: str = "draft"
    version: int = 1
    calculated: int = -1
    lines: dict[int, Line] = field(default_factory=dict)
    counted: tuple[int, int] = (0, 0)

    def require(self, *states: str) -> None:
        if self.status not in states:
            raise Refused("run_state")


@dataclass
class Policy:
    """A policy: its rules, and what was granted by them."""

    id: str
    rules: Sequence[dict[str, Any]]
    granted: dict[tuple[int, int, str], int] = field(default_factory=dict)


@dataclass
class Event:
    """A health check of a round."""

    id: str
    place: int
    area: str


@dataclass
class Attendance:
    """That a member was at an event."""

    version: int = 1
    voided: int | None = None
    by_a_stranger: bool = False


@dataclass
class District:
    """Everything that the API was told; a step is counted by `tick`."""

    tick: int = 0
    members: list[tuple[str, int]] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    rounds: list[str] = field(default_factory=list)
    closed: dict[int, int] = field(default_factory=dict)
    excused: set[tuple[str, int]] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    attendances: dict[tuple[int, int], Attendance] = field(default_factory=dict)
    policies: list[Policy] = field(default_factory=list)
    funds: list[Fund] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def close_round(self, place: int) -> None:
        if place in self.closed:
            raise Refused("round_closed")
        self.closed[place] = self.tick
        held = [event.area for event in self.events if event.place == place]
        towns = {area[:9] + "000" for area in AREAS}
        self.excused |= {
            (town, place) for town in towns if not any(histories.covers(town, a) for a in held)
        }

    def check_in(self, event: int, member: int, *, is_late: bool) -> bool:
        """Record that a member came; tell whether it was known."""
        known = self.attendances.get((event, member))
        if known is not None:
            if known.voided is not None:
                raise Refused("attendance_voided")
            return True
        if self.events[event].place in self.closed and not is_late:
            raise Refused("event_not_open")
        self._require_absent(event, member)
        # What is noted late was before anybody left.
        gone = member in self.gone and not is_late
        self.attendances[event, member] = Attendance(by_a_stranger=gone)
        return False

    def _require_absent(self, event: int, member: int) -> None:
        place = self.events[event].place
        for (other, who), attendance in self.attendances.items():
            is_same = self.events[other].place == place and who == member and other != event
            if is_same and attendance.voided is None:
                raise Refused("attended_this_round")

    def void(self, event: int, member: int) -> None:
        attendance = self.attendances[event, member]
        if attendance.voided is not None:
            raise Refused("attendance_voided")
        attendance.voided, attendance.version = self.tick, attendance.version + 1

    def restore(self, event: int, member: int) -> None:
        attendance = self.attendances[event, member]
        if attendance.voided is None:
            raise Refused("attendance_in_force")
        self._require_absent(event, member)
        attendance.voided, attendance.version = None, attendance.version + 1

    def world(self, policy: Policy) -> World:
        """Say it as the oracle of the rules reads it."""
        people = []
        for number, (_, association) in enumerate(self.members):
            exams: dict[int, tuple[str, int]] = {}
            since: set[int] = set()
            for (event, who), attendance in self.attendances.items():
                place = self.events[event].place
                if who == number and exams.get(place, ("", 0))[0] != "came":
                    came = "came" if attendance.voided is None else "voided"
                    exams[place] = (came, association)
                    since -= {place}
                    since |= {place} if attendance.by_a_stranger else set()
            left = histories.FIRST_DAY if number in self.gone else None
            ties = [(association, histories.FIRST_DAY, left)]
            history = History(ties, exams, {}, set(), consented=True, gone_from=99, since=since)
            people.append(history)
        sequences = list(range(1, len(self.rounds) + 1))
        return World(
            sequences, people, self.excused, DISTRICT, None, False, list(policy.rules),
            granted=policy.granted,
        )  # fmt: skip

    def explained(self, member: int, place: int) -> tuple[str, int, dict[str, dict[str, Any]]]:
        """Give a member's standing, her streak, and of each policy why each rule refuses."""
        told = {
            policy.id: histories.reasons(self.world(policy), member, place)
            for policy in self.policies
        }
        world = self.world(Policy("", ()))
        standing = histories.standing(world, world.members[member], place)
        return standing, histories.streak(world, world.members[member], place), told

    def step(self, run: Run, step: str) -> None:
        """Take a run one step on."""
        states, after = NEXT[step]
        run.require(*states)
        getattr(self, f"_{step}", lambda _run: None)(run)
        run.status, run.version = after, run.version + 1

    def _calculate(self, run: Run) -> None:
        self._forget(run)
        world = self.world(run.policy)
        fen = {rule["code"]: rule["amount_fen"] for rule in run.policy.rules}
        due = [
            (number, code)
            for number, (_, association) in enumerate(self.members)
            if histories.covers(run.area, AREAS[association])
            for code, reason in histories.reasons(world, number, run.place).items()
            if reason is None
        ]
        run.lines = {
            number: Line(number, member, code, fen[code])
            for number, (member, code) in enumerate(due, 1)
        }
        run.policy.granted |= {(who, run.place, code): fen[code] for who, code in due}
        run.calculated = self.tick
        run.counted = (len(due), sum(line.fen for line in run.lines.values()))

    def _forget(self, run: Run, *statuses: str) -> None:
        for line in run.lines.values():
            if not statuses or line.status in statuses:
                run.policy.granted.pop((line.member, run.place, line.code), None)
        if not statuses:
            run.lines, run.counted = {}, (0, 0)

    def _submit(self, run: Run) -> None:
        if run.place not in self.closed:
            raise Refused("round_still_open")
        if run.calculated < self.closed[run.place]:
            raise Refused("calculation_outdated")
        self._require_current(run)
        if not run.lines:
            raise Refused("run_empty")

    def _require_current(self, run: Run) -> None:
        members = {line.member for line in run.lines.values()}
        for (_, who), attendance in self.attendances.items():
            if who in members and (attendance.voided or -1) >= run.calculated:
                raise Refused("calculation_outdated")

    def _approve(self, run: Run) -> None:
        self._require_current(run)
        shares = {number: self._shares(run, line) for number, line in run.lines.items()}
        needed: dict[str, int] = {}
        for number, each in shares.items():
            for share in each:
                fen = needed.get(share.fund.id, 0)
                needed[share.fund.id] = fen + share.of(run.lines[number].fen)
        funds = [fund for fund in self.funds if needed.get(fund.id)]
        if any(fund.balances["available_fen"] < needed[fund.id] for fund in funds):
            raise Refused("funds_short")
        for fund in funds:
            fund.add(available=-needed[fund.id], reserved=needed[fund.id])
        for number, each in shares.items():
            run.lines[number].paid_by = each

    def _shares(self, run: Run, line: Line) -> list[Share]:
        funding = next(r["funding"] for r in run.policy.rules if r["code"] == line.code)
        area, low, shares = AREAS[self.members[line.member][1]], 0, []
        for source in SOURCES:
            high = low + funding[f"{source}_bp"]
            if high > low:
                shares.append(Share(self._paying(source, area), low, high))
            low = high
        return shares

    def _paying(self, source: str, area: str) -> Fund:
        """Give the narrowest open fund of a source over an area."""
        found = [
            fund
            for fund in self.funds
            if fund.is_open and fund.source == source and histories.covers(fund.area, area)
        ]
        if not found:
            raise Refused("fund_missing")
        return max(found, key=lambda fund: fund.area)

    def _reject(self, run: Run) -> None:
        self._forget(run)

    def _cancel(self, run: Run) -> None:
        self._forget(run)

    def _settle(self, run: Run) -> None:
        if any(line.status == "pending" for line in run.lines.values()):
            raise Refused("payouts_pending")
        self._forget(run, "failed", "returned")
        for line in run.lines.values():
            if line.status == "failed":
                for share in line.paid_by:
                    fen = share.of(line.fen)
                    share.fund.add(reserved=-fen, available=fen)

    def results(self, run: Run, said: Mapping[int, str | None]) -> list[str]:
        """Note which lines were paid (no reason) or why not; give how each is answered."""
        run.require("disbursing")
        answers = []
        for number, reason in said.items():
            line = run.lines.get(number)
            outcome = "paid" if reason is None else "failed"
            if line is None or line.status != "pending":
                is_same = line is not None and (line.status, line.reason) == (outcome, reason)
                answers.append("unchanged" if is_same else "rejected")
                continue
            answers.append("recorded")
            line.status, line.reason = outcome, reason
            for share in line.paid_by if outcome == "paid" else ():
                share.fund.add(reserved=-share.of(line.fen), spent=share.of(line.fen))
        return answers

    def take_back(self, run: Run, line: Line, reason: str) -> None:
        """Note that what was paid came back."""
        run.require("disbursing", "settled")
        if line.status != "paid":
            raise Refused("payout_not_paid")
        for share in line.paid_by:
            if share.of(line.fen):
                share.fund.require_open()
        for share in line.paid_by:
            share.fund.add(spent=-share.of(line.fen), available=share.of(line.fen))
        line.status, line.reason = "returned", reason
        if run.status == "settled":
            self._forget(run, "failed", "returned")
