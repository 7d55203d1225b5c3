"""queue_columns: who looks where work waits reads in which district it does, and nothing of it"""

from alembic import op
revision = '0026'
down_revision = '0025'
branch_labels = None
depends_on = None

_COLUMNS = {
    "operations": "district_code, status, lease_until",
    "audit_unsealed": "district_code",
    "audit_seals": "district_code, sequence",
}


def upgrade() -> None:
    """Give the columns in place of the rows, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for table, columns in _COLUMNS.items():
        op.execute(f"revoke select on {table} from jixie_queue")
        op.execute(f"grant select ({columns}) on {table} to jixie_queue")


def downgrade() -> None:
    """Give the rows again."""
    op.execute("set local lock_timeout = '5s'")
    for table, columns in _COLUMNS.items():
        op.execute(f"revoke select ({columns}) on {table} from jixie_queue")
        op.execute(f"grant select on {table} to jixie_queue")
