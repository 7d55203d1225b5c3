"""Draws that the clock has overtaken: tickets that close, prizes that nobody fetched."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.identity import CLOCK
from app.models.lucky_draws.draw_winners import DrawWinner, WinnerStatus
from app.models.lucky_draws.draws import Draw, DrawStatus
from app.services.lucky_draws import draw_winners, draws


class Settled(NamedTuple):
    """What was due: the draws whose tickets were frozen, the members whose prizes went on."""

    frozen: list[UUID]
    late: list[UUID]


async def settle(session: AsyncSession, *, district_code: str, now: datetime) -> Settled:
    """Do what is due in a district, as a rule of it; a draw that somebody holds waits.

    Tickets must be frozen before the beacon is produced, so nobody needs to think of it.
    """
    over = (
        col(Draw.status) == DrawStatus.OPEN,
        col(Draw.closes_at) <= now,
        col(Draw.beacon_at) > now,
    )
    closing = await _held(session, district_code, *over)
    for held in closing:
        await draws.freeze(session, held, subject=CLOCK, now=now)
    unclaimed = select(col(DrawWinner.draw_id)).where(
        col(DrawWinner.district_code) == district_code,
        col(DrawWinner.status) == WinnerStatus.WINNING,
        col(DrawWinner.claim_until) < clock.civil_date(now),
    )
    late: list[UUID] = []
    for held in await _held(session, district_code, col(Draw.id).in_(unclaimed)):
        late += await draw_winners.lapse_due(session, held, subject=CLOCK, now=now)
    return Settled([held.id for held in closing], late)


async def _held(
    session: AsyncSession, district_code: str, *conditions: ColumnElement[bool]
) -> list[Draw]:
    found = await session.scalars(
        select(Draw)
        .where(col(Draw.district_code) == district_code, *conditions)
        .order_by(col(Draw.id))
        .with_for_update(key_share=True, skip_locked=True)
    )
    return list(found.all())
