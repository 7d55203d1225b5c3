"""Of how many people a draw was, counted of those that were frozen before it was counted."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.lucky_draws.draws import DrawStatus
from tests.factories.events.exam_rounds import make_round
from tests.factories.lucky_draws.draws import SEED, make_draw, make_tickets
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association
from tests.migrating import applied_again

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
