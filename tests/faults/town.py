"""A small district whose thanks are paid over the gateway while its processes are killed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import auditing, clock
from app.crypto import Keyring
from app.database import Database, transaction
from app.issuer import DevelopmentIssuer
from app.models.finance.funds import Fund
from app.roles import Role
from app.scopes import Acting, Scope
from app.services.accounting import books
from app.settings import Settings
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT, Client
from tests.factories.channels.gateway import Till, open_accounts
from tests.factories.disbursement.payout_runs import Thanks, make_thanks
from tests.factories.incentives.incentive_policies import make_cash, make_policy
from tests.faults.nursery import Child, Nursery

OFFICES = (Role.FINANCE_CLERK, Role.FINANCE_APPROVER)
_PAID = """
select count(*) filter (where p.status in ('paid', 'returned')) as paid,
  coalesce(sum(p.amount_fen) filter (where p.status in ('paid', 'returned')), 0)::bigint as fen,
  count(*) filter (where p.status in ('pending', 'held', 'sending', 'unknown')) as open,
  count(*) as lines
from payouts p join payout_runs r on r.district_code = p.district_code and r.id = p.run_id
where r.channel = 'gateway'
"""
_ENTERED = """
select count(*) as paid, coalesce(sum(t.amount_fen), 0)::bigint as fen
from transfers t join payout_runs r on r.district_code = t.district_code and r.id = t.run_id
where r.channel = 'gateway' and t.kind = 'pay'
"""
_SPENT = """
select (select coalesce(sum(spent_fen), 0) from funds)::bigint as kept,
  (select coalesce(sum(case kind when 'pay' then amount_fen when 'return' then -amount_fen end), 0)
    from transfers)::bigint as entered
"""


@dataclass(frozen=True)
class Town:
    """Where a run is paid: its people, its money, and the settings of its processes."""

    thanks: Thanks
    fund: Fund
    other_policy: str
    settings: Mapping[str, Any]
    issuer: DevelopmentIssuer

    def caller(self, service: Child, role: Role) -> Client:
        """Open a caller of a service by HTTP, who has signed in afresh."""
        token = self.issuer.token(f"{role}-1", step_up=True)
        headers = {"Authorization": f"Bearer {token}", "Accept-Language": "en"}
        return Client(base_url=service.url, headers=headers, timeout=30)

    @property
    def heads(self) -> Path:
        return Path(self.settings["audit_heads"])


async def make_town(
    session: AsyncSession,
    keyring: Keyring,
    config: Settings,
    settings: Mapping[str, Any],
    *,
    members: int,
) -> Town:
    """Store members with accounts who came to a health check, and offices; commit."""
    thanks = await make_thanks(session, [make_cash()], members=members)
    await open_accounts(session, keyring, thanks.members)
    other = await make_policy(session, [make_cash("transport", amount_fen=500)])
    for role in OFFICES:
        await make_grant(session, subject=f"{role}-1", role=role.value)
    await session.commit()
    return Town(thanks, thanks.fund, str(other.id), settings, DevelopmentIssuer(config))


async def faults_of(owner: Database, till: Till) -> list[str]:
    """Say what is not as if every payout had been paid once and entered once; [] if nothing."""
    figures = await till.figures()
    lines = dict(await owner.pool.fetchrow(_PAID))
    entered = dict(await owner.pool.fetchrow(_ENTERED))
    spent = dict(await owner.pool.fetchrow(_SPENT))
    seen = {
        f"{lines['open']} of {lines['lines']} lines are open": lines["open"] == 0,
        f"{figures['effects']} effects of {lines['paid']} lines": figures["effects"]
        == lines["paid"],
        f"{figures['total_fen']} fen paid of {lines['fen']}": figures["total_fen"] == lines["fen"],
        f"{figures['doubled']} payments doubled": figures["doubled"] == 0,
        f"{entered} entered of {lines}": (entered["paid"], entered["fen"])
        == (lines["paid"], lines["fen"]),
        f"{spent['kept']} fen spent of {spent['entered']}": spent["kept"] == spent["entered"],
    }
    async with transaction(owner, Scope(Acting.DISTRICT, DISTRICT)) as session:
        found = await books.check(session, district_code=DISTRICT)
    return [fault for fault, is_right in seen.items() if not is_right] + [str(e) for e in found]


async def audit_holds(owner: Database, heads: Path) -> str:
    """Verify the audit against what was published; raises AuditBroken."""
    return "; ".join(await auditing.verify(owner, heads))


async def let_leases_run_out(owner: Database) -> None:
    """Bring the moment forward at which payments that nobody works on are looked at again."""
    await owner.pool.execute(
        "update gateway_payments set lease_until = $1 where state = 'sending'", clock.now()
    )


def start_worker(nursery: Nursery, town: Town, **more: Any) -> Child:
    """Start a worker of a town."""
    return nursery.start("worker", **dict(town.settings) | more)
