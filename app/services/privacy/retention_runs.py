"""The record of retention, for who answers for a district."""

import json
from typing import Any
from uuid import UUID

from app import reach
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.privacy.retention_runs import RetentionRunFilters, RetentionRunRead
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound

_PLAIN = "r.id, r.night_on, r.counts, r.version"
LISTING = Listing(
    columns=f"{_PLAIN}, {instant('r.created_at')}, {instant('r.finished_at')}",
    source="retention_runs r",
    order=(Key("id", "r.id", "uuid"),),
    descending=True,
)
_FIND = (
    f"select {_PLAIN}, r.created_at, r.finished_at from retention_runs r"
    " where r.district_code = :district_code and r.id = :id and {reach}"
)


def _within(caller: Caller) -> tuple[str, dict[str, Any]]:
    condition, params = reach.within(caller, area="r.district_code")
    return condition, params | {"district_code": caller.district_code}


async def list_runs(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: RetentionRunFilters
) -> Slice:
    """Give a page of runs, the newest first; a town sees none of the district's."""
    condition, params = _within(caller)
    where = Where(params)
    where.add(f"r.district_code = :district_code and {condition}")
    where.equal("(r.finished_at is not null)", "finished", filters.finished)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def find(statements: Statements, caller: Caller, *, run_id: UUID) -> RetentionRunRead:
    """Give one run, or refuse with NotFound."""
    condition, params = _within(caller)
    params["id"] = run_id
    row = await statements.fetch_row(_FIND.format(reach=condition), params)
    if row is None:
        raise NotFound
    return RetentionRunRead(**{**row, "counts": json.loads(row["counts"])})
