"""`/v1/payout-runs/{run_id}/bank-files`: payouts given to a bank, and what it says of them."""

import asyncio
from typing import Annotated

from fastapi import File, Path, Query, Request, Response, UploadFile

from app import concurrency, numbered_ids, paging
from app.answers import GivesBody
from app.clock import Now
from app.concurrency import NeedsIdempotencyKey
from app.crypto import Keys
from app.models.channels.bank_files import (
    BankFileCreate,
    BankFileFilters,
    BankFileMade,
    BankFileRead,
    BankResultsRead,
)
from app.models.shapes import Id
from app.openapi import file_answer
from app.paging import Page
from app.problems import refusals
from app.rights import MayDisbursePayouts, MayReadPayouts, MayUseAccounts
from app.services.channels import bank_files, bank_results
from app.services.channels.answered_lines import BankAnswerForeign
from app.services.channels.bank_answers import BankAnswerMismatch, BankAnswerUnreadable
from app.services.channels.bank_files import BankFileDiscarded, BankFileForgotten, NothingToSend
from app.services.channels.bank_orders import MEDIA_TYPES
from app.services.disbursement.payout_runs import OtherChannel, RunStateForbids
from app.sheets import FileTooLarge, FileUnreadable
from app.transactions import OneStatement, Session
from app.wording import Spoken

router = concurrency.router("/payout-runs/{run_id}", "bank-files")
RunId = Annotated[Id, Path(description="The run's id.")]
FileId = Annotated[Id, Path(description="The bank file's id.")]


@router.get("/bank-files", summary="List a run's bank files", response_model=Page[BankFileRead])
async def list_bank_files(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    run_id: RunId,
    filters: Annotated[BankFileFilters, Query()],
) -> Response:
    """List the files that were made for a bank, with their control totals."""
    page = await bank_files.list_files(statements, caller, keyring, run_id=run_id, filters=filters)
    return paging.answer(request, page)


@router.post(
    "/bank-files",
    status_code=201,
    summary="Make a bank file",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(RunStateForbids, OtherChannel, NothingToSend),
)
async def create_bank_file(
    session: Session,
    keyring: Keys,
    caller: MayUseAccounts,
    run_id: RunId,
    body: BankFileCreate,
    now: Now,
    response: Response,
) -> BankFileMade:
    """Put the next payouts of a run into a file; those of members without an account fail."""
    made = await bank_files.create(session, caller, keyring, run_id=run_id, body=body, now=now)
    if made.file is not None:
        response.headers["Location"] = f"/v1/payout-runs/{run_id}/bank-files/{made.file.id}"
    return made


@router.get("/bank-files/{file_id}", summary="Get a bank file")
async def get_bank_file(
    statements: OneStatement, caller: MayReadPayouts, run_id: RunId, file_id: FileId
) -> BankFileRead:
    """Give one file with its control totals, without what it holds."""
    return await bank_files.find(statements, caller, run_id=run_id, file_id=file_id)


@router.get(
    "/bank-files/{file_id}/content",
    summary="Get a bank file to send",
    response_class=Response,
    responses={
        **file_answer("The file, byte for byte the same each time.", MEDIA_TYPES.values()),
        **refusals(BankFileForgotten, BankFileDiscarded),
    },
)
async def get_bank_file_content(
    statements: OneStatement,
    keyring: Keys,
    caller: MayUseAccounts,
    run_id: RunId,
    file_id: FileId,
    is_given: GivesBody,
    now: Now,
) -> Response:
    """Give the file with all account numbers, until the bank has answered it."""
    file = await bank_files.content(
        statements, caller, keyring, run_id=run_id, file_id=file_id, is_given=is_given, now=now
    )
    disposition = f'attachment; filename="{file.name}"'
    return Response(
        file.content, media_type=file.media_type, headers={"Content-Disposition": disposition}
    )


@router.post(
    "/bank-results",
    summary="Take in a bank's file",
    responses=refusals(
        RunStateForbids,
        OtherChannel,
        FileUnreadable,
        FileTooLarge,
        BankAnswerUnreadable,
        BankAnswerForeign,
        BankAnswerMismatch,
    ),
)
async def take_bank_results(
    session: Session,
    keyring: Keys,
    caller: MayDisbursePayouts,
    run_id: RunId,
    file: Annotated[
        UploadFile,
        File(description="pain.002.001.10, camt.053 or camt.054.001.08, or the table filled in."),
    ],
    now: Now,
    language: Spoken,
) -> BankResultsRead:
    """Enter what a bank says of payouts; the same file again changes nothing."""
    content = await file.read()
    answers = await bank_results.take(
        session,
        caller,
        keyring,
        run_id=run_id,
        content=content,
        name=file.filename,
        now=now,
        language=language,
    )
    # Of a whole file they take a part of a second.
    return await asyncio.to_thread(numbered_ids.shown_in, keyring, answers)
