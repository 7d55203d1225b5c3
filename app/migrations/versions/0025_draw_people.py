"""draw_people: of how many people the tickets of a draw are"""

from alembic import op
revision = '0025'
down_revision = '0024'
branch_labels = None
depends_on = None

# By the list that was frozen: of a draw that was given up, another has taken the tickets over.
_COUNT = """update draws d set people_count = (select count(distinct t.member_id) from draw_entries e
    join draw_tickets t on t.district_code = e.district_code and t.ticket = e.ticket
    where e.district_code = d.district_code and e.draw_id = d.id) where d.ticket_count is not null"""
_WALLED = ("draws", "draw_entries", "draw_tickets")


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock; count again of the draws that are frozen."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table draws add column people_count integer")
    for table in _WALLED:
        op.execute(f"alter table {table} no force row level security")
    op.execute("alter table draws disable trigger user")
    op.execute(_COUNT)
    op.execute("alter table draws enable trigger user")
    for table in _WALLED:
        op.execute(f"alter table {table} force row level security")
    op.execute("-- squawk-ignore constraint-missing-not-valid\nalter table draws add constraint ck_draws_people check ((ticket_count is null) = (people_count is null) and people_count >= least(ticket_count, 1) and people_count <= ticket_count)")
    op.execute("grant update (people_count) on draws to jixie_district")
    op.execute("grant update (people_count) on draws to jixie_staff")


def downgrade() -> None:
    """Take the count back, and its constraint with it."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table draws drop column people_count")
