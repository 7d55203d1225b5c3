"""vouched phones: which phones nobody but the employer's side entered, and which an office took away"""

from alembic import op
revision = '0020'
down_revision = '0019'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (
        # Every phone from before counts as vouched for: to add the column rewrites no row.
        "alter table members add column phone_unconfirmed_since timestamptz",
        "-- squawk-ignore ban-drop-constraint\n"
        "alter table held_changes drop constraint ck_held_changes_field",
        "-- squawk-ignore constraint-missing-not-valid\n"
        "alter table held_changes add constraint ck_held_changes_field check (field in ('phone', 'payout_account', 'cleared_phone'))",
        "-- squawk-ignore require-concurrent-index-creation\n"
        "create index ix_held_changes_cleared on held_changes (district_code, member_id) where field = 'cleared_phone'",
    ):
        op.execute(statement)


def downgrade() -> None:
    """Let every phone open the door, and forget which ones were taken away."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (
        "drop index ix_held_changes_cleared",
        "alter table held_changes no force row level security",
        "delete from held_changes where field = 'cleared_phone'",
        "alter table held_changes force row level security",
        "alter table held_changes drop constraint ck_held_changes_field",
        "alter table held_changes add constraint ck_held_changes_field check (field in ('phone', 'payout_account'))",
        "alter table members drop column phone_unconfirmed_since",
    ):
        op.execute(statement)
