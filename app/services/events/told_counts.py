"""What those not entitled to the records are told of how many were at a health check."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from app.clock import civil_date
from app.database import Statements
from app.models.events.service_events import TEN, EventStatus

LATE = timedelta(days=7)
"""How long after an event closed its late lines are taken; a health exam's by its round."""

COUNTS = {
    "registered": "registered_count",
    "waiting": "waiting_count",
    "attended": "attended_count",
}
"""The standings at an event, and the names of their counts."""

# As it stood when late lines were over, so that nothing that is noted or voided later is seen by
# watching. Members of the associations of those who are counted are beside them that day.
_COUNTED = f"""
with those as (
  select 'attended' as standing, t.member_id, t.association_id from attendances t
  where t.district_code = :district_code and t.event_id = :id
    and t.recorded_at <= cast(:counted_at as timestamptz)
    and (t.voided_at is null or t.voided_at > cast(:counted_at as timestamptz))
  union all
  select g.status, g.member_id, m.association_id from registrations g
  join members m on m.district_code = g.district_code and m.id = g.member_id
  where g.district_code = :district_code and g.event_id = :id and g.status <> 'cancelled'
)
select w.standing, count(*) as people, (
  select count(*) from (
    select from memberships s
    where s.district_code = :district_code and s.joined_on <= cast(:day as date)
      and (s.left_on is null or s.left_on > cast(:day as date))
      and s.association_id in (
        select o.association_id from those o where o.standing = w.standing)
      and not exists (
        select from those o where o.standing = w.standing and o.member_id = s.member_id)
    limit {TEN}) beside
  ) as beside
from those w group by w.standing
"""


async def tens(
    statements: Statements, event: Mapping[Any, Any], *, district_code: str, now: datetime
) -> dict[str, int | None]:
    """Give the full tens of those who had a place at an event, waited and came, by count.

    Null until a week after it closed, below ten, and where of the members of their associations
    fewer than ten are not among them: who knows all members would know of each.
    """
    nothing: dict[str, int | None] = dict.fromkeys(COUNTS.values())
    counted_at: datetime = event["updated_at"] + LATE
    if event["status"] != EventStatus.CLOSED or now <= counted_at:
        return nothing
    params = {
        "district_code": district_code,
        "id": event["id"],
        "counted_at": counted_at,
        "day": civil_date(event["ends_at"]),
    }
    rows = await statements.fetch(_COUNTED, params)
    return nothing | {
        COUNTS[row["standing"]]: row["people"] // TEN * TEN or None
        for row in rows
        if row["beside"] >= TEN
    }
