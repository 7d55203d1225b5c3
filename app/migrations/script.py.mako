"""${message}"""

import sqlalchemy as sa
import sqlmodel  # noqa: F401  (its types appear in generated columns)
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Undo."""
    op.execute("set local lock_timeout = '5s'")
    ${downgrades if downgrades else "pass"}
