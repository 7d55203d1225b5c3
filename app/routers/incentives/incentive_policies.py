"""`/v1/incentive-policies`: who is thanked with what, version by version."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.incentives.incentive_policies import (
    PolicyCreate,
    PolicyFilters,
    PolicyRead,
    PolicyVersionCreate,
    PolicyVersionRead,
    VersionFilters,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadPolicies, MayWritePolicies
from app.services.incentives import incentive_policies
from app.services.incentives.incentive_policies import PolicyElsewhere, PolicyNameTaken
from app.transactions import OneStatement, Session

router = concurrency.router("/incentive-policies", "incentive-policies")
PolicyId = Annotated[Id, Path(description="The policy's id.")]


@router.get("", summary="List incentive policies", response_model=Page[PolicyRead])
async def list_incentive_policies(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPolicies,
    filters: Annotated[PolicyFilters, Query()],
    now: Now,
) -> Response:
    """List the policies that hold within reach, those set from above included."""
    page = await incentive_policies.list_policies(
        statements, caller, keyring, filters=filters, now=now
    )
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Create an incentive policy",
    responses=refusals(PolicyNameTaken),
)
async def create_incentive_policy(
    session: Session, caller: MayWritePolicies, body: PolicyCreate, now: Now, response: Response
) -> PolicyRead:
    """Set up a policy of an area, or of one association in it, with its first version's rules."""
    policy = await incentive_policies.create(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/incentive-policies/{policy.id}"
    return policy


@router.get("/{policy_id}", summary="Get an incentive policy")
async def get_incentive_policy(
    statements: OneStatement, caller: MayReadPolicies, policy_id: PolicyId, now: Now
) -> PolicyRead:
    """Give a policy with the rules of its current version."""
    return await incentive_policies.find(statements, caller, policy_id=policy_id, now=now)


@router.get(
    "/{policy_id}/versions",
    summary="List a policy's versions",
    response_model=Page[PolicyVersionRead],
)
async def list_incentive_policy_versions(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPolicies,
    policy_id: PolicyId,
    filters: Annotated[VersionFilters, Query()],
    now: Now,
) -> Response:
    """List all versions with their rules, the newest first."""
    page = await incentive_policies.list_versions(
        statements, caller, keyring, policy_id=policy_id, filters=filters, now=now
    )
    return paging.answer(request, page)


@router.post(
    "/{policy_id}/versions",
    status_code=201,
    summary="Add a version to a policy",
    responses=refusals(PolicyElsewhere),
)
async def create_incentive_policy_version(
    session: Session,
    caller: MayWritePolicies,
    policy_id: PolicyId,
    body: PolicyVersionCreate,
    if_match: IfMatch,
    now: Now,
    response: Response,
) -> PolicyRead:
    """Put a new version in force for the rounds that it covers; runs keep the one they used.

    Of a round, the version that holds on its last day decides, or on the day on which it was closed
    if that came first. A version begins today or later: rounds that are over keep theirs.
    """
    policy = await incentive_policies.add_version(
        session, caller, policy_id=policy_id, body=body, expected=if_match, now=now
    )
    response.headers["Location"] = f"/v1/incentive-policies/{policy.id}"
    return policy
