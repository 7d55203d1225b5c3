"""Lucky draws: promised, opened, closed and drawn, each step published before the next can be."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import concurrency, reach
from app.crypto import Keyring, new_seed
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.events.service_events import TEN
from app.models.lucky_draws.draws import (
    BeaconEntry,
    Draw,
    DrawFilters,
    DrawRead,
    DrawStatus,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.roles import Right, Role
from app.services.lucky_draws import draw_protocol, draw_tickets

_SEE_NO_DRAFTS = {Role.MEMBER, Role.SECRETARY, Role.GUIDE, Role.DATA_PLATFORM}
PRIZES = (
    "(select json_agg(json_build_object('number', p.number, 'name', p.name, 'quantity',"
    " p.quantity) order by p.number) from draw_prizes p where p.district_code = :district_code"
    " and p.draw_id = d.id) as prizes"
)
_INSTANTS = (
    "created_at", "updated_at", "closes_at", "beacon_at", "opened_at", "closed_at", "drawn_at",
    "cancelled_at",
)  # fmt: skip
_PLAIN = (
    "id", "version", "name", "area_code", "round_sequence", "beacon_name", "winner_count",
    "reserve_count", "claim_days", "replaces_id", "status", "status_reason", "commitment",
    "digest", "ticket_count", "beacon_value", "beacon_source",
)  # fmt: skip
_FEW = f"coalesce(d.fewest_count, 0) < {TEN}"


def _columns(*kept_back: str) -> str:
    """Write what is shown of a draw `d`; what is kept back is null where few people are in it."""
    plain = (
        f"case when {_FEW} then null else d.{name} end as {name}"
        if name in kept_back
        else f"d.{name}"
        for name in _PLAIN
    )
    instants = (instant(f"d.{name}") for name in _INSTANTS)
    rest = "encode(d.seed, 'hex') as seed, r.id as exam_round_id"
    return ", ".join([*plain, *instants, rest, PRIZES])


LISTING = Listing(
    columns=_columns(),
    source=(
        "draws d join exam_rounds r on r.district_code = d.district_code"
        " and r.sequence = d.round_sequence"
    ),
    order=(Key("id", "d.id", "uuid"),),
    descending=True,
)
# Each ticket is of somebody who came. The digest says as much: that of no tickets is known.
_WITHOUT_FEW = replace(LISTING, columns=_columns("digest", "ticket_count"))


class DrawStateForbids(Problem):
    """The draw's state does not allow this step."""

    code, status = "draw_state", 409


class DrawAlreadyOpen(Problem):
    """Another draw of the area and round is open: a run could not tell where its tickets go."""

    code, status = "draw_already_open", 409
    constraint = "uq_draws_open"


class TooEarlyForDraw(Problem):
    """What the step waits for has not come yet: the closing of the tickets, or the beacon."""

    code, status = "draw_too_early", 409


class TooLateForDraw(Problem):
    """The next thing has happened: tickets should have closed, or the beacon is out."""

    code, status = "draw_too_late", 409


class FewDrawTickets(Problem):
    """Fewer than ten people are in the draw, a part of it or beside it: its list would tell."""

    code, status = "few_draw_tickets", 403


async def list_draws(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: DrawFilters
) -> Slice:
    """Give a page of the district's draws, the newest first; drafts to those who prepare them."""
    condition, params = visible(caller)
    where = Where(params | {"district_code": caller.district_code})
    where.add("d.district_code = :district_code and r.district_code = :district_code")
    where.add(condition)
    where.equal("d.status", "status", filters.status)
    where.equal("r.id", "exam_round_id", filters.exam_round_id)
    where.in_area("d.area_code", filters.area)
    return await _listing(caller).page(statements, keyring, filters=filters, where=where)


def visible(caller: Caller) -> tuple[str, dict[str, Any]]:
    """Give the condition on draws `d` that keeps drafts to the offices of their areas."""
    if caller.role in _SEE_NO_DRAFTS:
        return "d.status <> 'draft'", {}
    condition, params = reach.within(caller, area="d.area_code")
    return f"(d.status <> 'draft' or {condition})", params


def _listing(caller: Caller) -> Listing:
    """Give what a caller is shown of draws: no count of fewer than ten people to most."""
    return LISTING if _knows_whose(caller) else _WITHOUT_FEW


def _knows_whose(caller: Caller) -> bool:
    """Tell whether a caller may read person by person what the tickets were earned by."""
    return caller.may(Right.READ_PAYOUTS) and not caller.blind_to_health_checks


def _find_sql(caller: Caller, condition: str) -> str:
    listing = _listing(caller)
    return (
        f"select row_to_json(item)::text from (select {listing.columns} from {listing.source}"
        f" where d.district_code = :district_code and d.id = :id and {condition}) item"
    )


async def find(statements: Statements, caller: Caller, *, draw_id: UUID) -> DrawRead:
    """Give one draw, or refuse with NotFound."""
    condition, params = visible(caller)
    params |= {"district_code": caller.district_code, "id": draw_id}
    found = await statements.fetch_value(_find_sql(caller, condition), params)
    if found is None:
        raise NotFound
    return DrawRead.model_validate_json(found)


def require_tickets_for(caller: Caller, draw: DrawRead) -> None:
    """Raise FewDrawTickets for a list of fewer than ten people's unless she may know them."""
    is_frozen = draw.closed_at is not None
    if not _knows_whose(caller) and is_frozen and draw.ticket_count is None:
        raise FewDrawTickets


async def commit(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    draw_id: UUID,
    expected: int,
    now: datetime,
) -> DrawRead:
    """Open a draw: fix its seed and publish the seed's hash.

    The tickets of a draw that it replaces come over. Raises TooLateForDraw or DrawAlreadyOpen.
    """
    draw = await lock(session, caller, draw_id=draw_id, expected=expected)
    require_state(draw, DrawStatus.DRAFT)
    if draw.closes_at <= now:
        raise TooLateForDraw
    seed = new_seed(draw_protocol.SEED_BYTES)
    draw.change(
        now,
        status=DrawStatus.OPEN,
        opened_at=now,
        opened_by=caller.subject,
        commitment=draw_protocol.commitment(draw.id, seed),
        wrapped_seed=keyring.encrypt_bytes(seed, place=_place(draw.id)),
    )
    await session.flush()
    if draw.replaces_id is not None:
        async with district_wide(session):
            await draw_tickets.take_over(session, draw)
    return await shown(session, caller, draw)


def _place(draw_id: UUID) -> str:
    return f"draws.wrapped_seed:{draw_id}"


async def close(
    session: AsyncSession, caller: Caller, *, draw_id: UUID, expected: int, now: datetime
) -> DrawRead:
    """Freeze the tickets of a draw and publish their digest.

    Raises TooEarlyForDraw before tickets close, and TooLateForDraw once the beacon may be known.
    """
    draw = await lock(session, caller, draw_id=draw_id, expected=expected)
    async with district_wide(session):
        await freeze(session, draw, subject=caller.subject, now=now)
    return await shown(session, caller, draw)


async def freeze(session: AsyncSession, draw: Draw, *, subject: str, now: datetime) -> None:
    """Do so with a draw that the transaction holds, as a rule of the district."""
    require_state(draw, DrawStatus.OPEN)
    if now < draw.closes_at:
        raise TooEarlyForDraw
    if now >= draw.beacon_at:
        raise TooLateForDraw
    tickets = await draw_tickets.of_draw(session, draw)
    people_count, fewest_count = await draw_tickets.count_people(session, draw)
    draw.change(
        now,
        status=DrawStatus.CLOSED,
        closed_at=now,
        closed_by=subject,
        digest=draw_protocol.digest(tickets),
        ticket_count=len(tickets),
        people_count=people_count,
        fewest_count=fewest_count,
    )
    await session.flush()
    await draw_tickets.freeze(session, draw)


async def enter_beacon(
    session: AsyncSession,
    caller: Caller,
    *,
    draw_id: UUID,
    body: BeaconEntry,
    expected: int,
    now: datetime,
) -> DrawRead:
    """Enter the public value; until another person confirms it, it may be entered again.

    Raises TooEarlyForDraw before it is produced.
    """
    draw = await lock(session, caller, draw_id=draw_id, expected=expected)
    require_state(draw, DrawStatus.CLOSED)
    if now < draw.beacon_at:
        raise TooEarlyForDraw
    draw.change(
        now,
        beacon_value=spaced(body.beacon_value),
        beacon_source=body.beacon_source,
        beacon_entered_at=now,
        beacon_entered_by=caller.subject,
    )
    await session.flush()
    return await shown(session, caller, draw)


def spaced(value: str) -> str:
    """Write a public value with single spaces, as two people may copy it differently."""
    return " ".join(value.split())


async def cancel(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    draw_id: UUID,
    reason: str,
    expected: int,
    now: datetime,
) -> DrawRead:
    """Give a draw up before it is drawn.

    A seed that was fixed is revealed: everybody can see what the draw would have given.
    """
    draw = await lock(session, caller, draw_id=draw_id, expected=expected)
    require_state(draw, DrawStatus.DRAFT, DrawStatus.OPEN, DrawStatus.CLOSED)
    draw.change(
        now,
        status=DrawStatus.CANCELLED,
        status_reason=reason,
        cancelled_at=now,
        cancelled_by=caller.subject,
        seed=None if draw.wrapped_seed is None else seed_of(keyring, draw),
        wrapped_seed=None,
    )
    await session.flush()
    return await shown(session, caller, draw)


def seed_of(keyring: Keyring, draw: Draw) -> bytes:
    """Unseal the seed of a draw; raises Unreadable when there is none of this draw's."""
    return keyring.decrypt_bytes(draw.wrapped_seed or b"", place=_place(draw.id))


async def lock(
    session: AsyncSession, caller: Caller, *, draw_id: UUID, expected: int | None
) -> Draw:
    """Give a draw within reach, held until the transaction ends; raises NotFound or Stale."""
    draw = await session.scalar(
        select(Draw)
        .where(
            col(Draw.district_code) == caller.district_code,
            col(Draw.id) == draw_id,
            reach.clause(caller, area="draws.area_code"),
        )
        .with_for_update(key_share=True)
    )
    if draw is None:
        raise NotFound
    if expected is not None:
        concurrency.require_version(draw.version, expected)
    return draw


def require_state(draw: Draw, *allowed: DrawStatus) -> None:
    """Raise DrawStateForbids unless the draw is in one of these states."""
    if draw.status not in allowed:
        extra = {"draw_status": draw.status, "allowed": [status.value for status in allowed]}
        raise DrawStateForbids(draw_status=draw.status, extra=extra)


async def shown(session: AsyncSession, caller: Caller, draw: Draw) -> DrawRead:
    """Give a draw as it stands in the transaction."""
    params = {"district_code": draw.district_code, "id": draw.id}
    found = await session.scalar(text(_find_sql(caller, "true")), params)
    return DrawRead.model_validate_json(found)
