"""Stock movements: pieces that came, went to another depot or were lost, and all of them listed.

Each step is one statement that moves the counts and writes the entry; a count that would fall
below zero refuses it.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.disbursement.payouts import payee_sql, payout_id_sql
from app.models.goods.depots import Depot, DepotStatus
from app.models.goods.stock_movements import (
    COUNTS,
    SIDES,
    EnteredKind,
    MovementCreate,
    MovementFilters,
    MovementKind,
    MovementRead,
)
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Invalid, NotFound, Problem
from app.services.goods import depots
from app.services.goods.depots import DepotClosed

LISTING = Listing(
    columns=(
        "t.posting_id, t.number, t.kind, t.gift_id, t.depot_id, t.debit, t.credit_depot_id,"
        " t.credit, t.quantity, t.run_id,"
        f" case when t.line_no is not null then {payout_id_sql('t')} end as payout_id,"
        f" {payee_sql('t')} as member_id,"
        " t.stock_take_id, t.document_no, t.note, t.occurred_on,"
        f" {instant('t.recorded_at')}, t.recorded_by"
    ),
    source="stock_movements t",
    order=(Key("posting_id", "t.posting_id", "uuid"), Key("number", "t.number", "int")),
    about="member_id",
    numbered="payout_id",
)
_GIFT = "select 1 from gifts where district_code = :district_code and id = :gift_id"
COLUMNS = (
    "insert into stock_movements (district_code, posting_id, number, kind, gift_id, depot_id,"
    " credit_depot_id, debit, credit, quantity, run_id, line_no, stock_take_id, document_no, note,"
    " occurred_on, recorded_at, recorded_by)"
)
PROVIDE = (
    f"insert into stock (district_code, depot_id, gift_id, {', '.join(COUNTS)})"
    f" select :district_code, {{}}, {{}}, {', '.join('0' * len(COUNTS))} {{}}"
    " on conflict do nothing"
)
"""Make a depot's empty stock of a gift, where there is none yet."""
_PROVIDE = text(PROVIDE.format("cast(:taker as uuid)", "cast(:gift_id as uuid)", ""))
_IS = "case when {} then cast(:quantity as bigint) else 0 end"
_CHANGES = ", ".join(
    f"{count} = s.{count} + {_IS.format(where)}"
    for count, where in (
        ("received", ":kind = 'receive'"),
        ("transferred_in", ":kind = 'transfer' and s.depot_id = :taker"),
        ("transferred_out", ":kind = 'transfer' and s.depot_id = :giver"),
        ("written_off", ":kind = 'write_off'"),
    )
)
# The rows are locked in one order, so that two who move between the same depots wait for each
# other and not in a ring.
_MOVE = text(
    "with held as materialized (select s.depot_id, s.available from stock s"
    " where s.district_code = :district_code and s.gift_id = :gift_id"
    " and s.depot_id in (:giver, :taker) order by s.depot_id for no key update),"
    " taken as (update stock s set available = s.available"
    f" + {_IS.format('s.depot_id = :taker')} - {_IS.format('s.depot_id = :giver')}, {_CHANGES}"
    " from held h where s.district_code = :district_code and s.gift_id = :gift_id"
    " and s.depot_id = h.depot_id and (cast(:giver as uuid) is null or exists (select from held g"
    " where g.depot_id = :giver and g.available >= :quantity)) returning s.depot_id),"
    f" entered as ({COLUMNS} select :district_code, :posting_id, 1, :kind, :gift_id, :debited,"
    " :credited, :debit, :credit, :quantity, null, null, null, :document_no, :note,"
    " cast(:occurred_on as date), cast(:now as timestamptz), :subject"
    " where exists (select from taken) returning 1)"
    " select exists (select from entered) as is_entered,"
    " (select available from held where depot_id = :giver) as available"
)
_ENTERED = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from stock_movements t"
    " where t.district_code = :district_code and t.posting_id = :posting_id) item"
)


class StockDocumentEntered(Problem):
    """The document is in the books of this gift and depot; entered twice it would count twice."""

    code, status = "stock_document_entered", 409
    constraint = "uq_stock_movements_document"


class StockShort(Problem):
    """The depot has not so many to give."""

    code, status = "stock_short", 409


async def list_movements(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    gift_id: UUID,
    filters: MovementFilters,
) -> Slice:
    """Give a page of a gift's movements in the depots within reach, the oldest first."""
    params: dict[str, Any] = {"district_code": caller.district_code, "gift_id": gift_id}
    if await statements.fetch_value(_GIFT, params) is None:
        raise NotFound
    condition, reached = depots.within(caller, "d")
    where = Where(params | reached)
    where.add("t.district_code = :district_code and t.gift_id = :gift_id")
    where.add(
        "exists (select from depots d where d.district_code = :district_code"
        f" and d.id in (t.depot_id, t.credit_depot_id) and {condition})"
    )
    where.equal("t.kind", "kind", filters.kind)
    where.equal("t.run_id", "run_id", filters.run_id)
    if filters.depot_id is not None:
        where.add(":depot_id in (t.depot_id, t.credit_depot_id)", depot_id=filters.depot_id)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def enter(
    session: AsyncSession, caller: Caller, *, gift_id: UUID, body: MovementCreate, now: datetime
) -> MovementRead:
    """Enter what a document moves.

    Raises DepotClosed, StockShort or StockDocumentEntered.
    """
    _check(body, now)
    known = {"district_code": caller.district_code, "gift_id": gift_id}
    if await session.scalar(text(_GIFT), known) is None:
        raise NotFound
    params = known | _ends(body) | _facts(caller, body, now)
    await _require_depots(session, caller, body)
    async with district_wide(session):
        if params["taker"] is not None:
            await session.execute(_PROVIDE, params)
        moved = (await session.execute(_MOVE, params)).one()
        if not moved.is_entered:
            have = moved.available or 0
            raise StockShort(
                available=have,
                needed=body.quantity,
                extra={"available": have, "needed": body.quantity},
            )
        entered = await session.scalar(text(_ENTERED), params)
    return MovementRead.model_validate_json(entered)


def _check(body: MovementCreate, now: datetime) -> None:
    if (body.kind is EnteredKind.TRANSFER) != (body.to_depot_id is not None):
        raise Invalid.at("/to_depot_id", "stock_transfer_needs_depot")
    if body.to_depot_id == body.depot_id:
        raise Invalid.at("/to_depot_id", "depot_to_itself")
    if body.kind is EnteredKind.WRITE_OFF and body.note is None:
        raise Invalid.at("/note", "write_off_needs_note")
    if body.occurred_on > clock.civil_date(now):
        raise Invalid.at("/occurred_on", "document_in_the_future")


def _ends(body: MovementCreate) -> dict[str, Any]:
    """Say which depot gives and which takes; outside is neither."""
    giver = None if body.kind is EnteredKind.RECEIVE else body.depot_id
    taker = body.depot_id if body.kind is EnteredKind.RECEIVE else body.to_depot_id
    return {
        "giver": giver,
        "taker": taker,
        "debited": taker or giver,
        "credited": giver or taker,
    }


def _facts(caller: Caller, body: MovementCreate, now: datetime) -> dict[str, Any]:
    debit, credit = SIDES[MovementKind(body.kind)]
    return {
        "posting_id": clock.new_id(),
        "kind": body.kind.value,
        "debit": debit.value,
        "credit": credit.value,
        "quantity": body.quantity,
        "document_no": body.document_no,
        "note": body.note,
        "occurred_on": body.occurred_on,
        "now": now,
        "subject": caller.subject,
    }


async def _require_depots(session: AsyncSession, caller: Caller, body: MovementCreate) -> None:
    """Hold the depots in one order, so that none is closed meanwhile."""
    named = {body.depot_id: "/depot_id"}
    if body.to_depot_id is not None:
        named[body.to_depot_id] = "/to_depot_id"
    for depot_id in sorted(named):
        depot = await depots.lock(session, caller, depot_id=depot_id)
        if depot is None:
            raise Invalid.at(named[depot_id], "unknown_reference")
        _require_open(depot, body)


def _require_open(depot: Depot, body: MovementCreate) -> None:
    """Refuse what would come to a closed depot; what came back to it may still leave it."""
    takes = body.kind is EnteredKind.RECEIVE or depot.id == body.to_depot_id
    if takes and depot.status == DepotStatus.CLOSED:
        raise DepotClosed
