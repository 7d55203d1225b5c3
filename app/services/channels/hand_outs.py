"""Hand-outs: what is due to the member whose code was scanned, and given to her once.

A hand-out is a result of its run like a line of a cash list, entered by the same function; many
desks enter them at once, so a run is held for sharing and each payout by itself.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import reach
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.channels.hand_outs import DueGift, DueGiftsRead, HandOut, HandOutRead
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.disbursement.payouts import (
    PayoutOutcome,
    PayoutStatus,
    ResultLine,
    payout_id_sql,
    run_and_line,
)
from app.models.events.service_events import HEALTH_KINDS
from app.problems import Invalid, NotFound
from app.roles import Role
from app.services.disbursement import payout_runs, payouts
from app.services.disbursement.payouts import (
    LINES,
    RULE,
    STATEMENT,
    PayoutContradiction,
    PayoutHeld,
)

DESK_DAYS = 7
"""For how many days after an event its staff may hand gifts to those who came.

What is late at the desk is handed out within days. A right that outlived the event would let its
staff follow for good what each guest is granted; town and finance offices give what is left.
"""
_TAKEN_FROM = (
    " join gifts g on g.district_code = :district_code and g.code = i.gift_code"
    " left join run_gifts x on x.district_code = :district_code and x.run_id = p.run_id"
    " and x.rule_id = p.rule_id and x.association_id = p.association_id"
    " left join depots d on d.district_code = :district_code and d.id = x.depot_id"
)
_OF_MEMBER = (
    f"select cast({payout_id_sql('p')} as uuid) as payout_id, p.association_id,"
    " i.code as rule_code, g.code as gift_code, g.name as gift_name, i.gift_item, g.unit,"
    " p.quantity, d.id as depot_id,"
    f" d.name as depot_name, p.status, p.settled_at, '{STATEMENT}' as statement"
    " from payout_runs r join payouts p on p.district_code = :district_code"
    " and p.round_sequence = r.round_sequence and p.member_id = :member_id and p.run_id = r.id"
    " join incentive_rules i on i.district_code = :district_code and i.policy_id = r.policy_id"
    f" and i.number = r.policy_number and i.rule_id = p.rule_id{_TAKEN_FROM}"
    " where r.district_code = :district_code and r.status = 'disbursing'"
    " and p.status in ('pending', 'held', 'paid') and {} order by p.round_sequence, p.line_no"
)
_ONE = (
    "select p.member_id, p.rule_id, p.round_sequence, p.quantity, g.code as gift_code,"
    " g.name as gift_name, i.gift_item, g.unit, d.id as depot_id, d.name as depot_name,"
    " p.settled_at,"
    f" t.recorded_by from {LINES}{RULE}{_TAKEN_FROM}"
    " left join stock_movements t on t.district_code = :district_code and t.run_id = p.run_id"
    " and t.line_no = p.line_no and t.kind = 'hand_out'"
    " where p.district_code = :district_code and {}"
)
_STATUS = text(
    "select status from payouts where district_code = :district_code and round_sequence = :sequence"
    " and member_id = :member_id and rule_id = :rule_id and run_id = :run_id for update"
)
_KNOWN = "select 1 from members m where m.district_code = :district_code and m.id = :member_id"
_AT_HER_EVENTS = (
    "exists (select from attendances t join service_events v on v.district_code = t.district_code"
    " and v.id = t.event_id where t.district_code = :district_code"
    " and t.event_id = any(:reach_events) and t.member_id = {} and t.voided_at is null"
    " and v.ends_at > :desk_since and v.kind <> all(:unseen){})"
)
# A gift for a health check says that she was at one: to whom else than those who saw her there?
# One that gives way to such a gift says it too, by missing.
_TELLS = (
    "exists (select from incentive_rules h where h.district_code = :district_code"
    " and h.policy_id = i.policy_id and h.number = i.number and h.event_kind = any({})"
    " and (h.rule_id = i.rule_id or h.exclusive_group = i.exclusive_group))"
)
_ALSO_THERE = f" and (not {_TELLS.format(':health_kinds')} or v.kind = any(:health_kinds))"


async def list_due(
    statements: Statements, caller: Caller, *, member_id: UUID, now: datetime
) -> DueGiftsRead:
    """Give a member's gifts in runs that are being handed out, within the caller's reach.

    Raises NotFound for a member of whom the caller may know neither a gift nor that she is.
    """
    statements = statements.district_wide()
    params = {"district_code": caller.district_code, "member_id": member_id}
    condition, reached = _within(caller, now)
    rows = await statements.fetch(_OF_MEMBER.format(condition), params | reached, about=[member_id])
    if not rows:
        known, reached = _knows(caller, now)
        if await statements.fetch_value(f"{_KNOWN} and {known}", params | reached) is None:
            raise NotFound
    return DueGiftsRead(member_id=member_id, items=[_due(caller, row) for row in rows])


def _due(caller: Caller, row: Mapping[str, Any]) -> DueGift:
    """Show a gift; to event staff without the rule that granted it, and in the catalogue's words.

    How a rule names itself and its gift may tell of a streak.
    """
    if caller.role is not Role.EVENT_STAFF:
        return DueGift(**row)
    plain = {"rule_code": None, "association_id": None, "gift_item": row["gift_name"]}
    return DueGift(**{**row, **plain})


def _within(caller: Caller, now: datetime) -> tuple[str, dict[str, Any]]:
    """Event staff give to those who came to their event, offices to those of their areas.

    What was earned at a health check is given by staff of one that the member came to.
    """
    if caller.role is Role.EVENT_STAFF:
        condition = _AT_HER_EVENTS.format("p.member_id", _ALSO_THERE)
        params = _of_staff(caller, now) | {"health_kinds": sorted(HEALTH_KINDS)}
    else:
        inner, params = reach.within(caller, area="a.area_code", association="a.id")
        condition = (
            "p.association_id in (select a.id from associations a"
            f" where a.district_code = :district_code and {inner})"
        )
    params["unseen"] = _unseen(caller)
    return f"{condition} and not {_TELLS.format(':unseen')}", params


def _of_staff(caller: Caller, now: datetime) -> dict[str, Any]:
    return {
        "reach_events": list(caller.event_ids),
        "desk_since": now - timedelta(days=DESK_DAYS),
        "unseen": _unseen(caller),
    }


def _unseen(caller: Caller) -> list[str]:
    """List the kinds of events of which the caller must not learn who came."""
    return sorted(HEALTH_KINDS) if caller.blind_to_health_checks else []


def _knows(caller: Caller, now: datetime) -> tuple[str, dict[str, Any]]:
    if caller.role is Role.EVENT_STAFF:
        return _AT_HER_EVENTS.format("m.id", ""), _of_staff(caller, now)
    return reach.within(caller, area="m.area_code", association="m.association_id")


async def hand_out(
    session: AsyncSession, caller: Caller, *, payout_id: UUID, body: HandOut, now: datetime
) -> HandOutRead:
    """Give a gift to the member whose code was scanned; a second scan says when it was given.

    Raises NotFound, Invalid when the gift is not hers, RunStateForbids, PayoutHeld, or
    PayoutContradiction for one that has failed or come back.
    """
    run_id, line_no = run_and_line(payout_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    async with district_wide(session):
        row = await _one(session, caller, run_id=run_id, line_no=line_no, now=now)
        if row["member_id"] != body.member_id:
            raise Invalid.at("/member_id", "not_the_payee")
        run = await _share(session, caller, run_id=run_id)
        status = await session.scalar(_STATUS, _key(run, row))
        if status == PayoutStatus.PAID:
            row = await _one(session, caller, run_id=run_id, line_no=line_no, now=now)
            return _shown(caller, payout_id, row, repeated=True)
        payout_runs.require_state(run, RunStatus.DISBURSING)
        if status == PayoutStatus.HELD:
            raise PayoutHeld
        if status != PayoutStatus.PENDING:
            raise PayoutContradiction
        await _record(session, caller, run, line_no=line_no, now=now)
        row = await _one(session, caller, run_id=run_id, line_no=line_no, now=now)
    return _shown(caller, payout_id, row, repeated=False)


async def _one(
    session: AsyncSession, caller: Caller, *, run_id: UUID, line_no: int, now: datetime
) -> Mapping[str, Any]:
    condition, params = _within(caller, now)
    params |= {"district_code": caller.district_code, "run_id": run_id, "lines": [line_no]}
    found = (await session.execute(text(_ONE.format(condition)), params)).mappings().first()
    if found is None:
        raise NotFound
    return dict(found)


async def _share(session: AsyncSession, caller: Caller, *, run_id: UUID) -> PayoutRun:
    """Hold a run so that it is not settled meanwhile, but other desks go on."""
    found = await session.scalars(
        select(PayoutRun)
        .where(col(PayoutRun.district_code) == caller.district_code, col(PayoutRun.id) == run_id)
        .with_for_update(read=True)
    )
    return found.one()


async def _record(
    session: AsyncSession, caller: Caller, run: PayoutRun, *, line_no: int, now: datetime
) -> None:
    lines = await payouts.lines_of(session, run, [line_no])
    paid = ResultLine(line_no=line_no, outcome=PayoutOutcome.PAID, reason=None)
    await payouts.record(session, caller, run, lines=lines, results=[paid], now=now)


def _key(run: PayoutRun, row: Mapping[str, Any]) -> dict[str, Any]:
    return run.place | {"member_id": row["member_id"], "rule_id": row["rule_id"]}


def _shown(
    caller: Caller, payout_id: UUID, row: Mapping[str, Any], *, repeated: bool
) -> HandOutRead:
    names = ("member_id", "gift_code", "unit", "quantity", "depot_id", "depot_name")
    item = "gift_name" if caller.role is Role.EVENT_STAFF else "gift_item"
    return HandOutRead(
        payout_id=payout_id,
        gift_item=row[item],
        **{name: row[name] for name in names},
        handed_out_at=row["settled_at"],
        handed_out_by=row["recorded_by"],
        repeated=repeated,
    )
