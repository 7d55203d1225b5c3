"""Payouts: a page of very many is read along the primary key, wherever it begins."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncSession

from app.acts import About
from app.crypto import Keyring
from app.database import Database, Statements, positional
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import PayoutFilters, RunPayoutFilters
from app.roles import Role
from app.scopes import Scope
from app.services.disbursement import payout_lists
from tests.factories.callers import DISTRICT, SHISHAN, make_act, make_caller
from tests.factories.disbursement.payout_runs import make_run, make_thanks

_LINES = 20_000
_MANY = """
insert into payouts (district_code, round_sequence, member_id, rule_id, released, run_id, line_no,
  association_id, streak, amount_fen, quantity, status)
select i.district_code, 1, ('00000003-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
  i.rule_id, 0, $1, n, $2, 1, 1000, 0, 'pending'
from incentive_rules i, generate_series(1, $3::int) n
"""


class Explained(Statements):
    """Runs statements and keeps their plans."""

    def __init__(self, pool: asyncpg.Pool, scope: Scope, plans: list[str]) -> None:
        super().__init__(pool, scope, make_act(subject=scope.subject))
        self.plans = plans

    def district_wide(self) -> "Explained":
        return Explained(self._pool, self._scope.district_wide(), self.plans)

    def showing(self, *ids: UUID) -> "Explained":
        return Explained(self._pool, self._scope.showing(*ids), self.plans)

    async def fetch(
        self, sql: str, params: Mapping[str, Any], *, about: About = None
    ) -> list[asyncpg.Record]:
        query, names = positional(sql)
        values = [params[name] for name in names]
        async with self._entered() as (connection, _):
            plan = await connection.fetch(f"explain (costs off) {query}", *values)
        self.plans.append("\n".join(row[0] for row in plan))
        return await super().fetch(sql, params, about=about)

    def show_pages_along_the_key(self) -> bool:
        """Tell whether each page came from the primary key, and none from the whole table."""
        return all(
            "Index Scan using pk_payouts on payouts p" in plan and "Seq Scan on payouts" not in plan
            for plan in self.plans
        )


@pytest_asyncio.fixture
async def run(session: AsyncSession, owner: Database) -> PayoutRun:
    """A run of very many lines."""
    thanks = await make_thanks(session, members=0)
    run = await make_run(session, thanks.round, thanks.policy)
    await session.commit()
    await owner.pool.execute(_MANY, run.id, thanks.association.id, _LINES)
    await owner.pool.execute("analyze payouts")
    return run


@pytest.mark.parametrize("area", [DISTRICT, SHISHAN])
async def test_each_page_of_all_payouts_is_read_along_the_key(
    database: Database, keyring: Keyring, run: PayoutRun, area: str
) -> None:
    caller = make_caller(Role.TOWN_OFFICER, areas=(area,))
    explained = Explained(database.pool, caller.scope, [])
    first = await payout_lists.list_payouts(explained, caller, keyring, filters=PayoutFilters())
    filters = PayoutFilters(cursor=first.next_cursor)
    second = await payout_lists.list_payouts(explained, caller, keyring, filters=filters)

    assert str(run.id) in first.items[0]
    assert len({*first.items, *second.items}) == 100
    assert explained.show_pages_along_the_key(), explained.plans


async def test_each_page_of_a_run_is_read_along_the_key(
    database: Database, keyring: Keyring, run: PayoutRun
) -> None:
    caller = make_caller(Role.AUDITOR)
    explained = Explained(database.pool, caller.scope, [])
    listing = partial(payout_lists.list_run_payouts, explained, caller, keyring, run_id=run.id)
    first = await listing(filters=RunPayoutFilters())
    second = await listing(filters=RunPayoutFilters(cursor=first.next_cursor))

    lines = [json.loads(item)["line_no"] for item in first.items + second.items]
    assert lines == list(range(1, 101))
    assert explained.show_pages_along_the_key(), explained.plans
