"""The payment gateway's sandbox, members with accounts, and runs that are paid over it."""

from collections.abc import Iterable
from datetime import date
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.channels.gateway_payments import GatewayPayment, GatewayState
from app.models.disbursement.payout_runs import Channel, PayoutRun
from app.models.membership.members import Member
from app.paying import Payer
from app.payment_gateway import gateway_of
from app.services.privacy import data_keys, person_data
from app.services.privacy.person_data import PayoutAccount
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_thanks
from tests.factories.incentives.incentive_policies import make_cash
from tests.factories.membership.payout_accounts import make_card_number

GATEWAY_KEY = "of-the-tests"


class Till:
    """What the sandbox paid, and how it behaves."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def effects(self, reference: str | None = None) -> list[dict[str, Any]]:
        """Give every effect, or those of one payout."""
        params = {} if reference is None else {"reference": reference}
        answer = await self._client.get("/sandbox/payments", params=params)
        effects: list[dict[str, Any]] = answer.raise_for_status().json()
        return effects

    async def figures(self) -> dict[str, int]:
        """Give how many calls, absorbed repeats, effects and double effects there were."""
        figures: dict[str, int] = (await self._client.get("/sandbox/figures")).json()
        return figures

    async def behave(self, **behaviour: Any) -> None:
        """Have the sandbox fail or be slow."""
        answer = await self._client.put("/sandbox/behaviour", json=behaviour)
        answer.raise_for_status()

    async def empty(self) -> None:
        """Forget what was paid, and behave."""
        (await self._client.delete("/sandbox/payments")).raise_for_status()


def make_gateway_payment(run: PayoutRun, member: Member, **facts: Any) -> GatewayPayment:
    """Make the payment of a run's first line, which is on its way."""
    now = clock.now()
    values: dict[str, Any] = {
        "district_code": run.district_code,
        "run_id": run.id,
        "line_no": 1,
        "round_sequence": run.round_sequence,
        "member_id": member.id,
        "rule_id": clock.new_id(),
        "amount_fen": 1000,
        "state": GatewayState.SENDING.value,
        "sent_at": now,
        "lease_until": now,
        "attempts": 1,
        "ask_only": False,
        "last_answer": None,
        "receipt": None,
        "paid_on": None,
    }
    return GatewayPayment(**(values | facts))


async def open_accounts(session: AsyncSession, keyring: Keyring, members: Iterable[Member]) -> None:
    """Give members an account in force, to which they consent; the caller commits."""
    for seed, member in enumerate(members, 1):
        key = await data_keys.find_or_make(session, keyring, member)
        account = PayoutAccount("bank_card", make_card_number(seed), "示例银行", "张小样")
        member.payment_consented_on = date(2025, 1, 1)
        member.payout_account_sealed = person_data.seal_account(key, member.id, account)
        member.payout_account_index = person_data.account_index(keyring, account)
    await session.flush()


async def work(app: FastAPI) -> None:
    """Pay what is due, as a worker does."""
    state = app.state
    async with gateway_of(state.settings) as gateway:
        assert gateway is not None
        await Payer(state.database, state.keyring, gateway).run()


async def make_gateway_run(
    session: AsyncSession, keyring: Keyring, *, members: int = 3, **facts: Any
) -> tuple[Thanks, PayoutRun]:
    """Store a disbursing run over the gateway to members with accounts; the caller commits."""
    thanks = await make_thanks(session, [make_cash()], members=members)
    await open_accounts(session, keyring, thanks.members)
    run = await make_granted_run(session, thanks, channel=Channel.GATEWAY.value, **facts)
    return thanks, run
