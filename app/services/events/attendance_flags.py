"""Attendance flags: rules that find attendance which looks forced or invented, from counts alone.

A flag asks the district for a look. It names no person, and nothing is computed of who stayed away.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.clock import civil_date
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identifiers import area_lineage
from app.identity import Caller
from app.models.events.attendance_flags import FlagFilters, FlagRead, FlagRule
from app.models.organisation.areas import Provenance, SettingKey
from app.paging import Key, Listing, Slice, Where, instant
from app.problems import NotFound, Problem
from app.services.organisation import areas

ASSUMED: Mapping[FlagRule, int] = {
    FlagRule.WHOLE_ROSTER: 20,
    FlagRule.RUSH: 50,
    FlagRule.ONE_DEVICE_AT_ONCE: 10,
    FlagRule.OUT_OF_HOURS: 10,
}
"""From how many on a rule fires where no area sets it: our assumption, not a source's."""

_PLAIN = "f.event_id, f.rule, f.about_id, f.area_code, f.observed, f.threshold, f.provenance"
LISTING = Listing(
    columns=f"{_PLAIN}, {instant('f.computed_at')}",
    source="attendance_flags f",
    order=(
        Key("event_id", "f.event_id", "uuid"),
        Key("rule", "f.rule", "text"),
        Key("about_id", "f.about_id", "uuid"),
    ),
    descending=True,
)
_EVENT = text(
    "select e.id, e.area_code, e.status, e.starts_at from service_events e"
    " where e.district_code = :district_code and e.id = :event_id"
)
# Who came is compared with the roster of the association for which she came.
_OBSERVED = text(
    """
with came as (
  select t.member_id, t.association_id, t.occurred_at, t.device_id from attendances t
  where t.district_code = :district_code and t.event_id = :event_id and t.voided_at is null
)
select 'whole_roster' as rule, a.association_id as about_id, a.count as observed
from (select came.association_id, count(*) as count from came join members m
      on m.district_code = :district_code and m.id = came.member_id
      and m.association_id = came.association_id and m.status = 'active'
      group by came.association_id) a
where a.count = (select count(*) from members m where m.district_code = :district_code
                 and m.association_id = a.association_id and m.status = 'active')
union all
select 'rush', cast(:event_id as uuid), max(count) from (
  select count(*) over (order by occurred_at
    range between interval '10 seconds' preceding and current row) from came) r
union all
select 'one_device_at_once', cast(:event_id as uuid), max(count) from (
  select count(*) from came where device_id is not null
  group by device_id, date_trunc('second', occurred_at)) d
union all
select 'out_of_hours', cast(:event_id as uuid), count(*) from came
join service_events e on e.district_code = :district_code and e.id = :event_id
where came.occurred_at < e.starts_at - interval '2 hours'
  or came.occurred_at > e.ends_at + interval '2 hours'
"""
)
_LOOK_BACK = timedelta(days=7)
"""How old late lines are looked at, should the nights before have passed without a worker."""
_WITH_LATE_LINES = text(
    "select e.id from service_events e where e.district_code = :district_code"
    " and e.status = 'closed' and exists (select from attendances t"
    " where t.district_code = :district_code and t.event_id = e.id and t.recorded_at > :since"
    " and t.recorded_at > e.updated_at)"
    # Attendances have no index by when they were recorded: events of long ago are left out.
    " and e.updated_at > cast(:since as timestamptz) - interval '92 days' order by e.id"
)
_CLEAR = text(
    "delete from attendance_flags where district_code = :district_code and event_id = :event_id"
)
_RAISE = text(
    "insert into attendance_flags (district_code, event_id, rule, about_id, area_code, observed,"
    " threshold, provenance, computed_at) values (:district_code, :event_id, :rule, :about_id,"
    " :area_code, :observed, :threshold, :provenance, :computed_at)"
)


class EventNotClosed(Problem):
    """Attendance is looked at once the event is closed."""

    code, status = "event_not_closed", 409


async def list_flags(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: FlagFilters
) -> Slice:
    """Give a page of the flags within reach, those of the latest events first."""
    condition, params = reach.within(caller, area="f.area_code")
    where = Where(params | {"district_code": caller.district_code})
    where.add("f.district_code = :district_code")
    where.add(condition)
    where.equal("f.event_id", "event_id", filters.event_id)
    where.equal("f.rule", "rule", filters.rule)
    where.in_area("f.area_code", filters.area)
    return await LISTING.page(statements, keyring, filters=filters, where=where)


async def compute_again(
    session: AsyncSession, caller: Caller, *, event_id: UUID, now: datetime
) -> list[FlagRead]:
    """Compute the flags of a closed event from what is recorded by now; raises EventNotClosed."""
    condition, params = reach.within(caller, area="e.area_code")
    params |= {"district_code": caller.district_code, "event_id": event_id}
    event = (await session.execute(text(f"{_EVENT.text} and {condition}"), params)).one_or_none()
    if event is None:
        raise NotFound
    if event.status != "closed":
        raise EventNotClosed
    return await compute(session, district_code=caller.district_code, event_id=event_id, now=now)


async def compute_late(session: AsyncSession, *, district_code: str, now: datetime) -> list[UUID]:
    """Compute again the flags of closed events whose devices sent lines since; gives which."""
    params = {"district_code": district_code, "since": now - _LOOK_BACK}
    events = list(await session.scalars(_WITH_LATE_LINES, params))
    for event_id in events:
        await compute(session, district_code=district_code, event_id=event_id, now=now)
    return events


async def compute(
    session: AsyncSession, *, district_code: str, event_id: UUID, now: datetime
) -> list[FlagRead]:
    """Replace the flags of an event by those whose rules fire on its attendances in force."""
    key = {"district_code": district_code, "event_id": event_id}
    async with district_wide(session):
        event = (await session.execute(_EVENT, key)).one()
        limits = await _limits(session, key, event.area_code, civil_date(event.starts_at))
        observed = (await session.execute(_OBSERVED, key)).mappings().all()
        flags = [
            FlagRead(
                event_id=event_id,
                area_code=event.area_code,
                threshold=limits[FlagRule(row["rule"])][0],
                provenance=limits[FlagRule(row["rule"])][1],
                computed_at=now,
                **row,
            )
            for row in observed
            if (row["observed"] or 0) >= limits[FlagRule(row["rule"])][0]
        ]
        await session.execute(_CLEAR, key)
        for flag in flags:
            await session.execute(_RAISE, key | flag.model_dump())
    return flags


async def _limits(
    session: AsyncSession, key: Mapping[str, Any], area_code: str, on: date
) -> dict[FlagRule, tuple[int, Provenance]]:
    """Give from how many on each rule fires in an area, with where the number comes from."""
    params: dict[str, Any] = {"district_code": key["district_code"], "on": on, "key": None}
    params["codes"] = area_lineage(area_code)
    rows = (await session.execute(text(areas.SETTINGS_IN_FORCE), params)).mappings()
    found = {row["key"]: (max(row["value"], 1), Provenance(row["provenance"])) for row in rows}
    return {
        rule: found.get(SettingKey(f"flag_{rule}"), (assumed, Provenance.ASSUMED))
        for rule, assumed in ASSUMED.items()
    }
