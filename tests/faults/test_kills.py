"""Workers killed at random while a run is paid over a gateway that fails now and then.

`JIXIE_FAULT_KILLS` says how many are killed, in rounds of ten, each a run of its own;
`JIXIE_FAULT_SEED` repeats the moments of a round.
"""

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import Channel
from app.settings import Settings
from tests.factories.channels.gateway import Till
from tests.factories.disbursement.payout_runs import make_granted_run
from tests.faults.nursery import Child, Nursery
from tests.faults.town import (
    Town,
    audit_holds,
    faults_of,
    make_town,
    start_worker,
)

_KILLS = int(os.environ.get("JIXIE_FAULT_KILLS", "10"))
_SEED = int(os.environ.get("JIXIE_FAULT_SEED", random.randrange(2**32)))
_ROUND = 10
_LINES, _WORKERS = 240, 2
_CALL_SECONDS = 0.5
_PATIENCE_SECONDS = 120
_OPEN = "select count(*) from payouts where status in ('pending', 'sending', 'unknown')"


async def _open(owner: Database) -> int:
    return int(await owner.pool.fetchval(_OPEN))


async def _kill_some(
    nursery: Nursery, town: Town, owner: Database, chance: random.Random, *, kills: int
) -> list[Child]:
    """Kill workers at random moments and start others; give those that are left."""
    workers = [start_worker(nursery, town) for _ in range(_WORKERS)]
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.02, 0.4))
        assert await _open(owner), "the run was over before the last kill"
        unlucky = workers.pop(chance.randrange(len(workers)))
        assert unlucky.ended() is None, unlucky.said()
        unlucky.kill()
        workers.append(start_worker(nursery, town))
    return workers


async def _until_paid(owner: Database) -> float:
    """Wait for the end of the run, and give the seconds that it took."""
    began = time.monotonic()
    while await _open(owner):
        assert time.monotonic() - began < _PATIENCE_SECONDS, f"{await _open(owner)} lines are open"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.parametrize("place", range(max(1, _KILLS // _ROUND)))
async def test_killed_workers_pay_every_line_once(
    *,
    nursery: Nursery,
    session: AsyncSession,
    keyring: Keyring,
    config: Settings,
    database_url: str,
    owner: Database,
    till: Till,
    said: dict[str, Any],
    tell: Callable[[str], None],
    place: int,
) -> None:
    seed = _SEED + place
    said |= {"database_url": database_url, "gateway_timeout_seconds": _CALL_SECONDS}
    town = await make_town(session, keyring, config, said, members=_LINES)
    await make_granted_run(session, town.thanks, channel=Channel.GATEWAY.value)
    await session.commit()
    await till.behave(slow_ms=40, fail_share=0.05, lose_share=0.05)
    kills = min(_KILLS, _ROUND)
    workers = await _kill_some(nursery, town, owner, random.Random(seed), kills=kills)
    seconds = await _until_paid(owner)
    for worker in workers:
        worker.kill()
    figures = await till.figures()
    tell(
        f"seed {seed}: {kills} workers killed, {_LINES} lines paid by {figures['calls']} payments"
        f" sent, {figures['repeats']} of them absorbed, {figures['doubled']} doubled; over"
        f" {seconds:.1f} s after the last kill"
    )
    assert await faults_of(owner, till) == []
    await audit_holds(owner, town.heads)


async def test_a_fresh_key_for_each_attempt_is_caught_by_the_same_check(
    *,
    nursery: Nursery,
    session: AsyncSession,
    keyring: Keyring,
    config: Settings,
    database_url: str,
    owner: Database,
    till: Till,
    said: dict[str, Any],
    tell: Callable[[str], None],
) -> None:
    said |= {"database_url": database_url, "gateway_timeout_seconds": _CALL_SECONDS}
    town = await make_town(session, keyring, config, said, members=40)
    await make_granted_run(session, town.thanks, channel=Channel.GATEWAY.value)
    await session.commit()
    await till.behave(lose_share=0.25)
    worker = start_worker(nursery, town, fresh_keys=True)
    await _until_paid(owner)
    worker.kill()
    faults = await faults_of(owner, till)
    figures = await till.figures()
    tell(f"a fresh key for each attempt: {faults}")
    assert figures["effects"] > 40
    assert f"{figures['effects']} effects of 40 lines" in faults
