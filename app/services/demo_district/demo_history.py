"""The demo's history, in SQL: who came, who was excused, who registered."""

from datetime import timedelta
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.identity import DEMO
from app.services.demo_district.demo_dice import die, hashed, share
from app.services.demo_district.demo_facts import CLOSED, DISTRICT, Progress, analyse, at

_DAY = "cast(e.starts_at at time zone 'Asia/Shanghai' as date)"
# Six in ten come nearly always, three often, one seldom: about three quarters in all.
_HABIT = (
    f"case when {die('h.habit', 0)} < {share(0.6)} then {share(0.9)}"
    f" when {die('h.habit', 0)} < {share(0.9)} then {share(0.62)} else {share(0.2)} end"
)
# An affiliated association goes to its village's event, a community to its town's; three in a
# hundred of all go to another town.
_STOP = (
    f"case when {die('h.luck', 1)} < {share(0.03)} then '440605124000'"
    " when a.mode = 'affiliated' then cast(a.parent_id as text)"
    " when a.mode = 'community' then substr(a.area_code, 1, 9) || '000'"
    " else cast(a.id as text) end"
)
_VOIDED = f"{die('h.luck', 2)} < {share(0.005)}"
_METHOD = (
    f"case when {die('h.luck', 3)} < {share(0.7)} then 'staff'"
    f" when {die('h.luck', 3)} < {share(0.9)} then 'batch' else 'code' end"
)
_OCCURRED = f"e.starts_at + {die('h.luck', 4)} % 28800 * interval '1 second'"

_ATTEND = f"""
insert into attendances (district_code, event_id, member_id, association_id, round_sequence,
  occurred_at, recorded_at, recorded_by, method, device_id, device_ref, voided_at, voided_by,
  void_reason, version)
select c.district_code, c.event_id, c.member_id, c.association_id, c.round_sequence,
  c.occurred_at, c.occurred_at, :author, c.method,
  case when c.method = 'batch' then 'demo-device' end,
  case when c.method = 'batch' then right(cast(c.member_id as text), 12) end,
  case when c.voided then c.occurred_at + interval '1 day' end,
  case when c.voided then :author end,
  case when c.voided then '登记有误' end,
  case when c.voided then 2 else 1 end
from (
  select m.district_code, e.id as event_id, m.id as member_id, t.association_id,
    e.round_sequence, {_OCCURRED} as occurred_at, {_METHOD} as method, {_VOIDED} as voided
  from members m
  join memberships t on t.district_code = m.district_code and t.member_id = m.id
  join associations a on a.district_code = t.district_code and a.id = t.association_id
  cross join lateral (
    select {hashed("m.id")} as habit, {hashed("m.id", ":round_sequence")} as luck
    offset 0
  ) h
  join service_events e on e.district_code = m.district_code
    and e.round_sequence = :round_sequence and e.status = 'closed'
    and coalesce(cast(e.association_id as text), e.area_code) = {_STOP}
  where m.district_code = :district_code and {die("h.luck", 0)} < {_HABIT}
    and t.joined_on <= {_DAY} and (t.left_on is null or t.left_on > {_DAY})
) c
order by c.event_id, c.member_id
"""
_EXCUSE = f"""
insert into excuses
  (district_code, id, round_sequence, member_id, area_code, reason, created_by, created_at)
select m.district_code,
  cast(lpad(to_hex(cast(extract(epoch from cast(:created_at as timestamptz)) * 1000 as bigint)),
    12, '0') || '7' || substr(encode(h.luck, 'hex'), 1, 3)
    || '8' || substr(encode(h.luck, 'hex'), 17, 15) as uuid),
  :round_sequence, m.id, null,
  (array['away', 'away', 'attended_elsewhere', 'not_in_scope'])[1 + {die("h.luck", 1)} % 4],
  :author, :created_at
from members m
cross join lateral (select {hashed("m.id", ":round_sequence", "'excuse'")} as luck offset 0) h
where m.district_code = :district_code and m.first_joined_on <= :ends_on
  and {die("h.luck", 0)} < {share(0.08)}
  and not exists (
    select from attendances a where a.district_code = m.district_code and a.member_id = m.id
      and a.round_sequence = :round_sequence and a.voided_at is null)
"""
_REGISTER = f"""
insert into registrations
  (district_code, event_id, member_id, position, status, registered_at, version)
select e.district_code, e.id, r.member_id, r.position,
  case when r.position <= e.capacity then 'registered' else 'waiting' end,
  e.registration_opens_at + r.position * interval '7 minutes', 1
from service_events e
cross join lateral (
  select t.member_id,
    cast(row_number() over (order by {hashed("t.member_id", "e.id")}) as int) as position
  from memberships t
  where t.district_code = e.district_code and t.association_id = e.association_id
    and t.joined_on <= {_DAY} and (t.left_on is null or t.left_on > {_DAY})
) r
where e.district_code = :district_code and e.capacity is not null and r.position <= e.capacity + 8
"""
_GATHER = f"""
insert into attendances (district_code, event_id, member_id, association_id, round_sequence,
  occurred_at, recorded_at, recorded_by, method, version)
select e.district_code, e.id, r.member_id, e.association_id, null,
  e.starts_at + r.position * interval '20 seconds',
  e.starts_at + r.position * interval '20 seconds', :author, 'staff', 1
from service_events e
join registrations r on r.district_code = e.district_code and r.event_id = e.id
cross join lateral (select {hashed("r.member_id", "e.id", "'came'")} as luck offset 0) h
where e.district_code = :district_code and e.status = 'closed' and r.status = 'registered'
  and {die("h.luck", 0)} < {share(0.8)}
"""


async def store(session: AsyncSession, *, progress: Progress) -> None:
    """Store what happened in the closed rounds and at the other events."""
    await analyse(session, "associations", "members", "memberships", "service_events")
    for quarter in CLOSED:
        facts: dict[str, Any] = {"district_code": DISTRICT, "round_sequence": quarter.sequence}
        await session.execute(_typed(_ATTEND), facts | {"author": DEMO})
        await analyse(session, "attendances")
        excused_at = at(quarter.ends_on + timedelta(days=3), 15)
        await session.execute(
            _typed(_EXCUSE),
            facts | {"author": DEMO, "ends_on": quarter.ends_on, "created_at": excused_at},
        )
        progress("exam rounds", quarter.sequence, len(CLOSED))
    await session.execute(text(_REGISTER), {"district_code": DISTRICT})
    await session.execute(text(_GATHER), {"district_code": DISTRICT, "author": DEMO})


def _typed(sql: str) -> TextClause:
    """Say of a parameter that is used both as a number and as text which of them it is."""
    return text(sql.replace(":round_sequence", "cast(:round_sequence as int)"))
