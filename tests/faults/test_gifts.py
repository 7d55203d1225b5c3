"""One depot under sixty-four clients: never below zero, and each gift is given once."""

import asyncio
from collections import Counter
from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.database import Database, transaction
from app.models.channels.hand_outs import HandOut
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.disbursement.payouts import payout_id
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.channels import hand_outs
from app.services.goods import gift_reservations
from app.services.goods.gift_reservations import GiftsShort
from tests.factories.callers import DISTRICT, make_act, make_caller
from tests.factories.disbursement.payout_runs import make_granted_run, make_run, make_thanks
from tests.factories.finance.funds import agree
from tests.factories.goods.gifts import make_depot, make_gift_article, make_stock
from tests.factories.incentives.incentive_policies import make_gift

_CLIENTS = 64
_ENOUGH_FOR = 40
_SCOPE = Scope(Acting.DISTRICT, DISTRICT, "clerk")
_PAYOUTS = (
    "insert into payouts (district_code, round_sequence, member_id, rule_id, released, run_id,"
    " line_no, association_id, streak, amount_fen, quantity, status)"
    " select district_code, round_sequence, gen_random_uuid(), rule_id, 0, $1, 1, association_id,"
    " 1, 0, 1, 'pending' from payouts limit 1"
)


async def _reserve(database: Database, run: PayoutRun) -> str:
    try:
        async with transaction(database, _SCOPE) as session:
            await gift_reservations.reserve(session, run, subject="clerk", now=clock.now())
    except GiftsShort:
        return "short"
    return "reserved"


async def test_a_depot_reserves_what_it_has_and_not_a_piece_more(
    database: Database, owner: Database, session: AsyncSession, tell: Callable[[str], None]
) -> None:
    depot, gift = await make_depot(session), await make_gift_article(session)
    await make_stock(session, depot, gift, _ENOUGH_FOR)
    thanks = await make_thanks(session, [make_gift()], members=1)
    await make_granted_run(session, thanks, RunStatus.CALCULATED)
    runs = [
        await make_run(session, thanks.round, thanks.policy, RunStatus.SUBMITTED, payout_count=1)
        for _ in range(_CLIENTS)
    ]
    await session.commit()
    for run in runs:
        await owner.pool.execute(_PAYOUTS, run.id)
    met = Counter(await asyncio.gather(*(_reserve(database, run) for run in runs)))
    tell(f"{_CLIENTS} clients on one depot: {dict(met)}")
    assert met == {"reserved": _ENOUGH_FOR, "short": _CLIENTS - _ENOUGH_FOR}
    row = await owner.pool.fetchrow("select * from stock")
    assert (row["available"], row["reserved"]) == (0, _ENOUGH_FOR)
    await owner.pool.execute(
        "update payout_runs set status = 'approved', approved_by = 'x', approved_at = now()"
        " where id in (select run_id from stock_movements)"
    )
    await agree(database)


async def test_what_sixty_four_desks_scan_at_once_is_given_once_each(
    database: Database, owner: Database, session: AsyncSession, tell: Callable[[str], None]
) -> None:
    """Sixteen members, each scanned at four desks, while nobody waits in a ring."""
    thanks = await make_thanks(session, [make_gift()], members=16)
    run = await make_granted_run(session, thanks)
    await session.commit()
    lines = await owner.pool.fetch("select line_no, member_id from payouts order by line_no")
    desk = make_caller(Role.FINANCE_CLERK)

    async def scan(line_no: int, member_id: object) -> bool:
        async with transaction(database, desk.scope, make_act(desk)) as desk_session:
            given = await hand_outs.hand_out(
                desk_session,
                desk,
                payout_id=payout_id(run.id, line_no),
                body=HandOut.model_validate({"member_id": member_id}),
                now=clock.now(),
            )
        return given.repeated

    scans = [scan(row["line_no"], row["member_id"]) for row in lines for _ in range(4)]
    told = Counter(await asyncio.gather(*scans))
    tell(f"{len(scans)} scans of {len(lines)} gifts: {told[False]} given, {told[True]} repeated")
    assert told == {False: 16, True: 48}
    row = await owner.pool.fetchrow("select reserved, handed_out from stock")
    assert tuple(row) == (0, 16)
    await agree(database)
