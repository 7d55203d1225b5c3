"""Transfers: the ledger's entries, written beside the balances that they move, and listed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.disbursement.payouts import payee_sql, payout_id_sql, run_and_line
from app.models.finance.funds import MoneyIn
from app.models.finance.transfers import SIDES, EntryFilters, EntryRead, Transfer, TransferKind
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import Problem
from app.services.finance import closed_months

LEGS = (
    "transfers t cross join lateral (values (t.fund_id, t.debit, t.amount_fen),"
    " (t.credit_fund_id, t.credit, -t.amount_fen)) leg(fund_id, account, fen)"
)
"""The two sides of each transfer: fen that came to (or, below zero, left) a fund's account."""
_SUMS = {
    "received_fen": "-sum(leg.fen) filter (where leg.account = 'outside')",
    "allocated_in_fen": "sum(leg.fen) filter (where t.kind = 'allocate' and leg.fen > 0)",
    "allocated_out_fen": "-sum(leg.fen) filter (where t.kind = 'allocate' and leg.fen < 0)",
    "available_fen": "sum(leg.fen) filter (where leg.account = 'available')",
    "reserved_fen": "sum(leg.fen) filter (where leg.account = 'reserved')",
    "spent_fen": "sum(leg.fen) filter (where leg.account = 'spent')",
}
BALANCES = ", ".join(
    f"cast(coalesce({total}, 0) as bigint) as {name}" for name, total in _SUMS.items()
)
"""What legs add up to, named as a fund's columns."""
OF_FUND = (
    "t.district_code = :district_code and (t.fund_id = :fund_id"
    " or t.document_no is not null and t.credit_fund_id = :fund_id)"
)
"""The transfers `t` that one fund has a side of; only by documents are the funds different."""
LISTING = Listing(
    columns=(
        "t.posting_id, t.number, t.kind, t.fund_id, t.debit, t.credit_fund_id, t.credit,"
        " t.amount_fen, t.run_id,"
        f" case when t.line_no is not null then {payout_id_sql('t')} end as payout_id,"
        f" {payee_sql('t')} as member_id,"
        f" t.document_no, t.note, t.occurred_on, {instant('t.recorded_at')}, t.recorded_by"
    ),
    source="transfers t",
    order=(Key("posting_id", "t.posting_id", "uuid"), Key("number", "t.number", "int")),
    about="member_id",
    numbered="payout_id",
)
_OF_PAYOUT = (
    f"select row_to_json(item)::text from (select {LISTING.columns} from transfers t"
    " where t.district_code = :district_code and t.run_id = :run_id"
    " and (t.line_no = :line_no or t.kind = 'reserve') order by t.posting_id, t.number) item"
)


class DocumentEntered(Problem):
    """The document is in the fund's books; entered twice it would count twice."""

    code, status = "document_entered", 409
    constraint = "uq_transfers_document"


async def enter(
    session: AsyncSession,
    caller: Caller,
    *,
    kind: TransferKind,
    fund_id: UUID,
    credit_fund_id: UUID,
    body: MoneyIn,
    now: datetime,
) -> None:
    """Enter what a document moves; raises DocumentEntered or closed_months.MonthClosed."""
    async with district_wide(session):
        await closed_months.require_open(
            session, body, district_code=caller.district_code, fund_ids=[fund_id, credit_fund_id]
        )
    session.add(
        Transfer(
            district_code=caller.district_code,
            posting_id=clock.new_id(),
            number=1,
            kind=kind,
            fund_id=fund_id,
            credit_fund_id=credit_fund_id,
            debit=SIDES[kind].debit,
            credit=SIDES[kind].credit,
            amount_fen=body.amount_fen,
            run_id=None,
            line_no=None,
            document_no=body.document_no,
            note=body.note,
            occurred_on=body.occurred_on,
            recorded_at=now,
            recorded_by=caller.subject,
        )
    )
    # Offices read the books; only a rule of the district writes them.
    async with district_wide(session):
        await session.flush()


async def list_entries(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    fund_id: UUID,
    filters: EntryFilters,
) -> Slice:
    """Give a page of the entries of a fund that the caller was shown, the oldest first."""
    where = Where({"district_code": caller.district_code, "fund_id": fund_id})
    where.add(f"({OF_FUND})")
    where.equal("t.run_id", "run_id", filters.run_id)
    # Whose payout it is, she may be told who was shown its fund.
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def of_payout(statements: Statements, caller: Caller, *, payout_id: UUID) -> list[EntryRead]:
    """Give the entries of a payout that the caller was shown: what was reserved, paid, returned."""
    run_id, line_no = run_and_line(payout_id)
    params = {"district_code": caller.district_code, "run_id": run_id, "line_no": line_no}
    rows = await statements.district_wide().fetch(_OF_PAYOUT, params)
    return [EntryRead.model_validate_json(row[0]) for row in rows]
