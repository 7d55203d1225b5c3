"""`/v1/month-closes`: the books of a month, summed, signed and closed for good."""

from typing import Annotated

from fastapi import Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.accounting.month_closes import MonthCreate, MonthDetail, MonthFilters, MonthRead
from app.models.shapes import Id
from app.openapi import file_answer
from app.paging import Page
from app.problems import refusals
from app.rights import MayCloseMonths, MayReadFunds, MayWriteFunds
from app.services.accounting import month_closes
from app.services.accounting.month_closes import (
    BooksDisagree,
    MonthIsClosed,
    MonthMakerIsChecker,
    MonthNotOver,
    MonthOpen,
    MonthOutdated,
    MonthOutOfOrder,
    MonthTaken,
)
from app.services.accounting.month_totals import MonthNegative
from app.transactions import OneStatement, Session

router = concurrency.router("/month-closes", "month-closes")
CloseId = Annotated[Id, Path(description="The close's id.")]


@router.get("", summary="List month closes", response_model=Page[MonthRead])
async def list_month_closes(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadFunds,
    filters: Annotated[MonthFilters, Query()],
) -> Response:
    """List the closes within reach, the newest first."""
    page = await month_closes.list_closes(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Sum a month",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(MonthTaken, MonthNotOver, MonthOutOfOrder, MonthNegative),
)
async def create_month_close(
    session: Session, caller: MayWriteFunds, body: MonthCreate, now: Now, response: Response
) -> MonthDetail:
    """Sum a month that is over, for the funds of an area; nothing is closed yet."""
    month = await month_closes.create(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/month-closes/{month.id}"
    return month


@router.get("/{close_id}", summary="Get a month close")
async def get_month_close(
    statements: OneStatement, caller: MayReadFunds, close_id: CloseId
) -> MonthDetail:
    """Give one close with the totals of funds and payouts, budgets and what to look at."""
    return await month_closes.find(statements, caller, close_id=close_id)


@router.post(
    "/{close_id}/calculate",
    summary="Sum a month anew",
    responses=refusals(MonthIsClosed, MonthOutOfOrder, MonthNegative),
)
async def calculate_month_close(
    session: Session, caller: MayWriteFunds, close_id: CloseId, if_match: IfMatch, now: Now
) -> MonthDetail:
    """Sum a month that is not closed yet from what the books know now."""
    return await month_closes.calculate(
        session, caller, close_id=close_id, expected=if_match, now=now
    )


@router.post(
    "/{close_id}/close",
    summary="Close a month",
    responses=refusals(
        MonthIsClosed, MonthMakerIsChecker, BooksDisagree, MonthOutdated, MonthOutOfOrder
    ),
)
async def close_month(
    session: Session,
    caller: MayCloseMonths,
    keyring: Keys,
    close_id: CloseId,
    if_match: IfMatch,
    now: Now,
) -> MonthDetail:
    """Sign a month that somebody else summed; its funds take no more documents of it."""
    return await month_closes.close(
        session, caller, keyring, close_id=close_id, expected=if_match, now=now
    )


@router.get(
    "/{close_id}/file",
    summary="Get the signed file of a month",
    response_class=Response,
    responses={
        **file_answer(
            "A zip of `month.json` and its Ed25519 signature, `month.json.sig`.",
            ["application/zip"],
        ),
        **refusals(MonthOpen),
    },
)
async def get_month_file(
    statements: OneStatement, caller: MayReadFunds, close_id: CloseId
) -> Response:
    """Give the file to hand to the auditor, the same bytes each time."""
    content = await month_closes.file(statements, caller, close_id=close_id)
    headers = {"Content-Disposition": f'attachment; filename="month-{close_id}.zip"'}
    return Response(content, media_type="application/zip", headers=headers)
