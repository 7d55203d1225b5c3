"""persons_of_answers: whom a kept answer tells of, though it may not name them"""

from alembic import op
revision = '0030'
down_revision = '0029'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock.

    What was kept before, or is by the version before, has nobody here and is found by its body.
    """
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table idempotency_keys add column persons uuid[] not null default '{}'")


def downgrade() -> None:
    """Take it back."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table idempotency_keys drop column persons")
