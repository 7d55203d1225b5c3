"""Payout decisions: what a finance approver decides when what earned a payout no longer counts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import concurrency, reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.disbursement.payout_decisions import (
    DecisionChoice,
    DecisionFilters,
    DecisionRead,
    DecisionStatus,
    DecisionWrite,
    PayoutDecision,
)
from app.models.disbursement.payouts import PayoutStatus, payout_id_sql
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.services.disbursement import payout_holds
from app.services.privacy import personal_texts

_SOURCE = (
    "payout_decisions c join associations a on a.district_code = c.district_code"
    " and a.id = c.association_id join lateral (select p.status, p.amount_fen from payouts p"
    " where p.district_code = c.district_code and p.round_sequence = c.round_sequence"
    " and p.member_id = c.member_id and p.rule_id = c.rule_id and p.run_id = c.run_id) p on true"
)
_PLAIN = (
    f"{payout_id_sql('c')} as payout_id, c.id, c.run_id, c.round_sequence, c.member_id,"
    " c.association_id, p.amount_fen, p.status as payout_status, c.cause, c.event_id,"
    " c.dispute_id, c.caused_by, c.holds, c.status, c.choice, c.reason, c.decided_by, c.version"
)
_INSTANTS = ("c.decided_at", "c.closed_at", "c.created_at")
LISTING = Listing(
    columns=", ".join([_PLAIN, *map(instant, _INSTANTS)]),
    source=_SOURCE,
    order=(Key("id", "c.id", "uuid"),),
    descending=True,
    about="member_id",
    numbered="payout_id",
)
_FIND = (
    f"select {_PLAIN}, {', '.join(_INSTANTS)} from {_SOURCE}"
    " where c.district_code = :district_code and c.id = :id and {}"
)
_PAID = {
    DecisionChoice.RECOVER: DecisionStatus.RECOVERING,
    DecisionChoice.WRITE_OFF: DecisionStatus.WRITTEN_OFF,
}
_WAITING = {
    DecisionChoice.CANCEL: DecisionStatus.CANCELLED,
    DecisionChoice.PAY: DecisionStatus.CONFIRMED,
}
_OVER = {DecisionChoice.CANCEL: DecisionStatus.CANCELLED}
_CHOICES = {
    PayoutStatus.PENDING: _WAITING,
    PayoutStatus.HELD: _WAITING,
    PayoutStatus.PAID: _PAID,
    PayoutStatus.FAILED: _OVER,
    PayoutStatus.RETURNED: _OVER,
}
"""What can be decided of a payout in each state; of one that is on its way, nothing yet."""


class DecisionClosed(Problem):
    """It was decided already, or its ground is back."""

    code, status = "decision_closed", 409


class ChoiceUnavailable(Problem):
    """The payout's state leaves other choices, or none until it is known what became of it."""

    code, status = "choice_unavailable", 409


class CauserIsDecider(Problem):
    """Whoever voided the attendance or upheld the dispute does not decide what follows."""

    code, status = "causer_is_decider", 403
    constraint = "ck_payout_decisions_causer_is_not_decider"


def _within(caller: Caller) -> tuple[str, dict[str, Any]]:
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    return condition, params | {"district_code": caller.district_code}


async def list_decisions(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: DecisionFilters
) -> Slice:
    """Give a page of the decisions on payouts within reach, the newest first."""
    condition, params = _within(caller)
    where = Where(params)
    where.add(f"c.district_code = :district_code and {condition}")
    where.equal("c.status", "status", filters.status)
    where.equal("c.cause", "cause", filters.cause)
    where.equal("c.run_id", "run_id", filters.run_id)
    where.equal("c.member_id", "member_id", filters.member_id)
    where.equal("c.association_id", "association_id", filters.association_id)
    where.in_area("a.area_code", filters.area)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, decision_id: UUID) -> DecisionRead:
    """Give one decision within reach, or refuse with NotFound."""
    condition, params = _within(caller)
    row = await statements.district_wide().fetch_row(
        _FIND.format(condition), params | {"id": decision_id}, about="member_id"
    )
    if row is None:
        raise NotFound
    return DecisionRead(**row)


async def decide(
    session: AsyncSession,
    caller: Caller,
    *,
    decision_id: UUID,
    version: int,
    body: DecisionWrite,
    now: datetime,
) -> DecisionRead:
    """Decide: recover or write off what was paid, cancel or pay what was not.

    What was to be recovered and does not come may be written off after all. Raises NotFound,
    Stale, DecisionClosed, CauserIsDecider or ChoiceUnavailable.
    """
    async with district_wide(session):
        decision = await _open(session, caller, decision_id=decision_id, version=version)
        if decision.caused_by == caller.subject:
            raise CauserIsDecider
        status = await _chosen(session, decision, body.choice)
        reason = await personal_texts.kept(
            session,
            body.reason,
            district_code=decision.district_code,
            member_id=decision.member_id,
        )
        decision.change(
            now,
            status=status.value,
            choice=body.choice.value,
            reason=reason,
            decided_by=caller.subject,
            decided_at=now,
            closed_at=None if status is DecisionStatus.RECOVERING else now,
        )
        await session.flush()
        await _follow(session, decision, now=now)
        return await _read(session, caller, decision)


async def _open(
    session: AsyncSession, caller: Caller, *, decision_id: UUID, version: int
) -> PayoutDecision:
    """Give a decision within reach that is not closed, locked after its run."""
    condition, params = _within(caller)
    known = text(_FIND.format(condition))
    row = (await session.execute(known, params | {"id": decision_id})).mappings().first()
    if row is None:
        raise NotFound
    await payout_holds.hold_run(session, district_code=caller.district_code, run_id=row["run_id"])
    key = (caller.district_code, decision_id)
    decision = await session.get_one(PayoutDecision, key, with_for_update=True)
    concurrency.require_version(decision.version, version)
    if decision.status not in {DecisionStatus.OPEN, DecisionStatus.RECOVERING}:
        raise DecisionClosed
    return decision


async def _chosen(
    session: AsyncSession, decision: PayoutDecision, choice: DecisionChoice
) -> DecisionStatus:
    status = PayoutStatus(await payout_holds.status_of(session, decision))
    choices = _CHOICES.get(status, {})
    if decision.status == DecisionStatus.RECOVERING:
        choices = {each: to for each, to in choices.items() if each is DecisionChoice.WRITE_OFF}
    if choice not in choices:
        allowed = [each.value for each in choices]
        raise ChoiceUnavailable(
            payout_status=status.value, extra={"payout_status": status.value, "allowed": allowed}
        )
    return choices[choice]


async def _follow(session: AsyncSession, decision: PayoutDecision, *, now: datetime) -> None:
    """Do with the payout what was decided."""
    reason, by = decision.reason or "", decision.decided_by or ""
    if decision.choice == DecisionChoice.PAY:
        await payout_holds.let_go(session, decision)
    if decision.choice == DecisionChoice.CANCEL and await payout_holds.fail(
        session, decision, reason=reason, now=now
    ):
        await payout_holds.close_disputes(session, decision, answer=reason, by=by, now=now)
        await session.flush()


async def _read(session: AsyncSession, caller: Caller, decision: PayoutDecision) -> DecisionRead:
    condition, params = _within(caller)
    found = text(_FIND.format(condition))
    row = (await session.execute(found, params | {"id": decision.id})).mappings().one()
    return DecisionRead(**row)
