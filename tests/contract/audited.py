"""One of everything that is about persons, and how each operation that shows it is called."""

from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app import clock, worker
from app.crypto import Keyring
from app.database import Database
from app.models.disbursement.payout_runs import PayoutRun
from app.models.disbursement.payouts import Payout
from app.models.events.service_events import ServiceEvent
from app.models.lucky_draws.draws import Draw, DrawStatus
from app.models.membership.consents import Consent
from app.models.membership.members import Member
from app.models.organisation.officers import Office
from app.models.privacy.held_changes import HeldField
from app.services.events import check_in_codes
from app.services.finance import reservations
from app.services.goods import gift_reservations
from app.services.privacy import data_keys, held_changes, person_data
from app.services.privacy.person_data import PayoutAccount
from tests.factories.access.grants import make_grant
from tests.factories.accounting.month_closes import make_accounts, make_close
from tests.factories.callers import DISTRICT, VILLAGE, Client, idempotency_key
from tests.factories.channels.bank_files import make_bank_file
from tests.factories.disbursement.payout_decisions import make_decision
from tests.factories.disbursement.payout_disputes import make_dispute
from tests.factories.disbursement.payout_runs import make_granted_run, make_run, make_thanks
from tests.factories.disbursement.payouts import known_id, make_payout
from tests.factories.disbursement.vouchers import make_vouchers
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.excuses import make_excuse
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import make_cash, make_gift
from tests.factories.lucky_draws.draws import first_place, make_draw, make_tickets
from tests.factories.membership.consents import NOTICED_ON, make_consents
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.members import make_id_number, make_member, make_phone
from tests.factories.membership.payout_accounts import make_account
from tests.factories.membership.rosters import make_csv, make_people, make_person
from tests.factories.organisation.associations import make_association
from tests.factories.organisation.officers import make_officer

_GIFT = text(
    "select line_no, member_id from payouts where run_id = :run_id and quantity > 0"
    " order by line_no limit 1"
)


@dataclass
class World:
    """One of everything, and how each operation that shows a person is called on it."""

    calls: dict[str, tuple[str, dict[str, Any]]]
    members: list[UUID]
    officer_id: UUID
    event_id: UUID
    grant_id: str
    """Under which the import was sent."""

    def for_a_test(self, keyring: Keyring) -> "World":
        """Give a world that the test may change, with the code that is shown now."""
        calls = deepcopy(self.calls)
        code = check_in_codes._code(
            keyring, DISTRICT, self.event_id, check_in_codes._window(clock.now())
        )
        calls["check_in_by_code"][1]["json"]["code"] = code
        return replace(self, calls=calls)


async def make_world(
    session: AsyncSession, database: Database, keyring: Keyring, officer: Client
) -> World:
    """Store one of everything that is about a person, and say how it is called."""
    thanks = await make_thanks(session, [make_cash(), make_gift()])
    run = await make_granted_run(session, thanks)
    gift = (await session.execute(_GIFT, {"run_id": run.id})).one()
    fund, article = await _book(session, run)
    await session.execute(text("update payouts set status = 'unknown' where line_no = 1"))
    month = await make_close(session, DISTRICT, date(2020, 1, 1), closed=True)
    await make_accounts(session, thanks.association, month)
    held = await make_round(session, 2)
    event = await make_event(session, held)
    lecture = await make_event(session, status="published")
    member = thanks.members[0]
    other = await make_member(session, thanks.association)
    place = await make_association(session)
    excuse = await make_excuse(session, held, member_id=other.id, area_code=None)
    one = await make_officer(session, thanks.association, Office.PRESIDENT)
    await make_registration(session, lecture, member)
    grant = await make_grant(
        session, subject="her", role="member", member_id=member.id, areas=[], area_code=VILLAGE
    )
    bank_run = await make_run(session, held, thanks.policy, channel="bank_file")
    await make_payout(session, bank_run, member, clock.new_id(), status="sending")
    file_id = clock.new_id()
    sealed = keyring.encrypt_bytes(b"<x/>", place=f"bank_files.content_sealed:{file_id}")
    await make_bank_file(session, bank_run, id=file_id, content_sealed=sealed)
    waiting = await make_correction(session, keyring, member)
    tickets = list(zip(make_tickets(3), [*thanks.members, other], strict=True))
    draw = await make_draw(
        session, held, DrawStatus.DRAWN, tickets=tickets, prizes=(1, 1, 1), claim_days=1
    )
    await session.execute(text("update draw_winners set claim_until = '2026-01-01' where rank = 3"))
    consent = await _consent_and_change(session, keyring, member)
    vouchers = await make_vouchers(session, keyring, run, member, area_code=VILLAGE)
    await session.commit()
    wrong = make_person(1, 身份证号码="440605199001010000")
    operation = await officer.ok(
        "POST",
        "/v1/members/import",
        status=202,
        files={
            "file": (
                "a.csv",
                make_csv([*make_people(1), wrong]),
            )
        },
        data={"association_id": str(place.id), "dry_run": "false"},
        headers=idempotency_key("world"),
    )
    assert await worker.run_next(database, keyring)
    cases = await _of_cases(session, keyring, run, event, match={"If-Match": '"1"'})
    await session.commit()
    m, of = f"/v1/members/{member.id}", f"/v1/associations/{thanks.association.id}/officers"
    at, seats = f"/v1/service-events/{event.id}", f"/v1/service-events/{lecture.id}/registrations"
    was = f"/v1/service-events/{thanks.event.id}/attendances/{member.id}"
    rows = f"/v1/operations/{operation['id']}"
    excuses = f"/v1/exam-rounds/{held.id}/excuses"
    match, today = {"If-Match": '"1"'}, "2026-01-01"
    line = {"ref": "1", "member_id": str(other.id), "occurred_at": event.starts_at.isoformat()}
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "list_members": ("/v1/members", {}),
        "create_member": (
            "/v1/members",
            {"json": {"association_id": str(place.id), "name": "张示例"}},
        ),
        "search_members": ("/v1/members/search", {"json": {"id_number": make_id_number(0)}}),
        "get_member": (m, {}),
        "update_member": (m, {"json": {"name": "李示例"}, "headers": match}),
        "transfer_member": (
            f"{m}/transfer",
            {
                "json": {"association_id": str(place.id), "moved_on": today},
                "headers": match,
            },
        ),
        "erase_member": (f"/v1/members/{other.id}/erase", {"headers": match}),
        "reveal_member": (f"{m}/reveal", {"json": {"field": "phone", "purpose": "contact"}}),
        "show_member_export": (f"{m}/export", {}),
        "hand_out_member_export": (f"{m}/export", {}),
        "list_grants": ("/v1/grants", {}),
        "get_grant": (f"/v1/grants/{grant.id}", {}),
        "create_grant": (
            "/v1/grants",
            {
                "json": {"subject": "a guide", "role": "guide", "areas": [VILLAGE]},
                "headers": idempotency_key("g"),
            },
        ),
        "revoke_grant": (
            f"/v1/grants/{grant.id}/revoke",
            {"json": {"reason": "换人"}, "headers": match},
        ),
        "leave_association": (f"{m}/leave", {"json": {"left_on": today}, "headers": match}),
        "list_memberships": (f"{m}/memberships", {}),
        "list_member_attendances": (f"{m}/attendances", {}),
        "list_member_audit_entries": (f"{m}/audit-entries", {}),
        "list_audit_entries": ("/v1/audit-entries", {}),
        "get_me": ("/v1/me", {}),
        "list_my_memberships": ("/v1/me/memberships", {}),
        "list_my_events": ("/v1/me/events", {}),
        "list_my_registrations": ("/v1/me/registrations", {}),
        "list_my_attendances": ("/v1/me/attendances", {}),
        "get_my_streak": ("/v1/me/streak", {}),
        "list_my_payouts": ("/v1/me/payouts", {}),
        "list_my_draw_tickets": ("/v1/me/draw-tickets", {}),
        "list_draw_winners": (f"/v1/draws/{draw.id}/winners", {}),
        **_prizes(draw),
        "list_my_lookups": ("/v1/me/lookups", {}),
        "get_my_phone": ("/v1/me/phone", {}),
        "get_eligibility": (f"{m}/eligibility?round_id={thanks.round.id}", {}),
        "sign_out": ("/v1/me/sign-out", {}),
        "list_corrections": ("/v1/corrections", {}),
        "get_correction": (f"/v1/corrections/{waiting.id}", {}),
        "accept_correction": (
            f"/v1/corrections/{waiting.id}/accept",
            {"json": {}, "headers": match},
        ),
        "refuse_correction": (
            f"/v1/corrections/{waiting.id}/refuse",
            {"json": {"reason": "与证件一致"}, "headers": match},
        ),
        "list_my_corrections": ("/v1/me/corrections", {}),
        "create_my_correction": (
            "/v1/me/corrections",
            {"json": {"subject": "employee_no", "value": "A-9"}},
        ),
        "get_my_correction": (f"/v1/me/corrections/{waiting.id}", {}),
        "withdraw_my_correction": (
            f"/v1/me/corrections/{waiting.id}/withdraw",
            {"headers": match},
        ),
        "list_consents": (f"{m}/consents", {}),
        "create_consent": (
            f"{m}/consents",
            {"json": {"purpose": "identity", "method": "paper", "given_on": today}},
        ),
        "withdraw_consent": (f"{m}/consents/withdraw", {"json": {"purpose": "payment"}}),
        "list_my_consents": ("/v1/me/consents", {}),
        "give_my_consent": (
            "/v1/me/consents",
            {"json": {"purpose": "contact", "notice_number": 1, "language": "zh"}},
        ),
        "withdraw_my_consent": ("/v1/me/consents/withdraw", {"json": {"purpose": "payment"}}),
        "get_my_consent_receipt": (f"/v1/me/consents/{consent}/receipt", {}),
        "get_member_payout_account": (f"{m}/payout-account", {}),
        "get_my_payout_account": ("/v1/me/payout-account", {}),
        "update_my_payout_account": (
            "/v1/me/payout-account",
            {"json": make_account(2), "headers": match},
        ),
        "cancel_payout_account_change": ("/v1/me/payout-account/cancel", {"headers": match}),
        "list_officers": (of, {}),
        "create_officer": (
            of,
            {"json": {"office": "director", "name": "王示例", "starts_on": today}},
        ),
        "get_officer": (f"{of}/{one.id}", {}),
        "update_officer": (f"{of}/{one.id}", {"json": {"name": "王示例"}, "headers": match}),
        "list_registrations": (seats, {}),
        "create_registration": (
            seats,
            {"json": {"member_id": str(other.id)}, "headers": idempotency_key("r")},
        ),
        "get_registration": (f"{seats}/{member.id}", {}),
        "cancel_registration": (f"{seats}/{member.id}/cancel", {"headers": match}),
        "list_attendances": (f"/v1/service-events/{thanks.event.id}/attendances", {}),
        "get_attendance": (was, {}),
        "check_in": (f"{at}/attendances/{member.id}", {"json": {}}),
        "check_in_by_code": (f"{at}/check-in", {"json": {"code": "of now"}}),
        "check_in_batch": (
            f"{at}/attendances/batch",
            {"json": {"device_id": "tablet-7", "lines": [line]}},
        ),
        "void_attendance": (f"{was}/void", {"json": {"reason": "误扫"}, "headers": match}),
        "restore_attendance": (f"{was}/restore", {"headers": match}),
        "list_excuses": (excuses, {}),
        "create_excuse": (excuses, {"json": {"member_id": str(member.id), "reason": "away"}}),
        "get_excuse": (f"{excuses}/{excuse.id}", {}),
        "list_import_rows": (f"{rows}/rows", {}),
        "get_rejected_rows": (f"{rows}/rejected-rows", {}),
        "list_payouts": ("/v1/payouts", {}),
        "get_payout": (f"/v1/payouts/{known_id(keyring, run.id, 1)}", {}),
        "list_payout_entries": (f"/v1/payouts/{known_id(keyring, run.id, 1)}/entries", {}),
        "list_fund_entries": (f"/v1/funds/{fund}/entries", {}),
        "list_stock_movements": (f"/v1/gifts/{article}/stock-movements", {}),
        "create_stock_movement": (
            f"/v1/gifts/{article}/stock-movements",
            {"json": await _delivery(session), "headers": idempotency_key("delivery")},
        ),
        "list_due_gifts": (f"/v1/members/{gift.member_id}/due-gifts", {}),
        "hand_out_gift": (
            f"/v1/payouts/{known_id(keyring, run.id, gift.line_no)}/hand-out",
            {"json": {"member_id": str(gift.member_id)}, "headers": idempotency_key("gift")},
        ),
        "list_payout_run_payouts": (f"/v1/payout-runs/{run.id}/payouts", {}),
        "get_bank_file_content": (
            f"/v1/payout-runs/{bank_run.id}/bank-files/{file_id}/content",
            {},
        ),
        "list_my_vouchers": ("/v1/me/vouchers", {}),
        "get_my_voucher": (f"/v1/me/vouchers/{vouchers['voucher_id']}", {}),
        "get_station_settlement_sheet": (
            f"/v1/station-settlements/{vouchers['settlement_id']}/sheet?format=csv",
            {},
        ),
        "get_month_file": (f"/v1/month-closes/{month.id}/file", {}),
        "list_my_accounts": ("/v1/me/accounts", {}),
        "list_payout_run_mismatches": (f"/v1/payout-runs/{run.id}/reconciliation/mismatches", {}),
        "get_payout_run_cash_list": (f"/v1/payout-runs/{run.id}/cash-list?format=csv", {}),
        **cases,
    }
    members = [*(each.id for each in thanks.members), other.id]
    return World(calls, members, one.id, event.id, officer.headers["Jixie-Grant"])


async def _book(session: AsyncSession, run: PayoutRun) -> tuple[UUID, UUID]:
    """Pay a line of a run, and hand out its last gift; give the fund and the article."""
    for step, which in (
        (reservations.pay, "amount_fen > 0 order by line_no"),
        (gift_reservations.hand_out, "quantity > 0 order by line_no desc"),
    ):
        line = text(
            "select line_no, member_id, rule_id, association_id, amount_fen, quantity"
            f" from payouts where run_id = :run_id and {which} limit 1"
        )
        lines = [dict((await session.execute(line, {"run_id": run.id})).mappings().one())]
        await step(session, run, lines=lines, subject="clerk", now=clock.now())
    fund = await session.scalar(text("select fund_id from transfers where line_no is not null"))
    article = text("select gift_id from stock_movements where line_no is not null")
    gift = await session.scalar(article)
    assert fund is not None
    assert gift is not None
    return fund, gift


async def _delivery(session: AsyncSession) -> dict[str, Any]:
    """Say what came to a depot."""
    depot = await session.scalar(text("select id from depots limit 1"))
    facts = {"kind": "receive", "depot_id": str(depot), "quantity": 1, "document_no": "送1"}
    return facts | {"occurred_on": "2026-01-01"}


def _prizes(draw: Draw) -> dict[str, tuple[str, dict[str, Any]]]:
    """Say how a prize is handed out, given up and not fetched."""
    at = f"/v1/draws/{draw.id}/winners"
    return {
        name: (f"{at}/{rank}/{step}", {"json": body, "headers": idempotency_key(step)})
        for name, rank, step, body in (
            ("hand_out_draw_prize", 1, "hand-out", {"ticket": first_place(draw, make_tickets(3))}),
            ("decline_draw_prize", 2, "decline", {"reason": "放弃"}),
            ("lapse_draw_prize", 3, "lapse", None),
        )
    }


async def _of_cases(
    session: AsyncSession,
    keyring: Keyring,
    run: PayoutRun,
    event: ServiceEvent,
    *,
    match: dict[str, str],
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Dispute one payout of a run, leave one undecided, and say how they are called."""
    lines = await session.scalars(
        select(Payout)
        .where(col(Payout.run_id) == run.id, col(Payout.amount_fen) > 0)
        .order_by(col(Payout.line_no))
    )
    first, second, *_ = lines.all()
    dispute = await make_dispute(session, first)
    decision = await make_decision(session, second, event)
    mine, office = "/v1/me/payout-disputes", f"/v1/payout-disputes/{dispute.id}"
    answer = {"json": {"reason": "核对无误"}, "headers": match}
    return {
        "list_my_payout_disputes": (mine, {}),
        "create_my_payout_dispute": (
            f"/v1/me/payouts/{known_id(keyring, run.id, first.line_no)}/dispute",
            {"json": {"kind": "not_me"}},
        ),
        "get_my_payout_dispute": (f"{mine}/{dispute.id}", {}),
        "withdraw_my_payout_dispute": (f"{mine}/{dispute.id}/withdraw", {"headers": match}),
        "list_payout_disputes": ("/v1/payout-disputes", {}),
        "get_payout_dispute": (office, {}),
        "uphold_payout_dispute": (f"{office}/uphold", answer),
        "dismiss_payout_dispute": (f"{office}/dismiss", answer),
        "list_payout_decisions": ("/v1/payout-decisions", {}),
        "get_payout_decision": (f"/v1/payout-decisions/{decision.id}", {}),
        "decide_payout_decision": (
            f"/v1/payout-decisions/{decision.id}/decide",
            {"json": {"choice": "cancel", "reason": "不发"}, "headers": match},
        ),
    }


async def _consent_and_change(session: AsyncSession, keyring: Keyring, member: Member) -> UUID:
    """Let a member with a phone consent to be paid to an account, which waits; gives that."""
    member.payment_consented_on = member.contact_consented_on = NOTICED_ON
    key, phone = await data_keys.find_or_make(session, keyring, member), f"+86{make_phone(1)}"
    member.phone_sealed = person_data.seal_phone(key, member.id, phone)
    member.phone_index = person_data.phone_index(keyring, phone)
    await make_consents(session, member)
    account = person_data.encode_account(PayoutAccount(**make_account()))
    await held_changes.begin(
        session,
        keyring,
        member=member,
        field=HeldField.PAYOUT_ACCOUNT,
        value=account,
        now=clock.now(),
    )
    member.version = 1
    consent_id: UUID | None = await session.scalar(
        select(Consent.id).where(
            col(Consent.member_id) == member.id, col(Consent.purpose) == "payment"
        )
    )
    assert consent_id is not None
    return consent_id
