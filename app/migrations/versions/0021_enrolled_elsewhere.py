"""enrolled elsewhere: how often a caller is told so is counted"""

from alembic import op
revision = '0021'
down_revision = '0020'
branch_labels = None
depends_on = None

KINDS = "'phone', 'address', 'member', 'sent', 'wrong', 'voucher'"


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    _check(f"kind in ({KINDS}, 'enrolled')")


def downgrade() -> None:
    """Count it no more."""
    op.execute("set local lock_timeout = '5s'")
    # The owner looks past the walls; behind them she would see no row to delete.
    op.execute("alter table code_limits no force row level security")
    op.execute("delete from code_limits where kind = 'enrolled'")
    op.execute("alter table code_limits force row level security")
    _check(f"kind in ({KINDS})")


def _check(condition: str) -> None:
    op.execute("-- squawk-ignore ban-drop-constraint\nalter table code_limits drop constraint ck_code_limits_kind")
    op.execute(f"-- squawk-ignore constraint-missing-not-valid\nalter table code_limits add constraint ck_code_limits_kind check ({condition})")
