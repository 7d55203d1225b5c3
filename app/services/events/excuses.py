"""Excuses: given by hand until a round is final, and to towns without a check when it closes."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, reach
from app.crypto import Keyring
from app.database import Statements, district_wide, named
from app.identity import Caller
from app.models.events.excuses import Excuse, ExcuseCreate, ExcuseFilters, ExcuseRead, ExcuseReason
from app.models.organisation.areas import Area
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem

_COLUMNS = "x.id, x.round_sequence, x.member_id, x.area_code, x.reason, x.created_by"
_SOURCE = "excuses x left join members m on m.district_code = :district_code and m.id = x.member_id"
LISTING = Listing(
    columns=f"{_COLUMNS}, {instant('x.created_at')}",
    source=_SOURCE,
    order=(Key("id", "x.id", "uuid"),),
    about="member_id",
)
_FIND_ROUND = (
    "select sequence, status = 'closed' and accepts_until < :now as is_final from exam_rounds"
    " where district_code = :district_code and id = :round_id"
)
_FIND = (
    f"select {_COLUMNS}, x.created_at from {_SOURCE}"
    " join exam_rounds r on r.district_code = x.district_code and r.sequence = x.round_sequence"
    " where x.district_code = :district_code and x.id = :id and r.id = :round_id"
    " and x.withdrawn_at is null"
)
_SAME = text(
    f"select {_COLUMNS}, x.created_at from excuses x where x.district_code = :district_code"
    " and x.round_sequence = :sequence and x.withdrawn_at is null"
    " and (x.member_id = cast(:member_id as uuid) or x.area_code = cast(:area_code as text))"
)
# A cancelled or unbegun event offered nobody a check.
_TOWNS_WITHOUT_CHECK = text(
    "select t.code from areas t where t.parent_code = :district_code and t.level = 'town'"
    " and not exists (select from service_events e where e.district_code = :district_code"
    " and e.round_sequence = :sequence and e.kind = 'health_exam'"
    " and e.status in ('in_progress', 'closed')"
    " and e.area_code between t.code and substr(t.code, 1, 9) || '999') order by t.code"
)


class AlreadyExcused(Problem):
    """The same member or area is excused from this round for another reason."""

    code, status = "already_excused", 409


class RoundFinal(Problem):
    """The round is final, and with it its excuses."""

    code, status = "round_final", 409


async def _open_sequence(
    session: AsyncSession, caller: Caller, *, round_id: UUID, now: datetime
) -> int:
    params = {"district_code": caller.district_code, "round_id": round_id, "now": now}
    async with district_wide(session):
        found = (await session.execute(text(f"{_FIND_ROUND} for share"), params)).one_or_none()
    if found is None:
        raise NotFound
    if found.is_final:
        raise RoundFinal
    return int(found.sequence)


async def list_excuses(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    round_id: UUID,
    filters: ExcuseFilters,
    now: datetime,
) -> Slice:
    """Give a page of a round's excuses within reach; a member sees none but her own."""
    found = await statements.fetch_row(
        _FIND_ROUND, {"district_code": caller.district_code, "round_id": round_id, "now": now}
    )
    if found is None:
        raise NotFound
    condition, params = _within(caller)
    where = Where(params | {"district_code": caller.district_code, "sequence": found["sequence"]})
    where.add("x.district_code = :district_code and x.round_sequence = :sequence")
    where.add("x.withdrawn_at is null")
    where.add(condition)
    where.equal("x.reason", "reason", filters.reason)
    where.equal("x.member_id", "member_id", filters.member_id)
    where.in_area("coalesce(x.area_code, m.area_code)", filters.area)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


def _within(caller: Caller) -> tuple[str, dict[str, Any]]:
    return reach.within(caller, area="coalesce(x.area_code, m.area_code)", member="x.member_id")


async def find(
    statements: Statements, caller: Caller, *, round_id: UUID, excuse_id: UUID
) -> ExcuseRead:
    """Give one excuse, or refuse with NotFound."""
    condition, params = _within(caller)
    params |= {"district_code": caller.district_code, "id": excuse_id, "round_id": round_id}
    row = await statements.district_wide().fetch_row(
        f"{_FIND} and {condition}", params, about="member_id"
    )
    if row is None:
        raise NotFound
    return ExcuseRead(**row)


async def excuse(
    session: AsyncSession,
    caller: Caller,
    *,
    round_id: UUID,
    body: ExcuseCreate,
    now: datetime,
) -> tuple[ExcuseRead, bool]:
    """Excuse a member or an area from a round, and tell whether that is new.

    Raises AlreadyExcused when it is done for another reason.
    """
    sequence = await _open_sequence(session, caller, round_id=round_id, now=now)
    await _require_whom(session, caller, body)
    facts: dict[str, Any] = {
        "district_code": caller.district_code,
        "member_id": body.member_id,
        "area_code": body.area_code,
    }
    statement = insert(Excuse).values(
        **facts,
        id=clock.new_id(),
        round_sequence=sequence,
        reason=body.reason.value,
        created_by=caller.subject,
        created_at=now,
    )
    async with district_wide(session):
        created = await session.scalar(statement.on_conflict_do_nothing().returning(col(Excuse.id)))
        stored = (await session.execute(_SAME, facts | {"sequence": sequence})).mappings().one()
    if stored["reason"] != body.reason:
        raise AlreadyExcused
    return ExcuseRead(**stored), created is not None


async def _require_whom(session: AsyncSession, caller: Caller, body: ExcuseCreate) -> None:
    if (body.member_id is None) == (body.area_code is None):
        raise Invalid.at("/member_id", "member_or_area")
    if body.area_code is not None:
        if await session.get(Area, body.area_code) is None:
            raise Invalid.at("/area_code", "unknown_reference")
        if not reach.covers(caller, body.area_code):
            raise Invalid.at("/area_code", "out_of_reach")
        return
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    sql = (
        "select m.id from members m where m.district_code = :district_code and m.id = :id"
        " and m.erased_at is null"
    )
    params |= {"district_code": caller.district_code, "id": body.member_id}
    if await session.scalar(text(f"{sql} and {condition}"), params) is None:
        raise Invalid.at("/member_id", "unknown_reference")


async def withdraw(
    session: AsyncSession, caller: Caller, *, round_id: UUID, excuse_id: UUID, now: datetime
) -> None:
    """Take an excuse back, so that the round counts again; it stays on record. Raises NotFound."""
    sequence = await _open_sequence(session, caller, round_id=round_id, now=now)
    condition, params = _within(caller)
    params |= {"district_code": caller.district_code, "id": excuse_id, "sequence": sequence}
    params |= {"now": now, "subject": caller.subject}
    found = (
        f"select x.id from {_SOURCE} where x.district_code = :district_code and x.id = :id"
        f" and x.round_sequence = :sequence and x.withdrawn_at is null and {condition}"
    )
    sql = (
        "update excuses set withdrawn_at = greatest(created_at, :now), withdrawn_by = :subject"
        f" where district_code = :district_code and id in ({found}) returning id, member_id"
    )
    async with district_wide(session):
        withdrawn = (await session.execute(text(sql), params)).one_or_none()
    if withdrawn is None:
        raise NotFound
    if withdrawn.member_id is not None:
        named(session.info.get("act")).reach([withdrawn.member_id])


async def excuse_towns_without_check(
    session: AsyncSession, caller: Caller, *, sequence: int, now: datetime
) -> None:
    """Excuse every town of the district in which no health check of a round was held."""
    params = {"district_code": caller.district_code, "sequence": sequence}
    towns = (await session.execute(_TOWNS_WITHOUT_CHECK, params)).scalars().all()
    rows = [
        {
            "district_code": caller.district_code,
            "id": clock.new_id(),
            "round_sequence": sequence,
            "member_id": None,
            "area_code": code,
            "reason": ExcuseReason.NONE_OFFERED.value,
            "created_by": caller.subject,
            "created_at": now,
        }
        for code in towns
    ]
    if rows:
        await session.execute(insert(Excuse).values(rows).on_conflict_do_nothing())
