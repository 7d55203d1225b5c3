"""Payout runs while everybody clicks at once, and through the death of the service."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database
from app.issuer import DevelopmentIssuer
from app.models.membership.members import Member
from app.roles import Role
from app.settings import Settings
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT, SHISHAN, VILLAGE, Client, idempotency_key, if_match
from tests.factories.disbursement.payout_runs import Thanks, make_thanks
from tests.factories.events.attendances import make_attendance
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.members import make_member
from tests.processes import Service, serving
from tests.waiting import SOMEBODY_WAITS, until

_RUNS = "/v1/payout-runs"
_BOOKS = """
select r.status, r.payout_count, r.amount_fen, count(p.run_id) as lines,
  coalesce(sum(p.amount_fen), 0)::bigint as fen,
  count(*) filter (where p.status = 'pending') as open
from payout_runs r left join payouts p on p.run_id = r.id
group by r.id, r.status, r.payout_count, r.amount_fen
"""
_LINES = "select * from payouts order by line_no"
_GRANT = """
insert into payouts (district_code, round_sequence, member_id, rule_id, released, run_id, line_no,
  association_id, streak, amount_fen, quantity, status)
select i.district_code, 1, $1, i.rule_id, 0, i.rule_id, 1, i.rule_id, 1, 1000, 0, 'pending'
from incentive_rules i
"""
_GONE = """
select not exists (select from pg_stat_activity where datname = current_database()
  and state <> 'idle' and query like 'insert into payouts%')
"""


async def _draft(clerk: Client, thanks: Thanks, area_code: str = DISTRICT) -> dict[str, Any]:
    run: dict[str, Any] = await clerk.ok(
        "POST",
        _RUNS,
        json=thanks.draft | {"area_code": area_code},
        headers=idempotency_key(clock.new_id()),
        status=201,
    )
    return run


async def _step(caller: Client, run: dict[str, Any], step: str) -> dict[str, Any]:
    path = f"{_RUNS}/{run['id']}/{step}"
    after: dict[str, Any] = await caller.ok("POST", path, headers=if_match(run))
    return after


async def _click(caller: Client, run_id: str, step: str) -> int:
    """Take a step from whatever state the run is in just now."""
    path = f"{_RUNS}/{run_id}"
    run = await caller.ok("GET", path)
    body: dict[str, Any] | None = {"reason": "不符"} if step == "reject" else None
    if step == "results":
        body = {"results": [{"line_no": n, "outcome": "paid"} for n in range(1, 101)]}
    answer = await caller.post(f"{path}/{step}", headers=if_match(run), json=body)
    assert answer.status_code in {200, 409, 412}, answer.text
    return answer.status_code


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_everybody_clicks_at_once_the_books_agree(
    client: Callable[..., Client], session: AsyncSession, owner: Database, seed: int
) -> None:
    chance = random.Random(seed)
    thanks = await make_thanks(session, [make_cash(), make_gift()], members=20)
    await session.commit()
    clerk, approver = client(Role.FINANCE_CLERK), client(Role.FINANCE_APPROVER)
    areas = [DISTRICT, SHISHAN, VILLAGE]
    runs = [(await _draft(clerk, thanks, areas[number % 3]))["id"] for number in range(6)]
    steps = ["calculate"] * 4 + ["submit", "approve", "disburse", "results", "settle"] * 3
    steps += ["reject", "cancel"]

    async def click_about() -> list[int]:
        answers = []
        for _ in range(25):
            step = chance.choice(steps)
            caller = approver if step in {"approve", "reject"} else clerk
            answers.append(await _click(caller, chance.choice(runs), step))
        return answers

    answers = await asyncio.gather(*(click_about() for _ in range(6)))
    # Whoever is left takes the rest.
    await _step(clerk, await _draft(clerk, thanks), "calculate")

    assert {200, 409} <= {status for each in answers for status in each}
    books = await owner.pool.fetch(_BOOKS)
    for run in books:
        if run["status"] in {"rejected", "cancelled"}:
            assert run["lines"] == 0
            continue
        assert (run["lines"], run["fen"]) == (run["payout_count"], run["amount_fen"]), run
        assert run["status"] != "settled" or run["open"] == 0
    grants = await owner.pool.fetch(
        "select member_id, rule_id, count(*) as n from payouts group by member_id, rule_id"
    )
    assert {grant["n"] for grant in grants} == {1}
    assert len(grants) == 40


@asynccontextmanager
async def _served(folder: Path, url: str) -> AsyncIterator[tuple[Service, Client, Client]]:
    """Serve as a process of its own; give it with a clerk and an approver who call it by HTTP."""
    with serving(folder, url) as service:
        issuer = DevelopmentIssuer(Settings(data_dir=folder / "data"))

        def caller(role: Role) -> Client:
            token = issuer.token(f"{role}-1", step_up=True)
            headers = {"Authorization": f"Bearer {token}"}
            return Client(base_url=service.url, headers=headers, timeout=30)

        async with caller(Role.FINANCE_CLERK) as clerk, caller(Role.FINANCE_APPROVER) as approver:
            yield service, clerk, approver


async def test_a_killed_service_goes_on_where_it_was(
    session: AsyncSession, owner: Database, tmp_path: Path
) -> None:
    thanks = await make_thanks(session, [make_cash(), make_gift()], members=10)
    for role in (Role.FINANCE_CLERK, Role.FINANCE_APPROVER):
        await make_grant(session, subject=f"{role}-1", role=role.value)
    await session.commit()
    async with _served(tmp_path, owner.url) as (service, clerk, _):
        run = await _step(clerk, await _draft(clerk, thanks), "calculate")
        before = await clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts")
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    async with _served(tmp_path, owner.url) as (_, clerk, approver):
        assert await clerk.ok("GET", f"{_RUNS}/{run['id']}") == run
        assert await clerk.ok("GET", f"{_RUNS}/{run['id']}/payouts") == before
        run = await _step(clerk, run, "submit")
        run = await _step(approver, run, "approve")
        run = await _step(clerk, run, "disburse")
        assert await _click(clerk, run["id"], "results") == 200
        run = await _step(clerk, run, "settle")

    assert (run["payout_count"], run["amount_fen"]) == (20, 10_000)
    paid = await owner.pool.fetchval("select count(*) from payouts where status = 'paid'")
    assert paid == 20


@asynccontextmanager
async def _in_the_way(owner: Database, member: Member) -> AsyncIterator[asyncpg.Connection]:
    """Grant a member on a connection of one's own, uncommitted: a calculation waits for its end."""
    connection = await asyncpg.connect(owner.url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(_GRANT, member.id)
    yield connection
    await transaction.rollback()
    await connection.close()


async def test_a_service_killed_while_it_calculates_leaves_what_was_there_before(
    session: AsyncSession, owner: Database, tmp_path: Path
) -> None:
    thanks = await make_thanks(session, [make_cash()], members=10)
    for role in (Role.FINANCE_CLERK, Role.FINANCE_APPROVER):
        await make_grant(session, subject=f"{role}-1", role=role.value)
    await session.commit()
    async with _served(tmp_path, owner.url) as (service, clerk, _):
        run = await _step(clerk, await _draft(clerk, thanks), "calculate")
        late = await make_member(session, thanks.association)
        await make_attendance(session, thanks.event, late)
        await session.commit()
        before = await owner.pool.fetch(_LINES)
        path = f"{_RUNS}/{run['id']}/calculate"
        async with _in_the_way(owner, late) as connection:
            calculating = asyncio.create_task(clerk.post(path, headers=if_match(run)))
            await until(connection, SOMEBODY_WAITS)
            service.stop(signal.SIGKILL)
            (answer,) = await asyncio.gather(calculating, return_exceptions=True)
            assert isinstance(answer, httpx.TransportError)
            assert await owner.pool.fetch(_LINES) == before
    await until(owner.pool, _GONE)
    assert await owner.pool.fetch(_LINES) == before
    async with _served(tmp_path, owner.url) as (_, clerk, _approver):
        assert await clerk.ok("GET", f"{_RUNS}/{run['id']}") == run
        again = await _step(clerk, run, "calculate")

    assert (again["payout_count"], again["version"]) == (11, run["version"] + 1)
