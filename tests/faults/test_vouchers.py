"""One code at sixty-four desks: redeemed once, and who reads before writing is caught."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import Database, Statements, transaction
from app.identity import Caller
from app.models.disbursement.vouchers import Redemption
from app.problems import Problem
from app.roles import Role
from app.services.disbursement import voucher_endings, vouchers
from tests.factories.callers import DISTRICT, SHISHAN, make_act, make_caller
from tests.factories.disbursement.vouchers import Issued, make_issued
from tests.factories.finance.funds import agree

_CLIENTS = 64
_NAIVE_READ = "select status from vouchers where line_no = 1"
_NAIVE_WRITES = (
    (
        "update vouchers set status = 'redeemed', redeemed_at = issued_at, station_id = $1,"
        " redeemed_by = 'x', code_sealed = null, code_tail = 'XXXX' where line_no = 1"
    ),
    "update payouts set status = 'paid', settled_at = $1 where line_no = 1",
    (
        "update funds set reserved_fen = reserved_fen - 5000, spent_fen = spent_fen + 5000"
        " where reserved_fen >= 5000 and $1"
    ),
)


class _Desk:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._caller: Caller = make_caller(Role.GUIDE, areas=(SHISHAN,))

    async def redeem(self, body: Redemption) -> str:
        """Redeem a code, and say what came of it."""
        caller, act = self._caller, make_act(self._caller)
        statements = Statements(self._database.pool, caller.scope, act)
        try:
            async with transaction(self._database, caller.scope, act) as session:
                await vouchers.redeem(
                    session, statements, caller, self._keyring, body=body, now=clock.now()
                )
        except Problem as problem:
            return problem.code
        return "redeemed"


async def _spent(owner: Database, issued: Issued) -> int:
    spent = "select spent_fen from funds where id = $1"
    return int(await owner.pool.fetchval(spent, issued.thanks.fund.id))


@pytest.fixture
def desk(database: Database, keyring: Keyring) -> _Desk:
    return _Desk(database, keyring)


async def test_a_code_is_redeemed_once_however_many_come_with_it(
    session: AsyncSession,
    keyring: Keyring,
    owner: Database,
    desk: _Desk,
    tell: Callable[[str], None],
) -> None:
    issued = await make_issued(session, keyring)
    await session.commit()
    body = Redemption(**issued.body())
    met = Counter(await asyncio.gather(*(desk.redeem(body) for _ in range(_CLIENTS))))
    tell(f"{_CLIENTS} desks with one code: {dict(met)}")
    assert met == {"redeemed": 1, "voucher_redeemed": _CLIENTS - 1}
    assert await _spent(owner, issued) == 5000
    entries = "select count(*) from transfers where kind = 'pay'"
    assert await owner.pool.fetchval(entries) == 1
    await agree(owner)


async def test_many_codes_are_redeemed_while_they_expire_and_each_has_one_end(
    session: AsyncSession,
    keyring: Keyring,
    owner: Database,
    desk: _Desk,
    tell: Callable[[str], None],
) -> None:
    issued = await make_issued(session, keyring, members=_CLIENTS)
    await session.commit()

    async def expire() -> str:
        async with owner.sessions() as acting, acting.begin():
            later = clock.now().replace(year=2100)
            ended = await voucher_endings.expire_some(
                acting, district_code=DISTRICT, now=later, limit=3
            )
        return f"ended {len(ended)}"

    bodies = [Redemption(**issued.body(line_no)) for line_no in range(1, _CLIENTS + 1)]
    acts = [act for body in bodies for act in (desk.redeem(body), expire())]
    met = Counter(await asyncio.gather(*acts))
    rows = await owner.pool.fetch("select status, count(*) from vouchers group by 1")
    found = {row["status"]: row["count"] for row in rows}
    tell(f"{_CLIENTS} codes redeemed while they expire: {found}")
    assert found.get("redeemed", 0) == met["redeemed"]
    assert await _spent(owner, issued) == met["redeemed"] * 5000
    assert sum(found.values()) == _CLIENTS
    await agree(owner)


async def test_who_reads_before_writing_is_caught_by_the_books_check(
    session: AsyncSession, keyring: Keyring, owner: Database, tell: Callable[[str], None]
) -> None:
    issued = await make_issued(session, keyring)
    await session.commit()
    redeemed = 0

    async def naive() -> None:
        nonlocal redeemed
        known = await owner.pool.fetchval(_NAIVE_READ)
        await asyncio.sleep(0.001)
        if known == "issued":
            values = (issued.station.id, clock.now(), True)
            for sql, value in zip(_NAIVE_WRITES, values, strict=True):
                await owner.pool.execute(sql, value)
            redeemed += 1

    await asyncio.gather(*(naive() for _ in range(_CLIENTS)))
    tell(f"read then write: one code redeemed {redeemed} times")
    assert redeemed > 1
    with pytest.raises(AssertionError, match="fund_balances"):
        await agree(owner)
