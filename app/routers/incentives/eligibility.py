"""`/v1/members/{member_id}/eligibility`: each decision, explained."""

from typing import Annotated

from fastapi import Query

from app import concurrency
from app.models.incentives.eligibility import EligibilityRead
from app.models.shapes import Id, Instant
from app.rights import MayReadEligibility
from app.services.incentives import eligibility
from app.transactions import OneStatement

router = concurrency.router("/members/{member_id}/eligibility", "eligibility")


@router.get("", summary="Explain a member's entitlements for a round")
async def get_eligibility(
    statements: OneStatement,
    caller: MayReadEligibility,
    member_id: Id,
    round_id: Annotated[Id, Query(description="The exam round.")],
    as_of: Annotated[
        Instant | None, Query(description="From what was known at this instant; now, if left out.")
    ] = None,
) -> EligibilityRead:
    """Give the streak, and for each rule whether it grants or the reason why not."""
    return await eligibility.explain(
        statements, caller, member_id=member_id, round_id=round_id, as_of=as_of
    )
