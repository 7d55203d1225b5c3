"""Payments through a gateway over HTTP: sent under their own key, asked after, never logged."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import Depends, Request

from app.calls import CallFailed, Peer
from app.crypto import machine_secret
from app.problems import Problem
from app.settings import Settings

CURRENCY = "CNY"
_MAX_WORD = 64


class NoGateway(Problem):
    """This deployment has no payment gateway, so no run can be paid over one."""

    code, status = "no_gateway", 409


@dataclass(frozen=True)
class Account:
    """Where a payment goes."""

    kind: str
    number: str
    issuer: str
    holder: str


@dataclass(frozen=True)
class Payment:
    """What is paid to whom; its reference is its key, under which it is paid once."""

    reference: str
    amount_fen: int
    statement: str
    account: Account = field(repr=False)


class PaymentStatus(StrEnum):
    """How far the gateway is with a payment."""

    PROCESSING = "processing"
    PAID = "paid"
    FAILED = "failed"


@dataclass(frozen=True)
class Standing:
    """What became of a payment: receipt and day once it is paid, a code if it failed."""

    status: PaymentStatus
    receipt: str | None = None
    paid_on: date | None = None
    reason: str | None = None


@dataclass(frozen=True)
class DayTotals:
    """How many payments the gateway made on a day, and of how much."""

    count: int
    total_fen: int


class Gateway:
    """A payment gateway.

    `POST /payments` takes a payment, `GET /payments/{reference}` tells what became of it, and
    `GET /statements/{day}` what was paid on a civil day.
    """

    def __init__(self, peer: Peer, *, seconds: float) -> None:
        """Pay through an opened peer, which waits so long for an answer."""
        self._peer = peer
        self.seconds = seconds

    async def pay(self, payment: Payment) -> Standing:
        """Hand a payment over and tell how far it is; raises CallFailed.

        A repeat under the same reference is not paid twice.
        """
        body = {
            "reference": payment.reference,
            "amount_fen": payment.amount_fen,
            "currency": CURRENCY,
            "account": asdict(payment.account),
            "statement": payment.statement,
        }
        answer = await self._peer.post("/payments", body, key=payment.reference)
        return _standing(answer, payment.reference, payment.amount_fen)

    async def ask(self, reference: str, *, amount_fen: int) -> Standing | None:
        """Tell what became of a payment; None if the gateway says that it knows of none.

        Raises CallFailed, which leaves open whether it was paid.
        """
        try:
            answer = await self._peer.get(f"/payments/{quote(reference, safe='')}")
        except CallFailed as failure:
            if failure.status == 404:
                return None
            raise
        return _standing(answer, reference, amount_fen)

    async def statement(self, day: date) -> DayTotals:
        """Give what was paid on a day in Asia/Shanghai; raises CallFailed."""
        answer = await self._peer.get(f"/statements/{day.isoformat()}")
        try:
            return DayTotals(int(answer["count"]), int(answer["total_fen"]))
        except (KeyError, TypeError, ValueError):
            raise CallFailed from None


def _standing(answer: Any, reference: str, amount_fen: int) -> Standing:
    """Read an answer; one about another payment, or of another amount, is no answer."""
    try:
        if (answer["reference"], answer["amount_fen"]) != (reference, amount_fen):
            raise CallFailed
        status = PaymentStatus(answer["status"])
        receipt, reason = _word(answer.get("receipt")), _word(answer.get("reason"))
        paid_on = date.fromisoformat(answer["paid_on"]) if receipt is not None else None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CallFailed from None
    if status is PaymentStatus.PAID and receipt is None:
        raise CallFailed
    return Standing(status, receipt, paid_on, reason)


def _word(value: object) -> str | None:
    """Take a receipt or a code; raises ValueError for what could be anything else."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ValueError
    if not 0 < len(value) <= _MAX_WORD or " " in value:
        raise ValueError
    return value


def gateway_key(settings: Settings) -> str:
    """Give the key that the gateway knows us by; in development one of this machine."""
    if settings.gateway_key is not None:
        return settings.gateway_key.get_secret_value()
    return machine_secret(Path(settings.data_dir) / "keys" / "gateway.key")


@asynccontextmanager
async def gateway_of(settings: Settings) -> AsyncIterator[Gateway | None]:
    """Open the gateway that is set, if one is."""
    if settings.gateway_url is None:
        yield None
        return
    seconds = settings.gateway_timeout_seconds
    key = gateway_key(settings)
    async with Peer(settings.gateway_url, name="gateway", bearer=key, seconds=seconds) as peer:
        yield Gateway(peer, seconds=seconds)


async def _is_set(request: Request) -> bool:
    return cast("Settings", request.app.state.settings).gateway_url is not None


HasGateway = Annotated[bool, Depends(_is_set)]
"""Whether this deployment has a payment gateway."""
