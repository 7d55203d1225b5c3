"""`/v1/attendance-flags`: events whose attendance looks forced or invented."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.crypto import Keys
from app.models.events.attendance_flags import FlagFilters, FlagRead
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayComputeFlags, MayReadFlags
from app.services.events import attendance_flags
from app.services.events.attendance_flags import EventNotClosed
from app.transactions import OneStatement, Session

router = concurrency.router("", "attendance-flags")


@router.get("/attendance-flags", summary="List attendance flags", response_model=Page[FlagRead])
async def list_attendance_flags(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadFlags,
    filters: Annotated[FlagFilters, Query()],
) -> Response:
    """List the events to look at, each with the rule that fired; no answer says who stayed away."""
    page = await attendance_flags.list_flags(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "/service-events/{event_id}/attendance-flags",
    summary="Compute an event's attendance flags again",
    responses=refusals(EventNotClosed),
)
async def compute_attendance_flags(
    session: Session,
    caller: MayComputeFlags,
    event_id: Annotated[Id, Path(description="The event's id.")],
    now: Now,
) -> Page[FlagRead]:
    """Look at a closed event again, after late lines, voids or other thresholds."""
    flags = await attendance_flags.compute_again(session, caller, event_id=event_id, now=now)
    return Page(items=flags, next_cursor=None)
