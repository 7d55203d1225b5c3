"""What was written about a member is gone from every table when she is erased."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest_asyncio
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import RunStatus
from app.models.disbursement.payouts import Payout
from app.models.lucky_draws.draws import DrawStatus
from app.models.membership.members import Member
from app.roles import Role
from app.services.privacy import personal_texts
from app.services.self_service.erasures import NEUTRAL_NAME
from tests.factories.access.grants import make_grant
from tests.factories.callers import Client, idempotency_key
from tests.factories.disbursement.payout_decisions import make_decision
from tests.factories.disbursement.payout_disputes import make_dispute
from tests.factories.disbursement.payout_runs import Thanks, make_granted_run, make_run, make_thanks
from tests.factories.disbursement.payouts import known_id
from tests.factories.lucky_draws.draws import make_draw, make_tickets
from tests.migrating import applied_again
from tests.waiting import SOMEBODY_WAITS, until

_TOLD = "由其丈夫李四代领未果"
_ERASED = (
    "update members set erased_at = now(), name = '已删除', status = 'left', employee_no = null"
    " where id = $1"
)
_FILLED = (
    "update payouts set status = 'returned', settled_at = now(), failure_reason = '{told}'",
    "update attendances set voided_at = now(), voided_by = 'officer-1', void_reason = '{told}'",
    "update memberships set reason = '{told}'",
    (
        "update draw_winners set status = 'declined', ended_at = now(), ended_by = 'clerk-1',"
        " end_reason = '{told}'"
    ),
)


@pytest_asyncio.fixture
async def thanks(session: AsyncSession) -> Thanks:
    """Two members thanked by a run, and a draw that both have won in."""
    thanks = await make_thanks(session)
    await make_granted_run(session, thanks, RunStatus.DISBURSING)
    tickets = list(zip(make_tickets(2), thanks.members, strict=True))
    await make_draw(session, thanks.round, DrawStatus.DRAWN, tickets=tickets)
    return thanks


@pytest_asyncio.fixture
async def told(session: AsyncSession, thanks: Thanks, owner: Database) -> Member:
    """A member of whom something is written wherever something can be, as of the other."""
    now = clock.now()
    ended = {"closed_at": now, "updated_at": now}
    for payout in (await session.scalars(select(Payout).order_by(col(Payout.member_id)))).all():
        payout.status, payout.settled_at = "paid", now
        facts: dict[str, Any] = {"answer": _TOLD, "answered_by": "approver-1", **ended}
        await make_dispute(session, payout, status="dismissed", **facts)
        facts = {"choice": "write_off", "reason": _TOLD, "decided_by": "approver-1", **ended}
        event = thanks.event
        await make_decision(session, payout, event, status="written_off", decided_at=now, **facts)
    for member in thanks.members:
        facts = {"revoked_at": now, "revoked_by": "officer-1", "revoke_reason": _TOLD}
        name = f"member-{member.id}"
        await make_grant(session, subject=name, role="member", member_id=member.id, **facts)
    await session.commit()
    for statement in _FILLED:
        await owner.pool.execute(statement.format(told=_TOLD))
    return thanks.members[0]


async def _said(owner: Database, words: str) -> dict[str, int]:
    """Count the rows of each column of the register that hold some words."""
    return {
        f"{table}.{column}": await owner.pool.fetchval(
            f"select count(*) from {table} where {column} = $1", words
        )
        for table, columns in personal_texts.written()
        for column in columns
    }


async def _erase(officer: Client, member: Member) -> None:
    path = f"/v1/members/{member.id}"
    version = (await officer.ok("GET", path))["version"]
    await officer.ok("POST", f"{path}/erase", headers={"If-Match": f'"{version}"'})


async def test_it_is_gone_with_her_and_nobody_elses(
    officer: Client, told: Member, owner: Database
) -> None:
    before = await _said(owner, _TOLD)
    assert set(before.values()) == {2}, f"the test writes in each of them: {before}"
    await _erase(officer, told)
    assert set((await _said(owner, _TOLD)).values()) == {1}
    emptied = await _said(owner, NEUTRAL_NAME)
    assert {name for name, count in emptied.items() if not count} == {"memberships.reason"}


async def test_what_was_read_before_is_of_an_older_version(
    officer: Client, told: Member, thanks: Thanks
) -> None:
    path = f"/v1/service-events/{thanks.event.id}/attendances/{told.id}"
    before = await officer.ok("GET", path)
    await _erase(officer, told)
    after = await officer.ok("GET", path)
    assert (after["void_reason"], after["version"]) == (NEUTRAL_NAME, before["version"] + 1)


async def test_the_books_are_told_no_reason(
    client: Callable[..., Client], session: AsyncSession, owner: Database
) -> None:
    await make_granted_run(session, await make_thanks(session), RunStatus.DISBURSING)
    await session.commit()
    payouts = (await session.scalars(select(Payout))).all()
    clerk = client(Role.FINANCE_CLERK)
    results = [{"line_no": payout.line_no, "outcome": "paid"} for payout in payouts]
    run = f"/v1/payout-runs/{payouts[0].run_id}"
    body, key = {"results": results}, idempotency_key("paid")
    await clerk.ok("POST", f"{run}/results", json=body, headers=key)
    listed = await clerk.ok("GET", "/v1/payouts", params={"run_id": str(payouts[0].run_id)})
    path, key = f"/v1/payouts/{listed['items'][0]['id']}/return", idempotency_key("back")
    await clerk.ok("POST", path, json={"reason": _TOLD}, headers=key, status=204)
    assert (await _said(owner, _TOLD))["payouts.failure_reason"] == 1
    assert not await owner.pool.fetchval("select count(*) from transfers where note is not null")


async def test_nothing_is_written_of_her_afterwards(
    officer: Client,
    client: Callable[..., Client],
    session: AsyncSession,
    keyring: Keyring,
    owner: Database,
) -> None:
    thanks = await make_thanks(session)
    run = await make_granted_run(session, thanks, RunStatus.DISBURSING)
    tickets = list(zip(make_tickets(2), thanks.members, strict=True))
    draw = await make_draw(session, thanks.round, DrawStatus.DRAWN, tickets=tickets)
    payouts = (await session.scalars(select(Payout).order_by(col(Payout.member_id)))).all()
    cases = []
    for payout in payouts:
        payout.status, payout.settled_at = "paid", clock.now()
        dispute = await make_dispute(session, payout)
        cases.append((dispute.id, (await make_decision(session, payout, thanks.event)).id))
    await session.commit()
    await _erase(officer, thanks.members[0])
    clerk, approver = client(Role.FINANCE_CLERK), client(Role.FINANCE_APPROVER)
    reason, first = {"reason": _TOLD}, {"If-Match": '"1"'}
    for rank in (1, 2):
        path, key = f"/v1/draws/{draw.id}/winners/{rank}/decline", idempotency_key(f"no-{rank}")
        await clerk.ok("POST", path, json=reason, headers=key)
    for number, (payout, (dispute_id, decision_id)) in enumerate(zip(payouts, cases, strict=True)):
        event, body = thanks.event.id, reason | {"choice": "write_off"}
        for caller, path, sent in (
            (approver, f"/v1/payout-disputes/{dispute_id}/dismiss", reason),
            (approver, f"/v1/payout-decisions/{decision_id}/decide", body),
            (officer, f"/v1/service-events/{event}/attendances/{payout.member_id}/void", reason),
        ):
            await caller.ok("POST", path, json=sent, headers=first)
        line_id = known_id(keyring, run.id, payout.line_no)
        key = idempotency_key(f"back-{number}")
        path = f"/v1/payouts/{line_id}/return"
        await clerk.ok("POST", path, json=reason, headers=key, status=204)
    # Her membership and her grants ended with her.
    said = await _said(owner, _TOLD)
    told = {"grants.revoke_reason": 0, "memberships.reason": 0}
    assert said == dict.fromkeys(said, 1) | told


async def test_who_is_being_erased_is_waited_for(
    officer: Client, told: Member, thanks: Thanks, owner: Database
) -> None:
    path = f"/v1/service-events/{thanks.event.id}/attendances/{told.id}/void"
    await owner.pool.execute(
        "update attendances set voided_at = null, voided_by = null, void_reason = null"
    )
    async with owner.pool.acquire() as erasing:
        turn = erasing.transaction()
        await turn.start()
        await erasing.execute("select from members where id = $1 for update", told.id)
        body, headers = {"reason": _TOLD}, {"If-Match": '"1"'}
        voiding = asyncio.create_task(officer.request("POST", path, json=body, headers=headers))
        await until(owner.pool, SOMEBODY_WAITS)
        await erasing.execute(_ERASED, told.id)
        await turn.commit()
    assert (await voiding).json()["void_reason"] == NEUTRAL_NAME


async def test_what_was_written_before_is_emptied_by_the_migration(
    officer: Client, told: Member, owner: Database
) -> None:
    await _erase(officer, told)
    for table, columns in personal_texts.written():
        for column in columns:
            await owner.pool.execute(
                f"update {table} set {column} = '{_TOLD}' where {column} is not null"
            )
    await owner.pool.execute(f"update transfers set note = '{_TOLD}'")
    assert await owner.pool.fetchval("select count(*) from transfers where run_id is not null")
    async with applied_again(owner, "0024_texts") as connection:
        for table, columns in personal_texts.written():
            for column in columns:
                counting = f"select count(*) from {table} where {column} = '{_TOLD}'"
                assert await connection.scalar(text(counting)) == 1, f"{table}.{column}"
        assert await connection.scalar(
            text("select bool_and((note is null) = (run_id is not null)) from transfers")
        )


async def test_the_migration_gives_back_what_runs_granted_that_ended(
    session: AsyncSession, owner: Database
) -> None:
    thanks = await make_thanks(session)
    sums = {"payout_count": 2, "amount_fen": 600}
    for status in (RunStatus.REJECTED, RunStatus.DRAFT):
        await make_run(session, thanks.round, thanks.policy, status, **sums)
    await session.commit()
    query = text("select status, payout_count, amount_fen from payout_runs order by status")
    async with applied_again(owner, "0024_texts") as connection:
        found = [tuple(row) for row in await connection.execute(query)]
    assert found == [("draft", 2, 600), ("rejected", 0, 0)]


async def test_the_migration_waits_for_no_table_where_nobody_was_erased(
    told: Member, owner: Database
) -> None:
    assert told.erased_at is None
    async with owner.pool.acquire() as reader:
        turn = reader.transaction()
        await turn.start()
        await reader.execute("lock table payouts, attendances in access share mode")
        async with applied_again(owner, "0024_texts", is_walled=False) as connection:
            query = text("select count(*) from payouts where failure_reason is not null")
            assert await connection.scalar(query) == 2
        await turn.rollback()
