"""Retention at work: once a night in each district, and when somebody asks for it."""

from datetime import date, datetime
from itertools import count
from uuid import UUID

from app import clock, metrics
from app.clerk import as_clock
from app.clock import CIVIL_ZONE, civil_date
from app.database import Database, Door, note
from app.models.privacy.retention import Act
from app.services.organisation import areas
from app.services.privacy import retention
from app.services.privacy.retention import BATCH

_HOURS = range(2, 6)
"""When a night's run may begin, in Asia/Shanghai; it ends whenever it is through."""
_AT_ONCE = 50
"""How many batches the errands do before they look after something else."""
Gone = dict[tuple[str, Act], int]
"""How many rows of a table were deleted or cleared."""


async def nightly(door: Door, *, district_code: str, now: datetime) -> bool:
    """Do some batches of the night's run, or of one that was begun; tell whether they ended it."""
    async with door.transaction(district_code, name="retain") as session:
        if now.astimezone(CIVIL_ZONE).hour in _HOURS:
            run_id = await retention.begin(
                session, district_code=district_code, night_on=civil_date(now), now=now
            )
        else:
            run_id = await retention.unfinished(
                session, district_code=district_code, asked_for=False
            )
    if run_id is None:
        return False
    await _work(door, district_code=district_code, run_id=run_id, most=_AT_ONCE)
    async with door.transaction(district_code, name="retain") as session:
        left = await retention.unfinished(session, district_code=district_code, asked_for=False)
    return left is None


async def run(
    door: Door,
    *,
    district_code: str,
    night_on: date | None,
    now: datetime,
    most: int | None = None,
    limit: int = BATCH,
) -> Gone:
    """Do a run batch by batch, each its own transaction; give the rows that went by table.

    One that ended between batches is taken up where it was, by any process.
    """
    async with door.transaction(district_code, name="retain") as session:
        run_id = await retention.begin(
            session, district_code=district_code, night_on=night_on, now=now
        )
    if run_id is None:
        return {}
    return await _work(door, district_code=district_code, run_id=run_id, most=most, limit=limit)


async def _work(
    door: Door, *, district_code: str, run_id: UUID, most: int | None, limit: int = BATCH
) -> Gone:
    gone: Gone = {}
    for batch in count():
        if most is not None and batch >= most:
            break
        acting = as_clock(
            door, "retain", district_code=district_code, kind="retention_runs", ids=[run_id]
        )
        async with acting.transaction(district_code) as session:
            done = await retention.step(
                session, district_code=district_code, run_id=run_id, now=clock.now(), limit=limit
            )
            if done is not None and done[2]:
                note(session, done[2])
        if done is None:
            break
        rule, rows, _ = done
        metrics.RETENTION.labels(rule.table, rule.act).inc(rows)
        gone[rule.table, rule.act] = gone.get((rule.table, rule.act), 0) + rows
    return gone


async def run_now(database: Database) -> list[str]:
    """Do a run in every district, and say what went."""
    door, now, lines = Door(database), clock.now(), []
    for code in await areas.list_districts(door.looking):
        gone = await run(door, district_code=code, night_on=None, now=now)
        lines += [f"{code} {table}: {act} {rows}" for (table, act), rows in gone.items()]
    return lines


async def preview(database: Database) -> list[str]:
    """Say what a run would do in every district: counts and the oldest day, no value."""
    door, now, lines = Door(database), clock.now(), []
    for code in await areas.list_districts(door.looking):
        async with door.transaction(code) as session:
            found = await retention.preview(session, district_code=code, now=now)
        for over in found:
            since = f", oldest {civil_date(over.oldest)}" if over.oldest else ""
            lines.append(f"{code} {over.table}: {over.act} {over.rows}{since}")
    return lines
