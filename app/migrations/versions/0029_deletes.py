"""deletes: a rule of a district deletes only what is decided anew, retained for a time or erased"""

from alembic import op
revision = '0029'
down_revision = '0028'
branch_labels = None
depends_on = None

_KEPT = (
    "area_settings", "associations", "attendances", "depots", "exam_rounds", "excuses", "facilities",
    "funds", "gifts", "host_organisations", "incentive_policies", "incentive_rules", "members",
    "memberships", "month_closes", "officers", "payout_runs", "policy_versions", "regulations",
    "service_events", "service_stations", "station_settlements", "vouchers",
)


def upgrade() -> None:
    """Take the right back, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    op.execute(f"revoke delete on {', '.join(_KEPT)} from jixie_district")


def downgrade() -> None:
    """Give the right again."""
    op.execute("set local lock_timeout = '5s'")
    op.execute(f"grant delete on {', '.join(_KEPT)} to jixie_district")
