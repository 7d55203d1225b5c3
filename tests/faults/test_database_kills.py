"""PostgreSQL killed at random in the middle of a run: what was answered is there, and paid once.

The server is one of the test's own that writes to the disk before it answers, as in production.
`JIXIE_FAULT_DATABASE_KILLS` says how often it is killed, `JIXIE_FAULT_SEED` at which moments.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, embedded, schema
from app.crypto import load_keyring
from app.database import Database, connect, transaction
from app.database_urls import admit_service, service_url
from app.models.disbursement.payout_runs import Channel
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.organisation import areas
from app.settings import Settings
from tests.conftest import PASSWORD, _nanhai
from tests.factories.callers import DISTRICT, Client, idempotency_key
from tests.factories.channels.gateway import Till
from tests.factories.disbursement.payout_runs import make_granted_run
from tests.factories.finance.funds import TODAY
from tests.faults.nursery import Child, Nursery
from tests.faults.town import Town, faults_of, let_leases_run_out, make_town, start_worker

_KILLS = int(os.environ.get("JIXIE_FAULT_DATABASE_KILLS", "2"))
_SEED = int(os.environ.get("JIXIE_FAULT_SEED", random.randrange(2**32)))
_ROUND = 5
_LINES, _CLERKS = 300, 2
_PATIENCE_SECONDS = 90
_OPEN = "select count(*) from payouts where status in ('pending', 'sending', 'unknown')"
_STANDING = (
    "select p.status, g.state, g.last_answer, g.attempts, count(*), min(g.lease_until)::text"
    " from payouts p left join gateway_payments g on g.run_id = p.run_id"
    " and g.line_no = p.line_no group by 1, 2, 3, 4"
)
_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Server:
    """A PostgreSQL of the test's own that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve() / "postgres"
        self._cluster = embedded._Cluster(folder, embedded._programs())
        self.restarts: list[float] = []

    def start(self) -> str:
        self._cluster.start(embedded._CONFIGURATION)
        return self._cluster.url()

    def kill(self) -> None:
        """Kill the postmaster, as if the machine's PostgreSQL was struck, and start it again."""
        postmaster = self._cluster._launched
        assert postmaster is not None
        postmaster.kill()
        # Until it is buried PostgreSQL takes it for alive.
        postmaster.wait()
        began = time.monotonic()
        self.start()
        self.restarts.append(time.monotonic() - began)

    def stop(self) -> None:
        self._cluster.stop()


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def _opened(server: Server, config: Settings) -> AsyncIterator[Database]:
    """Make a database with the schema and the areas, and open it as its owner."""
    url = await embedded.ensure_database(server.start())
    database = await connect(url, config)
    await schema.migrate(database.engine)
    await admit_service(url, PASSWORD)
    async with transaction(database, Scope(Acting.DISTRICT, DISTRICT)) as session:
        await areas.load(session, _nanhai())
    yield database
    await database.close()


@dataclass
class Diary:
    """What a client was told, and when it was told nothing."""

    wanted: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    lost: int = 0


async def _book(
    clerk: Client, town: Town, diary: Diary, service: Child, stop: asyncio.Event
) -> None:
    """Enter one receipt after the other, each until it is answered, and note the answers."""
    path = f"/v1/funds/{town.fund.id}/receipts"
    while not stop.is_set():
        document = str(clock.new_id())
        diary.wanted.append(document)
        body = {"amount_fen": 7, "document_no": document, "occurred_on": TODAY.isoformat()}
        while document not in diary.told:
            try:
                answer = await clerk.post(path, json=body, headers=idempotency_key(document))
            except httpx.TransportError:
                diary.lost += 1
                continue
            if answer.status_code == 201:
                diary.told.append(document)
                await asyncio.sleep(0.02)
                continue
            assert answer.status_code in {409, 503}, f"{answer.text}\n{service.said()}"
            diary.lost += answer.status_code == 503
            await asyncio.sleep(0.05)


async def _until_paid(owner: Database, worker: Child) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            if not await owner.pool.fetchval(_OPEN):
                return
            # Nobody else works on them: what is under a lease was lost with the database.
            await let_leases_run_out(owner)
        except _AWAY:
            pass
        await asyncio.sleep(1)
    standing = await owner.pool.fetch(_STANDING)
    raise AssertionError(f"{[tuple(row) for row in standing]}\n{worker.said()}")


async def _missing(owner: Database, diary: Diary) -> dict[str, int]:
    """Compare what was answered with what is stored."""
    rows = await owner.pool.fetch(
        "select document_no, count(*) as n from transfers where kind = 'receive' group by 1"
    )
    stored = {row["document_no"]: row["n"] for row in rows}
    return {
        "answered and not there": sum(each not in stored for each in diary.told),
        "there twice": sum(number > 1 for number in stored.values()),
    }


@pytest.mark.parametrize("place", range(max(1, _KILLS // _ROUND)))
async def test_a_killed_database_loses_nothing_that_was_answered(
    *,
    nursery: Nursery,
    config: Settings,
    till: Till,
    folder: Path,
    said: dict[str, Any],
    tell: Callable[[str], None],
    place: int,
) -> None:
    seed, kills = _SEED + place, min(_KILLS, _ROUND)
    chance, diary, stop = random.Random(seed), Diary(), asyncio.Event()
    with _server(folder) as server:
        async with _opened(server, config) as owner:
            said["database_url"] = service_url(owner.url, PASSWORD)
            async with AsyncSession(owner.engine, expire_on_commit=False) as session:
                keyring = load_keyring(config)
                town = await make_town(session, keyring, config, said, members=_LINES)
                await make_granted_run(session, town.thanks, channel=Channel.GATEWAY.value)
                await session.commit()
            await till.behave(slow_ms=60, lose_share=0.03)
            service, worker = nursery.start("service", **said), start_worker(nursery, town)
            await service.until_ready()
            async with town.caller(service, Role.FINANCE_CLERK) as clerk:
                booking = [
                    asyncio.create_task(_book(clerk, town, diary, service, stop))
                    for _ in range(_CLERKS)
                ]
                for _ in range(kills):
                    await asyncio.sleep(chance.uniform(0.3, 1.5))
                    await asyncio.to_thread(server.kill)
                    assert not any(task.done() for task in booking), booking
                await _until_paid(owner, worker)
                stop.set()
                await asyncio.gather(*booking)
            missing = await _missing(owner, diary)
            faults = await faults_of(owner, till)
            figures = await till.figures()
            for child in (service, worker):
                assert child.ended() is None, child.said()
                child.kill()
    restarts = ", ".join(f"{seconds:.1f}" for seconds in server.restarts)
    tell(
        f"seed {seed}: PostgreSQL killed {kills} times and back after {restarts} s;"
        f" {len(diary.told)} receipts answered, {diary.lost} times no answer, {missing};"
        f" {_LINES} lines paid by {figures['calls']} payments sent, {figures['doubled']} doubled"
    )
    assert missing == {"answered and not there": 0, "there twice": 0}
    assert sorted(diary.told) == sorted(diary.wanted)
    assert faults == []
