"""Paying over the gateway, against its sandbox over real HTTP: each payout once, whatever fails."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, metrics, paying
from app.calls import CallFailed, Peer
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import payout_id
from app.paying import Payer
from app.payment_gateway import Account, Gateway, Payment, PaymentStatus, Standing, gateway_of
from app.services.audit.audit_seals import UNSEALED
from app.services.channels import gateway_payments
from app.settings import Settings
from tests.factories.channels.gateway import Till, make_gateway_run
from tests.factories.finance.funds import agree

_STATES = "select line_no, status, failure_reason from payouts order by line_no"
_ROWS = "select * from gateway_payments order by line_no"
_LATER = "update gateway_payments set lease_until = lease_until - interval '1 hour'"
_SPENT = "select spent_fen, reserved_fen from funds"
_ACCOUNT = Account("bank_card", "6200000000000000000", "示例银行", "张小样")


@pytest_asyncio.fixture
async def gateway(config: Settings, till: Till) -> AsyncIterator[Gateway]:
    assert isinstance(till, Till)
    async with gateway_of(config) as opened:
        assert opened is not None
        yield opened


@pytest.fixture
def payer(database: Database, keyring: Keyring, gateway: Gateway) -> Callable[[], Payer]:
    """Make a worker that has not looked at anything yet."""
    return lambda: Payer(database, keyring, gateway)


@pytest_asyncio.fixture
async def run(session: AsyncSession, keyring: Keyring) -> PayoutRun:
    _, run = await make_gateway_run(session, keyring)
    await session.commit()
    return run


async def _states(owner: Database) -> list[str]:
    return [row["status"] for row in await owner.pool.fetch(_STATES)]


async def _turns(make: Callable[[], Payer], owner: Database, most: int) -> None:
    """Work, each time when all leases are over, until nothing is on its way."""
    for _ in range(most):
        await make().run()
        if "sending" not in await _states(owner):
            return
        await owner.pool.execute(_LATER)


async def _until_nothing_waits(make: Callable[[], Payer], owner: Database) -> None:
    for _ in range(6):
        await owner.pool.execute(_LATER)
        await make().run()
        if set(await _states(owner)) == {"paid"}:
            return


def _paid_once(effects: list[dict[str, Any]], run: PayoutRun, lines: int) -> None:
    counts = Counter(each["reference"] for each in effects if each["status"] == "paid")
    expected = {str(payout_id(run.id, line)) for line in range(1, lines + 1)}
    assert counts == dict.fromkeys(expected, 1)


async def test_a_run_is_paid_to_the_accounts_in_force_and_the_books_agree(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await payer().run()

    assert await _states(owner) == ["paid"] * 3
    effects = await till.effects()
    _paid_once(effects, run, 3)
    assert {each["key"] for each in effects} == {each["reference"] for each in effects}
    assert {each["statement"] for each in effects} == {"协会福利"}
    rows = await owner.pool.fetch(_ROWS)
    assert {row["receipt"] for row in rows} == {each["receipt"] for each in effects}
    assert tuple(await owner.pool.fetchrow(_SPENT)) == (3000, 0)
    await agree(owner)


async def test_the_audit_tells_whose_accounts_were_used_and_no_number_of_theirs(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await payer().run()

    entries = await owner.pool.fetch(f"select * from ({UNSEALED}) e order by id")
    claimed = [each for each in entries if each["act"] == "claim_gateway_payments"]
    members = {row["member_id"] for row in await owner.pool.fetch(_ROWS)}
    assert len(claimed) == 1
    assert set(claimed[0]["person_ids"]) == members
    assert (claimed[0]["fields"], claimed[0]["purpose"]) == (["payout_account"], "payout")
    assert claimed[0]["object_ids"] == [str(run.id)]
    numbers = [each["account_number"] for each in await till.effects()]
    assert not any(number in str(entry) for number in numbers for entry in entries)


@pytest.mark.parametrize(
    "behaviour",
    [
        {"fail_next": 2},
        {"fail_next": 2, "fail_status": 429},
        {"lose_next": 2},
        {"lose_next": 2, "lose_status": 500},
        {"slow_ms": 700},
        {"processing_asks": 2},
    ],
    ids=str,
)
async def test_what_gives_no_answer_is_asked_about_and_paid_once(
    run: PayoutRun,
    payer: Callable[[], Payer],
    till: Till,
    owner: Database,
    behaviour: dict[str, Any],
) -> None:
    await till.behave(**behaviour)
    await payer().run()
    assert "sending" in await _states(owner)
    await agree(owner)
    if "slow_ms" in behaviour:
        await till.behave()
    await owner.pool.execute(_LATER)
    await _turns(payer, owner, 4)

    assert await _states(owner) == ["paid"] * 3
    _paid_once(await till.effects(), run, 3)
    await agree(owner)


async def test_a_repeat_of_what_was_stored_is_absorbed_by_its_key(
    gateway: Gateway, till: Till
) -> None:
    payment = Payment("p-1", 1000, "协会福利", _ACCOUNT)
    first = await gateway.pay(payment)
    assert await gateway.pay(payment) == first
    assert await gateway.ask("p-1", amount_fen=1000) == first
    with pytest.raises(CallFailed, match="422"):
        await gateway.pay(dataclasses.replace(payment, amount_fen=2000))
    figures = await till.figures()
    assert (figures["repeats"], figures["effects"], figures["doubled"]) == (1, 1, 0)


async def test_what_the_gateway_rejects_fails_with_its_reason_and_costs_nothing(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await till.behave(reject_next=1)
    await payer().run()

    found = await owner.pool.fetch(_STATES)
    assert Counter(row["status"] for row in found) == {"paid": 2, "failed": 1}
    (failed,) = [row for row in found if row["status"] == "failed"]
    assert failed["failure_reason"] == "支付平台退回：账户已注销"
    assert tuple(await owner.pool.fetchrow(_SPENT)) == (2000, 1000)
    assert run.payout_count == 3
    await agree(owner)


async def test_what_the_gateway_does_not_take_as_it_is_fails_once_it_is_known_not_to_have_it(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await till.behave(fail_next=3, fail_status=422)
    await payer().run()
    assert await _states(owner) == ["sending"] * 3
    await owner.pool.execute(_LATER)
    await payer().run()

    found = await owner.pool.fetch(_STATES)
    assert {(row["status"], row["failure_reason"]) for row in found} == {
        ("failed", "支付平台未受理")
    }
    assert not await till.effects()
    assert run.payout_count == 3


async def test_persistent_silence_leaves_a_payout_for_a_person_and_sends_nothing_more(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await till.behave(lose_share=1, fail_asks=True)
    await _turns(payer, owner, 20)

    assert await _states(owner) == ["unknown"] * 3
    assert {row["attempts"] for row in await owner.pool.fetch(_ROWS)} == {paying._MOST_ATTEMPTS}
    await till.behave()
    calls = (await till.figures())["calls"]
    await payer().run()
    assert (await till.figures())["calls"] == calls == 3
    assert await _states(owner) == ["unknown"] * 3
    _paid_once(await till.effects(), run, 3)
    await agree(owner)


async def test_a_gateway_that_is_away_is_given_no_more_than_a_batch(
    session: AsyncSession,
    keyring: Keyring,
    payer: Callable[[], Payer],
    till: Till,
    owner: Database,
) -> None:
    await make_gateway_run(session, keyring, members=50)
    await session.commit()
    await till.behave(fail_share=1)
    worker = payer()
    for _ in range(3):
        await worker.run()

    assert Counter(await _states(owner)) == {"sending": 40, "pending": 10} or Counter(
        await _states(owner)
    ) == {"sending": 20, "pending": 30}


async def test_two_workers_at_once_send_each_payout_once(
    session: AsyncSession,
    keyring: Keyring,
    payer: Callable[[], Payer],
    till: Till,
    owner: Database,
) -> None:
    _, run = await make_gateway_run(session, keyring, members=90)
    await session.commit()
    await till.behave(slow_ms=5)
    await asyncio.gather(*(payer().run() for _ in range(4)))
    # On a busy machine some calls time out, and those are asked about.
    await _until_nothing_waits(payer, owner)

    _paid_once(await till.effects(), run, 90)
    assert await _states(owner) == ["paid"] * 90
    await agree(owner)


async def test_two_workers_that_find_the_same_lease_over_record_it_once(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await till.behave(lose_next=3)
    await payer().run()
    for _ in range(3):
        await owner.pool.execute(_LATER)
        await asyncio.gather(*(payer().run() for _ in range(4)))

    assert await _states(owner) == ["paid"] * 3
    _paid_once(await till.effects(), run, 3)
    assert tuple(await owner.pool.fetchrow(_SPENT)) == (3000, 0)
    await agree(owner)


async def test_whoever_has_no_account_that_can_be_read_fails_and_can_be_paid_by_another_run(
    session: AsyncSession,
    keyring: Keyring,
    payer: Callable[[], Payer],
    till: Till,
    owner: Database,
) -> None:
    thanks, run = await make_gateway_run(session, keyring)
    thanks.members[0].payout_account_sealed = None
    thanks.members[0].payout_account_index = None
    await session.flush()
    await session.execute(
        text("delete from data_keys where member_id = :id"), {"id": thanks.members[1].id}
    )
    await session.commit()
    await payer().run()

    found = await owner.pool.fetch(_STATES)
    assert Counter((row["status"], row["failure_reason"]) for row in found) == {
        ("failed", "没有收款账户"): 2,
        ("paid", None): 1,
    }
    assert len(await till.effects()) == 1
    assert run.payout_count == 3
    await agree(owner)


async def test_held_payouts_are_passed_over(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await owner.pool.execute("update payouts set status = 'held' where line_no = 2")
    await payer().run()
    assert await _states(owner) == ["paid", "held", "paid"]

    await owner.pool.execute("update payouts set status = 'pending' where line_no = 2")
    await payer().run()
    assert await _states(owner) == ["paid"] * 3
    _paid_once(await till.effects(), run, 3)


@pytest.mark.parametrize(
    "change", ["channel = 'cash_list'", "status = 'approved'", "channel = 'bank_file'"]
)
async def test_only_runs_that_are_disbursing_over_the_gateway_are_sent(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database, change: str
) -> None:
    await owner.pool.execute(f"update payout_runs set {change} where id = $1", run.id)
    await payer().run()
    assert await _states(owner) == ["pending"] * 3
    assert not await till.effects()


async def test_a_receipt_that_is_given_twice_leaves_the_second_payment_for_a_person(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await till.behave(repeats_receipts=True)
    await payer().run()
    assert Counter(await _states(owner)) == {"paid": 1, "unknown": 2}
    assert run.payout_count == 3
    await agree(owner)


async def test_a_statement_tells_what_was_paid_on_a_day_or_something_wrong(
    run: PayoutRun, payer: Callable[[], Payer], gateway: Gateway, till: Till
) -> None:
    await payer().run()
    today = clock.civil_date(clock.now())
    totals = await gateway.statement(today)
    assert (totals.count, totals.total_fen) == (3, run.amount_fen)
    assert (await gateway.statement(date(2020, 1, 1))).count == 0
    await till.behave(count_off=1, total_off_fen=-100)
    totals = await gateway.statement(today)
    assert (totals.count, totals.total_fen) == (4, run.amount_fen - 100)


async def test_yesterdays_statement_is_compared_with_what_was_paid(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    async def differs() -> float:
        await payer().run()
        return float(metrics.GATEWAY_STATEMENT_DIFFERS._value.get())

    assert await differs() == 0
    await owner.pool.execute("update gateway_payments set paid_on = paid_on - 1 where line_no = 1")
    assert await differs() == 1
    await till.behave(count_off=1, total_off_fen=run.amount_fen // 3)
    assert await differs() == 0


async def test_an_unknown_key_and_an_answer_about_another_payment_are_failures(
    gateway: Gateway, gateway_url: str
) -> None:
    payment = Payment("p-1", 1000, "协会福利", _ACCOUNT)
    await gateway.pay(payment)
    with pytest.raises(CallFailed):
        await gateway.ask("p-1", amount_fen=999)
    assert await gateway.ask("p-2", amount_fen=1000) is None
    async with Peer(gateway_url, name="gateway", bearer="another") as peer:
        with pytest.raises(CallFailed, match="401"):
            await Gateway(peer, seconds=1).pay(payment)


def test_a_payment_does_not_show_its_account_when_printed() -> None:
    assert _ACCOUNT.number not in repr(Payment("p-1", 1000, "协会福利", _ACCOUNT))


async def test_a_new_key_for_each_attempt_pays_twice_and_the_sandbox_shows_it(
    run: PayoutRun,
    payer: Callable[[], Payer],
    till: Till,
    owner: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: a sender without stable keys, which does not ask, doubles what was lost."""

    def fresh(_run_id: UUID, _claimed: Any) -> str:
        return str(clock.new_id())

    monkeypatch.setattr(gateway_payments, "reference_of", fresh)
    await till.behave(lose_next=2)
    await payer().run()
    await owner.pool.execute(_LATER)
    await payer().run()

    figures = await till.figures()
    assert await _states(owner) == ["paid"] * 3
    assert figures["effects"] == 5 > run.payout_count
    assert figures["total_fen"] == run.amount_fen + 2000


async def test_a_gateway_that_ignores_keys_is_asked_and_so_pays_once(
    run: PayoutRun, payer: Callable[[], Payer], till: Till, owner: Database
) -> None:
    await till.behave(ignores_keys=True, lose_next=2)
    await payer().run()
    await owner.pool.execute(_LATER)
    await payer().run()
    _paid_once(await till.effects(), run, 3)
    assert (await till.figures())["doubled"] == 0


async def test_the_sandbox_shows_a_double_effect_where_keys_are_ignored(
    gateway: Gateway, till: Till
) -> None:
    await till.behave(ignores_keys=True)
    payment = Payment("p-1", 1000, "协会福利", _ACCOUNT)
    for _ in range(2):
        assert (await gateway.pay(payment)).status is PaymentStatus.PAID
    assert len(await till.effects("p-1")) == 2
    assert (await till.figures())["doubled"] == 1


@pytest.mark.parametrize("code", ["6200000000000000000", "<b>x</b>", None])
def test_a_reason_that_is_no_code_is_not_shown(code: str | None) -> None:
    standing = Standing(PaymentStatus.FAILED, reason=code)
    assert paying._reason(standing.reason) == "支付平台退回"
