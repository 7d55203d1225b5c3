"""discarded bank files: since when a bank may have one, and when its content was discarded"""

from alembic import op
revision = '0022'
down_revision = '0021'
branch_labels = None
depends_on = None

# Nobody noted whether an older file was given out: each counts as one that may be at the bank.
STATEMENTS = (
    """alter table bank_files add column given_at timestamptz, add column discarded_at timestamptz""",
    """alter table bank_files no force row level security""",
    """update bank_files set given_at = created_at""",
    """alter table bank_files force row level security""",
    """-- squawk-ignore constraint-missing-not-valid
alter table bank_files add constraint ck_bank_files_discarded check (discarded_at is null or content_sealed is null)""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Forget what was given out and what was discarded."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table bank_files drop column given_at, drop column discarded_at")
