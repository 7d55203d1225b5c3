"""What each rule decides, as SQL made from the rules: the same for one member and for a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from app.clock import CIVIL_ZONE
from app.identifiers import area_range, district_of
from app.models.events.service_events import EventKind
from app.services.incentives.bindings import Bindings
from app.services.incentives.knowledge import Grants, Known
from app.services.incentives.streaks import Rounds, streaks

TERMS = (
    "select p.id as policy_id, p.name as policy_name, p.area_code, p.association_id, v.number,"
    " v.in_force, v.consent_required, r.rule_id, r.code, r.name, r.event_kind, r.min_streak,"
    " r.every, r.reward, r.amount_fen, r.gift_item, r.quantity, r.exclusive_group, r.priority,"
    " r.yearly_cap_fen"
    " from incentive_policies p cross join lateral ("
    " select number, consent_required, effective_on <= :on and (ends_on is null or ends_on > :on)"
    " as in_force from policy_versions v where v.district_code = p.district_code"
    " and v.policy_id = p.id{versions} order by in_force desc, number desc limit 1) v"
    " join incentive_rules r on r.district_code = p.district_code and r.policy_id = p.id"
    " and r.number = v.number where p.district_code = :district_code and {policies}"
    " order by r.rule_id"
)
"""The rules of policies in the version that holds on a day, or their newest when none does.

`versions` may keep to some versions `v`, as those that were known.
"""


@dataclass(frozen=True)
class Rule:
    """A rule with the terms of its policy, as it holds for a round."""

    policy_id: UUID
    policy_name: str
    area_code: str
    association_id: UUID | None
    number: int
    in_force: bool
    consent_required: bool
    rule_id: UUID
    code: str
    name: str
    event_kind: str
    min_streak: int
    every: int | None
    reward: str
    amount_fen: int | None
    gift_item: str | None
    quantity: int | None
    exclusive_group: str | None
    priority: int
    yearly_cap_fen: int | None

    def excludes(self, other: "Rule") -> bool:
        """Tell whether it is another rule of the same exclusive group."""
        return (
            self.policy_id == other.policy_id
            and self.rule_id != other.rule_id
            and self.exclusive_group is not None
            and self.exclusive_group == other.exclusive_group
        )

    def outranks(self, other: "Rule") -> bool:
        """Tell whether it is of the same exclusive group and wins over the other."""
        return self.excludes(other) and self.priority > other.priority


def rules_of(rows: Sequence[Mapping[str, Any]]) -> list[Rule]:
    """Read what `TERMS` gives."""
    return [Rule(**row) for row in rows]


@dataclass(frozen=True)
class Occasion:
    """For whom and when rules are decided: one member, or all within an area.

    `excuses` and `payouts` say whether there are any that could matter; `year` lists the other
    rounds that end in the same civil year. `everybody` is who is supposed to come to the round's
    health check, as a relation of member_id and association_id. What was known `as_of` an instant
    decides, and what runs had granted by `grants_by`; grants of the run `apart_from` are not asked.
    `decided_on` is the day whose version of a policy decides, where that is still to be read.
    """

    rounds: Rounds
    year: Sequence[int]
    excuses: bool = True
    payouts: bool = True
    member_id: UUID | None = None
    current_association: UUID | None = None
    area_code: str | None = None
    everybody: str | None = None
    as_of: datetime | None = None
    decided_on: date | None = None
    grants_by: datetime | None = None
    apart_from: UUID | None = None


def _end(*, ordered: bool) -> str:
    """Close a level of the statement, so that what it works out is worked out once.

    The order in which members are streamed is known above only if each level says it.
    """
    return f"{' order by member_id' if ordered else ''} offset 0"


class Decision:
    """The statement that decides some rules on one occasion, and its parameters."""

    def __init__(self, district_code: str, rules: Sequence[Rule], occasion: Occasion) -> None:
        """Write the facts that these rules ask for, and each rule's reason from them."""
        self.rules = rules
        self._occasion = occasion
        self._district_code = district_code
        self._bind = Bindings({"district_code": district_code})
        self.known = Known(self._bind, occasion.as_of)
        self._grants = Grants(self._bind, occasion.grants_by, occasion.apart_from)
        self._columns: dict[str, str] = {}
        kinds = {rule.event_kind for rule in rules}
        if occasion.member_id is not None:
            kinds |= {EventKind.HEALTH_EXAM.value}
        self._kinds = sorted(kinds, key=lambda kind: (kind != EventKind.HEALTH_EXAM, kind))
        self._joins: list[str] = []
        self._base = [self._own_tests(number) for number in range(len(rules))]
        self._tests = [self._all_tests(number) for number in range(len(rules))]

    @property
    def params(self) -> dict[str, Any]:
        """Give the values that the statement binds."""
        return self._bind.params

    @property
    def reasons(self) -> list[str]:
        """Write each rule's reason to refuse; null where it grants."""
        cases = (
            " ".join(f"when {condition} then '{reason}'" for reason, condition in tests)
            for tests in self._tests
        )
        return [f"case {each} end" for each in cases]

    def decided(self, *, ordered: bool = False) -> str:
        """Write the facts with `granted`, whose n-th bit is set where the n-th rule grants."""
        granted = " | ".join(
            f"case when {' or '.join(condition for _, condition in tests)} then 0 else {1 << n} end"
            for n, tests in enumerate(self._tests)
        )
        facts = self.facts(ordered=ordered)
        return f"select *, {granted} as granted from ({facts}) facts{_end(ordered=ordered)}"

    @property
    def kinds(self) -> list[str]:
        """Give the event kinds, in the order in which the columns of facts number them."""
        return self._kinds

    def value(self, value: object, sql_type: str) -> str:
        """Bind one more value."""
        return self._bind.value(value, sql_type)

    def facts(self, *, ordered: bool = False) -> str:
        """Write the relation of members with what the rules ask about them."""
        health = EventKind.HEALTH_EXAM.value in self._kinds
        known = "excused, streak" if health else "false as excused, 0 as streak"
        if health:
            known = "coalesce(excused, false) as excused, coalesce(streak, 0) as streak"
        attended = [
            f"{self._attended(kind)} as attended_{n}, k{n}.association_id as association_{n}"
            for n, kind in enumerate(self._kinds)
        ]
        columns = [f"{expression} as {name}" for expression, name in self._columns.items()]
        selected = ", ".join(["member_id", known, *attended, *columns])
        joins = " ".join(self._joins)
        return f"select {selected} from {self._sources()} {joins}{_end(ordered=ordered)}"

    def superseding(self, number: int) -> str | None:
        """Write which rule, by its place, wins over one; None when nothing could."""
        winners = [(self._met(other), other) for other in self._higher(number)]
        winners += [(self._granted(other), other) for other in self._granted_instead(number)]
        cases = " ".join(f"when {condition} then {other}" for condition, other in winners)
        return f"case {cases} end" if winners else None

    def _sources(self) -> str:
        kind_of_join = "full" if self._occasion.member_id is None else "left"
        parts = []
        for n, kind in enumerate(self._kinds):
            join = f"{kind_of_join} join" if n else ""
            using = "using (member_id)" if n else ""
            parts.append(f"{join} ({self._source(kind)}) k{n} {using}")
        return " ".join(parts)

    def _source(self, kind: str) -> str:
        if kind == EventKind.HEALTH_EXAM:
            return streaks(
                self._bind,
                self._occasion.rounds,
                known=self.known,
                excuses=self._occasion.excuses,
                member_id=self._occasion.member_id,
                among=self._among(),
                everybody=self._occasion.everybody,
            )
        return (
            "select t.member_id,"
            " (array_agg(t.association_id order by t.occurred_at))[1] as association_id"
            f" from {self.attendances(kind)} and {self.known.in_force()} group by t.member_id"
        )

    def attendances(self, kind: str) -> str:
        """Write the attendances `t`, void or not, at events of a kind in the round's civil days."""
        rounds = self._occasion.rounds
        first = datetime.combine(rounds.starts_on, time(), CIVIL_ZONE)
        after = datetime.combine(rounds.ends_on + timedelta(days=1), time(), CIVIL_ZONE)
        return (
            "service_events v join attendances t on t.district_code = v.district_code"
            " and t.event_id = v.id where v.district_code = :district_code"
            f" and v.kind = {self.value(kind, 'text')}"
            f" and v.starts_at >= {self.value(first, 'timestamptz')}"
            f" and v.starts_at < {self.value(after, 'timestamptz')}"
            f" and t.district_code = :district_code{self._hers('t')}"
        )

    def _attended(self, kind: str) -> str:
        n = self._kinds.index(kind)
        if kind == EventKind.HEALTH_EXAM:
            return f"coalesce(k{n}.attended, false)"
        return f"k{n}.member_id is not null"

    def _column(self, expression: str, name: str) -> str:
        return self._columns.setdefault(expression, name)

    def _own_tests(self, number: int) -> list[tuple[str, str]]:
        """List a rule's reasons to refuse, in order, apart from other rules and runs."""
        rule = self.rules[number]
        if not rule.in_force:
            return [("policy_not_in_force", "true")]
        kind = self._kinds.index(rule.event_kind)
        tests = []
        if scope := self._scope(rule, kind):
            name = self._column(f"({scope}) is not true", f"outside_{number}")
            tests.append(("outside_scope", name))
        if self._occasion.member_id is not None:
            name = self._column(self._voided(rule.event_kind), f"voided_{number}")
            tests.append(("attendance_voided", f"not attended_{kind} and {name}"))
        tests.append(("not_attended", f"not attended_{kind}"))
        tests.append(("membership_inactive", self._inactive(rule.event_kind)))
        unwilling = self.known.unwilling(consent_required=rule.consent_required)
        name = "without_consent" if rule.consent_required else "withdrawn"
        is_among = self._among_members(unwilling, name)
        tests.append(("consent_missing", self._column(is_among, f"is_{name}")))
        if rule.min_streak > 1:
            tests.append(("streak_too_short", f"streak < {self.value(rule.min_streak, 'int')}"))
        if rule.every is not None:
            tests.append(("not_a_multiple", f"streak % {self.value(rule.every, 'int')} <> 0"))
        if rule.yearly_cap_fen is not None:
            limit = self.value(rule.yearly_cap_fen - (rule.amount_fen or 0), "bigint")
            tests.append(("yearly_cap_reached", f"{self._used_in_year(number)} > {limit}"))
        return tests

    def _all_tests(self, number: int) -> list[tuple[str, str]]:
        tests = list(self._base[number])
        if self._occasion.payouts and self.rules[number].in_force:
            tests.append(("already_granted", self._granted(number)))
        winners = [self._met(other) for other in self._higher(number)]
        winners += [self._granted(other) for other in self._granted_instead(number)]
        return tests + [("superseded", condition) for condition in winners]

    def _higher(self, number: int) -> list[int]:
        rule = self.rules[number]
        higher = [n for n, other in enumerate(self.rules) if other.outranks(rule)]
        return sorted(higher, key=lambda n: -self.rules[n].priority)

    def _granted_instead(self, number: int) -> list[int]:
        """List the rules of its group: what one of them gave before, the group has given."""
        rule = self.rules[number]
        if not (self._occasion.payouts and rule.in_force):
            return []
        return [n for n, other in enumerate(self.rules) if other.excludes(rule)]

    def _met(self, number: int) -> str:
        return f"not ({' or '.join(f'({condition})' for _, condition in self._base[number])})"

    def _scope(self, rule: Rule, kind: int) -> str:
        """Where the member was when she came must be in the policy's scope and the run's."""
        here = f"k{kind}.association_id"
        if self._occasion.current_association is not None:
            here = f"coalesce({here}, {self.value(self._occasion.current_association, 'uuid')})"
        conditions = []
        if rule.association_id is not None:
            conditions.append(f"{here} = {self.value(rule.association_id, 'uuid')}")
        areas = {rule.area_code, self._occasion.area_code or rule.area_code}
        conditions += [
            f"{here} in ({self._associations(area)})"
            for area in sorted(areas)
            if area != district_of(area)
        ]
        return " and ".join(conditions)

    def _associations(self, area: str) -> str:
        low, high = area_range(area)
        return (
            "select id from associations where district_code = :district_code and area_code"
            f" between {self.value(low, 'text')} and {self.value(high, 'text')}"
        )

    def _among(self) -> str | None:
        """Who ever belonged to the scope: she need not be looked for among all members."""
        if self._occasion.member_id is not None or self._occasion.everybody is not None:
            return None
        rule, area = self.rules[0], self._occasion.area_code
        members = "select member_id from memberships where district_code = :district_code and"
        if rule.association_id is not None:
            return f"{members} association_id = {self.value(rule.association_id, 'uuid')}"
        if area is not None and area != district_of(area):
            return f"{members} association_id in ({self._associations(area)})"
        return None

    def _came_to(self, kind: str) -> str:
        """Write the attendances `t`, void or not, that could earn what is given for a kind."""
        if kind != EventKind.HEALTH_EXAM:
            return self.attendances(kind)
        return (
            "attendances t where t.district_code = :district_code"
            f" and t.round_sequence = {self.value(self._occasion.rounds.sequence, 'int')}"
            f"{self._hers('t')}"
        )

    def _voided(self, kind: str) -> str:
        return f"exists (select 1 from {self._came_to(kind)} and {self.known.voided()})"

    def _inactive(self, kind: str) -> str:
        """Write who is in no association, but for those who came to it while they were."""
        name = f"is_inactive_{self._kinds.index(kind)}"
        if name not in self._columns.values():
            left = self._among_members(self.known.inactive(), "inactive")
            self._column(f"{left} and not {self.known.earned(self._came_to(kind))}", name)
        return name

    def _among_members(self, ids: str, name: str) -> str:
        """Join some members, whom a partial index of their own finds, and write who they are."""
        join = f"left join ({ids}) {name} on {name}.id = member_id"
        if join not in self._joins:
            self._joins.append(join)
        return f"{name}.id is not null"

    def _used_in_year(self, number: int) -> str:
        """Join what a capped rule has given in the other rounds of the year, unless it failed."""
        self._joins.append(
            f"left join (select p.member_id as id, sum(p.amount_fen) as fen from"
            f" {self._grants.source} where p.district_code = :district_code"
            f" and {self._grants.kept()}"
            f" and p.round_sequence = any({self.value(list(self._occasion.year), 'int[]')})"
            f" and p.rule_id = {self.value(self.rules[number].rule_id, 'uuid')}{self._hers('p')}"
            f" group by p.member_id) u{number} on u{number}.id = member_id"
        )
        return self._column(f"coalesce(u{number}.fen, 0)", f"used_{number}")

    def _granted(self, number: int) -> str:
        """Join whom the rule was granted to for this round by another run."""
        expression = f"g{number}.id is not null"
        if expression in self._columns:
            return self._columns[expression]
        self._joins.append(
            f"left join (select {self._grants.distinct} p.member_id as id from"
            f" {self._grants.source} where p.district_code = :district_code"
            f" and {self._grants.standing()}"
            f" and p.round_sequence = {self.value(self._occasion.rounds.sequence, 'int')}"
            f" and p.rule_id = {self.value(self.rules[number].rule_id, 'uuid')}{self._hers('p')}"
            f") g{number} on g{number}.id = member_id"
        )
        return self._column(expression, f"granted_{number}")

    def _hers(self, name: str) -> str:
        """Keep to rows of the one member, if it is about one."""
        member = self._occasion.member_id
        return "" if member is None else f" and {name}.member_id = {self.value(member, 'uuid')}"
