"""Payouts as they are read: a run's, a member's, one with its entries in the books."""

from uuid import UUID

from app import reach
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.disbursement.payouts import (
    PayoutFilters,
    PayoutRead,
    RunPayoutFilters,
    payout_id_sql,
    run_and_line,
)
from app.models.finance.transfers import EntriesRead
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound
from app.services.disbursement import payout_runs
from app.services.disbursement.payouts import LINES, RULE, STATEMENT
from app.services.finance import transfers

_SHOWN = (
    f"{payout_id_sql('p')} as id, p.run_id,"
    " p.line_no, p.round_sequence, p.member_id, p.association_id, p.rule_id, i.code as rule_code,"
    " p.streak, p.amount_fen, i.gift_item, p.quantity, p.status, p.failure_reason,"
    f" {instant('p.settled_at')}, '{STATEMENT}' as statement"
)
_WITHIN = (
    "(p.association_id in (select a.id from associations a"
    " where a.district_code = :district_code and {})) is true"
)
_BY_MEMBER = (
    Key("member_id", "p.member_id", "uuid"),
    Key("rule_id", "p.rule_id", "uuid"),
    Key("run_id", "p.run_id", "uuid"),
)
LISTING = Listing(
    columns=_SHOWN,
    source=f"payouts p{RULE}",
    order=(Key("round_sequence", "p.round_sequence", "int"), *_BY_MEMBER),
    hides_cursor=True,
    about="member_id",
    numbered="id",
)
OF_RUN = Listing(
    columns=_SHOWN,
    source=f"payouts p{RULE}",
    order=_BY_MEMBER[:2],
    about="member_id",
    numbered="id",
)
_FIND = (
    f"select row_to_json(item)::text, item.member_id from (select {_SHOWN} from {LINES}{RULE}"
    f" where p.district_code = :district_code and {_WITHIN}) item"
)


async def list_payouts(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: PayoutFilters
) -> Slice:
    """Give a page of the payouts within reach, by round and member."""
    where = _within(caller, filters)
    where.equal("p.member_id", "member_id", filters.member_id)
    if filters.member_id is not None:
        where.add(
            "p.round_sequence in (select sequence from exam_rounds"
            " where district_code = :district_code)"
        )
    if filters.run_id is not None:
        await _narrow_to_run(statements, caller, where, filters.run_id)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)


async def list_run_payouts(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    run_id: UUID,
    filters: RunPayoutFilters,
) -> Slice:
    """Give a page of a run's payouts in the order of their lines."""
    run = await payout_runs.find(statements, caller, run_id=run_id)
    where = _within(caller, filters)
    where.equal("p.member_id", "member_id", filters.member_id)
    where.add(
        "p.round_sequence = :sequence and p.run_id = :run_id",
        sequence=run.round_sequence,
        run_id=run_id,
    )
    return await OF_RUN.page(statements.showing(run_id), keyring, filters=filters, where=where)


def _within(caller: Caller, filters: PayoutFilters | RunPayoutFilters) -> Where:
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    where = Where({"district_code": caller.district_code})
    where.add("p.district_code = :district_code")
    where.add(_WITHIN.format(condition), **params)
    where.equal("p.status", "status", filters.status)
    where.equal("p.association_id", "association_id", filters.association_id)
    return where


async def _narrow_to_run(
    statements: Statements, caller: Caller, where: Where, run_id: UUID
) -> None:
    """Name the run's round too, so that its payouts are found along the primary key."""
    sequence = await statements.district_wide().fetch_value(
        "select round_sequence from payout_runs where district_code = :district_code and id = :id",
        {"district_code": caller.district_code, "id": run_id},
    )
    where.add(
        "p.round_sequence = :sequence and p.run_id = :run_id",
        sequence=0 if sequence is None else sequence,
        run_id=run_id,
    )


async def find(statements: Statements, caller: Caller, *, payout_id: UUID) -> PayoutRead:
    """Give one payout within reach, or refuse with NotFound."""
    run_id, line_no = run_and_line(payout_id)
    if not 0 < line_no < 2**31:
        raise NotFound
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    params |= {"district_code": caller.district_code, "run_id": run_id, "lines": [line_no]}
    found = await statements.district_wide().fetch_value(
        _FIND.format(condition), params, about="member_id"
    )
    if found is None:
        raise NotFound
    return PayoutRead.model_validate_json(found)


async def list_entries(statements: Statements, caller: Caller, *, payout_id: UUID) -> EntriesRead:
    """Give the entries of a payout within reach, or refuse with NotFound."""
    await find(statements, caller, payout_id=payout_id)
    return EntriesRead(items=await transfers.of_payout(statements, caller, payout_id=payout_id))
