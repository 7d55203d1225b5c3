"""`/v1/retention-runs`: what was deleted or cleared because its time was over."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.crypto import Keys
from app.models.privacy.retention_runs import RetentionRunFilters, RetentionRunRead
from app.models.shapes import Id
from app.paging import Page
from app.rights import MayReadRetention
from app.services.privacy import retention_runs
from app.transactions import OneStatement

router = concurrency.router("/retention-runs", "retention-runs")


@router.get("", summary="List retention runs", response_model=Page[RetentionRunRead])
async def list_retention_runs(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadRetention,
    filters: Annotated[RetentionRunFilters, Query()],
) -> Response:
    """List the district's runs with their counts by table, the newest first."""
    page = await retention_runs.list_runs(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get("/{run_id}", summary="Get a retention run")
async def get_retention_run(
    statements: OneStatement,
    caller: MayReadRetention,
    run_id: Annotated[Id, Path(description="The run's id.")],
) -> RetentionRunRead:
    """Give one run with its counts by table."""
    return await retention_runs.find(statements, caller, run_id=run_id)
