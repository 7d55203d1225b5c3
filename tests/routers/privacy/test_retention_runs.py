"""Runs of retention over HTTP: counts by table, for who answers for the district."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest_asyncio

from app import clock, retaining
from app.database import Database, Door
from app.roles import Role
from tests.factories.callers import DISTRICT, SHISHAN, Client

RUNS = "/v1/retention-runs"
_KEY = "insert into idempotency_keys values ($1, 'somebody', 'k', '', 200, '', 'secret', $2)"


@pytest_asyncio.fixture
async def runs(database: Database, owner: Database) -> None:
    """Two nights, in the first of which a kept answer went."""
    now = clock.now()
    await owner.pool.execute(_KEY, DISTRICT, now - timedelta(days=3))
    for day in (1, 2):
        await retaining.run(
            Door(database), district_code=DISTRICT, night_on=date(2026, 6, day), now=now
        )


async def test_the_district_reads_what_went(runs: None, officer: Client) -> None:
    assert runs is None
    page = await officer.ok("GET", RUNS, params={"include_total": "true"})
    assert page["total"] == 2
    assert [run["night_on"] for run in page["items"]] == ["2026-06-02", "2026-06-01"]
    last, first = page["items"]
    assert last["counts"] == []
    assert first["counts"] == [{"table": "idempotency_keys", "deleted": 1, "cleared": 0}]
    assert await officer.ok("GET", f"{RUNS}/{first['id']}") == first
    assert (await officer.ok("GET", RUNS, params={"finished": "false"}))["items"] == []


async def test_nobody_below_the_district_does(
    runs: None, officer: Client, client: Callable[..., Client]
) -> None:
    assert runs is None
    run_id = (await officer.ok("GET", RUNS))["items"][0]["id"]
    assert len((await client(Role.AUDITOR).ok("GET", RUNS))["items"]) == 2
    town = client(Role.AUDITOR, areas=[SHISHAN], subject="of a town")
    assert (await town.ok("GET", RUNS))["items"] == []
    await town.refused("GET", f"{RUNS}/{run_id}", status=404, code="not_found")
    elsewhere: dict[str, Any] = {"district_code": "440606000000", "areas": ["440606000000"]}
    stranger = client(Role.DISTRICT_OFFICER, subject="stranger", **elsewhere)
    assert (await stranger.ok("GET", RUNS))["items"] == []
    for role in (Role.TOWN_OFFICER, Role.SECRETARY, Role.FINANCE_CLERK):
        await client(role).refused("GET", RUNS, status=403, code="forbidden")
    for role in (Role.DISTRICT_OFFICER, Role.AUDITOR):
        linked = client(role, employer_linked=True)
        await linked.refused("GET", RUNS, status=403, code="forbidden")
        await linked.refused("GET", f"{RUNS}/{run_id}", status=403, code="forbidden")
