"""An enterprise's association in two worlds: a member came to its health check, or did not.

All that follows from her coming is stored, and then set aside until she comes: what she is owed
and given in each way, what came of it, and what is published of it.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.database import driver_connection
from app.models.accounting.accounts import AccountsPublish
from app.models.disbursement.payout_runs import PayoutRun, RunStatus
from app.models.events.exam_rounds import ExamRound
from app.models.events.service_events import ServiceEvent
from app.models.incentives.incentive_policies import IncentivePolicy
from app.models.lucky_draws.draw_tickets import DrawTicket
from app.models.lucky_draws.draws import DrawStatus
from app.models.membership.members import Member
from app.models.organisation.associations import Association
from app.services.accounting import accounts
from app.services.privacy import correction_texts, data_keys
from app.services.privacy.correction_texts import Said
from tests.contract import records
from tests.factories.callers import SHISHAN, VILLAGE, make_caller
from tests.factories.disbursement.payout_runs import make_run
from tests.factories.disbursement.payouts import known_id, make_payout
from tests.factories.disbursement.vouchers import make_vouchers
from tests.factories.events.attendances import make_attendance
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.finance.funds import make_fund, make_receipt
from tests.factories.incentives.incentive_policies import make_cash, make_policy
from tests.factories.lucky_draws.draws import enter_beacon, first_place, make_draw, make_tickets
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.logins import make_member_with_phone
from tests.factories.membership.members import make_member, make_phone
from tests.factories.organisation.associations import make_association

_MONTH = date(2020, 1, 1)
_PAID_AT = datetime(2020, 1, 1, 4, tzinfo=UTC)
_UNASKED = "set local session_replication_role = replica;"
_HERS = (
    "payouts",
    "vouchers",
    "payout_disputes",
    "payout_decisions",
    "gateway_payments",
    "bank_files",
    "transfers",
    "stock_movements",
    "stock",
    "payout_runs",
    "published_accounts",
)
"""Tables with what is there, or is so many, only because she came."""
_PUT_BACK = _UNASKED + "".join(
    f"delete from {name}; insert into {name} select * from came.{name};" for name in _HERS
)
_TAKE_AWAY = f"""{_UNASKED}
delete from payouts; delete from vouchers; delete from payout_disputes;
delete from payout_decisions; delete from gateway_payments; delete from bank_files;
delete from transfers where run_id is not null;
delete from stock_movements where run_id is not null; delete from published_accounts;
update stock set available = available + reserved, reserved = 0;
update payout_runs set payout_count = 0, amount_fen = 0;
"""


@dataclass(frozen=True)
class Scene:
    """A health check in an enterprise's association, and a member who comes to it later.

    There are draws at each step: an open one in which nobody has a ticket, and those whose
    tickets a fellow holds, who came in her stead.
    """

    session: AsyncSession
    keyring: Keyring
    event: ServiceEvent
    member: Member
    run: PayoutRun
    held: ExamRound
    ids: dict[str, str]

    async def come(self) -> None:
        """Let the member register, come, be thanked, and say that the time is wrong.

        Thanked she is with a ticket too, and it has won.
        """
        await (await driver_connection(self.session)).execute(_PUT_BACK)
        await make_attendance(self.session, self.event, self.member)
        await make_registration(self.session, self.event, self.member)
        await make_payout(self.session, self.run, self.member, UUID(self.ids["rule_id"]))
        await self._say_that_the_time_is_wrong()
        excuse = UUID(self.ids["excuse_id"])
        await make_excuse(self.session, self.held, id=excuse, member_id=self.member.id)
        await self._get_tickets()
        await self.session.commit()

    async def _get_tickets(self) -> None:
        """Give her a ticket of the open draw, and all those of her fellow."""
        await self.session.execute(
            text("update draw_tickets set member_id = :id"), {"id": self.member.id}
        )
        self.session.add(
            DrawTicket(
                district_code=self.member.district_code,
                draw_id=UUID(self.ids["draw_id open"]),
                ticket=make_tickets(1, start=99)[0],
                member_id=self.member.id,
                run_id=self.run.id,
                line_no=1,
                copy_no=1,
                issued_at=clock.now(),
            )
        )
        await self.session.flush()

    async def _say_that_the_time_is_wrong(self) -> None:
        correction_id = UUID(self.ids["correction_id"])
        key = await data_keys.find_or_make(self.session, self.keyring, self.member)
        said = correction_texts.seal_said(key, correction_id, Said("", "nobody reads it"))
        await make_correction(
            self.session,
            self.keyring,
            self.member,
            id=correction_id,
            subject="attendance",
            event_id=self.event.id,
            said_sealed=said,
        )


async def _draws(
    session: AsyncSession, keyring: Keyring, held: ExamRound, fellow: Member
) -> dict[str, str]:
    """Store an open draw without tickets, and a frozen one and a drawn one with some."""
    tickets = [(each, fellow) for each in make_tickets(12)]
    over = clock.now() - timedelta(minutes=1)
    opened = await make_draw(session, held, keyring=keyring, closes_at=over)
    few, closed = tickets[:1], DrawStatus.CLOSED
    frozen = await make_draw(session, held, closed, tickets=few, keyring=keyring)
    enter_beacon(frozen)
    drawn = await make_draw(session, held, DrawStatus.DRAWN, tickets=tickets[1:])
    await session.flush()
    return {
        "draw_id open": str(opened.id),
        "draw_id closed": str(frozen.id),
        "draw_id drawn": str(drawn.id),
        "ticket": first_place(drawn, [ticket for ticket, _ in tickets[1:]]),
        "rank": "1",
    }


async def build(session: AsyncSession, keyring: Keyring) -> Scene:
    """Store the world in which nobody has come yet, and aside what will follow; commits."""
    association = await make_association(session, mode="independent", area_code=VILLAGE)
    held = await make_round(session)
    member = await make_member_with_phone(session, keyring, association, make_phone(1))
    facts = {"area_code": VILLAGE, "association_id": association.id}
    event = await make_event(session, held, **facts)
    run = await make_run(
        session, held, await make_policy(session, [make_cash(f"c{n}") for n in range(3)])
    )
    fellow = await make_member(session, association, name="另一会员")
    ids = {
        **await _draws(session, keyring, held, fellow),
        **await _owed(session, keyring, held, member, run=run, association=association),
        "association_id": association.id,
        "host_id": association.host_id,
        "round_id": held.id,
        "exam_round_id": held.id,
        "member_id": member.id,
        "member_id fellow": fellow.id,
        "event_id": event.id,
        "run_id": run.id,
        "policy_id": run.policy_id,
        "correction_id": clock.new_id(),
        "excuse_id": clock.new_id(),
        "payout_id": known_id(keyring, run.id, 1),
        "code": SHISHAN,
        "name": "roles",
    }
    scene = Scene(
        session, keyring, event, member, run, held, {name: str(ids[name]) for name in ids}
    )
    await _set_aside(session, association)
    return scene


async def _owed(
    session: AsyncSession,
    keyring: Keyring,
    held: ExamRound,
    member: Member,
    *,
    run: PayoutRun,
    association: Association,
) -> dict[str, Any]:
    """Store what she is owed and was given, of which one payout was paid in a closed month."""
    rules = await session.scalars(text("select rule_id from incentive_rules order by 1"))
    first, rule, third = rules.all()
    thanked = {"policy_id": run.policy_id, "rule_id": rule}
    policy = await session.get_one(IncentivePolicy, (run.district_code, run.policy_id))
    tokens = await make_run(session, held, policy)
    await make_payout(session, tokens, member, UUID(int=rule.int + 7))
    paid = await make_run(session, held, policy, RunStatus.SETTLED, payout_count=1)
    await make_payout(session, paid, member, third, status="paid", settled_at=_PAID_AT)
    fund = await make_fund(session, 1000)
    pay = {"kind": "pay", "debit": "spent", "credit": "reserved", "document_no": None}
    of = {"run_id": paid.id, "line_no": 1, "occurred_on": _MONTH}
    session.add(make_receipt(fund, 1000, **pay, **of))
    await session.flush()
    ids = {
        **await make_vouchers(session, keyring, tokens, member, area_code=VILLAGE),
        **await records.make_cases(session, keyring, held, policy, member=member, rule=rule),
        **await records.make_bank(session, keyring, held, member, thanked),
        **await records.make_gateway(session, keyring, held, member, thanked),
        **await records.make_gifts(session, keyring, held, member, area=VILLAGE),
        **await records.make_months(session, association),
        "rule_id": first,
        "run_id paid": paid.id,
        "payout_id paid": known_id(keyring, paid.id, 1),
    }
    await session.execute(text("delete from published_accounts"))
    return ids


async def _set_aside(session: AsyncSession, association: Association) -> None:
    """Publish what she was paid, set aside all that she alone is in, and publish without it."""
    now = clock.now()
    await _publish(session, association, now=now)
    await session.commit()
    kept = "".join(f"create table came.{name} as table {name};" for name in _HERS)
    connection = await driver_connection(session)
    await connection.execute(f"create schema came; {kept} {_TAKE_AWAY}")
    await _publish(session, association, now=now)
    await session.commit()


async def _publish(session: AsyncSession, association: Association, *, now: datetime) -> None:
    body = AccountsPublish(month=f"{_MONTH:%Y-%m}", correction=None)
    caller = make_caller()
    await accounts.publish(session, caller, association_id=association.id, body=body, now=now)
