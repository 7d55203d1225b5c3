"""draw_parts: of how many people the fewest are that can be told apart in a draw's tickets"""

from alembic import op
revision = '0027'
down_revision = '0026'
branch_labels = None
depends_on = None

# By the list that was frozen. What a draw has beyond the one that it replaces was not looked at
# then: of such a draw no more is told than of a draw of one.
_COUNT = """update draws d set fewest_count = case when d.replaces_id is not null
    then least(d.people_count, 1) else (
    with held as (select t.member_id, p.rule_id, p.quantity from draw_entries e
        join draw_tickets t on t.district_code = e.district_code and t.ticket = e.ticket
        left join payouts p on p.district_code = t.district_code
        and p.round_sequence = d.round_sequence and p.run_id = t.run_id and p.line_no = t.line_no
        where e.district_code = d.district_code and e.draw_id = d.id),
    parts as (select count(distinct member_id) as people from held group by rule_id, quantity)
    select coalesce(least(min(people), min(d.people_count - people)
        filter (where d.people_count > people)), 0) from parts) end
    where d.ticket_count is not null"""
_WALLED = ("draws", "draw_entries", "draw_tickets", "payouts")


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock; count again of the draws that are frozen.

    Where the version before freezes one meanwhile it stays uncounted, and its count is withheld.
    """
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table draws add column fewest_count integer")
    for table in _WALLED:
        op.execute(f"alter table {table} no force row level security")
    op.execute("alter table draws disable trigger user")
    op.execute(_COUNT)
    op.execute("alter table draws enable trigger user")
    for table in _WALLED:
        op.execute(f"alter table {table} force row level security")
    op.execute("-- squawk-ignore constraint-missing-not-valid\nalter table draws add constraint ck_draws_fewest check (fewest_count >= least(ticket_count, 1) and fewest_count <= people_count)")
    op.execute("grant update (fewest_count) on draws to jixie_district")
    op.execute("grant update (fewest_count) on draws to jixie_staff")


def downgrade() -> None:
    """Take the count back, and its constraint with it."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table draws drop column fewest_count")
