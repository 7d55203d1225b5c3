"""`/v1/audit-entries`: who did or read what; who looked at a member's record."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.crypto import Keys
from app.models.audit.audit_entries import (
    AuditEntryRead,
    AuditFilters,
    SightingFilters,
    SightingRead,
)
from app.models.shapes import Id
from app.paging import Page
from app.rights import MayReadAudit, MayReadSightings
from app.services.audit import audit_entries
from app.transactions import OneStatement

router = concurrency.router("", "audit-entries")


@router.get("/audit-entries", summary="List audit entries", response_model=Page[AuditEntryRead])
async def list_audit_entries(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAudit,
    filters: Annotated[AuditFilters, Query()],
) -> Response:
    """List who within reach did or read what, the latest first; reading this is an entry too."""
    page = await audit_entries.list_entries(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get(
    "/members/{member_id}/audit-entries",
    summary="List who looked at a member's record",
    response_model=Page[SightingRead],
)
async def list_member_audit_entries(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadSightings,
    member_id: Annotated[Id, Path(description="The member's id.")],
    filters: Annotated[SightingFilters, Query()],
) -> Response:
    """List who did or read what about a member, a second or so after it was sealed."""
    page = await audit_entries.list_of_member(
        statements, caller, keyring, member_id=member_id, filters=filters
    )
    return paging.answer(request, page)
