"""How far a caller sees, as one SQL condition: the only place that turns reach into SQL."""

from typing import Any

from sqlalchemy import TextClause, text

from app.identifiers import area_lineage, area_range
from app.identity import Caller
from app.problems import Forbidden
from app.roles import Role


def within(
    caller: Caller,
    *,
    area: str,
    association: str | None = None,
    member: str | None = None,
    event: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """Give the condition that keeps to the caller's reach, and its parameters.

    `area`, `association`, `member` and `event` name the columns that hold them. The statement
    binds `district_code` itself. A role bound to what the row does not have sees nothing, but
    event staff see what belongs to no event by their areas.
    """
    if caller.role is Role.EVENT_STAFF and event is not None:
        return f"{event} = any(:reach_events)", {"reach_events": list(caller.event_ids)}
    if caller.role is Role.MEMBER:
        if member is None:
            return "true", {}
        return f"{member} = :reach_member", {"reach_member": caller.member_id}
    if caller.role is Role.SECRETARY:
        if association is None:
            return "false", {}
        return f"{association} = any(:reach_associations)", {
            "reach_associations": list(caller.association_ids)
        }
    return _within_areas(caller, area)


def _within_areas(caller: Caller, column: str) -> tuple[str, dict[str, Any]]:
    conditions: list[str] = []
    params: dict[str, Any] = {}
    for number, code in enumerate(caller.areas):
        low, high = area_range(code)
        conditions.append(f"{column} between :reach_low_{number} and :reach_high_{number}")
        params |= {f"reach_low_{number}": low, f"reach_high_{number}": high}
    return f"({' or '.join(conditions) or 'false'})", params


def concerning(
    caller: Caller, *, area: str, association: str | None = None
) -> tuple[str, dict[str, Any]]:
    """Give the condition for what holds within the caller's reach, though it be set from above.

    What is set for one association stays with those who reach it.
    """
    condition, params = within(caller, area=area, association=association)
    above = sorted({code for each in caller.areas for code in area_lineage(each)})
    general = f"{area} = any(:reach_above)"
    if association is not None:
        general += f" and {association} is null"
    return f"({condition} or {general})", params | {"reach_above": above}


def own(caller: Caller, *, member: str) -> tuple[str, dict[str, Any]]:
    """Give the condition that keeps a member to what is hers, among rows that others may see."""
    if caller.role is not Role.MEMBER:
        return "true", {}
    return f"{member} = :reach_member", {"reach_member": caller.member_id}


def clause(
    caller: Caller,
    *,
    area: str,
    association: str | None = None,
    member: str | None = None,
    event: str | None = None,
) -> TextClause:
    """Give the same condition for a SQLAlchemy statement."""
    sql, params = within(caller, area=area, association=association, member=member, event=event)
    if ":district_code" in sql:
        params["district_code"] = caller.district_code
    return text(sql).bindparams(**params)


def covers(caller: Caller, area_code: str) -> bool:
    """Tell whether an area lies wholly within one of the caller's areas."""
    return any(low <= area_code <= high for low, high in map(area_range, caller.areas))


def require_area(caller: Caller, area_code: str) -> None:
    """Raise Forbidden when an area is not wholly within the caller's."""
    if not covers(caller, area_code):
        raise Forbidden


def highest_below(code: str) -> str:
    """Write the highest code of an area and all below it, as `identifiers.area_range` does."""
    return (
        f"case when right({code}, 6) = '000000' then left({code}, 6) || '999999'"
        f" when right({code}, 3) = '000' then left({code}, 9) || '999' else {code} end"
    )
