"""What was known at an instant, as SQL: each condition on what may change later, once.

Without an instant it is what is known now, in the words that the indexes know.
"""

from datetime import datetime

from app.services.incentives.bindings import Bindings

_FAILED = "p.status not in ('failed', 'returned')"
_RELEASED_AT = "greatest(r.settled_at, p.settled_at)"
"""When a payout that was not kept became free for another run."""


class Known:
    """Writes the conditions and relations of one statement; rows are named as each says."""

    def __init__(self, bind: Bindings, as_of: datetime | None = None) -> None:
        """Bind the instant, if there is one."""
        self._at = None if as_of is None else bind.value(as_of, "timestamptz")

    def entered(self, instant: str) -> str:
        """Write that a row was known which was entered at an instant."""
        return "true" if self._at is None else f"{instant} <= {self._at}"

    def in_force(self) -> str:
        """Write that an attendance `t` counted."""
        if self._at is None:
            return "t.voided_at is null"
        return f"(t.recorded_at <= {self._at} and not {self._void()})"

    def voided(self) -> str:
        """Write that an attendance `t` was known and did not count."""
        if self._at is None:
            return "t.voided_at is not null"
        return f"(t.recorded_at <= {self._at} and {self._void()})"

    def _void(self) -> str:
        """Write that it was void; of one that was restored, the spells of before are kept."""
        return f"(coalesce(t.voided_at <= {self._at}, false) or {self._within('t.was_void')})"

    def _within(self, spells: str) -> str:
        return f"((select count(*) from unnest({spells}) bound where bound <= {self._at}) % 2 = 1)"

    def decided_on(self, round_: str) -> str:
        """Write the day whose version of a policy decides a round: its last.

        If it was closed before that, the day of closing: what begins to hold later is for others.
        """
        closed_at = f"{round_}.closed_at"
        if self._at is not None:
            closed_at = f"case when {closed_at} <= {self._at} then {closed_at} end"
        closed_on = f"cast({closed_at} at time zone 'Asia/Shanghai' as date)"
        return f"least({round_}.ends_on, {closed_on})"

    def excused(self) -> str:
        """Write that an excuse `x` held."""
        if self._at is None:
            return "x.withdrawn_at is null"
        return (
            f"(x.created_at <= {self._at}"
            f" and (x.withdrawn_at is null or x.withdrawn_at > {self._at}))"
        )

    def memberships(self) -> str:
        """Write the relation of memberships, each with the end that was known and since when."""
        if self._at is None:
            return "memberships"
        return (
            "(select district_code, member_id, association_id, joined_on, case"
            f" when left_recorded_at <= {self._at} then left_on"
            f" when {self._within('was_left')} then joined_on end as left_on, case"
            f" when left_recorded_at <= {self._at} then left_recorded_at"
            f" when {self._within('was_left')} then (select max(bound) from unnest(was_left) bound"
            f" where bound <= {self._at}) end as left_recorded_at from memberships"
            f" where district_code = :district_code and recorded_at <= {self._at})"
        )

    def lasted(self, day: str) -> str:
        """Write that a membership `s` had not ended by a day, and was not known to.

        An end that is entered later with an earlier date takes no excuse of before.
        """
        known_on = "cast(s.left_recorded_at at time zone 'Asia/Shanghai' as date)"
        return f"(s.left_on is null or greatest(s.left_on, {known_on}) > {day})"

    def association(self) -> str:
        """Write the association of a member `m`: the one that she is in, or was in last."""
        if self._at is None:
            return "m.association_id"
        return (
            f"(select s.association_id from {self.memberships()} s"
            " where s.member_id = m.id order by s.left_on is not null,"
            " s.left_recorded_at desc nulls last, s.joined_on desc limit 1)"
        )

    def inactive(self) -> str:
        """Write the relation of the ids of members who were in no association."""
        if self._at is None:
            return "select id from members where district_code = :district_code and status = 'left'"
        return (
            "select m.id from members m where m.district_code = :district_code and not exists"
            f" (select from {self.memberships()} s where s.member_id = m.id and s.left_on is null)"
        )

    def earned(self, attended: str) -> str:
        """Write that one of `inactive` came to some of `attended` before she was known to leave.

        What she came to as a member stays hers. It goes by when the end was entered, which nobody
        can choose, not by its date; and by when she came, however late that was noted, though she
        came no later than it was. Who was erased is thanked no more.
        """
        erased = "is not null" if self._at is None else f"<= {self._at}"
        # Without `offset` a plan may look it up for everybody, not one by one for those who left.
        return (
            f"exists (select from {attended} and {self.in_force()} and t.member_id = inactive.id"
            f" and exists (select from {self.memberships()} s"
            " where s.district_code = :district_code and s.member_id = inactive.id"
            " and (s.left_recorded_at is null"
            " or s.left_recorded_at >= least(t.occurred_at, t.recorded_at)))"
            " and not exists (select from members e where e.district_code = :district_code"
            f" and e.id = inactive.id and e.erased_at {erased}) offset 0)"
        )

    def unwilling(self, *, consent_required: bool) -> str:
        """Write the relation of the ids of members not to be thanked.

        Who took her consent back is asked no more, also where none need be given.
        """
        if self._at is None:
            column = "thanks_consented_on is null"
            if not consent_required:
                column = "thanks_withdrawn_on is not null"
            return f"select id from members where district_code = :district_code and {column}"
        last = (
            "select distinct on (c.member_id) c.member_id, c.state from consents c"
            " where c.district_code = :district_code and c.purpose = 'thanks'"
            f" and c.recorded_at <= {self._at} order by c.member_id, c.recorded_at desc, c.id desc"
        )
        if not consent_required:
            return f"select member_id as id from ({last}) c where state = 'withdrawn'"
        return (
            f"select m.id from members m left join ({last}) c on c.member_id = m.id"
            " where m.district_code = :district_code and c.state is distinct from 'given'"
        )


class Grants:
    """Writes what runs had granted by an instant; of one run what all the others had.

    A run grants when it is calculated. What a run gave up again before it was approved, it has
    never granted: those lines are gone.
    """

    def __init__(self, bind: Bindings, by: datetime | None, apart_from: object | None) -> None:
        """Bind the instant and the run, if there are any."""
        self._by = None if by is None else bind.value(by, "timestamptz")
        self._apart = None if apart_from is None else bind.value(apart_from, "uuid")

    @property
    def source(self) -> str:
        """The payouts `p`."""
        if self._by is None:
            return "payouts p"
        return (
            "payouts p join payout_runs r on r.district_code = p.district_code and r.id = p.run_id"
            f" and r.calculated_at <= {self._by}"
        )

    @property
    def distinct(self) -> str:
        """How each member is found once, though what failed is counted beside what replaced it."""
        return "" if self._by is None else "distinct"

    def standing(self) -> str:
        """Write that a grant was not free for another run."""
        free = "p.released = 0"
        if self._by is not None:
            free = f"(p.released = 0 or {_RELEASED_AT} > {self._by})"
        return self._others(free)

    def kept(self) -> str:
        """Write that a payout was not known to have failed or come back."""
        failed = _FAILED if self._by is None else f"({_FAILED} or p.settled_at > {self._by})"
        return self._others(failed)

    def _others(self, condition: str) -> str:
        return condition if self._apart is None else f"{condition} and p.run_id <> {self._apart}"
