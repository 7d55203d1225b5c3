"""What the tables of draws never hold, whoever writes."""

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.database_errors import constraint_name
from app.models.lucky_draws.draws import Draw, DrawStatus
from app.models.walls import WALLS
from app.scopes import Acting, Scope
from tests.factories.callers import DISTRICT
from tests.factories.events.exam_rounds import make_round
from tests.factories.lucky_draws.draws import SEED, make_draw, make_tickets
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

_TABLES = ("draws", "draw_prizes", "draw_entries", "draw_tickets", "draw_winners")


@pytest_asyncio.fixture
async def drawn(session: AsyncSession) -> Draw:
    """A draw of two prizes, one reserve and a ticket besides."""
    association = await make_association(session)
    members = [await make_member(session, association, name=f"会员{n}") for n in range(4)]
    tickets = list(zip(make_tickets(4), members, strict=True))
    return await make_draw(
        session, await make_round(session), DrawStatus.DRAWN, tickets=tickets, reserve_count=1
    )


async def _breaks(session: AsyncSession, constraint: str, sql: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        await session.execute(text(sql))
    assert constraint_name(caught.value) == constraint


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("area_code = '440606000000'", "ck_draws_area_range"),
        ("beacon_at = closes_at", "ck_draws_beacon_after_closing"),
        ("reserve_count = -1", "ck_draws_sizes"),
        ("claim_days = 0", "ck_draws_sizes"),
        ("opened_at = closes_at", "ck_draws_opened"),
        ("opened_by = null", "ck_draws_opened"),
        ("seed = null", "ck_draws_opened"),
        ("wrapped_seed = seed", "ck_draws_seed"),
        ("seed = sha256(seed)", "ck_draws_commitment"),
        ("commitment = repeat('0', 64)", "ck_draws_commitment"),
        ("digest = null", "ck_draws_closed"),
        ("closed_at = beacon_at", "ck_draws_closed"),
        ("closed_at = closes_at - interval '1 second'", "ck_draws_closed"),
        ("beacon_entered_at = beacon_at - interval '1 second'", "ck_draws_beacon"),
        ("beacon_source = null", "ck_draws_beacon"),
        ("drawn_at = null", "ck_draws_drawn"),
        ("drawn_by = beacon_entered_by", "ck_draws_maker_is_not_checker"),
        ("drawn_by = opened_by", "ck_draws_committer_is_not_checker"),
        ("status_reason = 'x'", "ck_draws_cancelled"),
        ("ticket_count = 5", "fk_draw_entries_draw"),
        ("prize_count = 1", "fk_draw_prizes_draw"),
        ("status = 'lost', drawn_at = null, drawn_by = null", "ck_draws_status"),
    ],
)
async def test_a_draw_holds_only_what_can_be(
    session: AsyncSession, change: str, constraint: str
) -> None:
    await _breaks(session, constraint, f"update draws set {change}")


async def test_the_seed_is_not_revealed_while_tickets_come_in(session: AsyncSession) -> None:
    await make_draw(session, await make_round(session), DrawStatus.OPEN)
    shown = f"seed = decode('{SEED.hex()}', 'hex'), wrapped_seed = null"
    await _breaks(session, "ck_draws_seed", f"update draws set {shown}")


_ENTRY = (
    "insert into draw_entries select district_code, draw_id, {number}, {count}, repeat('f', 32)"
    " from draw_entries where number = 1"
)
_PRIZE = (
    "insert into draw_prizes select district_code, draw_id, 3, 2, 'x', 1, 3"
    " from draw_prizes where number = 1"
)
_TICKET = (
    "insert into draw_tickets select district_code, {ticket}, draw_id, member_id, run_id, {line},"
    " copy_no, issued_at from draw_tickets"
)
_WINNER = (
    "insert into draw_winners (district_code, draw_id, rank, ticket, status)"
    " select district_code, draw_id, {rank}, ticket, 'reserve' from draw_entries"
    " where {which}"
)


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("sql", "constraint"),
    [
        (_ENTRY.format(number=5, count=4), "ck_draw_entries_number"),
        (_ENTRY.format(number=4, count=4), "pk_draw_entries"),
        (_ENTRY.format(number=5, count=5), "fk_draw_entries_draw"),
        ("update draw_entries set number = 5 - number", "pk_draw_entries"),
        ("update draw_entries set ticket = repeat('f', 32)", "uq_draw_entries_ticket"),
        ("delete from draws", "fk_draw_prizes_draw"),
        (_PRIZE, "ck_draw_prizes_number"),
        ("update draw_prizes set quantity = 0", "ck_draw_prizes_units"),
        (
            _WINNER.format(
                rank=1, which="ticket not in (select ticket from draw_winners where rank <= 3)"
            ),
            "pk_draw_winners",
        ),
        (
            _WINNER.format(rank=9, which="ticket in (select ticket from draw_winners)"),
            "uq_draw_winners_ticket",
        ),
        (
            "update draw_winners set ticket = repeat('e', 32) where rank = 1",
            "fk_draw_winners_entry",
        ),
        ("update draw_winners set unit = 1 where rank = 2", "uq_draw_winners_unit"),
        ("update draw_winners set unit = null where rank = 1", "ck_draw_winners_won"),
        ("update draw_winners set handed_out_by = 'x'", "ck_draw_winners_handed_out"),
        ("update draw_winners set ended_by = 'x'", "ck_draw_winners_ended"),
        ("update draw_winners set rank = 0 where rank = 1", "ck_draw_winners_numbers"),
        ("update draw_winners set status = 'lost'", "ck_draw_winners_status"),
        (_TICKET.format(ticket="ticket", line="line_no + 100"), "pk_draw_tickets"),
        (_TICKET.format(ticket="md5(ticket)", line="line_no"), "uq_draw_tickets_line"),
        ("update draw_tickets set ticket = '1'", "ck_draw_tickets_ticket"),
        ("update draw_tickets set copy_no = 0", "ck_draw_tickets_copy_no"),
    ],
)
async def test_lists_tickets_and_places_hold_only_what_can_be(
    session: AsyncSession, sql: str, constraint: str
) -> None:
    await _breaks(session, constraint, sql)


async def test_an_area_and_round_have_one_open_draw(session: AsyncSession) -> None:
    held = await make_round(session)
    await make_draw(session, held)
    with pytest.raises(IntegrityError) as caught:
        await make_draw(session, held)
    assert constraint_name(caught.value) == "uq_draws_open"


@pytest.mark.parametrize("acting", list(Acting))
@pytest.mark.parametrize("table", _TABLES)
async def test_nobody_deletes_and_nobody_changes_what_was_promised(
    owner: Database, drawn: Draw, session: AsyncSession, acting: Acting, table: str
) -> None:
    assert drawn.district_code == DISTRICT
    await session.commit()
    columns = [column.name for column in Draw.metadata.tables[table].columns]
    fixed = [name for name in columns if name not in WALLS[table].changes]
    statements = [f"delete from {table}", *(f"update {table} set {n} = {n}" for n in fixed)]
    async with owner.pool.acquire() as connection:
        for statement in statements:
            await connection.execute(f"begin; {Scope(acting, DISTRICT, 'x').entry}")
            with pytest.raises(Exception, match="permission denied"):
                await connection.execute(statement)
            await connection.execute("rollback")


async def test_a_rule_of_the_district_fills_in_the_steps(
    owner: Database, drawn: Draw, session: AsyncSession
) -> None:
    assert drawn.district_code == DISTRICT
    await session.commit()
    async with owner.pool.acquire() as connection:
        for table in ("draws", "draw_tickets", "draw_winners"):
            changed = ", ".join(f"{name} = {name}" for name in WALLS[table].changes)
            await connection.execute(f"begin; {Scope(Acting.DISTRICT, DISTRICT, 'x').entry}")
            assert await connection.execute(f"update {table} set {changed}") != "UPDATE 0"
            await connection.execute("rollback")
    assert clock.now() > drawn.closes_at
