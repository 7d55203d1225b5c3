"""The demo's thanks: the run of the last round but one, handed out; the last is left to try.

The funds and the depot have enough for both; the funds are fewer than a district's sources.
"""

from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.identity import Caller
from app.models.disbursement.payout_runs import Channel, PayoutRun, RunStatus, run_id_of
from app.models.finance.funds import FundCreate, FundSource, MoneyIn
from app.roles import Role
from app.services.demo_district import demo_gifts
from app.services.demo_district.demo_dice import die, hashed, share
from app.services.demo_district.demo_facts import CLOSED, DISTRICT, Kind, analyse, at, demo_id
from app.services.disbursement import calculations
from app.services.finance import funds, reservations
from app.services.goods import gift_reservations

_STEPS = 6
_CLERK, _APPROVER = "demo-finance_clerk", "demo-finance_approver"
_ENTERPRISE_FEN = 20_000_000
_ROUND_FEN = 1_000_000
_ENTERPRISE = text(
    "select a.id, a.name, a.area_code from associations a join incentive_policies p"
    f" on p.district_code = a.district_code and p.association_id = a.id"
    f" where a.district_code = '{DISTRICT}' and p.id = :policy_id"
)
_LUCK = hashed("member_id", "'handed'")
_HAND_OUT = f"""
update payouts set
  status = case when {die(_LUCK, 0)} < {share(0.01)} then 'failed' else 'paid' end,
  failure_reason = case when {die(_LUCK, 0)} < {share(0.01)} then '未到场领取' end,
  settled_at = :settled_at
where district_code = :district_code and round_sequence = :round_sequence and run_id = :run_id
"""


async def store(session: AsyncSession) -> None:
    """Calculate the run as everybody's is calculated, and store what became of it."""
    await analyse(session, "attendances", "excuses")
    run = _draft()
    session.add(run)
    await session.flush()
    await calculations.grant(session, run, now=run.created_at)
    run.calculated_at = run.created_at  # the same on every machine, however long it took
    await _fill_funds(session, run)
    await demo_gifts.fill_depots(session, run)
    for each in (reservations, gift_reservations):
        await each.reserve(session, run, subject=_APPROVER, now=run.updated_at)
    await session.execute(
        text(_HAND_OUT),
        {
            "district_code": DISTRICT,
            "round_sequence": run.round_sequence,
            "run_id": run.id,
            "settled_at": run.updated_at,
        },
    )
    await reservations.pay_run(session, run, subject=_CLERK, now=run.updated_at)
    await gift_reservations.hand_out_run(session, run, subject=_CLERK, now=run.updated_at)
    for each in (reservations, gift_reservations):
        await each.release(session, run, subject=_CLERK, now=run.updated_at)
    run.status = RunStatus.SETTLED
    await session.flush()


async def _fill_funds(session: AsyncSession, run: PayoutRun) -> None:
    """Keep the funds that the two policies are paid from, with money for two more rounds."""
    clerk = Caller(_CLERK, Role.FINANCE_CLERK, district_code=DISTRICT, areas=(DISTRICT,))
    enterprise = (await session.execute(_ENTERPRISE, {"policy_id": demo_id(Kind.POLICY, 2)})).one()
    year, now = CLOSED[-2].ends_on.year, run.created_at
    for source, name, area_code, association_id, amount_fen in (
        (FundSource.DISTRICT, "南海区会员感谢经费", DISTRICT, None, 3 * run.amount_fen),
        (
            FundSource.ENTERPRISE,
            f"{enterprise.name}自筹经费",
            enterprise.area_code,
            enterprise.id,
            _ENTERPRISE_FEN,
        ),
    ):
        body = FundCreate(
            name=name,
            source=source,
            fiscal_year=year,
            area_code=area_code,
            association_id=association_id,
        )
        fund = await funds.create(session, clerk, body=body, now=now)
        money = MoneyIn(
            amount_fen=-(-amount_fen // _ROUND_FEN) * _ROUND_FEN,
            document_no=f"示例〔{year}〕1号",
            occurred_on=clock.civil_date(now),
        )
        await funds.receive(session, clerk, fund_id=fund.id, body=money, now=now)


def _draft() -> PayoutRun:
    quarter = CLOSED[-2]
    days = [at(quarter.ends_on + timedelta(days=after), 10) for after in (7, 8, 9, 20)]
    return PayoutRun(
        district_code=DISTRICT,
        id=run_id_of(demo_id(Kind.RUN, 1)),
        version=_STEPS,
        created_at=days[0],
        updated_at=days[3],
        area_code=DISTRICT,
        round_sequence=quarter.sequence,
        policy_id=demo_id(Kind.POLICY, 1),
        policy_number=None,
        channel=Channel.CASH_LIST,
        status=RunStatus.DRAFT,
        status_reason=None,
        payout_count=0,
        amount_fen=0,
        created_by="demo-district_officer",
        calculated_at=days[0],
        submitted_by=_CLERK,
        submitted_at=days[1],
        approved_by=_APPROVER,
        approved_at=days[2],
        settled_at=days[3],
        closed_by=None,
        closed_at=None,
        failed_of=None,
    )
