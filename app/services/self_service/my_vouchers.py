"""The calling member's vouchers, with the codes that only her own key opens."""

import json
from typing import Any
from uuid import UUID

from app.ciphers import Cipher
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.disbursement.payouts import payout_id_sql, run_and_line
from app.models.disbursement.vouchers import MyVoucher, MyVoucherFilters
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound
from app.services.disbursement import voucher_codes, voucher_issuing
from app.services.disbursement.payouts import STATEMENT
from app.services.disbursement.vouchers import VoucherClosed
from app.services.events import check_in_codes
from app.services.privacy import data_keys

LISTING = Listing(
    columns=(
        f"{payout_id_sql('v')} as id, encode(v.code_sealed, 'hex') as code, v.amount_fen, v.status,"
        f" {instant('v.issued_at')}, v.valid_until_on, {instant('v.redeemed_at')},"
        f" '{STATEMENT}' as statement, v.run_id, v.rule_id, v.line_no"
    ),
    source="vouchers v",
    # A cursor can be read: it says nothing of lines.
    order=(Key("run_id", "v.run_id", "uuid"), Key("rule_id", "v.rule_id", "uuid")),
    descending=True,
    about="",
    numbered="id",
)
_FIND = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from vouchers v"
    " where v.district_code = :district_code and v.member_id = :member_id"
    " and v.run_id = :run_id and v.line_no = :line_no) item"
)
_KEY = (
    "select member_id, wrapped, master_version from data_keys"
    " where district_code = :district_code and member_id = :member_id"
)


async def list_vouchers(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: MyVoucherFilters
) -> Slice:
    """Give a page of the member's vouchers, the newest first."""
    where = Where(_hers(caller))
    where.add("v.district_code = :district_code and v.member_id = :member_id")
    where.equal("v.status", "status", filters.status)
    page = await LISTING.page(statements, keyring, filters=filters, where=where)
    key = await _key(statements, caller, keyring)
    return page._replace(items=[json.dumps(_opened(key, item)) for item in page.items])


async def find(
    statements: Statements, caller: Caller, keyring: Keyring, *, voucher_id: UUID
) -> MyVoucher:
    """Give one voucher of the member's, or refuse with NotFound."""
    run_id, line_no = run_and_line(voucher_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    params = _hers(caller) | {"run_id": run_id, "line_no": line_no}
    found = await statements.fetch_value(_FIND, params, about=())
    if found is None:
        raise NotFound
    key = await _key(statements, caller, keyring)
    return MyVoucher(**_opened(key, found))


def picture(voucher: MyVoucher) -> bytes:
    """Draw the code of an open voucher as a QR picture (SVG); raises VoucherClosed."""
    if voucher.code is None:
        raise VoucherClosed
    return check_in_codes.picture(voucher.code)


def _hers(caller: Caller) -> dict[str, Any]:
    return {"district_code": caller.district_code, "member_id": caller.member_id}


async def _key(statements: Statements, caller: Caller, keyring: Keyring) -> Cipher | None:
    row = await statements.fetch_row(_KEY, _hers(caller))
    return None if row is None else data_keys.opened(keyring, row)


def _opened(key: Cipher | None, item: str) -> dict[str, Any]:
    """Put the code itself where it stands sealed."""
    voucher: dict[str, Any] = json.loads(item)
    run_id, line_no, _ = (voucher.pop(name) for name in ("run_id", "line_no", "rule_id"))
    sealed = voucher["code"]
    voucher["code"] = None
    if sealed is not None and key is not None:
        place = voucher_issuing.place(UUID(run_id), line_no)
        code = key.open(bytes.fromhex(sealed), place=place).decode()
        voucher["code"] = voucher_codes.written(code)
    return voucher
