"""Random histories of a small district, and the rules over them said in plain Python."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, VILLAGE

AREAS = (VILLAGE, "440605124202", "440605011001")
"""Of each association its village: two of one town, one of another."""
FIRST_DAY = date(2024, 1, 1)
ROUND_DAYS = 91


@dataclass
class History:
    """One member: memberships as (association, joined, left), and what she came to.

    `exams` gives for a round's place `came` or `voided` with the association on that day;
    `lectures` gives the rounds in which she was at a lecture, likewise. That she left, if she did,
    was entered as the round at the place `gone_from` began, whatever day was named for it; what
    she came to from then on, and in the rounds `since`, she came to when it was known.
    """

    memberships: list[tuple[int, date, date | None]]
    exams: dict[int, tuple[str, int]]
    lectures: dict[int, tuple[str, int]]
    excused: set[int]
    consented: bool
    gone_from: int = 0
    since: set[int] = field(default_factory=set)

    @property
    def first_joined_on(self) -> date:
        return self.memberships[0][1]

    @property
    def current(self) -> int:
        return self.memberships[-1][0]

    @property
    def left(self) -> bool:
        return self.memberships[-1][2] is not None

    def associations_on(self, day: date) -> list[int]:
        """Give where she was, by what was known by then: the last is left when that is entered."""
        last = len(self.memberships) - 1
        known_on = FIRST_DAY + timedelta(days=ROUND_DAYS * self.gone_from)
        return [
            association
            for number, (association, joined, left) in enumerate(self.memberships)
            if joined <= day
            and (left is None or day < (max(left, known_on) if number == last else left))
        ]


@dataclass
class World:
    """A small district with one policy."""

    sequences: list[int]
    members: list[History]
    area_excuses: set[tuple[str, int]]
    policy_area: str
    policy_association: int | None
    consent_required: bool
    rules: list[dict[str, Any]]
    granted: dict[tuple[int, int, str], int] = field(default_factory=dict)

    def starts_on(self, place: int) -> date:
        return FIRST_DAY + timedelta(days=ROUND_DAYS * place)

    def ends_on(self, place: int) -> date:
        return self.starts_on(place) + timedelta(days=ROUND_DAYS - 1)


def covers(area: str, code: str) -> bool:
    """Tell whether an area is another or contains it."""
    length = 6 if area.endswith("000000") else 9 if area.endswith("000") else 12
    return code[:length] == area[:length]


def standing(world: World, member: History, place: int) -> str:
    """Say what a round is for a member."""
    if member.exams.get(place, ("", 0))[0] == "came":
        return "attended"
    day = world.ends_on(place)
    if day < member.first_joined_on:
        return "not_enrolled"
    if place in member.excused:
        return "excused"
    if any(
        covers(area, AREAS[where])
        for where in member.associations_on(day)
        for area, excused in world.area_excuses
        if excused == place
    ):
        return "excused"
    return "missed"


def streak(world: World, member: History, place: int) -> int:
    """Count the attended rounds walking back, past excused ones, to the first that is neither."""
    if standing(world, member, place) != "attended":
        return 0
    count = 0
    for earlier in range(place, -1, -1):
        what = standing(world, member, earlier)
        if what == "attended":
            count += 1
        elif what != "excused":
            break
    return count


def streak_thanked(world: World, number: int, code: str, place: int) -> int:
    """Give the streak that a grant tells: none for what is no health exam."""
    kinds = {rule["code"]: rule["event_kind"] for rule in world.rules}
    exam = kinds[code] == "health_exam"
    return streak(world, world.members[number], place) if exam else 0


def _own_reason(world: World, number: int, rule: dict[str, Any], place: int) -> str | None:
    """Say why a rule refuses, apart from other rules and from earlier grants."""
    member = world.members[number]
    came_to = member.exams if rule["event_kind"] == "health_exam" else member.lectures
    came, where = came_to.get(place, ("no", member.current))
    if came != "came":
        where = member.current
    in_scope = covers(world.policy_area, AREAS[where])
    if not in_scope or world.policy_association not in {None, where}:
        return "outside_scope"
    if came != "came":
        return "attendance_voided" if came == "voided" else "not_attended"
    if member.left and (place >= member.gone_from or place in member.since):
        return "membership_inactive"
    if world.consent_required and not member.consented:
        return "consent_missing"
    return _streak_reason(world, number, rule, place) or _cap_reason(world, number, rule, place)


def _streak_reason(world: World, number: int, rule: dict[str, Any], place: int) -> str | None:
    exam = rule["event_kind"] == "health_exam"
    run = streak(world, world.members[number], place) if exam else rule["min_streak"]
    if run < rule["min_streak"]:
        return "streak_too_short"
    if rule.get("every") and run % rule["every"]:
        return "not_a_multiple"
    return None


def _cap_reason(world: World, number: int, rule: dict[str, Any], place: int) -> str | None:
    if not rule.get("yearly_cap_fen"):
        return None
    used = sum(
        fen
        for (who, when, code), fen in world.granted.items()
        if who == number
        and code == rule["code"]
        and when != place
        and world.ends_on(when).year == world.ends_on(place).year
    )
    return "yearly_cap_reached" if used + rule["amount_fen"] > rule["yearly_cap_fen"] else None


def reasons(world: World, number: int, place: int) -> dict[str, str | None]:
    """Say for each rule why it grants a member nothing in a round; None when it grants."""
    own = {rule["code"]: _own_reason(world, number, rule, place) for rule in world.rules}
    answer = {}
    for rule in world.rules:
        reason = own[rule["code"]]
        if reason is None and (number, place, rule["code"]) in world.granted:
            reason = "already_granted"
        if reason is None and _beaten(world, number, rule, place, own):
            reason = "superseded"
        answer[rule["code"]] = reason
    return answer


def _beaten(
    world: World, number: int, rule: dict[str, Any], place: int, own: dict[str, str | None]
) -> bool:
    """Tell whether its group has a higher rule that is met, or gave another before."""
    return any(
        (own[other["code"]] is None and other["priority"] > rule["priority"])
        or (number, place, other["code"]) in world.granted
        for other in world.rules
        if other is not rule
        and rule.get("exclusive_group") is not None
        and other.get("exclusive_group") == rule.get("exclusive_group")
    )


@st.composite
def _members(draw: st.DrawFn, rounds: int) -> History:
    days = rounds * ROUND_DAYS
    moves = sorted(draw(st.lists(st.integers(-60, days), min_size=1, max_size=4, unique=True)))
    leaves = draw(st.sampled_from([False, False, False, True]))
    memberships: list[tuple[int, date, date | None]] = []
    for place, day in enumerate(moves):
        after: date | None = None
        if place + 1 < len(moves):
            gap = draw(st.booleans())
            after = FIRST_DAY + timedelta(days=moves[place + 1] - (1 if gap else 0))
            after = max(after, FIRST_DAY + timedelta(days=day))
        elif leaves:
            after = FIRST_DAY + timedelta(days=day + draw(st.integers(1, 200)))
        memberships.append(
            (draw(st.integers(0, len(AREAS) - 1)), FIRST_DAY + timedelta(days=day), after)
        )
    came = st.sampled_from(["came", "came", "came", "no", "no", "voided"])
    # She is checked in where she belongs on the day; a move entered late may date another.
    where = st.sampled_from([association for association, _, _ in memberships])

    def visits(chosen: st.SearchStrategy[str]) -> Iterator[tuple[int, tuple[str, int]]]:
        for place in range(rounds):
            what = draw(chosen)
            if what != "no":
                yield place, (what, draw(where))

    return History(
        memberships=memberships,
        exams=dict(visits(came)),
        lectures=dict(visits(st.sampled_from(["no", "no", "came", "voided"]))),
        excused=set(draw(st.lists(st.integers(0, rounds - 1), max_size=3))),
        consented=draw(st.booleans()),
        gone_from=draw(st.integers(0, rounds)),
    )


@st.composite
def _rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 4))):
        rule: dict[str, Any] = {
            "code": f"rule_{number}",
            "name": f"规则{number}",
            "reward": "cash",
            "amount_fen": draw(st.sampled_from([500, 1000])),
            "priority": number,
            "event_kind": draw(st.sampled_from(["health_exam", "health_exam", "lecture"])),
            "min_streak": 1,
            "exclusive_group": draw(st.sampled_from([None, "thanks"])),
            "yearly_cap_fen": draw(st.sampled_from([None, None, 1000, 1500])),
        }
        if rule["event_kind"] == "health_exam":
            rule["min_streak"] = draw(st.integers(1, 4))
            rule["every"] = draw(st.sampled_from([None, 2, 3]))
        elif rule["exclusive_group"] is not None:
            # No group is of health checks and of other events.
            rule["exclusive_group"] = "heard"
        rules.append(rule)
    return rules


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a district of a few rounds, with gaps between their numbers, and a few members."""
    rounds = draw(st.integers(1, 7))
    sequences = sorted(
        draw(st.lists(st.integers(1, 30), min_size=rounds, max_size=rounds, unique=True))
    )
    excused = st.tuples(
        st.sampled_from([DISTRICT, SHISHAN, GUICHENG, VILLAGE]), st.integers(0, rounds - 1)
    )
    association = draw(st.sampled_from([None, None, 0]))
    area = draw(st.sampled_from([DISTRICT, DISTRICT, SHISHAN, VILLAGE]))
    return World(
        sequences=sequences,
        members=draw(st.lists(_members(rounds), min_size=1, max_size=4)),
        area_excuses=set(draw(st.lists(excused, max_size=3))),
        policy_area=area,
        policy_association=association,
        consent_required=draw(st.booleans()),
        rules=draw(_rules()),
    )
