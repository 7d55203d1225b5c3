"""channels: bank file and payment gateway beside the cash list, and payouts that are on their way"""

from alembic import op
revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None

SETTLED = "status = 'paid' and failure_reason is null and settled_at is not null and released = 0 or status in ('failed', 'returned') and failure_reason is not null and settled_at is not null and released >= 0"
CHECKS = (
    ('payouts', 'ck_payouts_status', f"status in ('pending', 'held', 'sending', 'unknown') and failure_reason is null and settled_at is null and released = 0 or {SETTLED}"),
    ('payout_runs', 'ck_payout_runs_channel', "channel in ('cash_list', 'bank_file', 'gateway')"),
)
FORMER_CHECKS = (
    ('payouts', 'ck_payouts_status', f"status = 'pending' and failure_reason is null and settled_at is null and released = 0 or {SETTLED}"),
    ('payout_runs', 'ck_payout_runs_channel', "channel in ('cash_list')"),
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    _check(CHECKS)


def downgrade() -> None:
    """Go back; refused while a run goes by one of the new channels, or a payout is on its way."""
    op.execute("set local lock_timeout = '5s'")
    _check(FORMER_CHECKS)


def _check(checks: tuple[tuple[str, str, str], ...]) -> None:
    for table, name, condition in checks:
        op.execute(f"-- squawk-ignore ban-drop-constraint\nalter table {table} drop constraint {name}")
        op.execute(f"-- squawk-ignore constraint-missing-not-valid\nalter table {table} add constraint {name} check ({condition})")
