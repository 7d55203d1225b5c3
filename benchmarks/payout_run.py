"""A payout run over 1,100,000 members and 8 rounds against a plain insert of the same rows.

The limit is measured beside it: INSERT ... SELECT of the finished rows into an empty table of the
same columns, then the unique index of payouts, in one durable transaction. The run does that and
also counts streaks, decides each rule, numbers its lines, checks every row and adds up the totals.
Target: at most 1.6 times the limit, at most 100 MB of private memory in the database, and a second
run of the same policy grants nothing and changes nothing.

The rows come to the limit in the order of the index, which is its best case; beside it stands what
it takes when they come one rule after the other, as one plain statement a rule would give them.

What a run would take if deciding cost nothing is measured too: the same rows, decided before, into
payouts with their index, checks and walls.
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
from sqlalchemy import text

from app import clock
from app.database import Database, connect, district_wide, transaction
from app.models.disbursement.payout_runs import RunCreate, RunRead
from app.scopes import Acting
from app.services.disbursement import payout_runs, run_drafts
from app.settings import Settings
from benchmarks import harness, population

_MEMBERS = 1_100_000
_LAST_ROUND = population.exam_round(population.ROUNDS)
_KEY = "district_code, round_sequence, member_id, rule_id, released"
_BY_RULE = "rule_id, member_id"
# A district of this size has a server of a size to match.
_SERVER = {
    "shared_buffers": "'2GB'",
    "maintenance_work_mem": "'1GB'",
    "wal_buffers": "'64MB'",
    "max_wal_size": "'16GB'",
}
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
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


async def _draft(database: Database, policy_id: UUID) -> RunRead:
    async with transaction(database, population.CALLER.scope) as session:
        body = RunCreate.model_validate({"exam_round_id": _LAST_ROUND, "policy_id": policy_id})
        return await run_drafts.create(session, population.CALLER, body=body, now=clock.now())


async def _calculate(database: Database, run: RunRead) -> tuple[float, RunRead]:
    started = time.perf_counter()
    async with transaction(database, population.CALLER.scope) as session:
        run = await payout_runs.calculate(
            session, population.CALLER, run_id=run.id, expected=run.version, now=clock.now()
        )
    return time.perf_counter() - started, run


async def _insert_plainly(connection: asyncpg.Connection, source: str) -> float:
    await connection.execute("drop table if exists plain")
    await connection.execute("checkpoint")
    started = time.perf_counter()
    async with connection.transaction():
        await connection.execute(f"create table plain as select * from {source} with no data")
        await connection.execute(f"insert into plain select * from {source}")
        await connection.execute(f"create unique index on plain ({_KEY})")
    return time.perf_counter() - started


async def _insert_decided(database: Database) -> float:
    started = time.perf_counter()
    async with transaction(database, population.CALLER.scope) as session, district_wide(session):
        await session.execute(text("insert into payouts select * from in_order"))
    return time.perf_counter() - started


async def _empty(connection: asyncpg.Connection) -> None:
    await connection.execute("truncate payouts")
    await connection.execute("checkpoint")


async def _prepare(database: Database, connection: asyncpg.Connection) -> UUID:
    """Set up the policy, and keep the rows that it grants in two orders."""
    async with transaction(database, population.CALLER.scope) as session:
        policy = await population.set_up_policy(session)
    await _calculate(database, await _draft(database, policy.id))
    for name, order in (("in_order", _KEY), ("by_rule", _BY_RULE)):
        await connection.execute(f"create table {name} as select * from payouts order by {order}")
        await connection.execute(f"vacuum analyze {name}")
    await connection.execute(f"grant select on in_order to {Acting.DISTRICT}")
    return policy.id


@dataclass(frozen=True)
class _Turn:
    """One run and what stands beside it, in seconds, and its peak of private memory, in MB."""

    run: float
    limit: float
    by_rule: float
    decided: float
    peak: float


async def _turn(
    database: Database, connection: asyncpg.Connection, policy_id: UUID, *, expected: int
) -> _Turn:
    await _empty(connection)
    draft = await _draft(database, policy_id)
    async with database.engine.connect() as same:
        pid = (await same.exec_driver_sql("select pg_backend_pid()")).scalar_one()
    with _watched(pid) as peak:
        ours, run = await _calculate(database, draft)
    assert run.payout_count == expected, run
    limit = await _insert_plainly(connection, "in_order")
    by_rule = await _insert_plainly(connection, "by_rule")
    await _empty(connection)
    decided = await _insert_decided(database)
    print(
        f"run {ours:.2f} s, limit {limit:.2f} s, of rows by rule {by_rule:.2f} s,"
        f" decided before {decided:.2f} s"
    )
    return _Turn(ours, limit, by_rule, decided, peak.megabytes)


async def _measure(database: Database, connection: asyncpg.Connection, rounds: int) -> None:
    policy_id = await _prepare(database, connection)
    expected = await connection.fetchval("select count(*) from in_order")
    turns = [await _turn(database, connection, policy_id, expected=expected) for _ in range(rounds)]
    before = await connection.fetchrow(_HASH)
    repeat, run = await _calculate(database, await _draft(database, policy_id))
    assert run.payout_count == 0, run
    assert await connection.fetchrow(_HASH) == before
    print(f"repeat {repeat:.2f} s, grants nothing; a run has {expected:,} rows")
    ratios = [turn.run / turn.limit for turn in turns]
    eased = statistics.median(turn.run / turn.by_rule for turn in turns)
    decided = statistics.median(turn.decided / turn.limit for turn in turns)
    print(f"times the limit of rows by rule {eased:.2f}")
    print(f"times the limit if all were decided before {decided:.2f}")
    print(f"times the limit {min(ratios):.2f} to {max(ratios):.2f} over {rounds} rounds")
    harness.judge("payout run, times the limit", statistics.median(ratios), at_most=1.6)
    harness.judge("payout run, MB of private memory", max(turn.peak for turn in turns), at_most=100)


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
    with harness.district(members, **_SERVER) as place:
        asyncio.run(_run(place, rounds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=_MEMBERS)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.members, arguments.rounds)
