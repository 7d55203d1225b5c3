"""data keys: one key per person, counts of reveals, and erasure"""

from alembic import op
revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

# The owner looks past the wall for a moment: behind it she would see no row to stop at.
STATEMENTS = (
    """alter table members no force row level security""",
    """do $$ begin if exists (select from members where id_number_sealed is not null or phone_sealed is not null) then raise exception 'members hold data sealed without data keys: load them again into an empty database'; end if; end $$""",
    """alter table members force row level security""",
    """alter table members add column erased_at timestamp with time zone constraint ck_members_erased check (erased_at is null or (status = 'left' and consented_on is null and employee_no is null))""",
    """CREATE TABLE data_keys (
    district_code TEXT COLLATE "C" NOT NULL,
    member_id UUID NOT NULL,
    wrapped BYTEA NOT NULL,
    master_version INTEGER NOT NULL,
    CONSTRAINT pk_data_keys PRIMARY KEY (district_code, member_id),
    CONSTRAINT fk_data_keys_member FOREIGN KEY(district_code, member_id) REFERENCES members (district_code, id)
)""",
    """alter table data_keys enable row level security""",
    """alter table data_keys force row level security""",
    """create policy district on data_keys as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on data_keys to jixie_district""",
    """create policy rules on data_keys to jixie_district using (true) with check (true)""",
    """grant select on data_keys to jixie_staff""",
    """create policy jixie_staff_select on data_keys for select to jixie_staff using (member_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant insert on data_keys to jixie_staff""",
    """create policy jixie_staff_insert on data_keys for insert to jixie_staff with check (member_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant update on data_keys to jixie_staff""",
    """create policy jixie_staff_update on data_keys for update to jixie_staff using (member_id = any ((select current_setting('jixie.shown'))::uuid[])) with check (member_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant select on data_keys to jixie_member""",
    """create policy jixie_member_select on data_keys for select to jixie_member using (member_id = (select nullif(current_setting('jixie.member'), '')::uuid))""",
    """CREATE TABLE reveal_counts (
    district_code TEXT COLLATE "C" NOT NULL,
    subject TEXT NOT NULL,
    on_day DATE NOT NULL,
    shown INTEGER NOT NULL,
    CONSTRAINT pk_reveal_counts PRIMARY KEY (district_code, subject),
    CONSTRAINT ck_reveal_counts_shown CHECK (shown >= 0)
)""",
    """alter table reveal_counts enable row level security""",
    """alter table reveal_counts force row level security""",
    """create policy district on reveal_counts as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on reveal_counts to jixie_district""",
    """create policy rules on reveal_counts to jixie_district using (true) with check (true)""",
    """grant select on reveal_counts to jixie_staff""",
    """create policy jixie_staff_select on reveal_counts for select to jixie_staff using (subject = (select current_setting('jixie.subject')))""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables; who was erased stays erased, and what was sealed is lost with its keys."""
    op.execute("drop table reveal_counts")
    op.execute("drop table data_keys")
    op.execute("alter table members drop constraint ck_members_erased")
    op.execute("alter table members drop column erased_at")
