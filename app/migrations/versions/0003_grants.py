"""grants: who holds which role, how far, from when until when"""

from alembic import op
revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None

TABLE = (
    """CREATE TABLE grants (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    subject TEXT NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    area_code TEXT COLLATE "C" NOT NULL,
    areas TEXT[] COLLATE "C" NOT NULL,
    association_ids UUID[] NOT NULL,
    event_ids UUID[] NOT NULL,
    member_id UUID,
    employer_linked BOOLEAN NOT NULL,
    starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ends_at TIMESTAMP WITH TIME ZONE,
    granted_by TEXT NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    revoked_by TEXT,
    revoke_reason TEXT,
    CONSTRAINT pk_grants PRIMARY KEY (district_code, id),
    CONSTRAINT ck_grants_role CHECK (role in ('member', 'event_staff', 'association_secretary', 'guide', 'town_officer', 'district_officer', 'finance_clerk', 'finance_approver', 'auditor', 'data_platform', 'operations')),
    CONSTRAINT ck_grants_subject CHECK (subject <> ''),
    CONSTRAINT ck_grants_to_another CHECK (subject <> granted_by),
    CONSTRAINT ck_grants_term CHECK (ends_at > starts_at),
    CONSTRAINT ck_grants_member CHECK (role <> 'member' or member_id is not null),
    CONSTRAINT ck_grants_area CHECK (substr(area_code, 1, 6) = substr(district_code, 1, 6)),
    CONSTRAINT ck_grants_reach CHECK (cardinality(areas) <= 50 and cardinality(association_ids) <= 50 and cardinality(event_ids) <= 50),
    CONSTRAINT ck_grants_revoked CHECK ((revoked_at is null) = (revoked_by is null) and (revoked_at is null) = (revoke_reason is null))
)""",
    """CREATE INDEX ix_grants_area ON grants (district_code, area_code)""",
    """CREATE INDEX ix_grants_member ON grants (district_code, member_id) WHERE member_id is not null""",
    """CREATE INDEX ix_grants_subject ON grants (subject) WHERE revoked_at is null""",
)
WALLS = (
    """alter table grants enable row level security""",
    """alter table grants force row level security""",
    """create policy district on grants as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on grants to jixie_district""",
    """create policy rules on grants to jixie_district using (true) with check (true)""",
    """grant select on grants to jixie_staff""",
    """create policy jixie_staff_select on grants for select to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant insert on grants to jixie_staff""",
    """create policy jixie_staff_insert on grants for insert to jixie_staff with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant update on grants to jixie_staff""",
    """create policy jixie_staff_update on grants for update to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[]))) with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant select on grants to jixie_queue""",
    """create policy jixie_queue_select on grants for select to jixie_queue using (subject = (select current_setting('jixie.subject')))""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (*TABLE, *WALLS):
        op.execute(statement)


def downgrade() -> None:
    """Take the table away, and its walls with it."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("drop table grants")
