"""texts: what was written about persons leaves the books, and goes with those who were erased"""

from alembic import op
revision = '0024'
down_revision = '0023'
branch_labels = None
depends_on = None

# In the books nothing is ever changed but this once: no sum, no side and no day.
_NOTED = "run_id is not null and note is not null"
_HERS = "x.district_code = e.district_code and x.member_id = e.id"
# Who was erased is few: each table is entered by her, along its key.
_WRITTEN = {
    "attendances": ("void_reason", _HERS),
    "grants": ("revoke_reason", _HERS),
    "payout_decisions": ("reason", _HERS),
    "payout_disputes": ("answer", _HERS),
    "payouts": ("failure_reason", f"{_HERS} and x.round_sequence in (select r.sequence from exam_rounds r where r.district_code = e.district_code)"),
    "draw_winners": ("end_reason", "(x.district_code, x.draw_id, x.ticket) in (select t.district_code, t.draw_id, t.ticket from draw_tickets t where t.district_code = e.district_code and t.member_id = e.id)"),
}
# What those hold that are entered only to find the rows.
_BESIDE = {"payouts": ("exam_rounds",), "draw_winners": ("draw_tickets",)}


def _behind(tables: tuple[str, ...], statement: str) -> str:
    """Have the owner look past the walls for a statement; behind them she would see no row."""
    off, on = (
        "".join(f"alter table {each} {state} row level security; " for each in tables)
        for state in ("no force", "force")
    )
    return f"{off}{statement}; {on}"


def _books() -> str:
    return "".join(
        _behind((table,), f"update {table} set note = null where {_NOTED}")
        for table in ("transfers", "stock_movements")
    )


def _erased() -> str:
    """Empty what is written of who was erased, a table at a time."""
    each = "unnest(districts, ids) e(district_code, id)"
    return "".join(
        _behind(
            (table, *_BESIDE.get(table, ())),
            f"update {table} x set {column} = '已删除' from {each}"
            f" where {where} and x.{column} is not null",
        )
        for table, (column, where) in _WRITTEN.items()
    )


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock; what is written is looked for only where somebody was erased."""
    op.execute("set local lock_timeout = '5s'")
    look = "select array_agg(district_code), array_agg(id) into districts, ids from members where erased_at is not null"
    # Of a run that ended before its lines were given back, the sums stayed.
    runs = "update payout_runs set payout_count = 0, amount_fen = 0 where status in ('rejected', 'cancelled') and (payout_count <> 0 or amount_fen <> 0)"
    # The books come last, as what is locked stays so until the end and they are read through.
    op.execute(
        f"do $$ declare districts text[]; ids uuid[]; begin {_behind(('members',), look)}"
        f"if ids is not null then {_erased()}end if; {_behind(('payout_runs',), runs)}{_books()}end $$"
    )


def downgrade() -> None:
    """Change nothing: what was emptied does not come back."""
