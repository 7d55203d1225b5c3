"""`/v1/vouchers`: free services, redeemed once by a code that names none."""

from typing import Annotated

from fastapi import Path

from app import concurrency, numbered_ids
from app.clock import Now
from app.concurrency import NeedsIdempotencyKey
from app.crypto import Keys
from app.models.disbursement.vouchers import Redemption, RedemptionRead, VoucherCancel
from app.models.shapes import Id
from app.problems import refusals
from app.rights import MayDisbursePayouts, MayRedeemVouchers
from app.services.disbursement import vouchers
from app.services.disbursement.vouchers import (
    StationClosed,
    TooManyGuesses,
    VoucherClosed,
    VoucherRedeemed,
    VoucherRefused,
)
from app.transactions import OneStatement, Session

router = concurrency.router("/vouchers", "vouchers")


@router.post(
    "/redeem",
    summary="Redeem a voucher",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(StationClosed, VoucherRefused, VoucherRedeemed, TooManyGuesses),
)
async def redeem_voucher(
    session: Session,
    statements: OneStatement,
    keyring: Keys,
    caller: MayRedeemVouchers,
    body: Redemption,
    now: Now,
) -> RedemptionRead:
    """Redeem a code once, at a station within reach; its payout is paid by it."""
    return await vouchers.redeem(session, statements, caller, keyring, body=body, now=now)


@router.post(
    "/{voucher_id}/cancel",
    status_code=204,
    summary="Cancel a voucher",
    dependencies=[NeedsIdempotencyKey],
    responses=refusals(VoucherClosed),
)
async def cancel_voucher(
    session: Session,
    keyring: Keys,
    caller: MayDisbursePayouts,
    voucher_id: Annotated[Id, Path(description="The voucher's id, which is its payout's.")],
    body: VoucherCancel,
    now: Now,
) -> None:
    """End an open voucher; its money goes back to the funds when its run is settled."""
    known = numbered_ids.opened(keyring, voucher_id)
    await vouchers.cancel(session, caller, voucher_id=known, reason=body.reason, now=now)
