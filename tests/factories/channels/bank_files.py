"""Members with an account, runs that a bank pays, and the files that it is given."""

from datetime import date, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.channels.bank_files import BankFile
from app.models.disbursement.payout_runs import Channel, PayoutRun
from app.models.membership.members import Member
from app.services.privacy import data_keys, person_data
from app.services.privacy.person_data import PayoutAccount
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.membership.consents import make_consents
from tests.factories.membership.payout_accounts import make_account

CONSENTED_ON = date(2026, 1, 5)


async def give_account(
    session: AsyncSession, keyring: Keyring, member: Member, seed: int = 1, **facts: Any
) -> PayoutAccount:
    """Store the account of a member, with her consent to it; the caller commits."""
    account = PayoutAccount(**make_account(seed, **facts))
    key = await data_keys.find_or_make(session, keyring, member)
    if member.payment_consented_on is None:
        member.payment_consented_on = CONSENTED_ON
        await make_consents(session, member)
    member.payout_account_sealed = person_data.seal_account(key, member.id, account)
    member.payout_account_index = person_data.account_index(keyring, account)
    await session.flush()
    return account


async def make_bank_thanks(
    session: AsyncSession, keyring: Keyring, members: int = 4, *, sequence: int = 1
) -> Thanks:
    """Store what a run is calculated from whose members have accounts, but for the last one."""
    rules = [make_cash(amount_fen=12_345), make_gift()]
    thanks = await make_thanks(session, rules, members=members, sequence=sequence)
    for seed, member in enumerate(thanks.members[:-1], 1):
        await give_account(session, keyring, member, seed, holder=member.name)
    return thanks


async def make_bank_run(session: AsyncSession, thanks: Thanks, **facts: Any) -> PayoutRun:
    """Store a disbursing run that a bank pays; the caller commits."""
    return await make_granted_run(session, thanks, channel=Channel.BANK_FILE.value, **facts)


def make_order(**facts: Any) -> dict[str, Any]:
    """Give what a bank file is asked for with."""
    order = {
        "execution_on": str(clock.civil_date(clock.now()) + timedelta(days=1)),
        "debtor_name": "测试区计生协会",
        "debtor_account": "80020000001234567",
        "debtor_bank_code": "105588000018",
    }
    return order | facts


async def make_bank_file(session: AsyncSession, run: PayoutRun, **facts: Any) -> BankFile:
    """Store a file of a run's first line; the caller commits."""
    values: dict[str, Any] = {
        "district_code": run.district_code,
        "id": clock.new_id(),
        "run_id": run.id,
        "number": 1,
        "format": "pain.001",
        "execution_on": clock.civil_date(clock.now()),
        "debtor_name": "测试区计生协会",
        "debtor_account_masked": "****4567",
        "debtor_bank_code": "105588000018",
        "lines": [1],
        "amount_fen": 1000,
        "sha256": "0" * 64,
        "content_sealed": None,
        "created_at": clock.now(),
        "created_by": "finance_clerk-1",
        "answered_at": None,
        "rejected_at": None,
        "status_reason": None,
        "given_at": None,
        "discarded_at": None,
    }
    file = BankFile(**(values | facts))
    session.add(file)
    await session.flush()
    return file
