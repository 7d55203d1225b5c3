"""One key sent ten times at once: one effect, nine copies of its answer, and room for others."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.models.disbursement.payout_runs import RunStatus
from app.models.finance.funds import Fund
from app.roles import Role
from tests.factories.callers import Client, idempotency_key
from tests.factories.disbursement.payout_runs import Thanks, make_run, make_thanks
from tests.factories.finance.funds import TODAY, agree, make_fund
from tests.waiting import SOMEBODY_WAITS, until

_KEYS, _TWINS, _AT_ONCE = 100, 10, 8
_CONTROL_KEYS = 20
_FEN = 700
_ATTEMPTS = 200
_COME_AGAIN = {"idempotency_in_flight", "busy", "unavailable"}
_PROMPT_SECONDS = 4
_WAITING = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and wait_event_type = 'Lock'"
)


@dataclass
class Storm:
    """What clients saw: for each thing that they wanted, the answers that they settled for."""

    answers: dict[str, list[httpx.Response]] = field(default_factory=lambda: defaultdict(list))
    waits: int = 0

    def replays(self) -> int:
        given = [answer for each in self.answers.values() for answer in each]
        return sum(answer.headers.get("idempotency-replayed") == "true" for answer in given)

    async def faults(self, owner: Database, fund: Fund) -> list[str]:
        """Say what is not as if each thing had been asked for once."""
        wanted, asked = len(self.answers), sum(map(len, self.answers.values()))
        effects = await owner.pool.fetchval(
            "select count(*) from transfers where fund_id = $1", fund.id
        )
        received = await owner.pool.fetchval(
            "select received_fen from funds where id = $1", fund.id
        )
        bodies = {wish: {each.content for each in given} for wish, given in self.answers.items()}
        statuses = {each.status_code for given in self.answers.values() for each in given}
        seen = {
            f"answers {sorted(statuses)}": statuses == {201},
            f"{effects} effects of {wanted}": effects == wanted,
            f"{received} fen of {wanted * _FEN}": received == wanted * _FEN,
            f"{self.replays()} replays of {asked - wanted}": self.replays() == asked - wanted,
            f"up to {max(map(len, bodies.values()))} bodies": set(map(len, bodies.values())) == {1},
        }
        return [fault for fault, is_right in seen.items() if not is_right]


@pytest_asyncio.fixture
async def fund(session: AsyncSession) -> Fund:
    """An empty fund."""
    fund = await make_fund(session)
    await session.commit()
    return fund


def _receipt(document: str) -> dict[str, Any]:
    return {"amount_fen": _FEN, "document_no": document, "occurred_on": TODAY.isoformat()}


async def _until_told(storm: Storm, clerk: Client, fund: Fund, wish: str, key: str) -> None:
    """Send one request as often as it takes to be told something else than to come again."""
    path, body = f"/v1/funds/{fund.id}/receipts", _receipt(key)
    for attempt in range(_ATTEMPTS):
        answer = await clerk.post(path, json=body, headers=idempotency_key(key))
        if answer.status_code not in {409, 503}:
            storm.answers[wish].append(answer)
            return
        assert answer.json()["code"] in _COME_AGAIN, answer.text
        assert answer.headers["retry-after"] in {"1", "5"}
        storm.waits += 1
        await asyncio.sleep(min(2, 0.1 * 2**attempt) * random.uniform(0.5, 1.5))
    raise AssertionError(f"{wish}: told to wait {_ATTEMPTS} times")


async def _rage(
    clerk: Client, fund: Fund, key_of: Callable[[str, int], str], *, wishes: int = _KEYS
) -> Storm:
    """Want many things, each ten times at once, a few things at a time."""
    storm, room = Storm(), asyncio.Semaphore(_AT_ONCE)

    async def want(wish: str) -> None:
        async with room:
            twins = (
                _until_told(storm, clerk, fund, wish, key_of(wish, twin)) for twin in range(_TWINS)
            )
            await asyncio.gather(*twins)

    await asyncio.gather(*(want(f"receipt-{number}") for number in range(wishes)))
    return storm


async def test_a_hundred_keys_by_ten_twins_have_a_hundred_effects(
    client: Callable[..., Client],
    owner: Database,
    database: Database,
    fund: Fund,
    tell: Callable[[str], None],
) -> None:
    clerk = client(Role.FINANCE_CLERK)
    storm = await _rage(clerk, fund, lambda wish, _twin: wish)
    tell(
        f"{_KEYS} keys by {_TWINS} twins: {len(storm.answers)} effects, {storm.replays()} replays,"
        f" told {storm.waits} times to wait"
    )
    assert await storm.faults(owner, fund) == []
    await agree(database)

    path = f"/v1/funds/{fund.id}/receipts"
    for number in range(0, _KEYS, 10):
        await clerk.refused(
            "POST",
            path,
            json=_receipt(f"receipt-{number}") | {"amount_fen": _FEN + 1},
            headers=idempotency_key(f"receipt-{number}"),
            status=422,
            code="idempotency_key_reused",
        )
        # Who lost the key is stopped by the document itself.
        await clerk.refused(
            "POST",
            path,
            json=_receipt(f"receipt-{number}"),
            headers=idempotency_key(clock.new_id()),
            status=409,
            code="document_entered",
        )
    assert await storm.faults(owner, fund) == []


async def test_a_fresh_key_for_each_attempt_is_caught_by_the_same_check(
    client: Callable[..., Client], owner: Database, fund: Fund, tell: Callable[[str], None]
) -> None:
    clerk = client(Role.FINANCE_CLERK)
    storm = await _rage(clerk, fund, lambda wish, twin: f"{wish}-{twin}", wishes=_CONTROL_KEYS)
    faults = await storm.faults(owner, fund)
    tell(f"a fresh key for each attempt: {'; '.join(faults)}")
    assert f"{_CONTROL_KEYS * _TWINS} effects of {_CONTROL_KEYS}" in faults
    assert f"0 replays of {_CONTROL_KEYS * (_TWINS - 1)}" in faults
    assert "up to 10 bodies" in faults


@asynccontextmanager
async def _held(owner: Database, thanks: Thanks) -> AsyncIterator[None]:
    """Hold a round's row, for which a calculation waits longer than others wait for anything."""
    connection = await asyncpg.connect(owner.url)
    async with connection.transaction():
        await connection.execute(
            "select 1 from exam_rounds where id = $1 for update", thanks.round.id
        )
        yield
    await connection.close()


async def test_twins_of_a_slow_request_leave_the_connections_to_others(
    client: Callable[..., Client],
    session: AsyncSession,
    owner: Database,
    fund: Fund,
    tell: Callable[[str], None],
) -> None:
    thanks = await make_thanks(session, members=1)
    run = await make_run(session, thanks.round, thanks.policy, RunStatus.DRAFT)
    await session.commit()
    clerk, colleague = client(Role.FINANCE_CLERK), client(Role.FINANCE_CLERK, subject="colleague")
    options: dict[str, Any] = {"headers": idempotency_key("slow") | {"If-Match": '"1"'}}
    path = f"/v1/payout-runs/{run.id}/calculate"
    slowest = 0.0
    async with _held(owner, thanks):
        first = asyncio.create_task(clerk.post(path, **options))
        await until(owner.pool, SOMEBODY_WAITS)
        # Twelve times as many as there are connections, so waiting ones would take them all.
        twins = [asyncio.create_task(clerk.post(path, **options)) for _ in range(200)]
        for number in range(10):
            began = time.perf_counter()
            await colleague.ok(
                "POST",
                f"/v1/funds/{fund.id}/receipts",
                json=_receipt(f"other-{number}"),
                headers=idempotency_key(f"other-{number}"),
                status=201,
            )
            slowest = max(slowest, time.perf_counter() - began)
        assert await owner.pool.fetchval(_WAITING) == 1
        assert not first.done()
        told = await asyncio.gather(*twins)
    tell(f"200 twins of a slow request: others waited {slowest * 1000:.0f} ms at most")
    assert {answer.status_code for answer in told} == {409}
    assert slowest < _PROMPT_SECONDS
    answer = await first
    assert answer.status_code == 200, answer.text
    again = await clerk.post(path, **options)
    assert (again.status_code, again.content) == (200, answer.content)
