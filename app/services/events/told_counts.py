"""What those not entitled to the records are told of how many were at a health check."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from app.database import Statements
from app.models.events.service_events import TEN, EventStatus
from app.reach import highest_below

LATE = timedelta(days=7)
"""How long after an event closed its late lines are taken; a health exam's by its round."""

COUNTS = ("registered_count", "waiting_count", "attended_count")

# Each as it stood when late lines were over, so that nothing that is noted or voided later is seen
# by watching, and with the members who were known when it began, so that nobody enrolled or moved
# since changes anything. No more members are counted than can matter.
_COUNTED = f"""
with held as materialized (
  select e.id, e.starts_at, e.updated_at, (
    select count(*) from attendances t
    where t.district_code = :district_code and t.event_id = e.id
      and t.recorded_at <= e.updated_at + cast(:late as interval)
      and (t.voided_at is null or t.voided_at > e.updated_at + cast(:late as interval))) as people
  from service_events e
  where e.district_code = :district_code and e.kind = :kind and e.status = '{EventStatus.CLOSED}'
    and e.area_code = :area_code
    and e.association_id is not distinct from cast(:association_id as uuid)
    and (e.id = :id or e.round_sequence = cast(:round_sequence as int))
    and (e.updated_at, e.id) <= (cast(:closed_at as timestamptz), cast(:id as uuid))
)
select h.people, (
  select count(*) from (
    select from associations a join memberships s
      on s.district_code = a.district_code and s.association_id = a.id
    where a.district_code = :district_code
      and a.area_code between :area_code and {highest_below(":area_code")}
      and (a.id = cast(:association_id as uuid) or cast(:association_id as uuid) is null)
      and s.recorded_at < h.starts_at
      and s.joined_on <= (h.starts_at at time zone 'Asia/Shanghai')::date
      and (s.left_on > (h.starts_at at time zone 'Asia/Shanghai')::date or s.left_on is null
        or s.left_recorded_at >= h.starts_at)
    limit (select {TEN} + sum(o.people) from held o)) known
  ) as members
from held h order by h.updated_at, h.id
"""


async def tens(
    statements: Statements, event: Mapping[Any, Any], *, district_code: str, now: datetime
) -> dict[str, int | None]:
    """Give how many came to a health check, in full tens; null until a week after it closed.

    Never so many that fewer than ten of the members whom it was held for are left over, at this
    check and those of its round before together: who knows them all would know of each. How many
    are left depends on the members alone, not on who came, or what is told would say who did. Of
    places nothing is told.
    """
    nothing: dict[str, int | None] = dict.fromkeys(COUNTS)
    if event["status"] != EventStatus.CLOSED or now <= event["updated_at"] + LATE:
        return nothing
    names = ("id", "kind", "area_code", "association_id", "round_sequence")
    params = {name: event[name] for name in names} | {
        "district_code": district_code,
        "closed_at": event["updated_at"],
        "late": LATE,
    }
    told, before = 0, 0
    for row in await statements.fetch(_COUNTED, params):
        before += told
        told = max(0, min(row["people"], row["members"] - TEN - before)) // TEN * TEN
    return nothing | {"attended_count": told or None}
