"""`/v1/operations`: work that outlasts its request."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.crypto import Keys
from app.models.operations import OperationFilters, OperationRead
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadOperations
from app.services import operations
from app.services.operations import OperationFinished
from app.transactions import OneStatement, Session
from app.wording import language_of

router = concurrency.router("/operations", "operations")
OperationId = Annotated[Id, Path(description="The operation's id.")]


@router.get("", summary="List operations", response_model=Page[OperationRead])
async def list_operations(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOperations,
    filters: Annotated[OperationFilters, Query()],
) -> Response:
    """List what you asked for, or for the district's officers and auditors all, newest first."""
    language = language_of(request.headers.get("accept-language"))
    page = await operations.list_operations(
        statements, caller, keyring, filters=filters, language=language
    )
    return paging.answer(request, page)


@router.get("/{operation_id}", summary="Get an operation")
async def get_operation(
    request: Request,
    statements: OneStatement,
    caller: MayReadOperations,
    operation_id: OperationId,
) -> OperationRead:
    """Tell how far the work is, and its result or problem once it has ended."""
    language = language_of(request.headers.get("accept-language"))
    return await operations.find(statements, caller, operation_id=operation_id, language=language)


@router.post(
    "/{operation_id}/cancel", summary="Cancel an operation", responses=refusals(OperationFinished)
)
async def cancel_operation(
    request: Request,
    session: Session,
    caller: MayReadOperations,
    operation_id: OperationId,
    now: Now,
) -> OperationRead:
    """End the work before it stores anything; it may be over already. Repeating changes nothing."""
    language = language_of(request.headers.get("accept-language"))
    return await operations.cancel(
        session, caller, operation_id=operation_id, now=now, language=language
    )
