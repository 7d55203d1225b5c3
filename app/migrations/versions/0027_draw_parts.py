"""draw_parts: of how many people the fewest are that can be told apart in a draw's tickets"""

from alembic import op
revision = '0027'
down_revision = '0026'
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock.

    A draw that is frozen before, or by the version before, stays uncounted: its count is withheld.
    """
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table draws add column fewest_count integer")
    op.execute("-- squawk-ignore constraint-missing-not-valid\nalter table draws add constraint ck_draws_fewest check (fewest_count >= least(ticket_count, 1) and fewest_count <= people_count)")
    op.execute("grant update (fewest_count) on draws to jixie_district")
    op.execute("grant update (fewest_count) on draws to jixie_staff")


def downgrade() -> None:
    """Take the count back, and its constraint with it."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table draws drop column fewest_count")
