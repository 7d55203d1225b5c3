"""corrections with an answer due, and the runs of retention"""

from alembic import op
revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

# A district has a handful of settings: looking through them holds the lock for no time.
STATEMENTS = (
    """-- squawk-ignore ban-drop-constraint, constraint-missing-not-valid
alter table area_settings drop constraint ck_area_settings_key, add constraint ck_area_settings_key check (key in ('independent_min_staff', 'correction_days'))""",
    """CREATE TABLE corrections (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    member_id UUID NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    event_id UUID,
    round_id UUID,
    said_sealed BYTEA,
    status TEXT COLLATE "C" NOT NULL,
    due_on DATE NOT NULL,
    answer_sealed BYTEA,
    applied BOOLEAN NOT NULL,
    answered_by TEXT,
    closed_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_corrections PRIMARY KEY (district_code, id),
    CONSTRAINT ck_corrections_subject CHECK (subject in ('name', 'employee_no', 'id_number', 'membership', 'attendance', 'excuse', 'other')),
    CONSTRAINT ck_corrections_status CHECK (status in ('open', 'accepted', 'refused', 'withdrawn')),
    CONSTRAINT ck_corrections_closed CHECK ((status = 'open') = (closed_at is null)),
    CONSTRAINT ck_corrections_answered CHECK ((status in ('accepted', 'refused')) = (answered_by is not null)),
    CONSTRAINT ck_corrections_applied CHECK (not applied or status = 'accepted'),
    CONSTRAINT ck_corrections_said CHECK (status <> 'open' or said_sealed is not null),
    CONSTRAINT ck_corrections_answer CHECK (answer_sealed is null or status in ('accepted', 'refused')),
    CONSTRAINT ck_corrections_about CHECK ((event_id is null or subject = 'attendance') and (round_id is null or subject = 'excuse')),
    CONSTRAINT fk_corrections_member FOREIGN KEY(district_code, member_id) REFERENCES members (district_code, id),
    CONSTRAINT fk_corrections_event FOREIGN KEY(district_code, event_id) REFERENCES service_events (district_code, id),
    CONSTRAINT fk_corrections_round FOREIGN KEY(district_code, round_id) REFERENCES exam_rounds (district_code, id)
)""",
    """CREATE INDEX ix_corrections_closed ON corrections (district_code, closed_at) WHERE closed_at is not null""",
    """CREATE INDEX ix_corrections_due ON corrections (district_code, due_on, id)""",
    """CREATE INDEX ix_corrections_member ON corrections (district_code, member_id, id)""",
    """CREATE UNIQUE INDEX uq_corrections_open ON corrections (district_code, member_id, subject, event_id, round_id) NULLS NOT DISTINCT WHERE status = 'open'""",
    """alter table corrections enable row level security""",
    """alter table corrections force row level security""",
    """create policy district on corrections as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on corrections to jixie_district""",
    """create policy rules on corrections to jixie_district using (true) with check (true)""",
    """grant select on corrections to jixie_staff""",
    """create policy jixie_staff_select on corrections for select to jixie_staff using (member_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant select on corrections to jixie_member""",
    """create policy jixie_member_select on corrections for select to jixie_member using (member_id = (select nullif(current_setting('jixie.member'), '')::uuid))""",
    """CREATE TABLE retention_runs (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    night_on DATE,
    position INTEGER NOT NULL,
    counts JSONB NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_retention_runs PRIMARY KEY (district_code, id),
    CONSTRAINT ck_retention_runs_position CHECK (position >= 0)
)""",
    """CREATE UNIQUE INDEX uq_retention_runs_asked_for ON retention_runs (district_code) WHERE night_on is null and finished_at is null""",
    """CREATE UNIQUE INDEX uq_retention_runs_night ON retention_runs (district_code, night_on) WHERE night_on is not null""",
    """alter table retention_runs enable row level security""",
    """alter table retention_runs force row level security""",
    """create policy district on retention_runs as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on retention_runs to jixie_district""",
    """create policy rules on retention_runs to jixie_district using (true) with check (true)""",
    """grant select on retention_runs to jixie_staff""",
    """create policy jixie_staff_select on retention_runs for select to jixie_staff using ((district_code >= (select current_setting('jixie.area_low')) and district_code <= (select current_setting('jixie.area_high')) and district_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables, and with them their walls."""
    for table in ('retention_runs', 'corrections'):
        op.execute(f"drop table {table}")
    op.execute("alter table area_settings no force row level security")
    op.execute("delete from area_settings where key = 'correction_days'")
    op.execute("alter table area_settings force row level security")
    op.execute("alter table area_settings drop constraint ck_area_settings_key")
    op.execute("alter table area_settings add constraint ck_area_settings_key check (key in ('independent_min_staff'))")
