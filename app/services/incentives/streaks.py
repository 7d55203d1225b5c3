"""The streak rule, once: SQL that counts consecutive attended rounds for one member or for all.

Attended and excused rounds are bits counted back from the round in question, which is bit 0. The
unbroken run is the trailing ones of `attended | excused`; the streak is how many of them are
attended. Bits come in words, so that a history may be of any length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from app.reach import highest_below
from app.services.incentives.bindings import Bindings
from app.services.incentives.knowledge import Known

WORD_BITS = 62
_FULL = (1 << WORD_BITS) - 1


@dataclass(frozen=True)
class Rounds:
    """A round, and the sequence numbers of all rounds up to it; there may be gaps between them."""

    sequence: int
    starts_on: date
    ends_on: date
    sequences: Sequence[int]

    def words(self) -> list[list[int]]:
        """Give the bit of each sequence number from 1 on, word by word; zero where no round is."""
        distances = {seq: back for back, seq in enumerate(reversed(self.sequences))}
        count = (len(self.sequences) - 1) // WORD_BITS + 1
        words = [[0] * self.sequence for _ in range(count)]
        for sequence, distance in distances.items():
            word, bit = divmod(distance, WORD_BITS)
            words[word][sequence - 1] = 1 << bit
        return words


def streaks(
    bind: Bindings,
    rounds: Rounds,
    *,
    known: Known,
    excuses: bool,
    member_id: UUID | None = None,
    among: str | None = None,
    everybody: str | None = None,
) -> str:
    """Write the relation of member_id, association_id, attended, excused and streak.

    For one member it has one row whatever she did; otherwise a row for each who attended the
    round, in the order of the index that it is streamed from. `among` may keep to some members.
    `everybody`, a relation of member_id and association_id, is supposed to attend the round.
    """
    words = [bind.value(bits, "bigint[]") for bits in rounds.words()]
    one = "" if member_id is None else f" and {{}} = {bind.value(member_id, 'uuid')}"
    people = _attended(
        bind, rounds, words, known=known, one=one, among=among, all_=everybody is not None
    )
    if everybody is not None:
        people = _supposed(everybody, people, len(words))
    if member_id is not None:
        person = f"(select {bind.value(member_id, 'uuid')} as member_id) person"
        people = f"select * from {person} left join ({people}) t using (member_id)"
    excused = _excused(bind, rounds, words, known=known, one=one) if excuses else None
    streak, is_excused = _count(len(words), "a{n}"), "false"
    if excused is not None:
        streak = _excusing(bind, rounds, words)
        last_day = bind.value(rounds.ends_on, "date")
        is_excused = (
            "e0 & 1 = 1 and exists (select from members m where m.district_code = :district_code"
            f" and m.id = p.member_id and m.first_joined_on <= {last_day})"
        )
    masks = _masks(people, excused, len(words))
    return (
        f"select member_id, association_id, a0 & 1 = 1 as attended, {is_excused} as excused,"
        f" case when a0 & 1 = 1 then {streak} else 0 end as streak from ({masks}) p"
    )


def _masks(people: str, excused: str | None, words: int) -> str:
    """Join what was attended with what was excused: words of bits, newest round first."""
    bits = [f"coalesce(a{n}, 0) as a{n}" for n in range(words)]
    if excused is None:
        return f"select member_id, association_id, {', '.join(bits)} from ({people}) p"
    bits += [f"coalesce(e{n}, 0) as e{n}" for n in range(words)]
    return (
        f"select member_id, association_id, {', '.join(bits)}"
        f" from ({people}) p left join ({excused}) e using (member_id)"
    )


def _excusing(bind: Bindings, rounds: Rounds, words: Sequence[str]) -> str:
    """Count a streak that excuses may carry on; none holds for a round before her enrolment.

    She is looked up only where an excuse carries it on: most streaks do without.
    """
    count = len(words)
    alone, carried = _count(count, "a{n}"), _count(count, "(a{n} | e{n})")
    since = ", ".join(f"bit_or(({bits})[r.sequence]) as j{n}" for n, bits in enumerate(words))
    enrolled = (
        f"select {since} from members m join exam_rounds r on r.district_code = m.district_code"
        f" and r.sequence <= {bind.value(rounds.sequence, 'int')}"
        " and r.ends_on >= m.first_joined_on"
        " where m.district_code = :district_code and m.id = p.member_id"
    )
    return (
        f"case when {' and '.join(f'e{n} = 0' for n in range(count))} then {alone}"
        f" when {carried} = {alone} then {alone}"
        f" else (select {_count(count, '(a{n} | (e{n} & coalesce(j{n}, 0)))')}"
        f" from ({enrolled}) enrolled) end"
    )


def _supposed(everybody: str, people: str, words: int) -> str:
    """Let everybody have attended the round, and before it what each really attended."""
    known = ["coalesce(t.a0, 0) | 1 as a0", *(f"t.a{n}" for n in range(1, words))]
    return (
        f"select e.member_id, e.association_id, {', '.join(known)} from ({everybody}) e"
        f" left join ({people}) t using (member_id)"
    )


def _attended(
    bind: Bindings,
    rounds: Rounds,
    words: Sequence[str],
    *,
    known: Known,
    one: str,
    among: str | None,
    all_: bool,
) -> str:
    current = bind.value(rounds.sequence, "int")
    bits = ", ".join(f"bit_or(({bits})[round_sequence]) as a{n}" for n, bits in enumerate(words))
    having = "" if one or all_ else f" having bit_or(({words[0]})[round_sequence]) & 1 = 1"
    kept = f" and member_id in ({among})" if among else ""
    # By `= any` the walls' own condition stays the one that the index is read by. Of two equal
    # ones the planner would make a test of its own, and hand every row through it.
    return (
        "select member_id,"
        f" (array_agg(association_id) filter (where round_sequence = {current}))[1]"
        f" as association_id, {bits} from attendances t"
        " where district_code = any(array[cast(:district_code as text)])"
        f" and round_sequence is not null and {known.in_force()}{one.format('member_id')}{kept}"
        f" group by member_id{having}"
    )


def _excused(
    bind: Bindings, rounds: Rounds, words: Sequence[str], *, known: Known, one: str
) -> str:
    """Excuses of members, and of the areas of their associations on a round's last day."""
    current = bind.value(rounds.sequence, "int")
    bits = ", ".join(f"bit_or(({bits})[round_sequence]) as e{n}" for n, bits in enumerate(words))
    held = (
        f"where x.district_code = :district_code and x.round_sequence <= {current}"
        f" and {known.excused()}"
    )
    own = (
        f"select x.member_id, x.round_sequence from excuses x {held}"
        f" and x.member_id is not null{one.format('x.member_id')}"
    )
    by_area = (
        "select s.member_id, x.round_sequence from excuses x"
        " join exam_rounds r on r.district_code = x.district_code"
        " and r.sequence = x.round_sequence"
        " join associations a on a.district_code = x.district_code"
        f" and a.area_code between x.area_code and {highest_below('x.area_code')}"
        f" join {known.memberships()} s on s.district_code = a.district_code"
        " and s.association_id = a.id"
        f" and s.joined_on <= r.ends_on and {known.lasted('r.ends_on')}"
        f" {held} and x.area_code is not null{one.format('s.member_id')}"
    )
    return f"select member_id, {bits} from ({own} union all {by_area}) x group by member_id"


def _count(words: int, unbroken: str) -> str:
    """Count the attended rounds among the trailing ones, word after word while all are ones.

    `unbroken` writes the n-th word of what does not break a streak.
    """
    counted = ""
    for n in reversed(range(words)):
        c = unbroken.format(n=n)
        ones = f"((~{c} & ({c} + 1)) - 1)"
        here = f"cast(bit_count(cast(a{n} & {ones} as bit(64))) as int)"
        counted = f"{here} + case when {c} = {_FULL} then {counted} else 0 end" if counted else here
    return counted
