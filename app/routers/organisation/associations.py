"""`/v1/associations`: members' organisations, and the steps of their life."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.answers import PreferredLanguage
from app.clock import Now, civil_date
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.organisation.associations import (
    ActivationRead,
    AssociationCreate,
    AssociationFilters,
    AssociationRead,
    AssociationUpdate,
    StatusReason,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayGovernAssociations, MayReadAssociations, MayWriteAssociations
from app.services.organisation import associations
from app.services.organisation.activation import ActivationConditionsUnmet
from app.services.organisation.associations import (
    AssociationDissolved,
    DissolutionConditionsUnmet,
    HostTaken,
    StepNotPossible,
    VillageTaken,
)
from app.transactions import OneStatement, Session

router = concurrency.router("/associations", "associations")
AssociationId = Annotated[Id, Path(description="The association.")]


@router.get("", summary="List associations", response_model=Page[AssociationRead])
async def list_associations(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAssociations,
    filters: Annotated[AssociationFilters, Query()],
) -> Response:
    """List associations, all or by mode, status, area, parent or host."""
    page = await associations.list_associations(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post("", summary="Prepare an association", status_code=201, responses=refusals(HostTaken))
async def create_association(
    session: Session,
    caller: MayGovernAssociations,
    body: AssociationCreate,
    now: Now,
    response: Response,
) -> AssociationRead:
    """Prepare an association in its host's area; it becomes active by a step of its own."""
    association = await associations.prepare(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/associations/{association.id}"
    return association


@router.get("/{association_id}", summary="Get an association")
async def get_association(
    statements: OneStatement, caller: MayReadAssociations, association_id: AssociationId
) -> AssociationRead:
    """Give one association by its id."""
    return await associations.find(statements, caller, association_id=association_id)


@router.patch(
    "/{association_id}",
    summary="Edit an association",
    responses=refusals(AssociationDissolved, ActivationConditionsUnmet),
)
async def update_association(
    session: Session,
    caller: MayWriteAssociations,
    association_id: AssociationId,
    body: AssociationUpdate,
    if_match: IfMatch,
    now: Now,
) -> AssociationRead:
    """Change what is sent, clear what is null; only officers choose the parent."""
    return await associations.edit(
        session,
        caller,
        association_id=association_id,
        body=body,
        expected_version=if_match,
        now=now,
    )


@router.get("/{association_id}/activation", summary="List an association's activation conditions")
async def get_association_activation(
    session: Session,
    caller: MayReadAssociations,
    association_id: AssociationId,
    now: Now,
    language: PreferredLanguage,
) -> ActivationRead:
    """Say of each condition of activation whether it is met today."""
    return await associations.find_activation(
        session, caller, association_id=association_id, on=civil_date(now), language=language
    )


@router.post(
    "/{association_id}/activate",
    summary="Activate an association",
    responses=refusals(StepNotPossible, ActivationConditionsUnmet, VillageTaken),
)
async def activate_association(
    session: Session,
    caller: MayGovernAssociations,
    association_id: AssociationId,
    if_match: IfMatch,
    now: Now,
) -> AssociationRead:
    """Make a prepared or suspended association active when all its conditions are met."""
    return await associations.activate(
        session, caller, association_id=association_id, expected_version=if_match, now=now
    )


@router.post(
    "/{association_id}/suspend",
    summary="Suspend an association",
    responses=refusals(StepNotPossible),
)
async def suspend_association(
    session: Session,
    caller: MayGovernAssociations,
    association_id: AssociationId,
    body: StatusReason,
    if_match: IfMatch,
    now: Now,
) -> AssociationRead:
    """Suspend an active association; it may become active again."""
    return await associations.suspend(
        session,
        caller,
        association_id=association_id,
        reason=body.reason,
        expected_version=if_match,
        now=now,
    )


@router.post(
    "/{association_id}/dissolve",
    summary="Dissolve an association",
    responses=refusals(StepNotPossible, DissolutionConditionsUnmet),
)
async def dissolve_association(
    session: Session,
    caller: MayGovernAssociations,
    association_id: AssociationId,
    body: StatusReason,
    if_match: IfMatch,
    now: Now,
) -> AssociationRead:
    """Dissolve an association without open memberships, events or affiliated associations."""
    return await associations.dissolve(
        session,
        caller,
        association_id=association_id,
        reason=body.reason,
        expected_version=if_match,
        now=now,
    )
