"""All tables in one place, for migrations and for the tests that read the metadata."""

from app.models import (
    areas,
    associations,
    attendances,
    corrections,
    data_keys,
    exam_rounds,
    excuses,
    facilities,
    grants,
    host_organisations,
    incentive_policies,
    members,
    officers,
    operations,
    payout_runs,
    payouts,
    phone_changes,
    phone_codes,
    registrations,
    regulations,
    reveals,
    service_events,
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
    data_keys,
    reveals,
    exam_rounds,
    excuses,
    service_events,
    registrations,
    attendances,
    incentive_policies,
    payout_runs,
    payouts,
    operations,
    grants,
    phone_codes,
    phone_changes,
    corrections,
)
