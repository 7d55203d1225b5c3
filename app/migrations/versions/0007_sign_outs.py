"""sign-outs: from when on a member's tokens are accepted"""

from alembic import op
revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    op.execute('ALTER TABLE grants ADD COLUMN tokens_from TIMESTAMP WITH TIME ZONE')


def downgrade() -> None:
    """Forget who has signed out."""
    op.execute("set local lock_timeout = '5s'")
    op.execute('alter table grants drop column tokens_from')
