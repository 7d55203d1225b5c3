"""refusals: what the audit keeps of an act that was refused"""

from alembic import op
revision = '0023'
down_revision = '0022'
branch_labels = None
depends_on = None

KINDS = "'phone', 'address', 'member', 'sent', 'wrong', 'voucher', 'enrolled'"


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("""alter table audit_entries add column refusal text collate "C\"""")
    op.execute("alter table audit_entries add column malformed text")
    op.execute("alter table audit_seals add column batch integer")
    _limit(f"{KINDS}, 'noted'")


def downgrade() -> None:
    """Take the columns back; what was sealed with them no longer agrees with its seals."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table code_limits no force row level security")
    op.execute("delete from code_limits where kind = 'noted'")
    op.execute("alter table code_limits force row level security")
    _limit(KINDS)
    op.execute("alter table audit_entries drop column refusal, drop column malformed")
    op.execute("alter table audit_seals drop column batch")


def _limit(kinds: str) -> None:
    op.execute("-- squawk-ignore ban-drop-constraint\nalter table code_limits drop constraint ck_code_limits_kind")
    op.execute(f"-- squawk-ignore constraint-missing-not-valid\nalter table code_limits add constraint ck_code_limits_kind check (kind in ({kinds}))")
