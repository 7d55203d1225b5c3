"""All tables in one place, for migrations and for the tests that read the metadata."""

from app.models import operations
from app.models.access import grants
from app.models.accounting import accounts, month_closes
from app.models.audit import audit_entries, audit_seals
from app.models.channels import bank_files, gateway_payments, service_stations, station_settlements
from app.models.disbursement import (
    payout_decisions,
    payout_disputes,
    payout_runs,
    payouts,
    vouchers,
)
from app.models.events import (
    attendance_flags,
    attendances,
    exam_rounds,
    excuses,
    registrations,
    service_events,
)
from app.models.finance import fund_budgets, funds, transfers
from app.models.goods import depots, gifts, stock_movements, stock_takes
from app.models.incentives import incentive_policies
from app.models.lucky_draws import draw_tickets, draw_winners, draws
from app.models.membership import consents, corrections, members
from app.models.organisation import (
    areas,
    associations,
    facilities,
    host_organisations,
    officers,
    regulations,
)
from app.models.privacy import (
    data_keys,
    held_changes,
    phone_codes,
    privacy_notices,
    retention_runs,
    reveals,
)
from app.models.tables import Table

metadata = Table.metadata

CONCEPTS = (
    areas,
    host_organisations,
    associations,
    officers,
    facilities,
    regulations,
    members,
    privacy_notices,
    consents,
    data_keys,
    reveals,
    exam_rounds,
    excuses,
    service_events,
    registrations,
    attendances,
    attendance_flags,
    funds,
    gifts,
    depots,
    incentive_policies,
    payout_runs,
    payouts,
    gateway_payments,
    payout_disputes,
    payout_decisions,
    bank_files,
    transfers,
    draws,
    draw_tickets,
    draw_winners,
    service_stations,
    station_settlements,
    vouchers,
    stock_takes,
    stock_movements,
    fund_budgets,
    month_closes,
    accounts,
    operations,
    grants,
    phone_codes,
    audit_entries,
    audit_seals,
    corrections,
    retention_runs,
    held_changes,
)
