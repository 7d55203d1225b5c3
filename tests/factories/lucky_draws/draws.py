"""Draws at any step of their life, with tickets, prizes and winners."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.disbursement.payout_runs import PayoutRun
from app.models.events.exam_rounds import ExamRound
from app.models.lucky_draws.draw_tickets import DrawTicket
from app.models.lucky_draws.draw_winners import DrawWinner
from app.models.lucky_draws.draws import Draw, DrawEntry, DrawPrize, DrawStatus
from app.models.membership.members import Member
from app.services.lucky_draws import draw_drafts, draw_protocol
from tests.factories.callers import DISTRICT

SEED = bytes(range(32))
_REACHED = {
    DrawStatus.DRAFT: 0,
    DrawStatus.OPEN: 1,
    DrawStatus.CLOSED: 2,
    DrawStatus.DRAWN: 3,
}


def make_tickets(count: int, *, start: int = 0) -> list[str]:
    """Give the numbers of tickets."""
    return [f"{n:032x}" for n in range(start, start + count)]


def draw_body(held: ExamRound, **facts: Any) -> dict[str, Any]:
    """Give what prepares a draw over HTTP: two prizes, tickets for an hour, then a beacon."""
    now = clock.now()
    values: dict[str, Any] = {
        "name": "幸运抽奖",
        "area_code": DISTRICT,
        "exam_round_id": str(held.id),
        "closes_at": (now + timedelta(hours=1)).isoformat(),
        "beacon_name": "双色球 第2026123期 红球",
        "beacon_at": (now + timedelta(hours=2)).isoformat(),
        "prizes": [{"name": "电饭煲", "quantity": 1}, {"name": "毛巾", "quantity": 1}],
        "reserve_count": 2,
    }
    return values | facts


async def make_draw(
    session: AsyncSession,
    held: ExamRound,
    status: DrawStatus = DrawStatus.OPEN,
    *,
    tickets: Sequence[tuple[str, Member]] = (),
    run: PayoutRun | None = None,
    keyring: Keyring | None = None,
    prizes: Sequence[int] = (1, 1),
    **facts: Any,
) -> Draw:
    """Store a draw that has reached a step, with its tickets; the caller commits.

    Its times lie so that the next step may be made now; its seed is `SEED`, sealed if there are
    keys. The tickets are those of the run's lines in their order, if there is a run.
    """
    values = _terms(held, status, prizes) | facts
    draw = Draw(**values)
    reached = _REACHED[status]
    if reached >= _REACHED[DrawStatus.OPEN]:
        draw.opened_at, draw.opened_by = draw.closes_at - timedelta(hours=1), "officer-1"
        draw.commitment = draw_protocol.commitment(draw.id, SEED)
        draw.wrapped_seed = _sealed(keyring, draw.id)
    numbers = [ticket for ticket, _ in tickets]
    if reached >= _REACHED[DrawStatus.CLOSED]:
        draw.closed_at, draw.closed_by = draw.closes_at, "clock"
        draw.digest, draw.ticket_count = draw_protocol.digest(numbers), len(numbers)
        draw.people_count = draw.fewest_count = len({member.id for _, member in tickets})
    if reached >= _REACHED[DrawStatus.DRAWN]:
        enter_beacon(draw)
        draw.drawn_at, draw.drawn_by = clock.now(), "approver-1"
        draw.seed, draw.wrapped_seed = SEED, None
    session.add(draw)
    await session.flush()
    await _fill(session, draw, tickets, prizes, run_id=draw.id if run is None else run.id)
    return draw


def _sealed(keyring: Keyring | None, draw_id: UUID) -> bytes:
    if keyring is None:
        return b"nobody unseals it"
    return keyring.encrypt_bytes(SEED, place=f"draws.wrapped_seed:{draw_id}")


def enter_beacon(draw: Draw) -> None:
    """Enter the public value as one person has read it."""
    draw.beacon_value, draw.beacon_source = "03 08 14 21 27 33", "公告"
    draw.beacon_entered_at, draw.beacon_entered_by = clock.now(), "officer-2"


def _terms(held: ExamRound, status: DrawStatus, prizes: Sequence[int]) -> dict[str, Any]:
    now = clock.now()
    closes_at, beacon_at = _times(status, now)
    return {
        "district_code": held.district_code,
        "id": clock.new_id(),
        "version": 1,
        "created_at": closes_at - timedelta(hours=2),
        "updated_at": now,
        "name": "幸运抽奖",
        "area_code": DISTRICT,
        "round_sequence": held.sequence,
        "closes_at": closes_at,
        "beacon_name": "双色球 第2026123期 红球",
        "beacon_at": beacon_at,
        "prize_count": len(prizes),
        "winner_count": sum(prizes),
        "reserve_count": 2,
        "claim_days": 30,
        "replaces_id": None,
        "status": status.value,
        "created_by": "officer-1",
        **dict.fromkeys(draw_drafts._LATER),
    }


def _times(status: DrawStatus, now: datetime) -> tuple[datetime, datetime]:
    if _REACHED[status] < _REACHED[DrawStatus.CLOSED]:
        return now + timedelta(hours=1), now + timedelta(hours=2)
    return now - timedelta(hours=2), now - timedelta(hours=1)


async def _fill(
    session: AsyncSession,
    draw: Draw,
    tickets: Sequence[tuple[str, Member]],
    prizes: Sequence[int],
    *,
    run_id: UUID,
) -> None:
    place: dict[str, Any] = {"district_code": draw.district_code, "draw_id": draw.id}
    facts: dict[str, Any]
    for number, quantity in enumerate(prizes, 1):
        first = 1 + sum(prizes[: number - 1])
        facts = {"number": number, "prize_count": len(prizes), "first_unit": first}
        session.add(DrawPrize(**place, **facts, name=f"奖品{number}", quantity=quantity))
    for line_no, (ticket, member) in enumerate(tickets, 1):
        facts = {"ticket": ticket, "member_id": member.id, "run_id": run_id, "line_no": line_no}
        session.add(DrawTicket(**place, **facts, copy_no=1, issued_at=clock.now()))
    for number, ticket in enumerate(sorted(ticket for ticket, _ in tickets), 1):
        if draw.ticket_count is not None:
            facts = {"number": number, "ticket": ticket, "ticket_count": draw.ticket_count}
            session.add(DrawEntry(**place, **facts))
    await session.flush()
    if draw.status == DrawStatus.DRAWN:
        session.add_all(_winners(draw, [ticket for ticket, _ in tickets]))
        await session.flush()


def first_place(draw: Draw, tickets: Sequence[str]) -> str:
    """Give the ticket that a draw ranks first."""
    return _winners(draw, tickets)[0].ticket


def _winners(draw: Draw, tickets: Sequence[str]) -> list[DrawWinner]:
    key = draw_protocol.key(
        SEED,
        draw_id=draw.id,
        beacon=draw.beacon_value or "",
        tickets_digest=draw.digest or "",
    )
    ranking = draw_protocol.ranking(key, tickets)[: draw.winner_count + draw.reserve_count]
    return [
        DrawWinner(
            district_code=draw.district_code,
            draw_id=draw.id,
            rank=rank,
            ticket=ticket,
            unit=rank if rank <= draw.winner_count else None,
            status="winning" if rank <= draw.winner_count else "reserve",
            won_at=clock.now() if rank <= draw.winner_count else None,
            claim_until=clock.civil_date(clock.now()) if rank <= draw.winner_count else None,
            **dict.fromkeys(
                ("handed_out_at", "handed_out_by", "ended_at", "ended_by", "end_reason")
            ),
        )
        for rank, ticket in enumerate(ranking, 1)
    ]
