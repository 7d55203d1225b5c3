"""`/v1/members`: who is enrolled, and in which association since when."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.answers import Configured
from app.clock import Now
from app.concurrency import IfMatch
from app.crypto import Keys
from app.models.membership.members import (
    MemberCreate,
    MemberDetail,
    MemberFilters,
    MemberLeave,
    MemberRead,
    MemberSearch,
    MembershipFilters,
    MembershipRead,
    MemberTransfer,
    MemberUpdate,
)
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadMembers, MayWriteMembers
from app.services.membership import members, memberships
from app.services.membership.members import EmployeeNumberTaken, MemberErased
from app.services.membership.memberships import AlreadyInAssociation, AlreadyLeft
from app.services.membership.open_associations import AssociationTakesNoMembers
from app.services.privacy import enrolled_elsewhere
from app.services.privacy.enrolled_elsewhere import TooManyElsewhere
from app.services.privacy.person_storage import AlreadyEnrolled
from app.transactions import OneStatement, Session

router = concurrency.router("/members", "members")
MemberId = Annotated[Id, Path(description="The member's id.")]


@router.get("", summary="List members", response_model=Page[MemberRead])
async def list_members(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadMembers,
    filters: Annotated[MemberFilters, Query()],
) -> Response:
    """List the members within reach in the order of their enrolment."""
    page = await members.list_members(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Enrol a member",
    responses=refusals(
        AlreadyEnrolled, TooManyElsewhere, EmployeeNumberTaken, AssociationTakesNoMembers
    ),
)
async def create_member(
    session: Session,
    statements: OneStatement,
    keyring: Keys,
    settings: Configured,
    caller: MayWriteMembers,
    body: MemberCreate,
    now: Now,
    response: Response,
) -> MemberDetail:
    """Enrol a person in an association; ID number and phone only with her consent to each."""
    told = enrolled_elsewhere.allowance(
        statements, caller, keyring, most=settings.enrolled_elsewhere_daily_limit, now=now
    )
    member = await members.enrol(session, caller, keyring, body=body, told=told, now=now)
    response.headers["Location"] = f"/v1/members/{member.id}"
    return member


@router.post("/search", summary="Find members by ID number or phone")
async def search_members(
    session: Session, keyring: Keys, caller: MayReadMembers, body: MemberSearch, now: Now
) -> Page[MemberDetail]:
    """Find who has exactly this ID number or phone; neither ever stands in a URL."""
    return await members.search(session, caller, keyring, body=body, now=now)


@router.get("/{member_id}", summary="Get a member")
async def get_member(
    statements: OneStatement, keyring: Keys, caller: MayReadMembers, member_id: MemberId
) -> MemberDetail:
    """Give one member; ID number and phone masked."""
    return await members.find(statements, caller, keyring, member_id=member_id)


@router.patch(
    "/{member_id}",
    summary="Change a member",
    responses=refusals(AlreadyEnrolled, TooManyElsewhere, EmployeeNumberTaken, MemberErased),
)
async def update_member(
    session: Session,
    statements: OneStatement,
    keyring: Keys,
    settings: Configured,
    caller: MayWriteMembers,
    member_id: MemberId,
    version: IfMatch,
    body: MemberUpdate,
    now: Now,
) -> MemberDetail:
    """Change what is given; a new ID number or phone may come with the date of her consent.

    A phone in place of another waits for 72 hours and is told to that one, as a change of her own
    is; until then the phone on file is shown, and when the other follows (`phone_pending_until`).
    One that is taken away is told so and ends what she logged in by; what is entered within 72
    hours waits as long. The employer's side changes and takes away none, and she logs in by a
    first one of its own once another office has entered it too (`phone_confirmed`).
    """
    told = enrolled_elsewhere.allowance(
        statements, caller, keyring, most=settings.enrolled_elsewhere_daily_limit, now=now
    )
    return await members.edit(
        session,
        caller,
        keyring,
        member_id=member_id,
        version=version,
        body=body,
        told=told,
        now=now,
    )


@router.post(
    "/{member_id}/transfer",
    summary="Move a member to another association",
    responses=refusals(
        AlreadyInAssociation, EmployeeNumberTaken, AssociationTakesNoMembers, MemberErased
    ),
)
async def transfer_member(
    session: Session,
    keyring: Keys,
    caller: MayWriteMembers,
    member_id: MemberId,
    version: IfMatch,
    body: MemberTransfer,
    now: Now,
) -> MemberDetail:
    """Move a member from a date on, or take her back after she left; the history stays."""
    return await memberships.transfer(
        session, caller, keyring, member_id=member_id, version=version, body=body, now=now
    )


@router.post(
    "/{member_id}/leave", summary="End a membership", responses=refusals(AlreadyLeft, MemberErased)
)
async def leave_association(
    session: Session,
    keyring: Keys,
    caller: MayWriteMembers,
    member_id: MemberId,
    version: IfMatch,
    body: MemberLeave,
    now: Now,
) -> MemberDetail:
    """End the membership from a date on; a transfer takes the member back later.

    What she came to before the end is entered stays hers to be thanked for.
    """
    return await memberships.leave(
        session, caller, keyring, member_id=member_id, version=version, body=body, now=now
    )


@router.get(
    "/{member_id}/memberships",
    summary="List a member's memberships",
    response_model=Page[MembershipRead],
)
async def list_memberships(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadMembers,
    member_id: MemberId,
    filters: Annotated[MembershipFilters, Query()],
) -> Response:
    """List the member's ties to associations, the oldest first."""
    page = await memberships.list_memberships(
        statements, caller, keyring, member_id=member_id, filters=filters
    )
    return paging.answer(request, page)
