"""A stand-in for the payment gateway on loopback: remembers each effect, and fails when told to."""

import asyncio
from collections import Counter
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from app import clock
from app.payment_gateway import PaymentStatus
from app.stand_ins import Refused, admitting, handle_failures

_Next = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Behaviour(BaseModel):
    """How the sandbox answers from now on.

    `…_next` counts down, `…_share` is of all that follow, spread evenly. Before effect nothing is
    paid; after effect the payment is stored and its answer is lost.
    """

    model_config = ConfigDict(extra="forbid")

    slow_ms: int = Field(default=0, ge=0, le=60_000, description="How long each answer takes.")
    fail_next: _Next = Field(default=0, description="How many payments are refused before effect.")
    fail_share: _Share = 0
    fail_status: int = Field(default=503, ge=400, le=599, description="With which status.")
    lose_next: _Next = Field(default=0, description="How many answers are lost after effect.")
    lose_share: _Share = 0
    lose_status: int | None = Field(
        default=None, ge=500, le=599, description="Answered in its place; else the line drops."
    )
    reject_next: _Next = Field(default=0, description="How many payments fail for good.")
    reject_accounts: list[str] = Field(default=[], description="Numbers to which each fails.")
    reject_reason: str = "account_closed"
    processing_asks: _Next = Field(
        default=0, description="How often a new payment is still under way when asked about."
    )
    fail_asks: bool = Field(default=False, description="Nobody is told what became of one.")
    ignores_keys: bool = Field(
        default=False, description="A repeat is paid again, as by a gateway without keys."
    )
    repeats_receipts: bool = Field(default=False, description="All payments have one receipt.")
    count_off: int = Field(default=0, description="By how much a statement miscounts.")
    total_off_fen: int = Field(default=0, description="By how much its total is wrong.")


class Place(BaseModel):
    """An account to pay to."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["bank_card", "electronic"]
    number: str = Field(min_length=4, max_length=64)
    issuer: str = Field(min_length=1, max_length=60)
    holder: str = Field(min_length=1, max_length=100)


class Order(BaseModel):
    """A payment as a client sends it."""

    model_config = ConfigDict(extra="forbid")

    reference: str = Field(min_length=1, max_length=100)
    amount_fen: int = Field(gt=0)
    currency: Literal["CNY"]
    account: Place
    statement: str = Field(min_length=1, max_length=100)


class Effect(BaseModel):
    """Money that moved, or was refused for good."""

    reference: str
    key: str
    amount_fen: int
    account_number: str
    statement: str
    status: PaymentStatus
    receipt: str | None
    reason: str | None
    paid_on: date
    asks_left: int


class Figures(BaseModel):
    """What a test counts: calls, repeats that were absorbed, and effects by reference."""

    calls: int
    repeats: int
    effects: int
    doubled: int
    total_fen: int


class Vault:
    """What one sandbox remembers."""

    def __init__(self) -> None:
        self.empty()

    def empty(self) -> None:
        """Forget everything and behave again."""
        self.behaviour = Behaviour()
        self.effects: list[Effect] = []
        self.calls = self.repeats = 0
        self._by_key: dict[str, tuple[Order, Effect]] = {}
        self._owed: Counter[str] = Counter()

    def take(self, order: Order, key: str) -> Effect:
        """Make a payment once for its key, unless told otherwise."""
        self.calls += 1
        known = None if self.behaviour.ignores_keys else self._by_key.get(key)
        if known is not None:
            if known[0] != order:
                raise Refused(422, "idempotency_key_reused")
            self.repeats += 1
            return known[1]
        if self._is_due("fail"):
            raise Refused(self.behaviour.fail_status, "told_to_fail")
        effect = self._made(order, key)
        self.effects.append(effect)
        self._by_key[key] = (order, effect)
        return effect

    def _made(self, order: Order, key: str) -> Effect:
        told = self.behaviour
        rejects = self._is_due("reject") or order.account.number in told.reject_accounts
        status = PaymentStatus.FAILED if rejects else PaymentStatus.PAID
        receipt = "R1" if told.repeats_receipts else f"R{clock.new_name()}"
        return Effect(
            reference=order.reference,
            key=key,
            amount_fen=order.amount_fen,
            account_number=order.account.number,
            statement=order.statement,
            status=status,
            receipt=None if rejects else receipt,
            reason=told.reject_reason if rejects else None,
            paid_on=clock.civil_date(clock.now()),
            asks_left=told.processing_asks,
        )

    def loses(self) -> bool:
        """Tell whether the answer under way is to be lost after its effect."""
        return self._is_due("lose")

    def _is_due(self, what: str) -> bool:
        left: int = getattr(self.behaviour, f"{what}_next")
        if left:
            setattr(self.behaviour, f"{what}_next", left - 1)
            return True
        # In thousandths, so that a share of a tenth is exactly each tenth time.
        self._owed[what] += round(1000 * getattr(self.behaviour, f"{what}_share", 0))
        if self._owed[what] < 1000:
            return False
        self._owed[what] -= 1000
        return True

    def find(self, reference: str) -> Effect:
        """Give what became of a payment, or refuse; who asks often enough sees it through."""
        if self.behaviour.fail_asks:
            raise Refused(503, "told_to_fail")
        found = [effect for effect in self.effects if effect.reference == reference]
        if not found:
            raise Refused(404, "not_found")
        if found[0].asks_left:
            found[0].asks_left -= 1
            return found[0].model_copy(update={"asks_left": 1})
        return found[0]

    def totals(self, day: date) -> dict[str, Any]:
        """Give the count and total of what was paid on a day, wrong if told so."""
        paid = [e for e in self.effects if e.status is PaymentStatus.PAID and e.paid_on == day]
        return {
            "date": day.isoformat(),
            "count": len(paid) + self.behaviour.count_off,
            "total_fen": sum(e.amount_fen for e in paid) + self.behaviour.total_off_fen,
        }

    def figures(self) -> Figures:
        """Count."""
        paid = [effect for effect in self.effects if effect.status is PaymentStatus.PAID]
        counts = Counter(effect.reference for effect in paid)
        return Figures(
            calls=self.calls,
            repeats=self.repeats,
            effects=len(paid),
            doubled=sum(count > 1 for count in counts.values()),
            total_fen=sum(effect.amount_fen for effect in paid),
        )


class _Dropped(Response):
    """An answer that ends before it is whole: the server hangs up."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"100"), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


def create_sandbox(key: str) -> FastAPI:
    """Make the sandbox of a gateway that knows its client by a key."""
    app = FastAPI(title="Payment sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    vault = Vault()
    handle_failures(app)
    _serve_gateway(app, vault, key)
    _serve_control(app, vault)
    return app


def _shown(effect: Effect) -> dict[str, Any]:
    shown: dict[str, Any] = {"reference": effect.reference, "amount_fen": effect.amount_fen}
    if effect.asks_left:
        return shown | {"status": PaymentStatus.PROCESSING}
    return shown | {
        "status": effect.status,
        "receipt": effect.receipt,
        "paid_on": effect.paid_on.isoformat(),
        "reason": effect.reason,
    }


def _serve_gateway(app: FastAPI, vault: Vault, key: str) -> None:
    client = Depends(admitting(key))

    @app.post("/payments", status_code=201, dependencies=[client], response_model=None)
    async def pay(
        order: Order, idempotency_key: Annotated[str | None, Header()] = None
    ) -> dict[str, Any] | Response:
        if not idempotency_key:
            raise Refused(400, "idempotency_key_required")
        behaviour = vault.behaviour
        try:
            effect = vault.take(order, idempotency_key)
        finally:
            await asyncio.sleep(behaviour.slow_ms / 1000)
        if not vault.loses():
            return _shown(effect)
        if behaviour.lose_status is not None:
            raise Refused(behaviour.lose_status, "told_to_fail")
        return _Dropped()

    @app.get("/payments/{reference}", dependencies=[client])
    async def ask(reference: str) -> dict[str, Any]:
        await asyncio.sleep(vault.behaviour.slow_ms / 1000)
        return _shown(vault.find(reference))

    @app.get("/statements/{day}", dependencies=[client])
    async def statement(day: date) -> dict[str, Any]:
        return vault.totals(day)


def _serve_control(app: FastAPI, vault: Vault) -> None:
    @app.get("/sandbox/payments")
    async def payments(reference: str | None = None) -> list[Effect]:
        return [each for each in vault.effects if reference in {None, each.reference}]

    @app.delete("/sandbox/payments", status_code=204)
    async def empty() -> None:
        vault.empty()

    @app.get("/sandbox/figures")
    async def figures() -> Figures:
        return vault.figures()

    @app.put("/sandbox/behaviour")
    async def behave(behaviour: Behaviour) -> Behaviour:
        vault.behaviour = behaviour
        return behaviour
