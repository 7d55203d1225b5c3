"""bank files: what a bank was given of a run, and which of its files were taken in"""

from alembic import op
revision = '0016'
down_revision = '0015'
branch_labels = None
depends_on = None

TABLES = (
    """CREATE TABLE bank_files (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    run_id UUID NOT NULL,
    number INTEGER NOT NULL,
    format TEXT COLLATE "C" NOT NULL,
    execution_on DATE NOT NULL,
    debtor_name TEXT NOT NULL,
    debtor_account_masked TEXT NOT NULL,
    debtor_bank_code TEXT COLLATE "C" NOT NULL,
    lines INTEGER[] NOT NULL,
    amount_fen BIGINT NOT NULL,
    sha256 TEXT COLLATE "C" NOT NULL,
    content_sealed BYTEA,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    created_by TEXT NOT NULL,
    answered_at TIMESTAMP WITH TIME ZONE,
    rejected_at TIMESTAMP WITH TIME ZONE,
    status_reason TEXT,
    CONSTRAINT pk_bank_files PRIMARY KEY (district_code, id),
    CONSTRAINT ck_bank_files_format CHECK (format in ('pain.001', 'csv')),
    CONSTRAINT ck_bank_files_number CHECK (number > 0),
    CONSTRAINT ck_bank_files_lines CHECK (cardinality(lines) between 1 and 10000),
    CONSTRAINT ck_bank_files_amount CHECK (amount_fen > 0),
    CONSTRAINT ck_bank_files_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_bank_files_content CHECK (answered_at is null or content_sealed is null),
    CONSTRAINT ck_bank_files_rejected CHECK ((rejected_at is null) = (status_reason is null) and (rejected_at is null or answered_at is not null)),
    CONSTRAINT fk_bank_files_payout_run FOREIGN KEY(district_code, run_id) REFERENCES payout_runs (district_code, id),
    CONSTRAINT uq_bank_files_number UNIQUE (district_code, run_id, number)
)""",
    """alter table bank_files enable row level security""",
    """alter table bank_files force row level security""",
    """create policy district on bank_files as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update on bank_files to jixie_district""",
    """create policy rules on bank_files to jixie_district using (true) with check (true)""",
    """grant select on bank_files to jixie_staff""",
    """create policy jixie_staff_select on bank_files for select to jixie_staff using (run_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant insert on bank_files to jixie_staff""",
    """create policy jixie_staff_insert on bank_files for insert to jixie_staff with check (run_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant update on bank_files to jixie_staff""",
    """create policy jixie_staff_update on bank_files for update to jixie_staff using (run_id = any ((select current_setting('jixie.shown'))::uuid[])) with check (run_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """CREATE TABLE bank_results (
    district_code TEXT COLLATE "C" NOT NULL,
    run_id UUID NOT NULL,
    sha256 TEXT COLLATE "C" NOT NULL,
    format TEXT COLLATE "C" NOT NULL,
    recorded INTEGER NOT NULL,
    taken_at TIMESTAMP WITH TIME ZONE NOT NULL,
    taken_by TEXT NOT NULL,
    CONSTRAINT pk_bank_results PRIMARY KEY (district_code, run_id, sha256),
    CONSTRAINT ck_bank_results_format CHECK (format in ('pain.002', 'camt.053', 'camt.054', 'csv')),
    CONSTRAINT ck_bank_results_sha256 CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT fk_bank_results_payout_run FOREIGN KEY(district_code, run_id) REFERENCES payout_runs (district_code, id)
)""",
    """alter table bank_results enable row level security""",
    """alter table bank_results force row level security""",
    """create policy district on bank_results as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on bank_results to jixie_district""",
    """create policy rules on bank_results to jixie_district using (true) with check (true)""",
    """grant select on bank_results to jixie_staff""",
    """create policy jixie_staff_select on bank_results for select to jixie_staff using (run_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant insert on bank_results to jixie_staff""",
    """create policy jixie_staff_insert on bank_results for insert to jixie_staff with check (run_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Forget the files; what became of the payouts stays with them."""
    op.execute("set local lock_timeout = '5s'")
    for table in ('bank_results', 'bank_files'):
        op.execute(f"drop table {table}")
