"""Attendances: who was at an event, and what a member attended."""

from uuid import UUID

from app import reach
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.events.attendances import (
    AttendanceFilters,
    AttendanceRead,
    MemberAttendanceFilters,
)
from app.models.events.service_events import HEALTH_KINDS
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound
from app.services.events import service_events

_PLAIN = (
    "t.event_id, t.member_id, t.association_id, t.round_sequence, t.recorded_by, t.method,"
    " t.device_id, t.device_ref, t.voided_by, t.void_reason, t.version"
)
_INSTANTS = ("t.occurred_at", "t.recorded_at", "t.voided_at")
_COLUMNS = ", ".join([_PLAIN, *map(instant, _INSTANTS)])
OF_EVENT = Listing(
    columns=_COLUMNS,
    source="attendances t",
    order=(
        Key("occurred_at", "t.occurred_at", "timestamptz"),
        Key("member_id", "t.member_id", "uuid"),
    ),
    descending=True,
    about="member_id",
)
OF_MEMBER = Listing(
    columns=f"{_COLUMNS}, e.kind as event_kind, e.title as event_title",
    source=(
        "attendances t join service_events e"
        " on e.district_code = t.district_code and e.id = t.event_id"
    ),
    order=(
        Key("occurred_at", "t.occurred_at", "timestamptz"),
        Key("event_id", "t.event_id", "uuid"),
    ),
    descending=True,
    about="member_id",
)
_FIND = (
    f"select {_PLAIN}, {', '.join(_INSTANTS)} from attendances t"
    " where t.district_code = :district_code and t.event_id = :event_id"
    " and t.member_id = :member_id"
)
_MEMBER = "select m.id from members m where m.district_code = :district_code and m.id = :member_id"


async def list_of_event(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    event_id: UUID,
    filters: AttendanceFilters,
) -> Slice:
    """Give a page of an event's attendances, the latest first; a member sees her own alone."""
    await service_events.require_visible(statements, caller, event_id=event_id)
    own, params = reach.own(caller, member="t.member_id")
    where = Where(params | {"district_code": caller.district_code, "event_id": event_id})
    where.add(f"t.district_code = :district_code and t.event_id = :event_id and {own}")
    where.equal("t.association_id", "association_id", filters.association_id)
    where.equal("t.method", "method", filters.method)
    where.equal("(t.voided_at is not null)", "voided", filters.voided)
    return await OF_EVENT.page(statements.showing(event_id), keyring, filters=filters, where=where)


async def list_of_member(
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    filters: MemberAttendanceFilters,
) -> Slice:
    """Give a page of what a member attended, the latest first; to the blind no health checks."""
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    params |= {"district_code": caller.district_code, "member_id": member_id}
    if await statements.fetch_row(f"{_MEMBER} and {condition}", params) is None:
        raise NotFound
    where = Where({"district_code": caller.district_code, "member_id": member_id})
    where.add("t.district_code = :district_code and t.member_id = :member_id")
    where.equal("e.kind", "kind", filters.kind)
    where.equal("(t.voided_at is not null)", "voided", filters.voided)
    if caller.blind_to_health_checks:
        where.add("e.kind <> all(:health_kinds)", health_kinds=sorted(HEALTH_KINDS))
    return await OF_MEMBER.page(statements.district_wide(), keyring, filters=filters, where=where)


async def find(
    statements: Statements, caller: Caller, *, event_id: UUID, member_id: UUID
) -> AttendanceRead:
    """Give one attendance, or refuse with NotFound."""
    await service_events.require_visible(statements, caller, event_id=event_id)
    own, params = reach.own(caller, member="t.member_id")
    params |= {
        "district_code": caller.district_code,
        "event_id": event_id,
        "member_id": member_id,
    }
    row = await statements.showing(event_id).fetch_row(
        f"{_FIND} and {own}", params, about="member_id"
    )
    if row is None:
        raise NotFound
    return AttendanceRead(**row)
