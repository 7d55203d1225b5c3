"""`/v1/members/import` and the answers to the rows of an imported roster."""

from typing import Annotated

from fastapi import BackgroundTasks, File, Form, Path, Query, Request, Response, UploadFile

from app import concurrency, paging, sheets
from app.clock import Now
from app.concurrency import NeedsIdempotencyKey
from app.crypto import Keys
from app.models.membership.rosters import ImportRowRead, OnError, RowFilters
from app.models.operations import OperationRead
from app.models.shapes import Id
from app.openapi import file_answer
from app.paging import Page, YesNoParam
from app.problems import refusals
from app.rights import MayFetchRows, MayReadOperations, MayWriteMembers
from app.services.membership import roster_answers, rosters
from app.services.membership.open_associations import AssociationTakesNoMembers
from app.services.membership.roster_answers import NoRejectedRows
from app.transactions import OneStatement, Session
from app.wording import language_of

router = concurrency.router("", "members")
OperationId = Annotated[Id, Path(description="The operation's id.")]


@router.post(
    "/members/import",
    status_code=202,
    summary="Import members from a roster",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(AssociationTakesNoMembers),
)
async def import_members(
    request: Request,
    response: Response,
    background: BackgroundTasks,
    session: Session,
    keyring: Keys,
    caller: MayWriteMembers,
    now: Now,
    file: Annotated[UploadFile, File(description=".xlsx or .csv with Chinese headers.")],
    association_id: Annotated[
        Id | None, Form(description="Whom all join; else the file's column 协会 says it.")
    ] = None,
    dry_run: Annotated[YesNoParam, Form(description="Only answer, store nothing.")] = True,
    on_error: Annotated[
        OnError, Form(description="`abort` stores nothing when any row is rejected.")
    ] = OnError.SKIP,
) -> OperationRead:
    """Take a personnel file in; the operation answers each row as created, updated and so on."""
    operation = await rosters.start(
        session,
        caller,
        keyring,
        content=await file.read(),
        name=file.filename,
        association_id=association_id,
        dry_run=dry_run,
        on_error=on_error,
        now=now,
        language=language_of(request.headers.get("accept-language")),
    )
    response.headers["Location"] = f"/v1/operations/{operation.id}"
    background.add_task(request.app.state.wake_worker)
    return operation


@router.get(
    "/operations/{operation_id}/rows",
    summary="List the answers to an imported file's rows",
    response_model=Page[ImportRowRead],
)
async def list_import_rows(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOperations,
    operation_id: OperationId,
    filters: Annotated[RowFilters, Query()],
) -> Response:
    """List what became of each row, in the file's order, with what to correct."""
    page = await roster_answers.list_rows(
        statements,
        caller,
        keyring,
        operation_id=operation_id,
        filters=filters,
        language=language_of(request.headers.get("accept-language")),
    )
    return paging.answer(request, page)


@router.get(
    "/operations/{operation_id}/rejected-rows",
    summary="Download the rejected rows",
    response_class=Response,
    responses={
        **file_answer(
            "A file in the format of the upload.", sheets.MEDIA_TYPES.values(), example="…"
        ),
        **refusals(NoRejectedRows),
    },
)
async def get_rejected_rows(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayFetchRows,
    operation_id: OperationId,
) -> Response:
    """Give the rejected rows with their reasons as a file to correct and import again."""
    file = await roster_answers.rejected_rows(
        statements,
        caller,
        keyring,
        operation_id=operation_id,
        language=language_of(request.headers.get("accept-language")),
    )
    disposition = f'attachment; filename="rejected-rows.{file.format}"'
    return Response(
        file.content,
        media_type=sheets.MEDIA_TYPES[file.format],
        headers={"Content-Disposition": disposition},
    )
