"""audit: entries, their seals, and flags of attendance"""

from alembic import op
revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None

TABLES = (
    """CREATE TABLE audit_unsealed (
  district_code TEXT COLLATE "C" NOT NULL,
  id UUID NOT NULL,
  subject TEXT NOT NULL,
  entry TEXT NOT NULL,
  CONSTRAINT pk_audit_unsealed PRIMARY KEY (district_code, id)
) WITH (toast_tuple_target = 8160)""",
    """CREATE TABLE audit_entries (
  district_code TEXT COLLATE "C" NOT NULL,
  id UUID NOT NULL,
  at TIMESTAMP WITH TIME ZONE NOT NULL,
  subject TEXT NOT NULL,
  role TEXT COLLATE "C" NOT NULL,
  act TEXT COLLATE "C" NOT NULL,
  object_kind TEXT COLLATE "C" NOT NULL,
  object_ids TEXT[] NOT NULL,
  person_ids UUID[] NOT NULL,
  fields TEXT[] NOT NULL,
  purpose TEXT,
  area_code TEXT COLLATE "C" NOT NULL,
  request_id TEXT NOT NULL,
  CONSTRAINT pk_audit_entries PRIMARY KEY (district_code, id)
)""",
    """CREATE TABLE audit_sightings (
  district_code TEXT COLLATE "C" NOT NULL,
  person_id UUID NOT NULL,
  entry_id UUID NOT NULL,
  CONSTRAINT pk_audit_sightings PRIMARY KEY (district_code, person_id, entry_id)
)""",
    """CREATE INDEX ix_audit_sightings_entry ON audit_sightings (district_code, entry_id)""",
    """CREATE TABLE audit_seals (
  district_code TEXT COLLATE "C" NOT NULL,
  sequence INTEGER NOT NULL,
  sealed_at TIMESTAMP WITH TIME ZONE NOT NULL,
  count INTEGER NOT NULL,
  entry_ids UUID[] NOT NULL,
  leaves BYTEA NOT NULL,
  root BYTEA NOT NULL,
  head BYTEA NOT NULL,
  CONSTRAINT pk_audit_seals PRIMARY KEY (district_code, sequence),
  CONSTRAINT ck_audit_seals_numbers CHECK (sequence > 0 and count > 0)
)""",
    """CREATE TABLE attendance_flags (
  district_code TEXT COLLATE "C" NOT NULL,
  event_id UUID NOT NULL,
  rule TEXT COLLATE "C" NOT NULL,
  about_id UUID NOT NULL,
  area_code TEXT COLLATE "C" NOT NULL,
  observed INTEGER NOT NULL,
  threshold INTEGER NOT NULL,
  provenance TEXT COLLATE "C" NOT NULL,
  computed_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_attendance_flags PRIMARY KEY (district_code, event_id, rule, about_id),
  CONSTRAINT ck_attendance_flags_rule CHECK (rule in ('whole_roster', 'rush', 'one_device_at_once', 'out_of_hours')),
  CONSTRAINT ck_attendance_flags_provenance CHECK (provenance in ('printed', 'assumed', 'approved')),
  CONSTRAINT ck_attendance_flags_fired CHECK (observed >= threshold and threshold > 0),
  CONSTRAINT fk_attendance_flags_event FOREIGN KEY(district_code, event_id) REFERENCES service_events (district_code, id)
)""",
)

WALLS = (
    """alter table audit_unsealed enable row level security""",
    """alter table audit_unsealed force row level security""",
    """create policy district on audit_unsealed as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = current_setting('jixie.district')::bigint::text) with check (district_code = current_setting('jixie.district')::bigint::text)""",
    """grant select, insert, delete on audit_unsealed to jixie_district""",
    """create policy rules on audit_unsealed to jixie_district using (true) with check (true)""",
    """grant insert on audit_unsealed to jixie_staff""",
    """create policy jixie_staff_insert on audit_unsealed for insert to jixie_staff with check (subject = current_setting('jixie.subject'))""",
    """grant insert on audit_unsealed to jixie_member""",
    """create policy jixie_member_insert on audit_unsealed for insert to jixie_member with check (subject = current_setting('jixie.subject'))""",
    """grant insert on audit_unsealed to jixie_platform""",
    """create policy jixie_platform_insert on audit_unsealed for insert to jixie_platform with check (subject = current_setting('jixie.subject'))""",
    """grant select on audit_unsealed to jixie_queue""",
    """create policy jixie_queue_select on audit_unsealed for select to jixie_queue using (true)""",
    """alter table audit_entries enable row level security""",
    """alter table audit_entries force row level security""",
    """create policy district on audit_entries as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on audit_entries to jixie_district""",
    """create policy rules on audit_entries to jixie_district using (true) with check (true)""",
    """alter table audit_sightings enable row level security""",
    """alter table audit_sightings force row level security""",
    """create policy district on audit_sightings as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on audit_sightings to jixie_district""",
    """create policy rules on audit_sightings to jixie_district using (true) with check (true)""",
    """alter table audit_seals enable row level security""",
    """alter table audit_seals force row level security""",
    """create policy district on audit_seals as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on audit_seals to jixie_district""",
    """create policy rules on audit_seals to jixie_district using (true) with check (true)""",
    """grant select on audit_seals to jixie_queue""",
    """create policy jixie_queue_select on audit_seals for select to jixie_queue using (true)""",
    """alter table attendance_flags enable row level security""",
    """alter table attendance_flags force row level security""",
    """create policy district on attendance_flags as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on attendance_flags to jixie_district""",
    """create policy rules on attendance_flags to jixie_district using (true) with check (true)""",
    """grant select on attendance_flags to jixie_staff""",
    """create policy jixie_staff_select on attendance_flags for select to jixie_staff using ((district_code >= (select current_setting('jixie.area_low')) and district_code <= (select current_setting('jixie.area_high')) and district_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
)

KEYS = (
    "'independent_min_staff', 'correction_days', 'flag_whole_roster', 'flag_rush',"
    " 'flag_one_device_at_once', 'flag_out_of_hours'"
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (*TABLES, *WALLS):
        op.execute(statement)
    # More keys than before: every row that was right still is.
    op.execute(
        "-- squawk-ignore ban-drop-constraint\n"
        "alter table area_settings drop constraint ck_area_settings_key"
    )
    op.execute(
        f"alter table area_settings add constraint ck_area_settings_key check (key in ({KEYS}))"
        " not valid"
    )
    # The table has a few rows for each district.
    op.execute(
        "-- squawk-ignore constraint-missing-not-valid\n"
        "alter table area_settings validate constraint ck_area_settings_key"
    )


def downgrade() -> None:
    """Undo; the entries and their seals are lost."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("delete from area_settings where key like 'flag_%'")
    op.execute("alter table area_settings drop constraint ck_area_settings_key")
    op.execute(
        "alter table area_settings add constraint ck_area_settings_key"
        " check (key in ('independent_min_staff', 'correction_days')) not valid"
    )
    op.execute("alter table area_settings validate constraint ck_area_settings_key")
    for name in (
        "attendance_flags", "audit_seals", "audit_sightings", "audit_unsealed", "audit_entries"
    ):
        op.execute(f"drop table {name}")
