"""`/v1/me/vouchers`: a member's vouchers, with the codes that she shows at a station."""

from typing import Annotated, Literal

from fastapi import Path, Query, Request, Response

from app import concurrency, numbered_ids, paging
from app.crypto import Keys
from app.models.disbursement.vouchers import MyVoucher, MyVoucherFilters
from app.models.shapes import Id
from app.paging import Page
from app.problems import refusals
from app.rights import MayReadOwn
from app.services.disbursement.vouchers import VoucherClosed
from app.services.self_service import my_vouchers
from app.transactions import OneStatement

router = concurrency.router("/me/vouchers", "me")


@router.get("", summary="List my vouchers", response_model=Page[MyVoucher])
async def list_my_vouchers(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    filters: Annotated[MyVoucherFilters, Query()],
) -> Response:
    """List the member's vouchers with their codes, the newest first."""
    page = await my_vouchers.list_vouchers(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.get(
    "/{voucher_id}",
    summary="Get a voucher of mine",
    response_model=MyVoucher,
    responses={
        200: {"content": {"image/svg+xml": {"example": "<svg/>"}}},
        **refusals(VoucherClosed),
    },
)
async def get_my_voucher(
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadOwn,
    voucher_id: Annotated[Id, Path(description="The voucher's id, which is its payout's.")],
    format: Annotated[  # noqa: A002  (the parameter's public name)
        Literal["json", "svg"], Query(description="The voucher, or its code as a QR picture.")
    ] = "json",
) -> MyVoucher | Response:
    """Give one voucher, or draw its code for a station to scan while it is worth something."""
    known = numbered_ids.opened(keyring, voucher_id)
    voucher = await my_vouchers.find(statements, caller, keyring, voucher_id=known)
    if format == "svg":
        return Response(my_vouchers.picture(voucher), media_type="image/svg+xml")
    return numbered_ids.shown_in(keyring, voucher)
