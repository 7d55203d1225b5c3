"""Which lines of a run are vouchers: they are paid by redeeming them, and by nothing else."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.models.disbursement.payout_runs import PayoutRun
from app.models.incentives.incentive_policies import Reward
from app.problems import Problem

BY_VOUCHER = f"i.reward is not distinct from '{Reward.SERVICE_VOUCHER}'"
"""Whether a payout, of the rule `i`, is paid by redeeming a voucher."""
OTHERWISE = "p.rule_id <> all(cast(:vouchers as uuid[]))"
"""Whether a payout `p` is money for her, not for a station; `vouchers` are the run's `rules_of`."""
_RULES = text(
    "select i.rule_id, i.valid_days from incentive_rules i"
    " where i.district_code = :district_code and i.policy_id = :policy_id"
    f" and i.number = :number and {BY_VOUCHER}"
)


class PayoutByVoucher(Problem):
    """The payout is a voucher: a station redeems it, and nobody else pays or takes it back."""

    code, status = "payout_by_voucher", 409


async def rules_of(session: AsyncSession, run: PayoutRun) -> dict[UUID, int]:
    """Give the rules of a run that thank with a voucher, and how many days one is valid."""
    params = {
        "district_code": run.district_code,
        "policy_id": run.policy_id,
        "number": run.policy_number,
    }
    return {row.rule_id: row.valid_days for row in await session.execute(_RULES, params)}
