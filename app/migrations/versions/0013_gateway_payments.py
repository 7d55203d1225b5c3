"""gateway payments: what a payment gateway was given, and what it says of each"""

from alembic import op
revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE gateway_payments (
    district_code TEXT COLLATE "C" NOT NULL,
    run_id UUID NOT NULL,
    line_no INTEGER NOT NULL,
    round_sequence INTEGER NOT NULL,
    member_id UUID NOT NULL,
    rule_id UUID NOT NULL,
    amount_fen BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    sent_at TIMESTAMP WITH TIME ZONE NOT NULL,
    lease_until TIMESTAMP WITH TIME ZONE,
    attempts INTEGER NOT NULL,
    ask_only BOOLEAN NOT NULL,
    last_answer TEXT,
    receipt TEXT,
    paid_on DATE,
    CONSTRAINT pk_gateway_payments PRIMARY KEY (district_code, run_id, line_no),
    CONSTRAINT ck_gateway_payments_state CHECK (state in ('sending', 'unknown', 'paid', 'failed')),
    CONSTRAINT ck_gateway_payments_amount CHECK (amount_fen > 0),
    CONSTRAINT ck_gateway_payments_attempts CHECK (attempts >= 0),
    CONSTRAINT ck_gateway_payments_lease CHECK ((state = 'sending') = (lease_until is not null)),
    CONSTRAINT ck_gateway_payments_receipt CHECK ((state = 'paid') = (receipt is not null) and (state = 'paid') = (paid_on is not null)),
    CONSTRAINT fk_gateway_payments_payout_run FOREIGN KEY(district_code, run_id) REFERENCES payout_runs (district_code, id),
    CONSTRAINT uq_gateway_payments_receipt UNIQUE (district_code, receipt)
)""",
    """CREATE INDEX ix_gateway_payments_open ON gateway_payments (district_code, run_id, state, lease_until) WHERE state in ('sending', 'unknown')""",
    """alter table gateway_payments enable row level security""",
    """alter table gateway_payments force row level security""",
    """create policy district on gateway_payments as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update on gateway_payments to jixie_district""",
    """create policy rules on gateway_payments to jixie_district using (true) with check (true)""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop what the gateway was given; let no payout be on its way over it by then."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("drop table gateway_payments")
