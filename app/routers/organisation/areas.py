"""`/v1/areas`: the tree of administrative areas and what each has set."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now, civil_date
from app.crypto import Keys
from app.models.organisation.areas import (
    AreaFilters,
    AreaRead,
    AreaSettingFilters,
    AreaSettingRead,
    AreaSettingWrite,
    SettingKey,
)
from app.models.shapes import AreaCode
from app.paging import Page
from app.rights import MayReadAreas, MaySetAreas
from app.services.organisation import areas
from app.transactions import OneStatement, Session

router = concurrency.router("/areas", "areas")
Code = Annotated[AreaCode, Path(description="12-digit area code.")]


@router.get("", summary="List areas", response_model=Page[AreaRead])
async def list_areas(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAreas,
    filters: Annotated[AreaFilters, Query()],
) -> Response:
    """List areas in the order of the tree, all or by level, parent or branch."""
    page = await areas.list_areas(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get("/{code}", summary="Get an area")
async def get_area(statements: OneStatement, caller: MayReadAreas, code: Code) -> AreaRead:
    """Give one area by its code."""
    return await areas.find(statements, caller, code=code)


@router.get(
    "/{code}/settings",
    summary="List an area's settings in force",
    response_model=Page[AreaSettingRead],
)
async def list_area_settings(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadAreas,
    code: Code,
    filters: Annotated[AreaSettingFilters, Query()],
    now: Now,
) -> Response:
    """List the values in force today, the area's own or inherited from above."""
    page = await areas.list_settings(
        statements, caller, keyring, code=code, filters=filters, on=civil_date(now)
    )
    return paging.answer(request, page)


@router.put("/{code}/settings/{key}", summary="Put a setting in force")
async def put_area_setting(
    session: Session,
    caller: MaySetAreas,
    code: Code,
    key: SettingKey,
    body: AreaSettingWrite,
    now: Now,
) -> AreaSettingRead:
    """Put a value in force from a date on, for the area and all below that set none themselves."""
    return await areas.put_setting(session, caller, code=code, key=key, body=body, now=now)
