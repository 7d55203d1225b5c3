"""A payout run over 1,100,000 members and 8 rounds against a plain insert of the same rows.

The limit is measured beside it: INSERT ... SELECT of the finished rows into an empty table of the
same columns, then its unique index, in one durable transaction. The run does that and also counts
streaks, decides each rule, numbers its lines, checks every row and adds up the totals. Target: at
most 1.6 times the limit, at most 100 MB of private memory in the database, and a second run of the
same policy grants nothing and changes nothing.
"""

import argparse
import asyncio
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from app import clock
from app.database import Database, connect, transaction
from app.models.incentive_policies import PolicyCreate
from app.models.payout_runs import RunCreate, RunRead
from app.services import incentive_policies, payout_runs
from app.settings import Settings
from benchmarks import harness, population

_MEMBERS = 1_100_000
_LAST_ROUND = population.exam_round(population.ROUNDS)
_KEY = "district_code, round_sequence, member_id, rule_id"
_HASH = "select count(*), sum(hashtextextended(p::text, 0)) from payouts p"


@dataclass
class Peak:
    """The most private memory that a process of the database held, in MB."""

    megabytes: float = 0


@contextmanager
def _watched(pid: int) -> Iterator[Peak]:
    """Look at a process's private memory a few times a second."""
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            peak.megabytes = max(peak.megabytes, _private_megabytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _private_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


async def _draft(database: Database, policy_id: UUID) -> RunRead:
    async with transaction(database, population.CALLER.scope) as session:
        body = RunCreate(exam_round_id=_LAST_ROUND, policy_id=policy_id, area_code=None)
        return await payout_runs.create(session, population.CALLER, body=body, now=clock.now())


async def _calculate(database: Database, run: RunRead) -> tuple[float, RunRead]:
    started = time.perf_counter()
    async with transaction(database, population.CALLER.scope) as session:
        run = await payout_runs.calculate(
            session, population.CALLER, run_id=run.id, expected=run.version, now=clock.now()
        )
    return time.perf_counter() - started, run


async def _insert_plainly(connection: asyncpg.Connection) -> float:
    await connection.execute("drop table if exists plain")
    started = time.perf_counter()
    async with connection.transaction():
        await connection.execute("create table plain as select * from ready with no data")
        await connection.execute("insert into plain select * from ready")
        await connection.execute(f"create unique index on plain ({_KEY})")
    return time.perf_counter() - started


async def _empty(connection: asyncpg.Connection) -> None:
    await connection.execute("truncate payouts")
    await connection.execute("checkpoint")


async def _measure(database: Database, connection: asyncpg.Connection, rounds: int) -> None:
    async with transaction(database, population.CALLER.scope) as session:
        policy = await incentive_policies.create(
            session, population.CALLER, body=PolicyCreate(**population.POLICY), now=clock.now()
        )
    pid = await database.pool.fetchval("select pg_backend_pid()")
    await _calculate(database, await _draft(database, policy.id))
    await connection.execute(f"create table ready as select * from payouts order by {_KEY}")
    await connection.execute("vacuum analyze ready")
    expected = await connection.fetchval("select count(*) from ready")
    ratios, peaks = [], []
    for _ in range(rounds):
        await _empty(connection)
        draft = await _draft(database, policy.id)
        async with database.engine.connect() as same:
            pid = (await same.exec_driver_sql("select pg_backend_pid()")).scalar_one()
        with _watched(pid) as peak:
            ours, run = await _calculate(database, draft)
        assert run.payout_count == expected, run
        limit = await _insert_plainly(connection)
        ratios.append(ours / limit)
        peaks.append(peak.megabytes)
        print(f"run {ours:.2f} s, limit {limit:.2f} s, ratio {ours / limit:.2f}")
    before = await connection.fetchrow(_HASH)
    repeat, run = await _calculate(database, await _draft(database, policy.id))
    assert run.payout_count == 0, run
    assert await connection.fetchrow(_HASH) == before
    print(f"repeat {repeat:.2f} s, grants nothing")
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"payout run of {expected:,} rows: ratio {statistics.median(ratios):.2f} ({spread})")
    print(f"private memory of the database process {max(peaks):.0f} MB")


async def _run(place: harness.Place, rounds: int) -> None:
    config = Settings(data_dir=place.data_dir, log_level="error", pool_size=2)
    database = await connect(place.service, config)
    connection = await asyncpg.connect(place.url)
    try:
        await _measure(database, connection, rounds)
    finally:
        await connection.close()
        await database.close()


def main(members: int, rounds: int) -> None:
    """Fill a district, then run and insert in turn."""
    with harness.district(members) as place:
        asyncio.run(_run(place, rounds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=_MEMBERS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.members, arguments.rounds)
