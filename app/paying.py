"""Paying over the gateway: claims are committed, then it is called, then its answers are stored.

No transaction is open and no connection held while the gateway is called. A process that ends
anywhere leaves leases, and whoever finds one that is over asks what became of the payment: only
what the gateway says it does not know is sent again, under the same key.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from uuid import UUID

import structlog

from app import clock, metrics
from app.calls import CallFailed
from app.crypto import Keyring
from app.database import Database, Door
from app.identity import GATEWAY, Caller
from app.models.channels.gateway_payments import GatewayState
from app.payment_gateway import Account, DayTotals, Gateway, PaymentStatus, Standing, gateway_of
from app.roles import Role
from app.services.channels import gateway_payments
from app.services.channels.gateway_payments import NO_ACCOUNT, Claimed, Outcome
from app.services.organisation import areas
from app.settings import Settings

_EVERY_SECONDS = 5
_AT_ONCE = 8
"""How many calls are under way at the same time."""
_LEASE_CALLS = 10
"""A lease lasts as long as so many calls that time out: a batch's two rounds, and some."""
_MOST_ATTEMPTS = 8
"""So often in a row there may be no answer; then a person finds out."""
_LONGEST_PAUSE_SECONDS = 900
_PROCESSING_CALLS = 6
_LOOK_AGAIN = timedelta(minutes=1)
"""How long a run is left alone of which nothing was left to send."""
_COMPARE_AGAIN = timedelta(hours=1)
_START = (UUID(int=0), UUID(int=0))
_REFUSED = {"400", "422"}
"""Answers to a payment that say that it cannot be made as it is."""
_PLAIN_CODE = re.compile(r"(?!.*\d{6})[\w.-]{1,64}", re.ASCII)
_WORDS = {
    "account_closed": "账户已注销",
    "account_not_found": "账户不存在",
    "holder_mismatch": "户名不符",
}
_log = structlog.get_logger()


async def keep(
    database: Database, keyring: Keyring, settings: Settings, stop: asyncio.Event
) -> None:
    """Pay what is due until `stop`, if there is a gateway."""
    async with gateway_of(settings) as gateway:
        if gateway is None:
            return
        payer = Payer(database, keyring, gateway)
        while not stop.is_set():
            try:
                await payer.run(stop)
            except Exception as error:  # noqa: BLE001  (a database that is away must not end it)
                _log.error("payments_stopped", error=type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _EVERY_SECONDS)


@dataclass
class Payer:
    """Sends what is pending and asks about what was sent, in every district; any number may."""

    database: Database
    keyring: Keyring
    gateway: Gateway
    _through: dict[UUID, datetime] = field(default_factory=dict)
    """The runs of which nothing was left to send, and when."""
    _compared_at: datetime | None = None

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Do once, in each run that is disbursing, all that is due."""
        door = Door(self.database)
        districts = await areas.list_districts(door.looking)
        for district_code in districts:
            statements = door.statements(district_code)
            for run_id in await gateway_payments.list_runs(statements, district_code=district_code):
                await self._pay_run(district_code, run_id, stop or asyncio.Event())
            unknown = await gateway_payments.count_unknown(statements, district_code=district_code)
            metrics.GATEWAY_UNKNOWN.labels(district_code).set(unknown)
        now = clock.now()
        if self._compared_at is None or now - self._compared_at > _COMPARE_AGAIN:
            self._compared_at = now
            await self._compare(door, districts, day=clock.civil_date(now) - timedelta(days=1))

    async def _compare(self, door: Door, districts: list[str], *, day: date) -> None:
        """Compare the gateway's statement of a day with what the districts paid over it."""
        try:
            stated = await self.gateway.statement(day)
        except CallFailed as failure:
            _log.warning("statement_unavailable", why=failure.why, status=failure.status)
            return
        ours = [
            await gateway_payments.totals_on(door.statements(code), district_code=code, day=day)
            for code in districts
        ]
        kept = DayTotals(sum(each.count for each in ours), sum(each.total_fen for each in ours))
        metrics.GATEWAY_STATEMENT_DIFFERS.set(kept != stated)
        if kept != stated:
            _log.error(
                "statement_differs",
                day=day.isoformat(),
                stated=(stated.count, stated.total_fen),
                kept=(kept.count, kept.total_fen),
            )

    async def _pay_run(self, district_code: str, run_id: UUID, stop: asyncio.Event) -> None:
        through = self._through.get(run_id)
        is_through = through is not None and clock.now() - through < _LOOK_AGAIN
        batch = _Batch(self, district_code, run_id, None if is_through else _START)
        while not stop.is_set() and await batch.work():
            pass
        if not is_through and batch.after is None:
            self._through[run_id] = clock.now()


@dataclass
class _Batch:
    """The batches of one run, one after the other."""

    payer: Payer
    district_code: str
    run_id: UUID
    after: tuple[UUID, UUID] | None
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def work(self) -> bool:
        """Claim a batch, call the gateway, store its answers; False when nothing was due."""
        now = clock.now()
        lease = timedelta(seconds=_LEASE_CALLS * self.payer.gateway.seconds)
        async with self._door("claim").transaction(self.district_code) as session:
            claims = await gateway_payments.claim(
                session,
                self.payer.keyring,
                district_code=self.district_code,
                run_id=self.run_id,
                after=self.after,
                now=now,
                until=now + lease,
            )
        self.after = claims.after
        called = [self._send(each, claims.accounts[each.line_no]) for each in claims.new]
        asked = [self._ask(each) for each in claims.again]
        sent, found = await asyncio.gather(asyncio.gather(*called), asyncio.gather(*asked))
        outcomes = list(zip(claims.new, sent, strict=True))
        outcomes += [(each, got) for each, got in zip(claims.again, found, strict=True) if got]
        missing = [each for each, got in zip(claims.again, found, strict=True) if got is None]
        outcomes += await self._send_again(missing)
        await self._record(outcomes)
        return bool(outcomes) or self.after is not None

    async def _send(self, claimed: Claimed, account: Account) -> Outcome:
        payment = gateway_payments.payment_of(self.run_id, claimed, account)
        async with self._turns:
            try:
                return self._outcome(await self.payer.gateway.pay(payment))
            except CallFailed as failure:
                return self._silence(claimed, failure)

    async def _ask(self, claimed: Claimed) -> Outcome | None:
        """Tell what became of a payment; None if it is to be sent again."""
        reference = gateway_payments.reference_of(self.run_id, claimed)
        async with self._turns:
            try:
                standing = await self.payer.gateway.ask(reference, amount_fen=claimed.amount_fen)
            except CallFailed as failure:
                return self._silence(claimed, failure)
        if standing is not None:
            return self._outcome(standing)
        if claimed.ask_only:
            return Outcome(GatewayState.UNKNOWN, "not_found")
        if claimed.last_answer in _REFUSED:
            return Outcome(GatewayState.FAILED, "refused", reason="支付平台未受理")
        return None

    async def _send_again(self, missing: list[Claimed]) -> list[tuple[Claimed, Outcome]]:
        if not missing:
            return []
        async with self._door("resend").transaction(self.district_code) as session:
            accounts = await gateway_payments.accounts_of(
                session, self.payer.keyring, district_code=self.district_code, claimed=missing
            )
        nowhere = Outcome(GatewayState.FAILED, "no_account", reason=NO_ACCOUNT)
        payable = [each for each in missing if each.line_no in accounts]
        sent = await asyncio.gather(*(self._send(e, accounts[e.line_no]) for e in payable))
        without = [(each, nowhere) for each in missing if each.line_no not in accounts]
        return [*zip(payable, sent, strict=True), *without]

    async def _record(self, outcomes: list[tuple[Claimed, Outcome]]) -> None:
        if not outcomes:
            return
        async with self._door("record").transaction(self.district_code) as session:
            await gateway_payments.record(
                session,
                district_code=self.district_code,
                run_id=self.run_id,
                outcomes=outcomes,
                now=clock.now(),
            )

    def _outcome(self, standing: Standing) -> Outcome:
        if standing.status is PaymentStatus.PROCESSING:
            pause = _PROCESSING_CALLS * self.payer.gateway.seconds
            return Outcome(GatewayState.SENDING, "processing", pause=pause)
        if standing.status is PaymentStatus.PAID:
            receipt, paid_on = standing.receipt, standing.paid_on
            return Outcome(GatewayState.PAID, "paid", receipt=receipt, paid_on=paid_on)
        return Outcome(GatewayState.FAILED, "failed", reason=_reason(standing.reason))

    def _silence(self, claimed: Claimed, failure: CallFailed) -> Outcome:
        """Leave a payment for later, each time for longer, and in the end for a person."""
        answer = str(failure.status or failure.why)
        if claimed.attempts >= _MOST_ATTEMPTS:
            _log.warning("payment_unknown", why=answer)
            return Outcome(GatewayState.UNKNOWN, answer)
        pause = self.payer.gateway.seconds * 2 ** (claimed.attempts - 1)
        return Outcome(GatewayState.SENDING, answer, pause=min(pause, _LONGEST_PAUSE_SECONDS))

    def _door(self, step: str) -> Door:
        caller = Caller(GATEWAY, Role.OPERATIONS, self.district_code)
        act = caller.act(
            f"{step}_gateway_payments",
            kind="payout_runs",
            ids=[self.run_id],
            request_id=f"payout_run:{self.run_id}",
        )
        if step != "record":
            act.fields, act.purpose = ("payout_account",), "payout"
        return Door(self.payer.database, act)


def _reason(code: str | None) -> str:
    """Say why the gateway did not pay, in words or by its code, never by what else it may say."""
    if code is None or not _PLAIN_CODE.fullmatch(code):
        return "支付平台退回"
    return f"支付平台退回：{_WORDS.get(code, code)}"
