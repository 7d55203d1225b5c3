"""All tables in one place, for migrations and for the tests that read the metadata."""

from app.models import (
    areas,
    associations,
    attendances,
    exam_rounds,
    host_organisations,
    incentive_policies,
    members,
    operations,
    payout_runs,
    service_events,
)
from app.models.tables import Table

metadata = Table.metadata

CONCEPTS = (
    areas,
    host_organisations,
    associations,
    members,
    exam_rounds,
    service_events,
    attendances,
    incentive_policies,
    payout_runs,
    operations,
)
