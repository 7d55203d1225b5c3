"""One file per resource: the path, the right, the shapes and one service call."""

from app.routers import (
    areas,
    associations,
    code_lists,
    eligibility,
    facilities,
    host_organisations,
    incentive_policies,
    members,
    officers,
    operations,
    payout_runs,
    payouts,
    regulations,
    rosters,
)

REGISTRY = (
    areas.router,
    host_organisations.router,
    associations.router,
    officers.router,
    facilities.router,
    regulations.router,
    code_lists.router,
    members.router,
    rosters.router,
    operations.router,
    eligibility.router,
    incentive_policies.router,
    payout_runs.router,
    payouts.router,
)
