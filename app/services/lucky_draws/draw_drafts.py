"""Drafts of draws: the terms, which are entered once and never change."""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, reach
from app.database import district_wide
from app.identity import Caller
from app.models.events.exam_rounds import ExamRound
from app.models.lucky_draws.draws import Draw, DrawCreate, DrawPrize, DrawRead, DrawStatus
from app.problems import Invalid, Problem
from app.services.lucky_draws import draws
from app.services.organisation import areas

_LATER = (
    "status_reason", "opened_at", "opened_by", "commitment", "wrapped_seed", "seed", "closed_at",
    "closed_by", "digest", "ticket_count", "people_count", "fewest_count", "beacon_value",
    "beacon_source", "beacon_entered_at", "beacon_entered_by", "drawn_at", "drawn_by",
    "cancelled_at", "cancelled_by",
)  # fmt: skip


class DrawReplaced(Problem):
    """The cancelled draw has another that replaces it."""

    code, status = "draw_replaced", 409
    constraint = "uq_draws_replaces"


async def create(
    session: AsyncSession, caller: Caller, *, body: DrawCreate, now: datetime
) -> DrawRead:
    """Enter a draft; its terms never change, and what is wrong in it is cancelled.

    Raises Forbidden, Invalid or DrawReplaced.
    """
    reach.require_area(caller, body.area_code)
    await areas.require_known(session, body.area_code)
    if not now < body.closes_at < body.beacon_at:
        at = "/closes_at" if body.closes_at <= now else "/beacon_at"
        raise Invalid.at(at, "draw_times_out_of_order")
    sequence = await _sequence(session, caller, body)
    if body.replaces_id is not None:
        await _require_replaceable(session, caller, body, sequence)
    later: dict[str, Any] = dict.fromkeys(_LATER)
    facts: dict[str, Any] = body.model_dump(exclude={"exam_round_id", "prizes"})
    draw = Draw(
        district_code=caller.district_code,
        id=clock.new_id(),
        version=1,
        created_at=now,
        updated_at=now,
        **facts,
        round_sequence=sequence,
        prize_count=len(body.prizes),
        winner_count=sum(prize.quantity for prize in body.prizes),
        status=DrawStatus.DRAFT,
        created_by=caller.subject,
        **later,
    )
    session.add(draw)
    await session.flush()
    await _store_prizes(session, draw, body)
    return await draws.shown(session, caller, draw)


async def _sequence(session: AsyncSession, caller: Caller, body: DrawCreate) -> int:
    """Give the number of the round whose tickets the draw takes; raises Invalid."""
    sequence = await session.scalar(
        select(col(ExamRound.sequence)).where(
            col(ExamRound.district_code) == caller.district_code,
            col(ExamRound.id) == body.exam_round_id,
        )
    )
    if sequence is None:
        raise Invalid.at("/exam_round_id", "unknown_reference")
    return sequence


async def _require_replaceable(
    session: AsyncSession, caller: Caller, body: DrawCreate, sequence: int
) -> None:
    replaced = await session.scalar(
        select(col(Draw.id)).where(
            col(Draw.district_code) == caller.district_code,
            col(Draw.id) == body.replaces_id,
            col(Draw.status) == DrawStatus.CANCELLED,
            col(Draw.area_code) == body.area_code,
            col(Draw.round_sequence) == sequence,
        )
    )
    if replaced is None:
        raise Invalid.at("/replaces_id", "unknown_reference")


async def _store_prizes(session: AsyncSession, draw: Draw, body: DrawCreate) -> None:
    first_unit = 1
    for number, prize in enumerate(body.prizes, 1):
        session.add(
            DrawPrize(
                district_code=draw.district_code,
                draw_id=draw.id,
                number=number,
                prize_count=draw.prize_count,
                first_unit=first_unit,
                **prize.model_dump(),
            )
        )
        first_unit += prize.quantity
    async with district_wide(session):
        await session.flush()
