"""`/v1/payout-runs`: one calculation, approved and paid as a whole."""

from typing import Annotated

from fastapi import File, Header, Path, Query, Request, Response, UploadFile

from app import concurrency, numbered_ids, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.accounting.reconciliation import MismatchFilters, MismatchRead, ReconciliationRead
from app.models.disbursement.bases import BasisQuery, BasisRead
from app.models.disbursement.payout_runs import (
    Rejection,
    RunCreate,
    RunFilters,
    RunRead,
    RunSummary,
)
from app.models.disbursement.payouts import PayoutRead, ResultsRead, ResultsWrite, RunPayoutFilters
from app.models.shapes import Id
from app.openapi import file_answer
from app.paging import Page
from app.payment_gateway import HasGateway, NoGateway
from app.problems import NotAcceptable, refusals
from app.rights import (
    MayApprovePayouts,
    MayDisbursePayouts,
    MayPreparePayouts,
    MayPrintPayouts,
    MayReadPayouts,
    MaySubmitPayouts,
)
from app.services.accounting import reconciliation
from app.services.channels import cash_lists, signed_cash_lists
from app.services.channels.cash_lists import CashListTooLong
from app.services.channels.signed_cash_lists import CashListUnreadable, ControlTotalsMismatch
from app.services.disbursement import (
    bases,
    payout_lists,
    payout_runs,
    payouts,
    run_closing,
    run_drafts,
    run_summaries,
)
from app.services.disbursement.calculations import PolicyNotInForce
from app.services.disbursement.payout_runs import (
    CalculationOutdated,
    MakerIsChecker,
    OtherChannel,
    PayoutsPending,
    RoundStillOpen,
    RunEmpty,
    RunStateForbids,
)
from app.services.disbursement.run_closing import CasesOpen
from app.services.lucky_draws.draw_tickets import DrawNotOpen
from app.sheets import MEDIA_TYPES, FileTooLarge, FileUnreadable, Format
from app.transactions import OneStatement, Session
from app.wording import Spoken

router = concurrency.router("/payout-runs", "payout-runs")
RunId = Annotated[Id, Path(description="The run's id.")]


@router.get("", summary="List payout runs", response_model=Page[RunRead])
async def list_payout_runs(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    filters: Annotated[RunFilters, Query()],
) -> Response:
    """List the runs within reach, the newest first."""
    page = await payout_runs.list_runs(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Draft a payout run",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(NoGateway),
)
async def create_payout_run(
    session: Session,
    caller: MayPreparePayouts,
    body: RunCreate,
    now: Now,
    response: Response,
    has_gateway: HasGateway,
) -> RunRead:
    """Draft a run of a policy over a round, or of what failed in another run."""
    run = await run_drafts.create(session, caller, body=body, now=now, has_gateway=has_gateway)
    response.headers["Location"] = f"/v1/payout-runs/{run.id}"
    return run


@router.get("/{run_id}", summary="Get a payout run")
async def get_payout_run(
    statements: OneStatement, caller: MayReadPayouts, run_id: RunId
) -> RunRead:
    """Give one run with its totals."""
    return await payout_runs.find(statements, caller, run_id=run_id)


@router.post(
    "/{run_id}/calculate",
    summary="Calculate a run",
    responses=refusals(RunStateForbids, PolicyNotInForce),
)
async def calculate_payout_run(
    session: Session, caller: MayPreparePayouts, run_id: RunId, if_match: IfMatch, now: Now
) -> RunRead:
    """Work out what the policy grants now, in place of what an earlier calculation granted."""
    return await payout_runs.calculate(session, caller, run_id=run_id, expected=if_match, now=now)


@router.post(
    "/{run_id}/submit",
    summary="Submit a run",
    responses=refusals(RunStateForbids, RoundStillOpen, CalculationOutdated, RunEmpty),
)
async def submit_payout_run(
    session: Session, caller: MaySubmitPayouts, run_id: RunId, if_match: IfMatch, now: Now
) -> RunRead:
    """Ask for approval of what was calculated since the round closed."""
    return await payout_runs.submit(session, caller, run_id=run_id, expected=if_match, now=now)


@router.post(
    "/{run_id}/approve",
    summary="Approve a run",
    responses=refusals(RunStateForbids, MakerIsChecker, CalculationOutdated),
)
async def approve_payout_run(
    session: Session, caller: MayApprovePayouts, run_id: RunId, if_match: IfMatch, now: Now
) -> RunRead:
    """Approve a run that somebody else made and submitted."""
    return await payout_runs.approve(session, caller, run_id=run_id, expected=if_match, now=now)


@router.post("/{run_id}/reject", summary="Reject a run", responses=refusals(RunStateForbids))
async def reject_payout_run(
    session: Session,
    caller: MayApprovePayouts,
    run_id: RunId,
    body: Rejection,
    if_match: IfMatch,
    now: Now,
) -> RunRead:
    """Reject a submitted run for good; its grants become free for another."""
    return await payout_runs.reject(
        session, caller, run_id=run_id, expected=if_match, reason=body.reason, now=now
    )


@router.post("/{run_id}/cancel", summary="Cancel a run", responses=refusals(RunStateForbids))
async def cancel_payout_run(
    session: Session, caller: MayPreparePayouts, run_id: RunId, if_match: IfMatch, now: Now
) -> RunRead:
    """Give a run up before it is approved; its grants become free for another."""
    return await payout_runs.cancel(session, caller, run_id=run_id, expected=if_match, now=now)


@router.post(
    "/{run_id}/disburse",
    summary="Begin to hand out a run",
    responses=refusals(RunStateForbids, DrawNotOpen),
)
async def disburse_payout_run(
    session: Session,
    keyring: Keys,
    caller: MayDisbursePayouts,
    run_id: RunId,
    if_match: IfMatch,
    now: Now,
) -> RunRead:
    """Begin to hand out an approved run and issue its vouchers; from now on results are taken."""
    return await payout_runs.disburse(
        session, caller, keyring, run_id=run_id, expected=if_match, now=now
    )


@router.post(
    "/{run_id}/settle",
    summary="Settle a run",
    responses=refusals(RunStateForbids, PayoutsPending),
)
async def settle_payout_run(
    session: Session, caller: MayDisbursePayouts, run_id: RunId, if_match: IfMatch, now: Now
) -> RunRead:
    """Close a run of which every payout is paid or failed; another run may grant what failed."""
    return await payout_runs.settle(session, caller, run_id=run_id, expected=if_match, now=now)


@router.post(
    "/{run_id}/close",
    summary="Close a run",
    responses=refusals(RunStateForbids, MakerIsChecker, CasesOpen),
)
async def close_payout_run(
    session: Session, caller: MayApprovePayouts, run_id: RunId, if_match: IfMatch, now: Now
) -> RunRead:
    """Close a settled run that somebody else made, for good, once nothing of it is open."""
    return await run_closing.close(session, caller, run_id=run_id, expected=if_match, now=now)


@router.get("/{run_id}/summary", summary="Summarise a run")
async def get_payout_run_summary(
    statements: OneStatement, caller: MayReadPayouts, run_id: RunId
) -> RunSummary:
    """Give totals as a whole, per rule, per town and per association, without names."""
    return await run_summaries.summarise(statements, caller, run_id=run_id)


@router.get("/{run_id}/basis", summary="Get a run's basis as of an instant")
async def get_payout_run_basis(
    statements: OneStatement,
    caller: MayReadPayouts,
    run_id: RunId,
    query: Annotated[BasisQuery, Query()],
    now: Now,
) -> BasisRead:
    """Give rounds, rules, attendances, excuses and what they grant, as known at an instant."""
    return await bases.find(statements, caller, run_id=run_id, query=query, now=now)


@router.get(
    "/{run_id}/reconciliation", summary="Reconcile a run", responses=refusals(RunStateForbids)
)
async def get_payout_run_reconciliation(
    statements: OneStatement, caller: MayReadPayouts, run_id: RunId
) -> ReconciliationRead:
    """Count the payouts by how attendance, entitlement, books and proof stand to each other."""
    return await reconciliation.summarise(statements, caller, run_id=run_id)


@router.get(
    "/{run_id}/reconciliation/mismatches",
    summary="List the mismatches of a run",
    response_model=Page[MismatchRead],
    responses=refusals(RunStateForbids),
)
async def list_payout_run_mismatches(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    run_id: RunId,
    filters: Annotated[MismatchFilters, Query()],
) -> Response:
    """List each payout of which the sides tell different things, with the first reason why."""
    page = await reconciliation.list_mismatches(
        statements, caller, keyring, run_id=run_id, filters=filters
    )
    return paging.answer(request, page)


@router.get(
    "/{run_id}/payouts", summary="List the payouts of a run", response_model=Page[PayoutRead]
)
async def list_payout_run_payouts(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    run_id: RunId,
    filters: Annotated[RunPayoutFilters, Query()],
) -> Response:
    """List the payouts of a run in the order of their lines."""
    page = await payout_lists.list_run_payouts(
        statements, caller, keyring, run_id=run_id, filters=filters
    )
    return paging.answer(request, page)


@router.get(
    "/{run_id}/cash-list",
    summary="Print a run's cash list",
    response_class=Response,
    responses={
        **file_answer("The list to sign, with control totals below it.", MEDIA_TYPES.values()),
        **refusals(CashListTooLong, RunStateForbids, OtherChannel, NotAcceptable),
    },
)
async def get_payout_run_cash_list(
    statements: OneStatement,
    caller: MayPrintPayouts,
    run_id: RunId,
    association_id: Annotated[Id | None, Query(description="Only this association's.")] = None,
    form: Annotated[
        Format | None, Query(alias="format", description="Else by `Accept`; xlsx by default.")
    ] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Give the list to sign as .xlsx or CSV; it comes back with its last two columns filled in."""
    sheet = await cash_lists.print_list(
        statements,
        caller,
        run_id=run_id,
        association_id=association_id,
        form=cash_lists.choose_format(form, accept),
    )
    disposition = f'attachment; filename="{sheet.name}"'
    return Response(
        sheet.content,
        media_type=sheet.media_type,
        headers={"Content-Disposition": disposition, "Vary": "Accept"},
    )


@router.post(
    "/{run_id}/results",
    summary="Enter results",
    responses=refusals(DrawNotOpen, RunStateForbids, OtherChannel),
)
async def enter_payout_run_results(
    session: Session,
    keyring: Keys,
    caller: MayDisbursePayouts,
    run_id: RunId,
    body: ResultsWrite,
    now: Now,
    language: Spoken,
) -> ResultsRead:
    """Note which lines were paid and which failed; a repeated result changes nothing."""
    answers = await payouts.enter_results(
        session, caller, run_id=run_id, results=body.results, now=now, language=language
    )
    return numbered_ids.shown_in(keyring, answers)


@router.post(
    "/{run_id}/results/import",
    summary="Import a signed cash list",
    responses=refusals(
        RunStateForbids,
        OtherChannel,
        FileUnreadable,
        FileTooLarge,
        CashListUnreadable,
        CashListTooLong,
        ControlTotalsMismatch,
    ),
)
async def import_payout_run_results(
    session: Session,
    keyring: Keys,
    caller: MayDisbursePayouts,
    run_id: RunId,
    file: Annotated[UploadFile, File(description="The cash list with 结果 and 原因 filled in.")],
    now: Now,
    language: Spoken,
) -> ResultsRead:
    """Take the list back: its control totals must be those of the lines it was printed from."""
    content = await file.read()
    answers = await signed_cash_lists.take_back(
        session,
        caller,
        run_id=run_id,
        content=content,
        name=file.filename,
        now=now,
        language=language,
    )
    return numbered_ids.shown_in(keyring, answers)
