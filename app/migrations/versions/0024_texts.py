"""texts: what was written about persons leaves the books, and goes with those who were erased"""

from alembic import op
revision = '0024'
down_revision = '0023'
branch_labels = None
depends_on = None

# The owner looks past the walls for a statement; behind them she would see no row to empty. In the
# books nothing is ever changed but this once: no sum, no side and no day. Few rows are touched,
# those of payouts that came back and those of who was erased.
BOOKS = tuple(
    f"update {table} set note = null where run_id is not null and note is not null"
    for table in ("transfers", "stock_movements")
)
_ERASED = "(select district_code, id from members where erased_at is not null)"
ERASED = (
    *(
        f"update {table} set {column} = '已删除'"
        f" where {column} is not null and (district_code, member_id) in {_ERASED}"
        for table, column in (
            ("attendances", "void_reason"),
            ("grants", "revoke_reason"),
            ("payout_decisions", "reason"),
            ("payout_disputes", "answer"),
            ("payouts", "failure_reason"),
        )
    ),
    "update draw_winners w set end_reason = '已删除' from draw_tickets t"
    " where t.district_code = w.district_code and t.ticket = w.ticket and w.end_reason is not null"
    f" and (t.district_code, t.member_id) in {_ERASED}",
)
WALLED = (
    "attendances", "draw_tickets", "draw_winners", "grants", "members", "payout_decisions",
    "payout_disputes", "payouts", "stock_movements", "transfers",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for table in WALLED:
        op.execute(f"alter table {table} no force row level security")
    for statement in (*BOOKS, *ERASED):
        op.execute(statement)
    for table in WALLED:
        op.execute(f"alter table {table} force row level security")


def downgrade() -> None:
    """Change nothing: what was emptied does not come back."""
