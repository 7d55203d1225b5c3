"""Closed months take no document: asked in the one place where documents are entered."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.finance.funds import MoneyIn
from app.problems import Problem
from app.reach import highest_below

COVERS = f"f.area_code between c.area_code and {highest_below('c.area_code')}"
"""That a close `c` is of a fund `f`."""
_CLOSED = text(
    "select to_char(max(c.month), 'YYYY-MM') from month_closes c join funds f"
    f" on f.district_code = :district_code and f.id = any(:funds) and {COVERS}"
    " where c.district_code = :district_code and c.status = 'closed'"
    " and cast(:on as date) < c.month + interval '1 month'"
)


class MonthClosed(Problem):
    """The month of the document's day is closed in the books of its fund."""

    code, status = "month_closed", 409


async def require_open(
    session: AsyncSession, document: MoneyIn, *, district_code: str, fund_ids: list[UUID]
) -> None:
    """Raise MonthClosed unless a document may still be entered, by its day, for all of some funds.

    The funds are held, and closing a month holds them all: none closes between this and commit.
    """
    params = {"district_code": district_code, "funds": fund_ids, "on": document.occurred_on}
    month = await session.scalar(_CLOSED, params)
    if month is not None:
        raise MonthClosed(month=month, extra={"closed_through": month})
