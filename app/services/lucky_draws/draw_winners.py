"""Winners: ranked by a beacon that two people confirm, handed prizes, followed by reserves."""

import asyncio
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.lucky_draws.draw_winners import (
    DrawVerification,
    DrawWinner,
    WinnerFilters,
    WinnerRead,
    WinnerStatus,
    WinningTicket,
)
from app.models.lucky_draws.draws import Draw, DrawRead, DrawStatus
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.services.lucky_draws import draw_protocol, draws
from app.services.privacy import personal_texts

# The list of a large draw is read and ranked in more than a request's usual time.
_PATIENCE = text("set local statement_timeout = '300s'")
_PRIZE = (
    "left join draw_prizes p on p.district_code = w.district_code and p.draw_id = w.draw_id"
    " and w.unit between p.first_unit and p.first_unit + p.quantity - 1"
)
LISTING = Listing(
    columns=(
        "w.rank, w.ticket, t.member_id, w.status, p.number as prize_number, p.name as prize_name,"
        f" {instant('w.won_at')}, w.claim_until, {instant('w.handed_out_at')}, w.handed_out_by,"
        f" {instant('w.ended_at')}, w.end_reason"
    ),
    source=(
        "draw_winners w join draw_tickets t on t.district_code = w.district_code"
        f" and t.ticket = w.ticket {_PRIZE}"
    ),
    order=(Key("rank", "w.rank", "int"),),
    about="member_id",
)
_FIND = text(
    f"select {LISTING.columns} from {LISTING.source} where w.district_code = :district_code"
    " and w.draw_id = :draw_id and w.rank = :rank"
)
_WITHIN = (
    "select d.id from draws d where d.district_code = :district_code and d.id = :draw_id and {}"
)
_ENTRIES = (
    "select ticket from draw_entries where district_code = :district_code and draw_id = :draw_id"
    " order by number"
)
_PUBLIC = (
    "select w.rank, w.ticket, p.number as prize_number, w.status from draw_winners w"
    f" {_PRIZE} where w.district_code = :district_code and w.draw_id = :draw_id order by w.rank"
)
_WHOSE = text(
    "select member_id from draw_tickets where district_code = :district_code and ticket = :ticket"
)
_PLACE = text(
    "insert into draw_winners (district_code, draw_id, rank, ticket, unit, status, won_at,"
    " claim_until) select :district_code, cast(:draw_id as uuid), rank, ticket,"
    " case when rank <= :winners then rank end,"
    " case when rank <= :winners then 'winning' else 'reserve' end,"
    " case when rank <= :winners then cast(:now as timestamptz) end,"
    " case when rank <= :winners then cast(:until as date) end"
    " from unnest(cast(:tickets as text[])) with ordinality w(ticket, rank)"
)
_NEXT = text(
    "update draw_winners set status = 'winning', unit = :unit, won_at = :now, claim_until = :until"
    " where district_code = :district_code and draw_id = :draw_id and rank = (select min(rank)"
    " from draw_winners where district_code = :district_code and draw_id = :draw_id"
    " and status = 'reserve')"
)


class BeaconNotEntered(Problem):
    """A second person confirms what a first one has entered."""

    code, status = "beacon_not_entered", 409


class BeaconMismatch(Problem):
    """The two people have read different values."""

    code, status = "beacon_mismatch", 409


class BeaconCheckerIsMaker(Problem):
    """Whoever entered the beacon cannot confirm it."""

    code, status = "beacon_checker_is_maker", 403
    constraint = "ck_draws_maker_is_not_checker"


class DrawCheckerIsCommitter(BeaconCheckerIsMaker):
    """Whoever opened the draw cannot confirm its beacon."""

    constraint = "ck_draws_committer_is_not_checker"


class WinnerStateForbids(Problem):
    """The place in the ranking has no prize to fetch."""

    code, status = "winner_state", 409


class TicketMismatch(Problem):
    """The ticket that was shown is not the one of this place."""

    code, status = "ticket_mismatch", 409


class ClaimStillOpen(Problem):
    """The winner may still fetch the prize."""

    code, status = "claim_still_open", 409


async def draw(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    draw_id: UUID,
    beacon_value: str,
    expected: int,
    now: datetime,
) -> DrawRead:
    """Confirm the beacon as a second person, reveal the seed and rank the tickets.

    Raises BeaconNotEntered, BeaconMismatch or BeaconCheckerIsMaker.
    """
    held = await draws.lock(session, caller, draw_id=draw_id, expected=expected)
    draws.require_state(held, DrawStatus.CLOSED)
    if held.beacon_value is None:
        raise BeaconNotEntered
    if caller.subject in {held.beacon_entered_by, held.opened_by}:
        raise BeaconCheckerIsMaker
    if draws.spaced(beacon_value) != held.beacon_value:
        raise BeaconMismatch
    seed = draws.seed_of(keyring, held)
    async with district_wide(session):
        await _rank(session, held, seed, now=now)
    held.change(
        now,
        status=DrawStatus.DRAWN,
        drawn_at=now,
        drawn_by=caller.subject,
        seed=seed,
        wrapped_seed=None,
    )
    await session.flush()
    return await draws.shown(session, caller, held)


async def _rank(session: AsyncSession, held: Draw, seed: bytes, *, now: datetime) -> None:
    await session.execute(_PATIENCE)
    key = draw_protocol.key(
        seed,
        draw_id=held.id,
        beacon=held.beacon_value or "",
        tickets_digest=held.digest or "",
    )
    place = _place(held.district_code, held.id)
    tickets = (await session.scalars(text(_ENTRIES), place)).all()
    ranking = await asyncio.to_thread(draw_protocol.ranking, key, tickets)
    params = place | {
        "tickets": list(ranking[: held.winner_count + held.reserve_count]),
        "winners": held.winner_count,
        "now": now,
        "until": _until(held, now),
    }
    await session.execute(_PLACE, params)


def _until(held: Draw, now: datetime) -> date:
    return clock.civil_date(now) + timedelta(days=held.claim_days)


def _place(district_code: str, draw_id: UUID) -> dict[str, Any]:
    return {"district_code": district_code, "draw_id": draw_id}


async def verification(
    statements: Statements, caller: Caller, *, draw_id: UUID
) -> DrawVerification:
    """Give all that is needed to repeat a draw, by tickets and without a person.

    Raises FewDrawTickets where the caller may not know of so few people.
    """
    found = await draws.find(statements, caller, draw_id=draw_id)
    draws.require_tickets_for(caller, found)
    place = _place(caller.district_code, draw_id)
    tickets = await statements.fetch(_ENTRIES, place)
    winners = await statements.district_wide().fetch(_PUBLIC, place)
    facts = found.model_dump(include=set(DrawVerification.model_fields))
    return DrawVerification(
        **facts,
        protocol=draw_protocol.PROTOCOL,
        steps=list(draw_protocol.STEPS),
        draw_id=draw_id,
        tickets=[row["ticket"] for row in tickets],
        winners=[WinningTicket(**row) for row in winners],
    )


async def list_winners(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    draw_id: UUID,
    filters: WinnerFilters,
) -> Slice:
    """Give a page of a draw's winners and reserves within reach, and whose tickets they are."""
    condition, params = reach.within(caller, area="d.area_code")
    place = _place(caller.district_code, draw_id)
    if await statements.fetch_value(_WITHIN.format(condition), place | params) is None:
        raise NotFound
    where = Where(place)
    where.add("w.district_code = :district_code and w.draw_id = :draw_id")
    where.equal("w.status", "status", filters.status)
    # Who has won may have moved beyond the reach of who hands out.
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def hand_out(
    session: AsyncSession, caller: Caller, *, draw_id: UUID, rank: int, ticket: str, now: datetime
) -> WinnerRead:
    """Note that a winner who showed her ticket has her prize.

    Raises WinnerStateForbids or TicketMismatch.
    """
    held = await draws.lock(session, caller, draw_id=draw_id, expected=None)
    async with district_wide(session):
        winner = await _winning(session, held, rank)
        if winner.ticket != ticket:
            raise TicketMismatch
        winner.status = WinnerStatus.HANDED_OUT
        winner.handed_out_at, winner.handed_out_by = now, caller.subject
        await session.flush()
        return await _shown(session, winner)


async def decline(
    session: AsyncSession, caller: Caller, *, draw_id: UUID, rank: int, reason: str, now: datetime
) -> WinnerRead:
    """Note that a winner gives her prize up; the next reserve moves up."""
    held = await draws.lock(session, caller, draw_id=draw_id, expected=None)
    async with district_wide(session):
        winner = await _winning(session, held, rank)
        whose = {"district_code": held.district_code, "ticket": winner.ticket}
        winner.end_reason = await personal_texts.kept(
            session,
            reason,
            district_code=held.district_code,
            member_id=await session.scalar(_WHOSE, whose),
        )
        await _follow(
            session, held, winner, ended=WinnerStatus.DECLINED, subject=caller.subject, now=now
        )
        return await _shown(session, winner)


async def lapse(
    session: AsyncSession, caller: Caller, *, draw_id: UUID, rank: int, now: datetime
) -> WinnerRead:
    """Note that a winner has not come in time; the next reserve moves up. Raises ClaimStillOpen."""
    held = await draws.lock(session, caller, draw_id=draw_id, expected=None)
    async with district_wide(session):
        winner = await _winning(session, held, rank)
        if winner.claim_until is None or clock.civil_date(now) <= winner.claim_until:
            raise ClaimStillOpen
        await _follow(
            session, held, winner, ended=WinnerStatus.LAPSED, subject=caller.subject, now=now
        )
        return await _shown(session, winner)


async def _winning(session: AsyncSession, held: Draw, rank: int) -> DrawWinner:
    """Give a place that has a prize to fetch, of a draw that the transaction holds."""
    winner = await session.scalar(
        select(DrawWinner).where(
            col(DrawWinner.district_code) == held.district_code,
            col(DrawWinner.draw_id) == held.id,
            col(DrawWinner.rank) == rank,
        )
    )
    if winner is None:
        raise NotFound
    if winner.status != WinnerStatus.WINNING:
        raise WinnerStateForbids(
            winner_status=winner.status, extra={"winner_status": winner.status}
        )
    return winner


async def _follow(
    session: AsyncSession,
    held: Draw,
    winner: DrawWinner,
    *,
    ended: WinnerStatus,
    subject: str,
    now: datetime,
) -> None:
    winner.status, winner.ended_at, winner.ended_by = ended, now, subject
    await session.flush()
    params = _place(held.district_code, held.id)
    params |= {"unit": winner.unit, "now": now, "until": _until(held, now)}
    await session.execute(_NEXT, params)


async def _shown(session: AsyncSession, winner: DrawWinner) -> WinnerRead:
    params = _place(winner.district_code, winner.draw_id) | {"rank": winner.rank}
    row = (await session.execute(_FIND, params)).mappings().one()
    return WinnerRead(**row)


async def lapse_due(
    session: AsyncSession, held: Draw, *, subject: str, now: datetime
) -> list[UUID]:
    """Let each prize of a draw that was not fetched in time go on, as a rule of the district.

    Gives the members who did not fetch one.
    """
    found = await session.scalars(
        select(DrawWinner)
        .where(
            col(DrawWinner.district_code) == held.district_code,
            col(DrawWinner.draw_id) == held.id,
            col(DrawWinner.status) == WinnerStatus.WINNING,
            col(DrawWinner.claim_until) < clock.civil_date(now),
        )
        .order_by(col(DrawWinner.rank))
    )
    late = found.all()
    for winner in late:
        await _follow(session, held, winner, ended=WinnerStatus.LAPSED, subject=subject, now=now)
    return [(await _shown(session, winner)).member_id for winner in late]
