"""Of how many people a draw is, and each part of it that a count can tell apart."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun
from app.models.events.exam_rounds import ExamRound
from app.models.lucky_draws.draw_tickets import DrawTicket
from app.models.lucky_draws.draws import Draw, DrawStatus
from app.models.membership.consents import Consent
from app.models.membership.members import Member, Membership
from app.models.organisation.associations import Association
from app.roles import Role
from app.services.lucky_draws import draw_tickets
from tests.factories.callers import DISTRICT, GUICHENG, SHISHAN, Client, if_match
from tests.factories.disbursement.payout_runs import make_run
from tests.factories.disbursement.payouts import make_payout
from tests.factories.events.exam_rounds import make_round
from tests.factories.incentives.incentive_policies import make_policy, make_ticket
from tests.factories.lucky_draws.draws import SEED, make_draw, make_tickets
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association
from tests.migrating import applied_again

_LONG_KNOWN = datetime(2020, 1, 2, tzinfo=UTC)
_KNOWN: dict[str, Any] = {"created_at": _LONG_KNOWN, "first_joined_on": date(2020, 1, 1)}
_TAKEN_OVER = "update draw_tickets set draw_id = (select id from draws where status = 'open')"


async def test_a_draw_whose_tickets_another_took_over_keeps_its_own_people(
    session: AsyncSession, owner: Database
) -> None:
    association, held = await make_association(session), await make_round(session)
    few = [await make_member(session, association, name=f"会员{n}") for n in range(2)]
    tickets = list(zip(make_tickets(3), [few[0], *few], strict=True))
    draw = await make_draw(session, held, DrawStatus.CLOSED, tickets=tickets)
    draw.status, draw.status_reason = DrawStatus.CANCELLED.value, "开奖推迟"
    draw.cancelled_at, draw.cancelled_by = clock.now(), "officer-1"
    draw.seed, draw.wrapped_seed = SEED, None
    await session.flush()
    await make_draw(session, held, DrawStatus.OPEN)
    await session.execute(text(_TAKEN_OVER))
    await session.commit()
    async with applied_again(owner, "0025_draw_people") as connection:
        found = await connection.execute(
            text("select status, ticket_count, people_count from draws order by status")
        )
        assert [tuple(row) for row in found] == [("cancelled", 3, 2), ("open", None, None)]


class _Ticketed:
    """A run whose rules give tickets, and members to get them."""

    def __init__(
        self,
        session: AsyncSession,
        held: ExamRound,
        run: PayoutRun,
        association: Association,
        members: Sequence[Member],
    ) -> None:
        self.session = session
        self.held = held
        self.run = run
        self.association = association
        self.members = members
        self._lines = 0

    async def give(self, draw: Draw, members: Sequence[Member], *, rule: int, each: int) -> None:
        """Give members so many tickets by a rule of this number."""
        for member in members:
            self._lines += 1
            line = {"line_no": self._lines, "quantity": each, "amount_fen": 0}
            await make_payout(self.session, self.run, member, UUID(int=rule), **line)
            first = self.run.id.int % 2**100 + 1000 * self._lines
            for copy_no, ticket in enumerate(make_tickets(each, start=first), 1):
                self.session.add(
                    DrawTicket(
                        district_code=draw.district_code,
                        draw_id=draw.id,
                        ticket=ticket,
                        member_id=member.id,
                        run_id=self.run.id,
                        line_no=self._lines,
                        copy_no=copy_no,
                        issued_at=clock.now(),
                    )
                )
        await self.session.commit()


async def _ticketed(
    session: AsyncSession,
    held: ExamRound,
    *,
    count: int,
    beside: int = 10,
    for_consent: bool = False,
) -> _Ticketed:
    """Make members to get tickets, and some of their association beside them who get none."""
    association = await make_association(session)
    known = _KNOWN | {"consented_on": date(2020, 1, 1) if for_consent else None}
    members = [await make_member(session, association, **known) for _ in range(count + beside)]
    run = await make_run(
        session, held, await make_policy(session, [make_ticket()], consent_required=for_consent)
    )
    return _Ticketed(session, held, run, association, members[:count])


async def _frozen(officer: Client, session: AsyncSession, draw: Draw) -> None:
    """Let the tickets close, and freeze them."""
    over = {"id": draw.id, "by": timedelta(hours=1, minutes=1)}
    names = ("created_at", "opened_at", "closes_at")
    moved = ", ".join(f"{name} = {name} - cast(:by as interval)" for name in names)
    await session.execute(text(f"update draws set {moved} where id = :id"), over)
    await session.commit()
    path = f"/v1/draws/{draw.id}"
    read = await officer.ok("GET", path)
    await officer.ok("POST", f"{path}/close", headers=if_match(read))


async def _is_told(reader: Client, draw: Draw) -> bool:
    path = f"/v1/draws/{draw.id}"
    read = await reader.ok("GET", path)
    answer = await reader.get(f"{path}/verification")
    assert (read["digest"] is None) == (read["ticket_count"] is None)
    assert answer.status_code == (403 if read["ticket_count"] is None else 200)
    return read["ticket_count"] is not None


@pytest.mark.parametrize(
    ("of_first", "of_second", "is_told"),
    [(12, 0, True), (12, 3, False), (12, 12, True), (12, 10, False), (20, 10, True)],
)
async def test_a_count_of_tickets_is_not_taken_apart_by_what_each_rule_gives(
    client: Callable[..., Client],
    officer: Client,
    session: AsyncSession,
    *,
    of_first: int,
    of_second: int,
    is_told: bool,
) -> None:
    """By one ticket and a thousand each, 3012 would be of twelve people and of three."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=of_first)
    draw = await make_draw(session, held)
    await ticketed.give(draw, ticketed.members, rule=1, each=1)
    await ticketed.give(draw, ticketed.members[:of_second], rule=2, each=5)
    await _frozen(officer, session, draw)
    for reader in (client(Role.SECRETARY), client(Role.TOWN_OFFICER, employer_linked=True)):
        assert await _is_told(reader, draw) == is_told
    assert await _is_told(client(Role.FINANCE_CLERK), draw)


@pytest.mark.parametrize(("more", "is_told"), [(0, True), (3, False), (10, True)])
async def test_a_draw_is_not_subtracted_from_the_one_that_replaces_it(
    client: Callable[..., Client],
    officer: Client,
    session: AsyncSession,
    keyring: Keyring,
    *,
    more: int,
    is_told: bool,
) -> None:
    """Nor is it from one that replaces this: what is new is counted beyond what was told."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=12 + more)
    reader = client(Role.SECRETARY)
    draw, given = await make_draw(session, held, keyring=keyring), 0
    for until, expected in ((12, True), (12 + more, is_told), (12 + more, is_told)):
        await ticketed.give(draw, ticketed.members[given:until], rule=1, each=2)
        given = until
        await _frozen(officer, session, draw)
        assert await _is_told(reader, draw) == expected
        draw = await _replaced(officer, session, held, draw)


@pytest.mark.parametrize(("beside", "is_told"), [(0, False), (1, False), (9, False), (10, True)])
async def test_a_count_of_almost_all_is_not_told(
    client: Callable[..., Client],
    officer: Client,
    session: AsyncSession,
    *,
    beside: int,
    is_told: bool,
) -> None:
    """Who knows the members of an association would know of each that she came, or of few not."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=12, beside=beside)
    await _add_unable(session, ticketed.association, held)
    draw = await make_draw(session, held)
    await ticketed.give(draw, ticketed.members, rule=1, each=1)
    await _frozen(officer, session, draw)
    assert await _is_told(client(Role.SECRETARY), draw) == is_told
    assert await _is_told(client(Role.FINANCE_CLERK), draw)


async def _add_unable(session: AsyncSession, association: Association, held: ExamRound) -> None:
    """Add ten members of each kind who could not have been in it, as was known in time."""
    today, within = clock.civil_date(clock.now()), _within(held)
    for _ in range(10):
        await make_member(session, association, created_at=within)
        await make_member(session, association)  # entered since, and dated back
        await make_member(session, association, **_KNOWN, thanks_withdrawn_on=today)
        moved = await make_member(session, await make_association(session))
        session.add(
            Membership(
                district_code=moved.district_code,
                member_id=moved.id,
                joined_on=date(2019, 1, 1),
                association_id=association.id,
                left_on=held.starts_on,
                reason=None,
                recorded_at=_LONG_KNOWN,
                left_recorded_at=within,
            )
        )
    await session.commit()


def _within(held: ExamRound) -> datetime:
    return datetime.combine(held.starts_on + timedelta(days=1), time.min, UTC)


@pytest.mark.parametrize("moment", ["left", "reopened"])
async def test_who_is_made_to_leave_after_the_round_changes_nothing_of_what_is_told(
    client: Callable[..., Client], officer: Client, session: AsyncSession, moment: str
) -> None:
    """Told only while she whom it is about is counted beside it, it would tell of each of them."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=12, beside=10)
    now = clock.now()
    ended: dict[str, Any] = {"left_on": held.starts_on, "left_recorded_at": now, "was_left": None}
    if moment == "reopened":
        ended = {"left_on": None, "left_recorded_at": None, "was_left": [now, now]}
    await session.execute(update(Membership).values(**ended))
    assert await _drawn(officer, client(Role.SECRETARY), ticketed, ticketed.members)


async def test_who_was_gone_when_the_round_began_is_not_beside(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    """However her membership was opened again since."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=12, beside=10)
    gone = [_LONG_KNOWN + timedelta(days=1), clock.now()]
    await session.execute(update(Membership).values(was_left=gone))
    assert not await _drawn(officer, client(Role.SECRETARY), ticketed, ticketed.members)


async def test_a_consent_that_was_entered_since_the_round_began_puts_nobody_beside(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    held = await make_round(session)
    reader = client(Role.SECRETARY)
    for area, recorded_at, is_told in (
        (SHISHAN, clock.now(), False),
        (GUICHENG, _within(held), False),
        (DISTRICT, _LONG_KNOWN, True),
    ):
        ticketed = await _ticketed(session, held, count=12, beside=10, for_consent=True)
        await session.execute(update(Consent).values(recorded_at=recorded_at))
        drawn = await _drawn(officer, reader, ticketed, ticketed.members, rule=1, area_code=area)
        assert drawn == is_told


@pytest.mark.parametrize("came", [True, False])
@pytest.mark.parametrize("what", ["left within the round", "consented when it was over"])
async def test_nothing_entered_of_a_member_tells_whether_she_came(
    client: Callable[..., Client],
    officer: Client,
    session: AsyncSession,
    *,
    came: bool,
    what: str,
) -> None:
    """What is told is the same whether she did or not."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=12 + came, beside=11 - came, for_consent=True)
    await session.execute(update(Consent).values(recorded_at=_LONG_KNOWN))
    everyone = (await session.scalars(select(Member).order_by(col(Member.id)))).all()
    for number, member in enumerate((everyone[12], everyone[13])):
        hers = {"member_id": member.id}
        if what.startswith("left"):
            ended = {"left_on": held.starts_on, "left_recorded_at": _within(held)}
            await session.execute(update(Membership).filter_by(**hers).values(**ended))
        elif number == 0:
            late = {"recorded_at": clock.now()}
            await session.execute(update(Consent).filter_by(**hers).values(**late))
    assert not await _drawn(officer, client(Role.SECRETARY), ticketed, ticketed.members)


async def test_who_was_thanked_otherwise_in_the_round_is_not_beside(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    """Twelve with tickets and ten paid in accounts would be all of 22."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=22, beside=0)
    for number, member in enumerate(ticketed.members[12:], 100):
        await make_payout(session, ticketed.run, member, UUID(int=9), line_no=number)
    assert not await _drawn(officer, client(Role.SECRETARY), ticketed, ticketed.members[:12])


@pytest.mark.parametrize("for_consent", [True, False])
async def test_who_never_consented_is_beside_where_nobody_is_asked(
    client: Callable[..., Client], officer: Client, session: AsyncSession, *, for_consent: bool
) -> None:
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=12, beside=0, for_consent=for_consent)
    for _ in range(10):
        await make_member(session, ticketed.association, created_at=_LONG_KNOWN, consented_on=None)
    assert await _drawn(officer, client(Role.SECRETARY), ticketed, ticketed.members) != for_consent


async def test_the_members_of_others_do_not_cover_those_of_one_association(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    """By a hundred tickets and one each, 1212 would be of twelve here, who are all, and there."""
    held = await make_round(session)
    ours = await _ticketed(session, held, count=12, beside=0)
    theirs = await _ticketed(session, held, count=12, beside=28)
    draw = await make_draw(session, held)
    await ours.give(draw, ours.members, rule=1, each=3)
    await theirs.give(draw, theirs.members, rule=2, each=1)
    await _frozen(officer, session, draw)
    assert not await _is_told(client(Role.SECRETARY), draw)


async def test_draws_of_a_round_do_not_add_up_to_all(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    """Each member comes to one check of a round, so that twelve and twelve would be all of 24."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=24, beside=0)
    reader = client(Role.SECRETARY)
    for area, people, is_told in ((SHISHAN, slice(12), True), (DISTRICT, slice(12, 24), False)):
        drawn = await _drawn(
            officer, reader, ticketed, ticketed.members[people], rule=1, area_code=area
        )
        assert drawn == is_told


async def test_several_draws_of_a_round_are_not_subtracted_together(
    client: Callable[..., Client], officer: Client, session: AsyncSession
) -> None:
    """Of 27, of whom twelve are in one other draw and twelve in another, three are left."""
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=27, beside=40)
    reader = client(Role.SECRETARY)
    draws = (
        (SHISHAN, slice(12), True),
        (GUICHENG, slice(12, 24), True),
        (DISTRICT, slice(27), False),
    )
    for rule, (area, people, is_told) in enumerate(draws, 1):
        drawn = _drawn(
            officer, reader, ticketed, ticketed.members[people], rule=rule, area_code=area
        )
        assert await drawn == is_told


@pytest.mark.parametrize(
    ("of_first", "of_second", "is_told"),
    [
        (range(10), range(13), False),
        (range(13), range(10), False),
        (range(12), range(12), True),
        (range(10), range(20), True),
        (range(12), range(3, 22), False),
        (range(12), range(12, 24), True),
    ],
)
async def test_two_draws_of_a_round_are_not_subtracted(
    client: Callable[..., Client],
    officer: Client,
    session: AsyncSession,
    *,
    of_first: range,
    of_second: range,
    is_told: bool,
) -> None:
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=24)
    reader = client(Role.SECRETARY)
    draws = ((SHISHAN, of_first, True), (DISTRICT, of_second, is_told))
    for rule, (area, people, expected) in enumerate(draws, 1):
        members = [ticketed.members[number] for number in people]
        drawn = await _drawn(officer, reader, ticketed, members, rule=rule, area_code=area)
        assert drawn == expected


async def _drawn(
    officer: Client,
    reader: Client,
    ticketed: _Ticketed,
    members: Sequence[Member],
    *,
    rule: int = 1,
    **facts: Any,
) -> bool:
    """Put a ticket of each of these members into a draw, freeze it, tell whether it is told."""
    draw = await make_draw(ticketed.session, ticketed.held, **facts)
    await ticketed.give(draw, members, rule=rule, each=1)
    await _frozen(officer, ticketed.session, draw)
    return await _is_told(reader, draw)


async def _replaced(officer: Client, session: AsyncSession, held: ExamRound, draw: Draw) -> Draw:
    """Give a frozen draw up for another, which takes its tickets."""
    path = f"/v1/draws/{draw.id}"
    read = await officer.ok("GET", path)
    reason = {"reason": "开奖推迟"}
    await officer.ok("POST", f"{path}/cancel", json=reason, headers=if_match(read))
    draft = await make_draw(session, held, DrawStatus.DRAFT, replaces_id=draw.id)
    await session.commit()
    drafted = if_match({"version": draft.version})
    await officer.ok("POST", f"/v1/draws/{draft.id}/commit", headers=drafted)
    return draft


async def test_draws_frozen_before_parts_were_counted_are_withheld(
    client: Callable[..., Client], session: AsyncSession, owner: Database
) -> None:
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=14)
    tickets = list(zip(make_tickets(14), ticketed.members, strict=True))
    draw = await make_draw(session, held, DrawStatus.CLOSED, tickets=tickets, run=ticketed.run)
    await session.commit()
    async with applied_again(owner, "0027_draw_parts") as connection:
        found = await connection.execute(text("select people_count, fewest_count from draws"))
        assert [tuple(row) for row in found] == [(14, None)]
    reader = client(Role.SECRETARY)
    assert await _is_told(reader, draw)
    await _forget_parts(owner)
    assert not await _is_told(reader, draw)
    assert await _is_told(client(Role.FINANCE_CLERK), draw)


async def test_a_draw_that_was_told_before_parts_were_counted_is_not_subtracted_either(
    client: Callable[..., Client],
    officer: Client,
    session: AsyncSession,
    owner: Database,
    keyring: Keyring,
) -> None:
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=15)
    draw = await make_draw(session, held, keyring=keyring)
    await ticketed.give(draw, ticketed.members[:12], rule=1, each=2)
    await _frozen(officer, session, draw)
    await _forget_parts(owner)
    draw = await _replaced(officer, session, held, draw)
    await ticketed.give(draw, ticketed.members[12:], rule=1, each=2)
    await _frozen(officer, session, draw)
    assert not await _is_told(client(Role.SECRETARY), draw)


async def _forget_parts(owner: Database) -> None:
    """Have no draw's parts counted, as before they were."""
    async with owner.pool.acquire() as connection, connection.transaction():
        await connection.execute("alter table draws disable trigger user")
        await connection.execute("update draws set fewest_count = null")
        await connection.execute("alter table draws enable trigger user")


async def test_people_are_counted_with_patience_and_not_one_by_one(session: AsyncSession) -> None:
    held = await make_round(session)
    ticketed = await _ticketed(session, held, count=2)
    tickets = list(zip(make_tickets(2), ticketed.members, strict=True))
    draw = await make_draw(session, held, tickets=tickets, run=ticketed.run)
    await session.execute(text("set local statement_timeout = '9s'"))
    assert (await draw_tickets.count_people(session, draw))[0] == 2
    assert await session.scalar(text("show statement_timeout")) == "5min"
    assert await session.scalar(text("show enable_nestloop")) == "off"
