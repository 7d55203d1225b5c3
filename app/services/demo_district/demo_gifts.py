"""The demo's gifts: the catalogue that its policies name, the depots and what lies in them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.identity import DEMO, Caller
from app.models.disbursement.payout_runs import PayoutRun
from app.models.goods.depots import DepotCreate
from app.models.goods.gifts import Gift, GiftStatus
from app.models.goods.stock_movements import EnteredKind, MovementCreate
from app.roles import Role
from app.services.demo_district.demo_facts import CLOSED, DISTRICT, Kind, at, copy, record
from app.services.goods import depots, stock_movements

_CLERK = "demo-finance_clerk"
_ARTICLES = (("hand_cream", "护手霜", "支"), ("towel_box", "毛巾礼盒", "盒"))
_SHOWCASE_TOWN = "440605124000"
_ROUND_PIECES = 100
_BY_GIFT = text(
    "select g.id, cast(sum(sum(p.quantity)) over () as bigint) as pieces from payouts p"
    " join incentive_rules i on i.district_code = p.district_code and i.policy_id = :policy_id"
    " and i.number = :number and i.rule_id = p.rule_id"
    " join gifts g on g.district_code = p.district_code and g.code = i.gift_code"
    " where p.district_code = :district_code and p.round_sequence = :sequence"
    " and p.run_id = :run_id group by g.id order by g.id"
)


async def store_catalogue(session: AsyncSession) -> None:
    """Store the articles that the policies name."""
    since = at(CLOSED[0].starts_on, 9)
    rows = (
        record(
            Kind.GIFT,
            number,
            since=since,
            code=code,
            name=name,
            unit=unit,
            status=GiftStatus.ACTIVE.value,
            created_by=DEMO,
        )
        for number, (code, name, unit) in enumerate(_ARTICLES, 1)
    )
    await copy(session, Gift, rows)


async def fill_depots(session: AsyncSession, run: PayoutRun) -> None:
    """Keep a depot of the district, and one of the showcase's town.

    The town's is empty still: what is moved there is taken by its next run. The district's has
    enough for two more rounds, whichever gift each member's streak then earns her.
    """
    clerk = Caller(_CLERK, Role.FINANCE_CLERK, district_code=DISTRICT, areas=(DISTRICT,))
    now = run.created_at
    bodies = [
        DepotCreate(name="南海区计生协会仓库", area_code=DISTRICT, association_id=None),
        DepotCreate(name="狮山镇计生协会仓库", area_code=_SHOWCASE_TOWN, association_id=None),
    ]
    kept = [await depots.create(session, clerk, body=body, now=now) for body in bodies]
    params = {
        "district_code": DISTRICT,
        "policy_id": run.policy_id,
        "number": run.policy_number,
        "sequence": run.round_sequence,
        "run_id": run.id,
    }
    for row in (await session.execute(_BY_GIFT, params)).all():
        body = _received(kept[0].id, 3 * row.pieces, now)
        await stock_movements.enter(session, clerk, gift_id=row.id, body=body, now=now)


def _received(depot_id: UUID, pieces: int, now: datetime) -> MovementCreate:
    """Write the delivery of so many pieces, rounded up to whole cartons."""
    return MovementCreate(
        kind=EnteredKind.RECEIVE,
        depot_id=depot_id,
        to_depot_id=None,
        quantity=-(-pieces // _ROUND_PIECES) * _ROUND_PIECES or _ROUND_PIECES,
        document_no=f"示例送货单{now.year}-1",
        occurred_on=clock.civil_date(now),
        note=None,
    )
