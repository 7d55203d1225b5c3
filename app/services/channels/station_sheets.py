"""The sheet of a settlement: a line a voucher, its code masked, with control totals below."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from app import clock, sheets
from app.database import Statements
from app.identity import Caller
from app.models.channels.station_settlements import SettlementRead, SettlementStatus
from app.models.shapes import rfc3339
from app.problems import Problem
from app.services.channels import station_settlements
from app.services.channels.cash_lists import COUNT, HASH, MAX_LINES, SUM, Sheet
from app.services.disbursement import voucher_codes
from app.sheets import MEDIA_TYPES, Format

HEADER = ("序号", "券码", "核销时间", "金额(元)")
_ROWS = (
    "select v.member_id, v.code_tail, v.redeemed_at, v.amount_fen from vouchers v"
    " where v.district_code = :district_code and v.settlement_id = :settlement_id"
    f" order by v.redeemed_at, v.run_id, v.line_no limit {MAX_LINES + 1}"
)


class SettlementTooLong(Problem):
    """The settlement has more vouchers than a sheet has lines."""

    code, status = "settlement_too_long", 422


async def print_sheet(
    statements: Statements, caller: Caller, *, settlement_id: UUID, form: Format
) -> Sheet:
    """Give the sheet of a settlement that was not rejected; no line says whose voucher it was."""
    settlement = await station_settlements.find(statements, caller, settlement_id=settlement_id)
    if settlement.status is SettlementStatus.REJECTED:
        raise station_settlements.SettlementState(settlement_status=settlement.status.value)
    params = {"district_code": caller.district_code, "settlement_id": settlement_id}
    rows = await statements.district_wide().fetch(_ROWS, params, about="member_id")
    if len(rows) > MAX_LINES:
        raise SettlementTooLong(limit=MAX_LINES)
    content = await asyncio.to_thread(sheets.write, form, _table(settlement, rows))
    return Sheet(content, MEDIA_TYPES[form], f"station-settlement-{settlement_id}.{form}")


def _table(settlement: SettlementRead, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    digest, amount, table = hashlib.sha256(), 0, [list(HEADER)]
    for number, row in enumerate(rows, 1):
        code, at = voucher_codes.masked(row["code_tail"]), row["redeemed_at"]
        fact = (settlement.id, number, code, rfc3339(at), row["amount_fen"])
        digest.update("|".join(map(str, fact)).encode() + b"\n")
        amount += row["amount_fen"]
        shown = f"{at.astimezone(clock.CIVIL_ZONE):%Y-%m-%d %H:%M:%S}"
        table.append([str(number), code, shown, _yuan(row["amount_fen"])])
    funds = [[fund.fund_name, "", "", _yuan(fund.amount_fen)] for fund in settlement.by_fund]
    totals = [[COUNT, str(len(rows))], [SUM, _yuan(amount)], [HASH, digest.hexdigest()]]
    return [*table, *funds, *totals]


def _yuan(fen: int) -> str:
    return str(Decimal(fen).scaleb(-2))
