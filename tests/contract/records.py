"""Records of what a member is owed and given, and of the books, that several scenes share."""

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.models.disbursement.payout_runs import RunStatus
from app.models.events.exam_rounds import ExamRound
from app.models.incentives.incentive_policies import IncentivePolicy
from app.models.membership.members import Member
from app.models.organisation.associations import Association
from app.services.goods import gift_reservations
from tests.factories.accounting.month_closes import make_accounts, make_budget, make_close
from tests.factories.callers import DISTRICT
from tests.factories.channels.bank_files import give_account, make_bank_file
from tests.factories.channels.gateway import make_gateway_payment
from tests.factories.disbursement.payout_decisions import make_decision
from tests.factories.disbursement.payout_disputes import make_dispute
from tests.factories.disbursement.payout_runs import make_run
from tests.factories.disbursement.payouts import known_id, make_payout
from tests.factories.events.service_events import make_event
from tests.factories.finance.funds import make_fund
from tests.factories.goods.gifts import (
    make_count,
    make_depot,
    make_gift_article,
    make_stock,
    make_take,
)
from tests.factories.incentives.incentive_policies import make_gift, make_policy


async def make_months(session: AsyncSession, association: Association) -> dict[str, Any]:
    """Store a fund with a budget, a closed month with accounts of it, and one to close."""
    area = association.area_code
    fund = await make_fund(session, 1000, area_code=area)
    await make_budget(session, fund)
    closed = await make_close(session, area, date(2020, 1, 1), closed=True)
    await make_accounts(session, association, closed)
    return {
        "fund_id": fund.id,
        "close_id": (await make_close(session, area, date(2020, 2, 1))).id,
        "close_id closed": closed.id,
    }


async def make_cases(
    session: AsyncSession,
    keyring: Keyring,
    held: ExamRound,
    policy: IncentivePolicy,
    *,
    member: Member,
    rule: UUID,
) -> dict[str, Any]:
    """Store settled runs: one of whose payouts is disputed, one to decide on, one to close."""
    event = await make_event(session, area_code=member.area_code)
    ids: dict[str, Any] = {}
    settled: dict[str, Any] = {"status": "paid", "settled_at": clock.now()}
    for number, name in enumerate(("disputed", "undecided", "settled"), 1):
        run = await make_run(session, held, policy, RunStatus.SETTLED)
        ids[f"run_id {name}"] = run.id
        if name == "settled":
            continue
        rule_id = UUID(int=rule.int + number)
        payout = await make_payout(session, run, member, rule_id, **settled)
        run.payout_count, run.amount_fen = 1, payout.amount_fen
        if name == "disputed":
            ids["dispute_id"] = (await make_dispute(session, payout)).id
            ids["payout_id disputed"] = known_id(keyring, run.id, payout.line_no)
        else:
            ids["decision_id"] = (await make_decision(session, payout, event)).id
    await session.flush()
    return ids


async def make_bank(
    session: AsyncSession, keyring: Keyring, held: ExamRound, member: Member, ids: dict[str, Any]
) -> dict[str, Any]:
    """Store a run that a bank pays, with a payout that waits, and another in a file."""
    policy = await session.get_one(IncentivePolicy, (DISTRICT, ids["policy_id"]))
    await give_account(session, keyring, member)
    run = await make_run(session, held, policy, channel="bank_file")
    await make_payout(session, run, member, ids["rule_id"], status="sending")
    await make_payout(session, run, member, clock.new_id(), line_no=2)
    file_id = clock.new_id()
    sealed = keyring.encrypt_bytes(b"<x/>", place=f"bank_files.content_sealed:{file_id}")
    await make_bank_file(session, run, id=file_id, content_sealed=sealed)
    return {"run_id bank": run.id, "file_id": file_id}


async def make_gateway(
    session: AsyncSession, keyring: Keyring, held: ExamRound, member: Member, ids: dict[str, Any]
) -> dict[str, Any]:
    """Store a run over the gateway, of whose one payout nobody knows what became of it."""
    policy = await session.get_one(IncentivePolicy, (DISTRICT, ids["policy_id"]))
    run = await make_run(session, held, policy, channel="gateway")
    payout = await make_payout(session, run, member, clock.new_id(), status="unknown")
    facts = {"rule_id": payout.rule_id, "state": "unknown", "lease_until": None}
    session.add(make_gateway_payment(run, member, **facts, last_answer="timeout"))
    await session.flush()
    return {"payout_id unknown": known_id(keyring, run.id, payout.line_no)}


async def make_gifts(
    session: AsyncSession, keyring: Keyring, held: ExamRound, member: Member, *, area: str
) -> dict[str, Any]:
    """Store a depot that is counted, an empty one, and a run that gives the member a towel."""
    gift = await make_gift_article(session)
    depot = await make_depot(session, area_code=area)
    empty = await make_depot(session, area_code=area, association_id=member.association_id)
    await make_stock(session, depot, gift, 10)
    take = await make_take(session, depot)
    await make_count(session, take, gift.id, 10)
    policy = await make_policy(session, [make_gift()], area_code=area)
    rule = await session.scalar(
        text("select rule_id from incentive_rules where policy_id = :id"), {"id": policy.id}
    )
    run = await make_run(session, held, policy, payout_count=1)
    payout = await make_payout(session, run, member, rule, amount_fen=0, quantity=1)
    await gift_reservations.reserve(session, run, subject="approver-1", now=clock.now())
    return {
        "gift_id": gift.id,
        "depot_id": depot.id,
        "depot_id empty": empty.id,
        "take_id": take.id,
        "payout_id gift": known_id(keyring, run.id, payout.line_no),
    }
