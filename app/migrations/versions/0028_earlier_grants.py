"""earlier_grants: who was granted something before a rule held is held by it"""

from alembic import op
revision = '0028'
down_revision = '0027'
branch_labels = None
depends_on = None

_STANDS = "g.revoked_at is null and (g.ends_at is null or g.ends_at > statement_timestamp())"
_CHANGED = "version = version + 1, updated_at = statement_timestamp()"
# An employee village is where an enterprise houses those who work for it.
_LINK = f"""update grants g set employer_linked = true, {_CHANGED}
    where g.role = 'association_secretary' and not g.employer_linked and {_STANDS}
    and exists (select from associations a join host_organisations h
        on h.district_code = a.district_code and h.id = a.host_id
        where a.district_code = g.district_code and a.id = any(g.association_ids)
        and h.kind = 'employee_village')"""
# Who acts as a member is herself, by phone, or known to those who run the service.
_END = f"""update grants g set revoked_at = statement_timestamp(), revoked_by = 'shell',
    revoke_reason = '会员权限不得授予他人', {_CHANGED}
    where g.role = 'member' and {_STANDS} and g.subject <> 'member:' || g.member_id
    and g.granted_by not in ('shell', 'demo')"""
_WALLED = ("associations", "grants", "host_organisations")


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock; what is over or was taken back stays as it was."""
    op.execute("set local lock_timeout = '5s'")
    for table in _WALLED:
        op.execute(f"alter table {table} no force row level security")
    op.execute(_LINK)
    op.execute(_END)
    for table in _WALLED:
        op.execute(f"alter table {table} force row level security")


def downgrade() -> None:
    """Change nothing: nobody is freed from being the employer's, or let act as somebody else."""
