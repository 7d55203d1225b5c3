"""`/v1/payout-decisions`: payouts whose ground is gone, and what a person decides on each."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, numbered_ids, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.disbursement.payout_decisions import DecisionFilters, DecisionRead, DecisionWrite
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayApprovePayouts, MayReadPayouts
from app.services.disbursement import payout_decisions
from app.services.disbursement.payout_decisions import ChoiceUnavailable, DecisionClosed
from app.transactions import OneStatement, Session

router = concurrency.router("/payout-decisions", "payout-decisions")
DecisionId = Annotated[Id, Path(description="The decision's id.")]


@router.get("", summary="List payout decisions", response_model=Page[DecisionRead])
async def list_payout_decisions(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    filters: Annotated[DecisionFilters, Query()],
) -> Response:
    """List what is to be decided, or was, on payouts within reach, the newest first."""
    page = await payout_decisions.list_decisions(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get("/{decision_id}", summary="Get a payout decision")
async def get_payout_decision(
    statements: OneStatement, keyring: Keys, caller: MayReadPayouts, decision_id: DecisionId
) -> DecisionRead:
    """Give one decision, with the payout that it is about."""
    found = await payout_decisions.find(statements, caller, decision_id=decision_id)
    return numbered_ids.shown_in(keyring, found)


@router.post(
    "/{decision_id}/decide",
    summary="Decide on a payout",
    responses=refusals(DecisionClosed, ChoiceUnavailable),
)
async def decide_payout_decision(
    session: Session,
    keyring: Keys,
    caller: MayApprovePayouts,
    decision_id: DecisionId,
    body: DecisionWrite,
    if_match: IfMatch,
    now: Now,
) -> DecisionRead:
    """Recover or write off what was paid; cancel or pay what waits. Not by who caused it."""
    decided = await payout_decisions.decide(
        session, caller, decision_id=decision_id, version=if_match, body=body, now=now
    )
    return numbered_ids.shown_in(keyring, decided)
