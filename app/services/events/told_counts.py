"""What those not entitled to the records are told of how many were at a health check."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from app.database import Statements
from app.models.events.service_events import TEN, EventStatus

LATE = timedelta(days=7)
"""How long after an event closed its late lines are taken; a health exam's by its round."""

COUNTS = ("registered_count", "waiting_count", "attended_count")


def begins_at(round_: str) -> str:
    """Write the instant at which a round begins."""
    return f"{round_}.starts_on::timestamp at time zone 'Asia/Shanghai'"


def is_over_at(round_: str) -> str:
    """Write the first instant after a round."""
    return f"({round_}.ends_on + 1)::timestamp at time zone 'Asia/Shanghai'"


def known_open(instant: str) -> str:
    """Write that a membership `s` was entered before an instant, and no end of it by then.

    It goes by when these were entered, which nobody can choose, not by their dates.
    """
    return (
        f"(s.recorded_at < {instant}"
        f" and (s.left_recorded_at is null or s.left_recorded_at >= {instant})"
        f" and {_even('s.was_left', instant)})"
    )


def _even(spells: str, instant: str) -> str:
    return f"(select count(*) from unnest({spells}) bound where bound < {instant}) % 2 = 0"


# Each as it stood when late lines were over, so that nothing that is noted, voided or restored
# later is seen by watching, and beside the members who were known when the round began, so that
# nobody enrolled or moved since changes anything. No more members are counted than can matter.
_COUNTED = f"""
with held as materialized (
  select e.id, e.updated_at,
    coalesce({begins_at("r")}, least(e.starts_at, e.created_at)) as begins_at, (
    select count(*) from attendances t
    where t.district_code = :district_code and t.event_id = e.id
      and t.recorded_at < e.updated_at + cast(:late as interval)
      and (t.voided_at is null or t.voided_at >= e.updated_at + cast(:late as interval))
      and {_even("t.was_void", "e.updated_at + cast(:late as interval)")}) as people
  from service_events e left join exam_rounds r
    on r.district_code = e.district_code and r.sequence = e.round_sequence
  where e.district_code = :district_code and e.kind = :kind and e.status = '{EventStatus.CLOSED}'
    and e.association_id = cast(:association_id as uuid)
    and (e.id = :id or e.round_sequence = cast(:round_sequence as int))
    and (e.updated_at, e.id) <= (cast(:closed_at as timestamptz), cast(:id as uuid))
)
select h.people, (
  select count(*) from (
    select from memberships s
    where s.district_code = :district_code and s.association_id = cast(:association_id as uuid)
      and {known_open("h.begins_at")}
    limit (select {TEN} + sum(o.people) from held o)) known
  ) as members
from held h order by h.updated_at, h.id
"""


async def tens(
    statements: Statements, event: Mapping[Any, Any], *, district_code: str, now: datetime
) -> dict[str, int | None]:
    """Give how many came to an association's health check in full tens, a week after it closed.

    Never so many that of its members fewer than ten are left over, at this check and those that it
    held in the round before together: who knows them all would know of each. How many are left
    depends on the members alone, not on who came, or what is told would say who did. Of places,
    and of the check of an area, nothing is told: with those of the associations in it, it might
    add up to all.
    """
    nothing: dict[str, int | None] = dict.fromkeys(COUNTS)
    if event["status"] != EventStatus.CLOSED or now <= event["updated_at"] + LATE:
        return nothing
    params = {name: event[name] for name in ("id", "kind", "association_id", "round_sequence")} | {
        "district_code": district_code,
        "closed_at": event["updated_at"],
        "late": LATE,
    }
    told, before = 0, 0
    for row in await statements.fetch(_COUNTED, params):
        before += told
        told = max(0, min(row["people"], row["members"] - TEN - before)) // TEN * TEN
    return nothing | {"attended_count": told or None}
