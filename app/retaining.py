"""Retention at work: once a night in each district, and when somebody asks for it."""

from datetime import date, datetime

from app import clock, metrics
from app.clock import CIVIL_ZONE, civil_date
from app.database import Database, Door
from app.models.retention import Act
from app.services import areas, retention
from app.services.retention import BATCH

_FROM_HOUR = 2
"""When a night's run may begin, in Asia/Shanghai; after a night that was missed, also later."""
_AT_ONCE = 50
"""How many batches the errands do before they look after something else."""


async def nightly(door: Door, *, district_code: str, now: datetime) -> None:
    """Do some batches of the night's run, until it is finished."""
    if now.astimezone(CIVIL_ZONE).hour >= _FROM_HOUR:
        night_on = civil_date(now)
        await run(door, district_code=district_code, night_on=night_on, now=now, most=_AT_ONCE)


async def run(
    door: Door,
    *,
    district_code: str,
    night_on: date | None,
    now: datetime,
    most: int | None = None,
    limit: int = BATCH,
) -> dict[tuple[str, Act], int]:
    """Do a run batch by batch, each its own transaction; give the rows that went by table.

    One that ended between batches is taken up where it was, by any process.
    """
    async with door.transaction(district_code) as session:
        run_id = await retention.begin(
            session, district_code=district_code, night_on=night_on, now=now
        )
    gone: dict[tuple[str, Act], int] = {}
    batches = 0
    while run_id is not None and (most is None or batches < most):
        async with door.transaction(district_code) as session:
            done = await retention.step(
                session, district_code=district_code, run_id=run_id, now=clock.now(), limit=limit
            )
        if done is None:
            break
        (rule, rows), batches = done, batches + 1
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
