"""Associations that take members."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.identity import Caller
from app.models.organisation.associations import AssociationStatus
from app.problems import Invalid, Problem

_OPEN = (
    "select a.area_code, a.status from associations a where a.district_code = :district_code"
    " and a.id = :id and {reach} for share"
)


class AssociationTakesNoMembers(Problem):
    """The association is dissolved and takes no members."""

    code, status = "association_takes_no_members", 409


async def area_of(session: AsyncSession, caller: Caller, association_id: UUID) -> str:
    """Give the area of an association that takes members, held until the transaction ends.

    Raises Invalid, or AssociationTakesNoMembers.
    """
    condition, params = reach.within(caller, area="a.area_code", association="a.id")
    params |= {"district_code": caller.district_code, "id": association_id}
    statement = text(_OPEN.format(reach=condition))
    row = (await session.execute(statement, params)).one_or_none()
    if row is None:
        raise Invalid.at("/association_id", "unknown_reference")
    if row.status == AssociationStatus.DISSOLVED:
        raise AssociationTakesNoMembers
    return str(row.area_code)
