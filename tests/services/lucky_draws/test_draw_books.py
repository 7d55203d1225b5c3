"""The books check of draws: silent while they agree, and every kind of tampering is told."""

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, transaction
from app.models.disbursement.payout_runs import RunStatus
from app.models.lucky_draws.draws import DrawStatus
from app.scopes import Acting, Scope
from app.services.accounting import books
from app.services.lucky_draws import draw_tickets
from tests.factories.callers import DISTRICT
from tests.factories.disbursement.payout_runs import make_granted_run, make_thanks
from tests.factories.events.exam_rounds import make_round
from tests.factories.finance.funds import agree
from tests.factories.incentives.incentive_policies import make_ticket
from tests.factories.lucky_draws.draws import make_draw, make_tickets


@pytest_asyncio.fixture
async def held(session: AsyncSession, database: Database) -> None:
    """A run that gave two tickets to each of five members, and a draw that they came from."""
    thanks = await make_thanks(session, [make_ticket(quantity=2)], members=5)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING)
    run.payout_count = 5
    await make_draw(session, thanks.round)
    await draw_tickets.issue(session, run, now=clock.now())
    await session.commit()
    await agree(database)


_OF_TICKETS = {
    "a ticket more": (
        "insert into draw_tickets select district_code, md5(ticket), draw_id, member_id, run_id,"
        " line_no, 3, issued_at from draw_tickets where line_no = 1 and copy_no = 1"
    ),
    "a ticket less": "delete from draw_tickets where line_no = 1 and copy_no = 1",
    "tickets of nothing": "update draw_tickets set line_no = 99 where line_no = 1",
    "not granted": "update payouts set quantity = 1 where line_no = 1",
}


async def _told(database: Database) -> set[str]:
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as checking:
        found = await books.check(checking, district_code=DISTRICT)
    assert all(each.expected != each.found for each in found)
    return {each.question for each in found}


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("tampering", _OF_TICKETS.values(), ids=_OF_TICKETS)
async def test_tickets_that_no_run_gave_are_told(
    session: AsyncSession, database: Database, tampering: str
) -> None:
    await session.execute(text(tampering))
    await session.commit()
    assert "draw_tickets" in await _told(database)


_OF_LISTS = {
    "another ticket": (
        "draw_lists",
        (
            "alter table draw_entries disable trigger all;"
            "alter table draw_winners disable trigger all;"
            " update draw_entries set ticket = repeat('f', 32) where number = 6"
        ),
    ),
    "a ticket taken out": (
        "draw_lists",
        (
            "delete from draw_winners where ticket = (select ticket from draw_entries"
            " where number = 6); delete from draw_entries where number = 6"
        ),
    ),
    "another digest": ("draw_lists", "update draws set digest = repeat('0', 64)"),
    "a place gone": ("draw_places", "delete from draw_winners where rank = 4"),
    "a reserve passed over": (
        "draw_places",
        (
            "update draw_winners w set unit = 1, status = 'lapsed', won_at = d.drawn_at,"
            " claim_until = '2030-01-01', ended_at = d.drawn_at, ended_by = 'x'"
            " from draws d where rank = 4"
        ),
    ),
    "nobody moved up": (
        "draw_places",
        (
            "update draw_winners w set status = 'declined', ended_at = d.drawn_at,"
            " ended_by = 'x', end_reason = 'x' from draws d where rank = 1"
        ),
    ),
}


@pytest.mark.parametrize(("question", "tampering"), _OF_LISTS.values(), ids=_OF_LISTS)
async def test_a_draw_that_was_tampered_with_is_told(
    session: AsyncSession, database: Database, question: str, tampering: str
) -> None:
    thanks = await make_thanks(session, members=6)
    tickets = list(zip(make_tickets(6), thanks.members, strict=True))
    await make_draw(session, await make_round(session, 2), DrawStatus.DRAWN, tickets=tickets)
    await session.execute(text("update draw_tickets set line_no = line_no"))
    await session.commit()
    assert question not in await _told(database)
    for statement in tampering.split(";"):
        await session.execute(text(statement))
    await session.commit()
    assert question in await _told(database)
