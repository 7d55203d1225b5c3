"""Errands of the clock: what fails keeps nothing else that is due."""

from datetime import timedelta

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, errands, metrics
from app.crypto import Keyring
from app.database import Database, Door
from app.models.lucky_draws.draws import Draw
from app.models.membership.members import Member
from app.models.privacy.held_changes import HeldChange, HeldField
from app.services.audit.audit_seals import UNSEALED
from tests.factories.callers import DISTRICT
from tests.factories.events.exam_rounds import make_round
from tests.factories.lucky_draws.draws import make_draw, make_tickets
from tests.factories.membership.logins import Inbox, make_member_with_phone
from tests.factories.membership.members import make_member, make_phone
from tests.factories.organisation.associations import make_association

_PHONES = (make_phone(1), make_phone(2))


async def _hold(session: AsyncSession, member: Member, *, hours: int) -> None:
    now = clock.now()
    change = HeldChange(
        id=clock.new_id(),
        district_code=member.district_code,
        member_id=member.id,
        field=HeldField.PHONE,
        value_sealed=b"sealed",
        requested_at=now,
        in_force_at=now + timedelta(hours=hours),
        noticed_at=None,
        applied_at=None,
        cancelled_at=None,
    )
    session.add(change)
    await session.flush()


async def test_a_change_that_nobody_can_read_keeps_no_other_and_no_other_errand(
    app: FastAPI, session: AsyncSession, keyring: Keyring, owner: Database, inbox: Inbox
) -> None:
    association = await make_association(session)
    for hours, phone in enumerate(_PHONES, 72):
        member = await make_member_with_phone(session, keyring, association, phone)
        await _hold(session, member, hours=hours)
    await session.commit()
    await owner.pool.execute(
        "update members set phone_sealed = 'no seal' where id ="
        " (select member_id from held_changes order by in_force_at limit 1)"
    )
    metrics.CORRECTIONS_OVERDUE.clear()
    state = app.state
    await errands.run(Door(state.database), state.keyring, state.settings, state.messenger.provider)
    assert [len(await inbox.texts(phone)) for phone in _PHONES] == [0, 1]
    (counted,) = metrics.CORRECTIONS_OVERDUE.collect()
    assert DISTRICT in {sample.labels["district"] for sample in counted.samples}
    told = await owner.pool.fetch("select noticed_at from held_changes order by in_force_at")
    assert [row["noticed_at"] is not None for row in told] == [False, True]


async def test_tickets_that_the_clock_froze_are_noted_with_their_draws(
    app: FastAPI, session: AsyncSession, owner: Database
) -> None:
    rounds = [await make_round(session, number) for number in (1, 2, 3)]
    member = await make_member(session, await make_association(session))
    over: list[Draw] = []
    for number, held in enumerate(rounds[:2]):
        tickets = [(each, member) for each in make_tickets(2, start=10 * number)]
        closes_at = clock.now() - timedelta(minutes=1)
        over.append(await make_draw(session, held, tickets=tickets, closes_at=closes_at))
    await make_draw(session, rounds[2])
    await session.commit()
    state = app.state
    for _ in range(2):
        await errands.run(
            Door(state.database), state.keyring, state.settings, state.messenger.provider
        )
    rows = await owner.pool.fetch(
        f"select subject, role, act, object_kind, object_ids, person_ids from ({UNSEALED}) e"
        " where object_kind = 'draws'"
    )
    ids = sorted(str(draw.id) for draw in over)
    assert [tuple(row) for row in rows] == [
        ("clock", "operations", "freeze_draws", "draws", ids, [])
    ]
