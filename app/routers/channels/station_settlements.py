"""`/v1/station-settlements`: what a station is owed for the vouchers of a month."""

from typing import Annotated

from fastapi import Header, Path, Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.concurrency import IfMatch, NeedsIdempotencyKey
from app.crypto import Keys
from app.models.channels.station_settlements import (
    SettlementCreate,
    SettlementFilters,
    SettlementItem,
    SettlementPayment,
    SettlementRead,
    SettlementRejection,
)
from app.models.shapes import Id
from app.openapi import file_answer
from app.paging import Page
from app.problems import NotAcceptable, refusals
from app.rights import MayApprovePayouts, MayDisbursePayouts, MayReadPayouts
from app.services.channels import cash_lists, station_settlements, station_sheets
from app.services.channels.station_settlements import (
    SettlementEmpty,
    SettlementMakerIsChecker,
    SettlementState,
)
from app.services.channels.station_sheets import SettlementTooLong
from app.sheets import MEDIA_TYPES, Format
from app.transactions import OneStatement, Session

router = concurrency.router("/station-settlements", "station-settlements")
SettlementId = Annotated[Id, Path(description="The settlement's id.")]


@router.get("", summary="List settlements with stations", response_model=Page[SettlementItem])
async def list_station_settlements(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    filters: Annotated[SettlementFilters, Query()],
) -> Response:
    """List the settlements within reach, the newest first."""
    page = await station_settlements.list_settlements(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Settle a month with a station",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(SettlementEmpty),
)
async def create_station_settlement(
    session: Session,
    caller: MayDisbursePayouts,
    body: SettlementCreate,
    now: Now,
    response: Response,
) -> SettlementRead:
    """Take what the station redeemed in the month and is in no settlement yet."""
    settlement = await station_settlements.make(session, caller, body=body, now=now)
    response.headers["Location"] = f"/v1/station-settlements/{settlement.id}"
    return settlement


@router.get("/{settlement_id}", summary="Get a settlement")
async def get_station_settlement(
    statements: OneStatement, caller: MayReadPayouts, settlement_id: SettlementId
) -> SettlementRead:
    """Give one settlement, with what each fund spent on it."""
    return await station_settlements.find(statements, caller, settlement_id=settlement_id)


@router.post(
    "/{settlement_id}/approve",
    summary="Approve a settlement",
    responses=refusals(SettlementState, SettlementMakerIsChecker),
)
async def approve_station_settlement(
    session: Session,
    caller: MayApprovePayouts,
    settlement_id: SettlementId,
    if_match: IfMatch,
    now: Now,
) -> SettlementRead:
    """Approve a settlement that somebody else made."""
    return await station_settlements.approve(
        session, caller, settlement_id=settlement_id, expected=if_match, now=now
    )


@router.post(
    "/{settlement_id}/reject", summary="Reject a settlement", responses=refusals(SettlementState)
)
async def reject_station_settlement(
    session: Session,
    caller: MayApprovePayouts,
    settlement_id: SettlementId,
    body: SettlementRejection,
    if_match: IfMatch,
    now: Now,
) -> SettlementRead:
    """Send a settlement back for good; its vouchers are free for another."""
    return await station_settlements.reject(
        session,
        caller,
        settlement_id=settlement_id,
        expected=if_match,
        reason=body.reason,
        now=now,
    )


@router.post(
    "/{settlement_id}/pay", summary="Note a settlement as paid", responses=refusals(SettlementState)
)
async def pay_station_settlement(
    session: Session,
    caller: MayDisbursePayouts,
    settlement_id: SettlementId,
    body: SettlementPayment,
    if_match: IfMatch,
    now: Now,
) -> SettlementRead:
    """Note by which document the station was paid."""
    return await station_settlements.pay(
        session, caller, settlement_id=settlement_id, expected=if_match, body=body, now=now
    )


@router.get(
    "/{settlement_id}/sheet",
    summary="Print a settlement's sheet",
    response_class=Response,
    responses={
        **file_answer("A line a voucher, with control totals below.", MEDIA_TYPES.values()),
        **refusals(SettlementTooLong, SettlementState, NotAcceptable),
    },
)
async def get_station_settlement_sheet(
    statements: OneStatement,
    caller: MayReadPayouts,
    settlement_id: SettlementId,
    form: Annotated[
        Format | None, Query(alias="format", description="Else by `Accept`; xlsx by default.")
    ] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Give the sheet to pay by: masked codes, times and values, and nobody's name."""
    chosen = cash_lists.choose_format(form, accept)
    sheet = await station_sheets.print_sheet(
        statements, caller, settlement_id=settlement_id, form=chosen
    )
    disposition = f'attachment; filename="{sheet.name}"'
    headers = {"Content-Disposition": disposition, "Vary": "Accept"}
    return Response(sheet.content, media_type=sheet.media_type, headers=headers)
