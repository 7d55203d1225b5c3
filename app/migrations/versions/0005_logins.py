"""logins: phone codes, their limits, and changes of phone"""

from alembic import op
revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

STATEMENTS = (
    """CREATE TABLE phone_codes (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    purpose TEXT COLLATE "C" NOT NULL,
    member_id UUID,
    phone_index BYTEA NOT NULL,
    former_index BYTEA,
    digest BYTEA NOT NULL,
    tries INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    used_at TIMESTAMP WITH TIME ZONE,
    chosen_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_phone_codes PRIMARY KEY (district_code, id),
    CONSTRAINT ck_phone_codes_purpose CHECK (purpose in ('login', 'new_phone')),
    CONSTRAINT ck_phone_codes_tries CHECK (tries between 0 and 5),
    CONSTRAINT ck_phone_codes_member CHECK ((purpose = 'new_phone') = (member_id is not null)),
    CONSTRAINT ck_phone_codes_chosen CHECK (used_at is not null or chosen_at is null),
    CONSTRAINT fk_phone_codes_member FOREIGN KEY(district_code, member_id) REFERENCES members (district_code, id)
)""",
    """CREATE INDEX ix_phone_codes_created_at ON phone_codes (district_code, created_at)""",
    """alter table phone_codes enable row level security""",
    """alter table phone_codes force row level security""",
    """create policy district on phone_codes as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on phone_codes to jixie_district""",
    """create policy rules on phone_codes to jixie_district using (true) with check (true)""",
    """CREATE TABLE code_limits (
    district_code TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    key BYTEA NOT NULL,
    window_started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE NOT NULL,
    taken INTEGER NOT NULL,
    CONSTRAINT pk_code_limits PRIMARY KEY (district_code, kind, key),
    CONSTRAINT ck_code_limits_kind CHECK (kind in ('phone', 'address', 'member', 'sent', 'wrong')),
    CONSTRAINT ck_code_limits_taken CHECK (taken >= 0)
)""",
    """CREATE INDEX ix_code_limits_last_at ON code_limits (district_code, last_at)""",
    """alter table code_limits enable row level security""",
    """alter table code_limits force row level security""",
    """create policy district on code_limits as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on code_limits to jixie_district""",
    """create policy rules on code_limits to jixie_district using (true) with check (true)""",
    """CREATE TABLE phone_changes (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    member_id UUID NOT NULL,
    phone_sealed BYTEA,
    requested_at TIMESTAMP WITH TIME ZONE NOT NULL,
    in_force_at TIMESTAMP WITH TIME ZONE NOT NULL,
    noticed_at TIMESTAMP WITH TIME ZONE,
    applied_at TIMESTAMP WITH TIME ZONE,
    cancelled_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_phone_changes PRIMARY KEY (district_code, id),
    CONSTRAINT ck_phone_changes_hold CHECK (in_force_at > requested_at),
    CONSTRAINT ck_phone_changes_one_end CHECK (applied_at is null or cancelled_at is null),
    CONSTRAINT ck_phone_changes_noticed CHECK (applied_at is null or noticed_at is not null),
    CONSTRAINT ck_phone_changes_erased_at_the_end CHECK ((applied_at is null and cancelled_at is null) = (phone_sealed is not null)),
    CONSTRAINT fk_phone_changes_member FOREIGN KEY(district_code, member_id) REFERENCES members (district_code, id)
)""",
    """CREATE UNIQUE INDEX uq_phone_changes_open ON phone_changes (district_code, member_id) WHERE applied_at is null and cancelled_at is null""",
    """alter table phone_changes enable row level security""",
    """alter table phone_changes force row level security""",
    """create policy district on phone_changes as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on phone_changes to jixie_district""",
    """create policy rules on phone_changes to jixie_district using (true) with check (true)""",
    """grant select on phone_changes to jixie_member""",
    """create policy jixie_member_select on phone_changes for select to jixie_member using (member_id = (select nullif(current_setting('jixie.member'), '')::uuid))""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables, and with them their walls."""
    for table in ('phone_changes', 'code_limits', 'phone_codes'):
        op.execute(f"drop table {table}")
