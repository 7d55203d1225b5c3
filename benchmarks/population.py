"""A district of any size for benchmarks, made by set-based SQL: members, rounds, attendances."""

import io
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from app import clock, schema
from app.database_urls import driver_url
from app.identity import Caller
from app.models.goods.gifts import GiftCreate
from app.models.incentives.incentive_policies import PolicyCreate, PolicyRead
from app.roles import Role
from app.services.goods import gifts
from app.services.incentives import incentive_policies
from app.services.organisation import areas

DISTRICT = "440605000000"
ASSOCIATIONS = 540
ROUNDS = 8
EVENTS_PER_ROUND = 300
CALLER = Caller("bench", Role.DISTRICT_OFFICER, DISTRICT, (DISTRICT,))
GIFTS = (
    {"code": "towel", "name": "毛巾", "unit": "条"},
    {"code": "pot", "name": "锅", "unit": "口"},
)
"""What the policy gives, for the catalogue."""
POLICY: dict[str, Any] = {
    "name": "政策",
    "area_code": DISTRICT,
    "effective_on": "2024-01-01",
    "provenance": "assumed",
    "rules": [
        {"code": "subsidy", "name": "误工补贴", "reward": "cash", "amount_fen": 1000},
        {
            "code": "gift",
            "name": "礼品",
            "reward": "gift",
            "gift_code": "towel",
            "quantity": 1,
            "every": 2,
        },
        {
            "code": "large_gift",
            "name": "大礼",
            "reward": "gift",
            "gift_code": "pot",
            "quantity": 1,
            "every": 4,
        },
    ],
}
"""Cash for each health exam, a gift for every second and a larger one for every fourth in a row."""

_NANHAI = Path("app/data/areas-nanhai.csv").read_text("utf-8")

_ID = "('{prefix}-0000-7000-8000-' || lpad(to_hex({n}), 12, '0'))::uuid"
_AT = "timestamptz '2024-01-01 00:00:00+00'"
_VILLAGES = (
    "(select code, row_number() over (order by code) - 1 as n, count(*) over () as total"
    " from areas where level = 'village') v"
)


def _id(prefix: str, number: str) -> str:
    return _ID.format(prefix=prefix, n=number)


_HOSTS = f"""
insert into host_organisations
  (district_code, id, version, created_at, updated_at, kind, name, area_code)
select '{DISTRICT}', {_id("00000001", "i")}, 1, {_AT}, {_AT}, 'small_business', 'Host ' || i, v.code
from generate_series(1, {ASSOCIATIONS}) i join {_VILLAGES} on v.n = i % v.total
"""
_ASSOCIATIONS = f"""
insert into associations
  (district_code, id, version, created_at, updated_at, name, mode, host_id, area_code, status)
select '{DISTRICT}', {_id("00000002", "i")}, 1, {_AT}, {_AT}, 'Association ' || i, 'independent',
  {_id("00000001", "i")}, v.code, 'active'
from generate_series(1, {ASSOCIATIONS}) i join {_VILLAGES} on v.n = i % v.total
"""
_MEMBERS = f"""
insert into members
  (district_code, id, version, created_at, updated_at, association_id, area_code, status, name,
   employee_no, first_joined_on, thanks_consented_on)
select a.district_code, {_id("00000003", "i")}, 1, {_AT}, {_AT}, a.id, a.area_code, 'active',
  '会员' || i, i::text, date '2024-01-01' + (i % 20 = 0)::int * 400, date '2024-01-01'
from generate_series(1, $1::int) i
join associations a on a.id = {_id("00000002", f"i * 7919::bigint % {ASSOCIATIONS} + 1")}
order by i
"""
_MEMBERSHIPS = f"""
insert into memberships (district_code, member_id, joined_on, association_id, recorded_at)
select district_code, id, first_joined_on, association_id, created_at from members
where district_code = '{DISTRICT}' order by id
"""
_ROUNDS = f"""
insert into exam_rounds
  (district_code, id, version, created_at, updated_at, sequence, name, starts_on, ends_on,
   accepts_until, status, closed_at)
select '{DISTRICT}', {_id("00000004", "r")}, 1, {_AT}, {_AT}, r, 'Round ' || r,
  (date '2024-01-01' + make_interval(months => 3 * (r - 1)))::date,
  (date '2024-01-01' + make_interval(months => 3 * r))::date - 1,
  timestamptz '2024-01-01 00:00:00+00' + make_interval(months => 3 * r), 'closed',
  timestamptz '2024-01-01 00:00:00+00' + make_interval(months => 3 * r)
from generate_series(1, {ROUNDS}) r
"""
_EVENTS = f"""
insert into service_events
  (district_code, id, version, created_at, updated_at, kind, title, venue, area_code,
   round_sequence, starts_at, ends_at, status)
select '{DISTRICT}', {_id("00000005", "r.sequence * 1000 + e")}, 1, {_AT}, {_AT}, 'health_exam',
  '便民服务', '服务室', '{DISTRICT}', r.sequence, r.starts_on, r.starts_on + 1, 'closed'
from exam_rounds r, generate_series(0, {EVENTS_PER_ROUND - 1}) e
where r.district_code = '{DISTRICT}'
"""
# Three quarters attend: a multiplicative hash of member and round decides.
_ATTENDANCES = f"""
insert into attendances
  (district_code, event_id, member_id, association_id, round_sequence, occurred_at, recorded_at,
   recorded_by, method, version)
select m.district_code, {_id("00000005", f"r.sequence * 1000 + m.n % {EVENTS_PER_ROUND}")}, m.id,
  m.association_id, r.sequence, r.starts_on, r.starts_on, 'staff-1', 'staff', 1
from exam_rounds r, (
  select district_code, id, association_id, row_number() over (order by id) as n from members
  where district_code = '{DISTRICT}') m
where r.district_code = m.district_code and (m.n * 2654435761 + r.sequence * 40503) % 4096 < 3072
"""
_EXCUSES = f"""
insert into excuses
  (district_code, id, round_sequence, member_id, reason, created_by, created_at)
select m.district_code, {_id("00000006", "m.n * 16 + r.sequence")}, r.sequence, m.id, 'away',
  'officer-1', {_AT}
from exam_rounds r, (
  select district_code, id, row_number() over (order by id) as n from members
  where district_code = '{DISTRICT}') m
where r.district_code = m.district_code and (m.n + r.sequence) % 100 = 0
"""
_OPEN_ROUND = f"""
insert into exam_rounds
  (district_code, id, version, created_at, updated_at, sequence, name, starts_on, ends_on,
   accepts_until, status)
select '{DISTRICT}', {_id("00000004", "$1::int")}, 1, {_AT}, {_AT}, $1::int, 'Round ' || $1::int,
  date '2026-01-01', date '2199-12-31', timestamptz '2200-01-15 00:00:00+00', 'open'
"""
_OPEN_EVENT = f"""
insert into service_events
  (district_code, id, version, created_at, updated_at, kind, title, venue, area_code,
   round_sequence, starts_at, ends_at, status)
values ('{DISTRICT}', {_id("00000005", "$1::int * 1000")}, 1, {_AT}, {_AT}, 'health_exam',
  '便民服务', '服务室', '{DISTRICT}', $1::int, '2026-01-01', '2199-12-31', 'in_progress')
returning id
"""
_STEPS = (
    _HOSTS, _ASSOCIATIONS, _MEMBERS, _MEMBERSHIPS, _ROUNDS, _EVENTS, _ATTENDANCES, _EXCUSES,
)  # fmt: skip


async def build(url: str, members: int) -> None:
    """Migrate an empty database and fill it; foreign keys of the bulk rows are not re-checked."""
    engine = create_async_engine(driver_url(url))
    await schema.migrate(engine)
    await engine.dispose()
    connection = await asyncpg.connect(url)
    try:
        await _fill(connection, members)
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection, members: int) -> None:
    lines = areas.read_file(io.StringIO(_NANHAI))
    await connection.executemany(
        "insert into areas (code, name, level, parent_code) values ($1, $2, $3, $4)",
        [(line.code, line.name, line.level, line.parent_code) for line in lines],
    )
    # Only a superuser may skip the checks, as the embedded server's login is.
    await connection.execute("set session_replication_role = replica")
    for step in _STEPS:
        await connection.execute(step, *([members] if "$1" in step else []), timeout=3600)
    await connection.execute("set session_replication_role = origin")
    await connection.execute("vacuum (analyze)", timeout=3600)
    await connection.execute("checkpoint", timeout=3600)


def association(number: int) -> UUID:
    """Give the id of an association, from 1 to `ASSOCIATIONS`."""
    return UUID(f"00000002-0000-7000-8000-{number:012x}")


def member(number: int) -> UUID:
    """Give the id of a member, from 1 on."""
    return UUID(f"00000003-0000-7000-8000-{number:012x}")


def exam_round(sequence: int) -> UUID:
    """Give the id of a round."""
    return UUID(f"00000004-0000-7000-8000-{sequence:012x}")


async def open_events(url: str, count: int) -> list[UUID]:
    """Hold health exams to check in at, each of an open round of its own, and give their ids."""
    connection = await asyncpg.connect(url)
    try:
        events = []
        for sequence in range(ROUNDS + 1, ROUNDS + 1 + count):
            await connection.execute(_OPEN_ROUND, sequence)
            events.append(await connection.fetchval(_OPEN_EVENT, sequence))
    finally:
        await connection.close()
    return events


async def set_up_policy(session: AsyncSession) -> PolicyRead:
    """Add what the policy gives to the catalogue, and set the policy up."""
    now = clock.now()
    for gift in GIFTS:
        await gifts.create(session, CALLER, body=GiftCreate(**gift), now=now)
    body = PolicyCreate(**POLICY)
    return await incentive_policies.create(session, CALLER, body=body, now=now)
