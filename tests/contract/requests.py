"""What the authorisation matrix sends to each operation, and what it must show.

An operation without an entry is called with the ids of the place by their names, `If-Match: "1"`,
a key of its own and no body. Values of the form `{name}` are ids of the place, of `scene.py`.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from app import clock
from tests.contract.attempts import Ids
from tests.factories.membership.members import make_id_number, make_phone
from tests.factories.membership.payout_accounts import make_account
from tests.factories.membership.rosters import make_csv, make_people

_LATER = "2026-11-20"
_MONTH = f"{clock.civil_date(clock.now()):%Y-%m}"
_SOON = {"starts_at": "2030-02-10T00:30:00Z", "ends_at": "2030-02-10T09:00:00Z"}


@dataclass(frozen=True)
class Sent:
    """A request. `ids` replaces the path's; `shows` is what an allowed caller must be shown.

    `past` are refusals that only those meet who have passed every question of right and reach;
    `beyond` are those that say no more than that she knows no such reference.
    """

    body: Any = None
    query: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    file: str = ""
    form: dict[str, str] = field(default_factory=dict)
    shows: str | None = None
    past: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ("unknown_reference", "out_of_reach")


def filled(value: Any, ids: Ids) -> Any:
    """Put the ids of a place where they are named."""
    if isinstance(value, dict):
        return {name: filled(each, ids) for name, each in value.items()}
    if isinstance(value, list):
        return [filled(each, ids) for each in value]
    if isinstance(value, str):
        return re.sub(r"{([^{}]+)}", lambda match: ids[match[1]], value)
    return value


_RULE = {
    "code": "c",
    "name": "补贴",
    "event_kind": "health_exam",
    "reward": "cash",
    "amount_fen": 1,
}
_VERSION = {"effective_on": "2030-01-01", "provenance": "assumed", "rules": [_RULE]}
_REASON = {"reason": "误"}
_MONEY = {"amount_fen": 1, "document_no": "新", "occurred_on": "2026-01-01"}
_DELIVERY = {
    "kind": "receive",
    "depot_id": "{depot_id}",
    "quantity": 1,
    "document_no": "新",
    "occurred_on": "2026-01-01",
}
_OPEN_BOOKS = ("books_disagree", "month_outdated", "month_out_of_order")
_PHONE = make_phone(77)
_CODE = {"phone": _PHONE, "code_id": "{event_id}", "code": "000000"}
_LINE = {"ref": "1", "member_id": "{member_id fellow}", "occurred_at": "2026-11-24T01:00:00Z"}
_EVENT = {"kind": "lecture", "title": "讲座", "venue": "服务室", **_SOON}
_RUN = {"exam_round_id": "{round_id closed}", "policy_id": "{policy_id}"}
_BANK_RUN = {"run_id": "{run_id bank}"}
_NO_ENTRIES = (
    '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.054.001.08"><BkToCstmrDbtCdtNtfctn/>'
    "</Document>"
)
_PEOPLE = make_csv(make_people(1, start=900)).decode()


def _run(status: str, body: Any = None, *past: str) -> Sent:
    return Sent(body, ids={"run_id": f"{{run_id {status}}}"}, past=past)


def _draw(status: str, body: Any = None, *past: str, shows: str | None = None, **ids: str) -> Sent:
    return Sent(body, ids={"draw_id": f"{{draw_id {status}}}", **ids}, past=past, shows=shows)


def _at(event: str, body: Any = None, *past: str, **ids: str) -> Sent:
    return Sent(body, ids={"event_id": f"{{event_id {event}}}", **ids}, past=past)


REQUESTS: dict[tuple[str, str], Sent] = {
    ("list_areas", ""): Sent(query={"area": "{code}"}, shows="{code}"),
    ("list_area_settings", ""): Sent(shows="independent_min_staff"),
    ("put_area_setting", ""): Sent(
        {"value": 1, "effective_on": "2030-01-01", "provenance": "assumed"},
        ids={"key": "independent_min_staff"},
    ),
    ("list_associations", ""): Sent(shows='"id":"{association_id}"'),
    ("create_association", ""): Sent(
        {"name": "新", "mode": "independent", "host_id": "{host_id free}"}
    ),
    ("update_association", ""): Sent({"name": "改"}),
    ("update_association", "its parent"): Sent(
        {"parent_id": None}, past=("activation_conditions_unmet",)
    ),
    ("activate_association", ""): Sent(
        ids={"association_id": "{association_id idle}"}, past=("activation_conditions_unmet",)
    ),
    ("suspend_association", ""): Sent(_REASON),
    ("dissolve_association", ""): Sent(_REASON, past=("dissolution_conditions_unmet",)),
    ("list_facilities", ""): Sent(shows="{facility_id}"),
    ("create_facility", ""): Sent(
        {"kind": "book_corner", "name": "书角", "opened_on": "2026-01-01"}
    ),
    ("update_facility", ""): Sent({"name": "改"}),
    ("list_officers", ""): Sent(shows="{officer_id}"),
    ("create_officer", ""): Sent({"office": "director", "name": "甲", "starts_on": "2026-01-01"}),
    ("update_officer", ""): Sent({"name": "乙"}),
    ("list_regulations", ""): Sent(shows="{regulation_id}"),
    ("create_regulation", ""): Sent({"kind": "charter", "title": "制度", "body": "第一条"}),
    ("update_regulation", ""): Sent({"title": "改"}),
    ("get_code_list", ""): Sent(ids={"name": "roles"}),
    ("list_exam_rounds", ""): Sent(shows="{round_id}"),
    ("create_exam_round", ""): Sent(
        {"name": "新", "starts_on": "2030-01-01", "ends_on": "2030-03-31"}
    ),
    ("update_exam_round", ""): Sent({"name": "改"}),
    ("list_excuses", ""): Sent(shows="{excuse_id}"),
    ("create_excuse", ""): Sent({"member_id": "{member_id fellow}", "reason": "away"}),
    ("create_excuse", "of an area"): Sent({"area_code": "{code}", "reason": "away"}),
    ("list_funds", ""): Sent(shows="{fund_id}"),
    ("create_fund", ""): Sent(
        {"name": "新", "source": "town", "fiscal_year": 2030, "area_code": "{code}"}
    ),
    ("update_fund", ""): Sent({"name": "改"}),
    ("close_fund", ""): Sent(ids={"fund_id": "{fund_id empty}"}),
    ("create_receipt", ""): Sent(_MONEY),
    ("create_withdrawal", ""): Sent(_MONEY),
    ("create_allocation", ""): Sent(_MONEY | {"to_fund_id": "{fund_id other}"}),
    ("list_draws", ""): Sent(shows="{draw_id}"),
    ("get_draw", "draft"): _draw("draft"),
    ("create_draw", ""): Sent(
        {
            "name": "新",
            "area_code": "{code}",
            "exam_round_id": "{round_id}",
            "closes_at": "2030-01-01T00:00:00Z",
            "beacon_name": "双色球",
            "beacon_at": "2030-01-02T00:00:00Z",
            "prizes": [{"name": "毛巾"}],
        }
    ),
    ("commit_draw", ""): _draw("draft"),
    ("enter_draw_beacon", ""): _draw("closed", {"beacon_value": "1", "beacon_source": "公告"}),
    ("draw_draw", ""): _draw("closed", {"beacon_value": "03 08 14 21 27 33"}),
    ("cancel_draw", ""): Sent(_REASON),
    ("list_draw_winners", ""): _draw("drawn", shows="{ticket}"),
    ("hand_out_draw_prize", ""): _draw("drawn", {"ticket": "{ticket}"}, rank="1"),
    ("decline_draw_prize", ""): _draw("drawn", _REASON, rank="1"),
    ("lapse_draw_prize", ""): _draw("drawn", None, "claim_still_open", rank="1"),
    ("list_my_draw_tickets", ""): Sent(shows="{ticket}"),
    ("list_service_stations", ""): Sent(shows="{station_id}"),
    ("create_service_station", ""): Sent({"name": "新", "area_code": "{code}"}),
    ("update_service_station", ""): Sent({"name": "改"}),
    ("redeem_voucher", ""): Sent({"code": "{voucher code}", "station_id": "{station_id}"}),
    ("cancel_voucher", ""): Sent(_REASON),
    ("list_my_vouchers", ""): Sent(shows="{voucher_id}"),
    ("list_station_settlements", ""): Sent(shows="{settlement_id}"),
    ("create_station_settlement", ""): Sent({"station_id": "{station_id}", "month": _MONTH}),
    ("reject_station_settlement", ""): Sent(_REASON),
    ("pay_station_settlement", ""): Sent(
        {"document_no": "付1", "paid_on": "2026-11-01"},
        ids={"settlement_id": "{settlement_id approved}"},
    ),
    ("list_gifts", ""): Sent(shows='"id":"{gift_id}"'),
    ("create_gift", ""): Sent({"code": "new", "name": "新", "unit": "个"}),
    ("update_gift", ""): Sent({"name": "改"}),
    ("list_stock_movements", ""): Sent(shows="{depot_id}"),
    ("create_stock_movement", ""): Sent(_DELIVERY),
    ("get_gift_forecast", ""): Sent(query={"exam_round_id": "{round_id}"}),
    ("list_depots", ""): Sent(shows="{depot_id}"),
    ("create_depot", ""): Sent({"name": "新", "area_code": "{code}"}, past=("depot_scope_taken",)),
    ("update_depot", ""): Sent({"name": "改"}),
    ("close_depot", ""): Sent(ids={"depot_id": "{depot_id empty}"}),
    ("list_stock", ""): Sent(shows="{depot_id}"),
    ("list_stock_takes", ""): Sent(shows="{take_id}"),
    ("create_stock_take", ""): Sent({"depot_id": "{depot_id empty}"}),
    ("put_stock_count", ""): Sent({"quantity": 9}),
    ("cancel_stock_take", ""): Sent(_REASON),
    ("close_stock_take", ""): Sent(_REASON),
    ("list_due_gifts", ""): Sent(shows="{payout_id gift}"),
    ("hand_out_gift", ""): Sent(
        {"member_id": "{member_id}"}, ids={"payout_id": "{payout_id gift}"}
    ),
    ("put_fund_budget", ""): Sent({"planned_fen": [1] * 12}),
    ("list_month_closes", ""): Sent(shows="{close_id}"),
    ("create_month_close", ""): Sent({"area_code": "{code}", "month": "2020-03"}, past=_OPEN_BOOKS),
    ("calculate_month_close", ""): Sent(past=_OPEN_BOOKS),
    ("close_month", ""): Sent(past=_OPEN_BOOKS),
    ("get_month_file", ""): Sent(ids={"close_id": "{close_id closed}"}),
    ("list_accounts", ""): Sent(shows='"association_id":"{association_id}"'),
    ("publish_accounts", ""): Sent({"month": "2020-01", "correction": "更正"}),
    ("list_my_accounts", ""): Sent(shows="{association_id}"),
    ("list_payout_run_mismatches", ""): Sent(shows="{payout_id}"),
    ("list_grants", ""): Sent(shows="{grant_id}"),
    ("create_grant", ""): Sent(
        {"subject": "a new one", "role": "event_staff", "event_ids": ["{event_id}"]}
    ),
    ("create_grant", "of an auditor"): Sent(
        {"subject": "a new one", "role": "auditor", "areas": ["{code}"]}
    ),
    ("revoke_grant", ""): Sent(_REASON),
    ("list_host_organisations", ""): Sent(shows="{host_id}"),
    ("create_host_organisation", ""): Sent(
        {"kind": "small_business", "name": "新", "area_code": "{code}"},
        past=("host_area_level",),
    ),
    ("update_host_organisation", ""): Sent({"name": "改"}, past=("host_area_level",)),
    ("list_incentive_policies", ""): Sent(shows="{policy_id}"),
    ("create_incentive_policy", ""): Sent({**_VERSION, "name": "新", "area_code": "{code}"}),
    ("create_incentive_policy_version", ""): Sent(_VERSION),
    ("list_incentive_policy_versions", ""): Sent(),
    ("create_login", ""): Sent({"phone": "{phone}"}),
    ("choose_login", ""): Sent(
        {"ticket": "3q2-7w", "member_id": "{member_id}"},
        ids={"login_id": "{event_id}"},
        past=("code_refused",),
    ),
    ("verify_login", ""): Sent(
        {"code": "000000"}, ids={"login_id": "{event_id}"}, past=("code_refused",)
    ),
    ("get_me", ""): Sent(shows="{member_id}"),
    ("list_my_attendances", ""): Sent(shows="{event_id health}"),
    ("list_my_events", ""): Sent(shows="{event_id published}"),
    ("list_my_memberships", ""): Sent(shows="{association_id}"),
    ("list_my_payouts", ""): Sent(shows="{payout_id}"),
    ("list_my_registrations", ""): Sent(shows="{event_id published}"),
    ("get_my_phone", ""): Sent(),
    ("update_my_phone", ""): Sent(
        _CODE, past=("code_refused", "phone_needs_consent", "no_phone_on_file")
    ),
    ("cancel_phone_change", ""): Sent(past=("no_phone_change",)),
    ("create_phone_code", ""): Sent(
        {"phone": _PHONE}, past=("phone_needs_consent", "no_phone_on_file")
    ),
    ("create_consent", ""): Sent(
        {"purpose": "payment", "method": "paper", "given_on": "2026-01-05"}
    ),
    ("withdraw_consent", ""): Sent({"purpose": "contact"}, past=("consent_not_given",)),
    ("list_privacy_notices", ""): Sent(),
    ("create_privacy_notice", ""): Sent(
        {
            "purpose": "contact",
            "effective_on": "2100-01-01",
            "controller": "协会",
            "text_zh": "告知",
            "text_en": "A notice.",
            "recipients": [],
        }
    ),
    ("list_my_consents", ""): Sent(),
    ("give_my_consent", ""): Sent(
        {"purpose": "payment", "notice_number": 1, "language": "zh"}, past=("notice_not_in_force",)
    ),
    ("withdraw_my_consent", ""): Sent({"purpose": "contact"}, past=("consent_not_given",)),
    ("update_my_payout_account", ""): Sent(
        make_account(2), past=("account_needs_consent", "no_phone_on_file")
    ),
    ("cancel_payout_account_change", ""): Sent(past=("no_account_change",)),
    ("list_my_corrections", ""): Sent(shows="{correction_id}"),
    ("create_my_correction", ""): Sent({"subject": "employee_no", "value": "A-9"}),
    ("list_corrections", ""): Sent(shows="{correction_id}"),
    ("accept_correction", ""): Sent({}),
    ("refuse_correction", ""): Sent(_REASON),
    ("list_retention_runs", ""): Sent(shows="{retention_run_id}"),
    ("get_retention_run", ""): Sent(ids={"run_id": "{retention_run_id}"}),
    ("compute_attendance_flags", ""): Sent(past=("event_not_closed",)),
    ("list_members", ""): Sent(shows="{member_id}"),
    ("create_member", ""): Sent(
        {
            "association_id": "{association_id}",
            "name": "新",
            "id_number": make_id_number(78),
            "phone": make_phone(78),
            "consented_on": "2026-01-01",
        }
    ),
    ("import_members", ""): Sent(file=_PEOPLE, form={"association_id": "{association_id}"}),
    ("search_members", ""): Sent({"phone": "{phone}"}, shows="{member_id}"),
    ("update_member", ""): Sent({"name": "改"}),
    ("list_member_attendances", ""): Sent(shows="{event_id}"),
    ("list_member_attendances", "health check"): Sent(shows="{event_id health}"),
    ("get_eligibility", ""): Sent(query={"round_id": "{round_id}"}),
    ("erase_member", ""): Sent(past=("erasure_blocked",)),
    ("leave_association", ""): Sent({"left_on": _LATER, "reason": "误"}),
    ("list_memberships", ""): Sent(shows="{association_id}"),
    ("reveal_member", ""): Sent({"field": "phone", "purpose": "contact"}),
    ("reveal_member", "id number"): Sent(
        {"field": "id_number", "purpose": "identity_check"}, past=("nothing_to_reveal",)
    ),
    ("reveal_member", "payout account"): Sent({"field": "payout_account", "purpose": "payout"}),
    ("transfer_member", ""): Sent(
        {"association_id": "{association_id above}", "moved_on": _LATER, "reason": "误"}
    ),
    ("list_operations", "her own"): Sent(shows="{operation_id}"),
    ("list_operations", "another's"): Sent(shows="{operation_id}"),
    ("get_rejected_rows", "her own"): Sent(past=("no_rejected_rows",)),
    ("get_rejected_rows", "another's"): Sent(past=("no_rejected_rows",)),
    ("list_payout_runs", ""): Sent(shows="{run_id}"),
    ("create_payout_run", ""): Sent(_RUN),
    ("create_payout_run", "an area named"): Sent(_RUN | {"area_code": "{code}"}),
    ("approve_payout_run", ""): _run("submitted", None, "calculation_outdated"),
    ("calculate_payout_run", ""): _run("draft"),
    ("cancel_payout_run", ""): _run("calculated"),
    ("disburse_payout_run", ""): _run("approved"),
    ("reject_payout_run", ""): _run("submitted", _REASON),
    ("enter_payout_run_results", ""): Sent({"results": [{"line_no": 1, "outcome": "paid"}]}),
    ("import_payout_run_results", ""): Sent(file="{cash list}"),
    ("settle_payout_run", ""): _run("disbursing"),
    ("close_payout_run", ""): _run("settled"),
    ("create_payout_run", "of the failed"): Sent({"failed_of": "{run_id settled}"}),
    ("create_my_payout_dispute", ""): Sent(
        {"kind": "not_me"}, ids={"payout_id": "{payout_id disputed}"}
    ),
    ("list_my_payout_disputes", ""): Sent(shows="{dispute_id}"),
    ("list_payout_disputes", ""): Sent(shows="{dispute_id}"),
    ("uphold_payout_dispute", ""): Sent(_REASON),
    ("dismiss_payout_dispute", ""): Sent(_REASON),
    ("list_payout_decisions", ""): Sent(shows="{decision_id}"),
    ("decide_payout_decision", ""): Sent({"choice": "write_off", "reason": "误"}),
    ("list_bank_files", ""): Sent(ids=_BANK_RUN, shows="{file_id}"),
    ("get_bank_file", ""): Sent(ids=_BANK_RUN),
    ("get_bank_file_content", ""): Sent(ids=_BANK_RUN),
    ("create_bank_file", ""): Sent(
        {
            "execution_on": "2100-01-01",
            "debtor_name": "协会",
            "debtor_account": "8002-0001",
            "debtor_bank_code": "105588000018",
        },
        ids=_BANK_RUN,
    ),
    ("take_bank_results", ""): Sent(file=_NO_ENTRIES, ids=_BANK_RUN),
    ("submit_payout_run", ""): _run("calculated"),
    ("list_payout_run_payouts", ""): Sent(shows="{payout_id}"),
    ("list_payouts", ""): Sent(shows="{payout_id}"),
    ("return_payout", ""): Sent(_REASON, ids={"payout_id": "{payout_id disputed}"}),
    ("resolve_payout", ""): Sent(
        {"outcome": "failed", **_REASON}, ids={"payout_id": "{payout_id unknown}"}
    ),
    ("ask_payout_again", ""): Sent(ids={"payout_id": "{payout_id unknown}"}),
    ("list_service_events", ""): Sent(shows="{event_id}"),
    ("list_service_events", "draft"): Sent(shows="{event_id draft}"),
    ("create_service_event", ""): Sent({**_EVENT, "association_id": "{association_id}"}),
    ("create_service_event", "of an area"): Sent(
        {**_EVENT, "area_code": "{code}"}, beyond=("out_of_reach", "missing")
    ),
    ("create_service_event", "health check"): Sent(
        {
            "kind": "health_exam",
            "title": "便民服务",
            "venue": "服务室",
            "association_id": "{association_id}",
            "exam_round_id": "{round_id}",
            "starts_at": "2024-02-11T01:00:00Z",
            "ends_at": "2024-02-11T03:00:00Z",
        }
    ),
    ("get_service_event", "draft"): _at("draft"),
    ("update_service_event", ""): _at("draft", {"title": "改"}),
    ("update_service_event", "health check"): _at("health draft", {"venue": "改"}),
    ("cancel_service_event", ""): _at("published", _REASON),
    ("cancel_service_event", "health check"): _at("health published", _REASON),
    ("close_service_event", "health check"): _at("health"),
    ("publish_service_event", ""): _at("draft"),
    ("publish_service_event", "health check"): _at("health draft"),
    ("start_service_event", ""): _at("published"),
    ("start_service_event", "health check"): _at("health published"),
    ("list_attendances", ""): Sent(shows="{member_id}"),
    ("list_attendances", "health check"): Sent(
        ids={"event_id": "{event_id health}"}, shows="{member_id}"
    ),
    ("get_attendance", "health check"): _at("health"),
    ("check_in", ""): Sent({}, ids={"event_id": "{event_id}"}),
    ("check_in", "health check"): _at("health", {}, member_id="{member_id fellow}"),
    ("check_in_batch", ""): Sent({"device_id": "d", "lines": [_LINE]}),
    ("check_in_batch", "health check"): _at("health", {"device_id": "d", "lines": [_LINE]}),
    ("check_in_by_code", ""): Sent(
        {"code": "{code to scan}"}, past=("attendance_voided",), beyond=("check_in_code",)
    ),
    ("check_in_by_code", "health check"): Sent(
        {"code": "{code to scan health}"},
        ids={"event_id": "{event_id health}"},
        beyond=("check_in_code",),
    ),
    ("get_check_in_code", "health check"): _at("health"),
    ("void_attendance", ""): Sent(_REASON),
    ("void_attendance", "health check"): _at("health", _REASON),
    ("restore_attendance", ""): Sent(_REASON, ids={"member_id": "{member_id fellow}"}),
    ("restore_attendance", "health check"): _at("health", _REASON, "attendance_in_force"),
    ("list_registrations", ""): Sent(shows="{member_id}"),
    ("list_registrations", "health check"): Sent(
        ids={"event_id": "{event_id health}"}, shows="{member_id}"
    ),
    ("create_registration", ""): _at("published", {"member_id": "{member_id}"}),
    ("create_registration", "health check"): _at("health today", {"member_id": "{member_id}"}),
    ("get_registration", "health check"): _at("health"),
    ("cancel_registration", ""): _at("published"),
    ("cancel_registration", "health check"): _at("health today", None, "already_checked_in"),
}
