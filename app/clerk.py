"""The clock as one who acts: what it does for a member is noted in the audit like anybody's act."""

from collections.abc import Iterable
from uuid import UUID

from app.database import Door
from app.identity import CLOCK, Caller
from app.roles import Role


def as_clock(
    door: Door, name: str, *, district_code: str, kind: str, ids: Iterable[UUID] = ()
) -> Door:
    """Open the door for an act of the clock, on records of a kind; its request is the first."""
    known = list(ids)
    request_id = f"{kind.removesuffix('s')}:{known[0]}" if known else f"{CLOCK}:{name}"
    clerk = Caller(CLOCK, Role.OPERATIONS, district_code)
    return Door(door.database, clerk.act(name, kind=kind, ids=known, request_id=request_id))
