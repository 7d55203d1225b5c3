"""One file per resource: the path, the right, the shapes and one service call."""

from app.routers import code_lists, operations
from app.routers.access import grants
from app.routers.accounting import accounts, month_closes, signing_keys
from app.routers.audit import audit_entries
from app.routers.channels import bank_files, hand_outs, service_stations, station_settlements
from app.routers.disbursement import (
    my_payout_disputes,
    payout_decisions,
    payout_disputes,
    payout_runs,
    payouts,
    vouchers,
)
from app.routers.events import (
    attendance_flags,
    attendances,
    exam_rounds,
    excuses,
    registrations,
    service_events,
)
from app.routers.finance import fund_budgets, funds
from app.routers.goods import depots, gifts, stock, stock_takes
from app.routers.incentives import eligibility, incentive_policies
from app.routers.lucky_draws import draw_tickets, draw_winners, draws
from app.routers.membership import (
    consents,
    corrections,
    logins,
    members,
    my_corrections,
    payout_accounts,
    rosters,
)
from app.routers.organisation import (
    areas,
    associations,
    facilities,
    host_organisations,
    officers,
    regulations,
)
from app.routers.privacy import privacy_notices, retention_runs, reveals
from app.routers.self_service import erasures, me, member_exports, my_vouchers

REGISTRY = (
    # The busiest first: each request asks them in turn.
    members.router,
    eligibility.router,
    attendances.router,
    service_events.router,
    me.router,
    associations.router,
    payout_runs.router,
    payouts.router,
    areas.router,
    host_organisations.router,
    officers.router,
    facilities.router,
    regulations.router,
    accounts.router,
    code_lists.router,
    privacy_notices.router,
    consents.router,
    payout_accounts.router,
    reveals.router,
    erasures.router,
    member_exports.router,
    rosters.router,
    exam_rounds.router,
    excuses.router,
    registrations.router,
    attendance_flags.router,
    operations.router,
    incentive_policies.router,
    bank_files.router,
    payout_disputes.router,
    payout_decisions.router,
    vouchers.router,
    service_stations.router,
    station_settlements.router,
    funds.router,
    draws.router,
    draw_winners.router,
    draw_tickets.router,
    gifts.router,
    depots.router,
    stock.router,
    stock_takes.router,
    hand_outs.router,
    hand_outs.of_payouts,
    fund_budgets.router,
    month_closes.router,
    signing_keys.router,
    grants.router,
    logins.router,
    my_vouchers.router,
    audit_entries.router,
    my_corrections.router,
    my_payout_disputes.router,
    corrections.router,
    retention_runs.router,
)
