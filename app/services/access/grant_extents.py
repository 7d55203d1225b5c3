"""How far a grant reaches: by the one kind of reach that its role has, within its giver's own."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.identifiers import area_prefix
from app.identity import Caller
from app.models.access.grants import GrantProvide
from app.models.organisation.associations import Mode
from app.models.organisation.host_organisations import HostKind
from app.problems import Invalid, Problem
from app.roles import Role

_KINDS = ("areas", "association_ids", "event_ids", "member_id")
_KIND_OF_ROLE = {
    Role.MEMBER: "member_id",
    Role.EVENT_STAFF: "event_ids",
    Role.SECRETARY: "association_ids",
    Role.OPERATIONS: None,
}
"""The one kind of reach that a role has; the others have areas."""
# An employee village is where an enterprise houses those who work for it.
_IS_EMPLOYERS = (
    f"d.mode in ('{Mode.INDEPENDENT}', '{Mode.AFFILIATED}') or exists (select"
    " from host_organisations h where h.district_code = d.district_code and h.id = d.host_id"
    f" and h.kind = '{HostKind.EMPLOYEE_VILLAGE}')"
)
_ANY = "d.district_code = :district_code and d.id = any(:ids)"


class RoleNotBelow(Problem):
    """Only roles below one's own are given and taken."""

    code, status = "grant_role_not_below", 403


class Extent(NamedTuple):
    """What a new grant reaches, as far as it is known here."""

    areas: Sequence[str]
    is_employers: bool = False

    @property
    def area_code(self) -> str:
        """The smallest area that holds all of a district's areas."""
        for digits in (12, 9, 6):
            shared = {code[:digits].ljust(12, "0") for code in self.areas}
            if len(shared) == 1 and all(len(area_prefix(code)) >= digits for code in self.areas):
                return shared.pop()
        raise ValueError("areas of several districts")


def kind_of_reach(role: Role) -> str | None:
    """Name the one kind of reach that a role has."""
    return _KIND_OF_ROLE.get(role, "areas")


def verify_kind(body: GrantProvide) -> None:
    """Refuse a kind of reach that the role does not have, and the lack of the one that it has."""
    wanted = kind_of_reach(body.role)
    for kind in _KINDS:
        is_given = bool(getattr(body, kind))
        if is_given and kind != wanted:
            raise Invalid.at(f"/{kind}", "reach_not_of_role")
        if not is_given and kind == wanted:
            raise Invalid.at(f"/{kind}", "reach_missing")


async def extent_of(
    session: AsyncSession, caller: Caller, body: GrantProvide, *, member_at: str = "/member_id"
) -> Extent:
    """Find what a grant is to reach; refuses the field that lies beyond the caller's own reach.

    `member_at` is the field by which the caller named a member.
    """
    if body.areas:
        await _require_areas(session, caller, body.areas)
        return Extent(body.areas)
    if body.association_ids:
        rows = await _found(session, caller, body.association_ids, kind="association_ids")
        return Extent([row.area_code for row in rows], any(row.is_employers for row in rows))
    if body.event_ids:
        rows = await _found(session, caller, body.event_ids, kind="event_ids")
        # Who helps at an enterprise's event may well be of the health station: whom she works for
        # is what else she holds, or what the giver says.
        return Extent([row.area_code for row in rows])
    if body.member_id is not None:
        given = [body.member_id]
        rows = await _found(session, caller, given, kind="member_id", at=member_at)
        return Extent([row.area_code for row in rows])
    # A role without any reach is the district's own, and for who answers for all of it.
    if not reach.covers(caller, caller.district_code):
        raise RoleNotBelow
    return Extent([caller.district_code])


async def _require_areas(session: AsyncSession, caller: Caller, codes: Sequence[str]) -> None:
    sql = text("select code from areas where code = any(:codes)")
    known = set((await session.execute(sql, {"codes": list(codes)})).scalars())
    for number, code in enumerate(codes):
        if code not in known:
            raise Invalid.at(f"/areas/{number}", "unknown_reference")
        if not reach.covers(caller, code):
            raise Invalid.at(f"/areas/{number}", "out_of_reach")


async def _found(
    session: AsyncSession, caller: Caller, given: Sequence[UUID], *, kind: str, at: str = ""
) -> Sequence[Any]:
    source, tie = {
        "association_ids": (
            f"d.area_code, {_IS_EMPLOYERS} as is_employers from associations",
            "association",
        ),
        "event_ids": ("d.area_code from service_events", "event"),
        "member_id": ("d.area_code from (select * from members where erased_at is null)", "member"),
    }[kind]
    ids = sorted(set(given))
    condition, params = reach.within(caller, area="d.area_code", **{tie: "d.id"})
    params |= {"district_code": caller.district_code, "ids": ids}
    sql = text(f"select {source} d where {_ANY} and {condition}")
    rows = (await session.execute(sql, params)).all()
    if len(rows) != len(ids):
        raise Invalid.at(at or f"/{kind}", "unknown_reference")
    return rows
