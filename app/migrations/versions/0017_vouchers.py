"""vouchers: service vouchers, the stations that redeem them, and settlements with stations"""

from alembic import op
revision = '0017'
down_revision = '0016'
branch_labels = None
depends_on = None

TABLES = (
    """CREATE TABLE service_stations (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    name TEXT NOT NULL,
    area_code TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    CONSTRAINT pk_service_stations PRIMARY KEY (district_code, id),
    CONSTRAINT ck_service_stations_status CHECK (status in ('open', 'closed')),
    CONSTRAINT ck_service_stations_area_range CHECK (substr(area_code, 1, 6) = substr(district_code, 1, 6)),
    CONSTRAINT fk_service_stations_area FOREIGN KEY(area_code) REFERENCES areas (code),
    CONSTRAINT uq_service_stations_name UNIQUE (district_code, area_code, name)
)""",
    """alter table service_stations enable row level security""",
    """alter table service_stations force row level security""",
    """create policy district on service_stations as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on service_stations to jixie_district""",
    """create policy rules on service_stations to jixie_district using (true) with check (true)""",
    """grant select on service_stations to jixie_staff""",
    """create policy jixie_staff_select on service_stations for select to jixie_staff using (true)""",
    """grant insert on service_stations to jixie_staff""",
    """create policy jixie_staff_insert on service_stations for insert to jixie_staff with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant update on service_stations to jixie_staff""",
    """create policy jixie_staff_update on service_stations for update to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[]))) with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant select on service_stations to jixie_member""",
    """create policy jixie_member_select on service_stations for select to jixie_member using (true)""",
    """grant select on service_stations to jixie_platform""",
    """create policy jixie_platform_select on service_stations for select to jixie_platform using (true)""",
    """CREATE TABLE station_settlements (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    station_id UUID NOT NULL,
    area_code TEXT COLLATE "C" NOT NULL,
    month_on DATE NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    status_reason TEXT,
    voucher_count INTEGER NOT NULL,
    amount_fen BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    approved_by TEXT,
    approved_at TIMESTAMP WITH TIME ZONE,
    document_no TEXT,
    paid_on DATE,
    paid_by TEXT,
    CONSTRAINT pk_station_settlements PRIMARY KEY (district_code, id),
    CONSTRAINT ck_station_settlements_status CHECK (status in ('submitted', 'approved', 'paid', 'rejected')),
    CONSTRAINT ck_station_settlements_month CHECK (extract(day from month_on) = 1),
    CONSTRAINT ck_station_settlements_totals CHECK (voucher_count > 0 and amount_fen > 0),
    CONSTRAINT ck_station_settlements_maker_is_not_checker CHECK (approved_by <> created_by),
    CONSTRAINT ck_station_settlements_approved CHECK ((status in ('approved', 'paid')) = (approved_by is not null) and (approved_by is null) = (approved_at is null)),
    CONSTRAINT ck_station_settlements_rejected CHECK ((status = 'rejected') = (status_reason is not null)),
    CONSTRAINT ck_station_settlements_paid CHECK ((status = 'paid') = (document_no is not null) and (document_no is null) = (paid_on is null) and (document_no is null) = (paid_by is null)),
    CONSTRAINT uq_station_settlements_station UNIQUE (district_code, id, station_id),
    CONSTRAINT fk_station_settlements_station FOREIGN KEY(district_code, station_id) REFERENCES service_stations (district_code, id)
)""",
    """CREATE INDEX ix_station_settlements_station ON station_settlements (district_code, station_id, id)""",
    """alter table station_settlements enable row level security""",
    """alter table station_settlements force row level security""",
    """create policy district on station_settlements as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on station_settlements to jixie_district""",
    """create policy rules on station_settlements to jixie_district using (true) with check (true)""",
    """grant select on station_settlements to jixie_staff""",
    """create policy jixie_staff_select on station_settlements for select to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant insert on station_settlements to jixie_staff""",
    """create policy jixie_staff_insert on station_settlements for insert to jixie_staff with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant update on station_settlements to jixie_staff""",
    """create policy jixie_staff_update on station_settlements for update to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[]))) with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """CREATE TABLE vouchers (
    district_code TEXT COLLATE "C" NOT NULL,
    run_id UUID NOT NULL,
    line_no INTEGER NOT NULL,
    round_sequence INTEGER NOT NULL,
    member_id UUID NOT NULL,
    rule_id UUID NOT NULL,
    association_id UUID NOT NULL,
    amount_fen BIGINT NOT NULL,
    code_index BYTEA,
    code_sealed BYTEA,
    code_tail TEXT COLLATE "C",
    status TEXT COLLATE "C" NOT NULL,
    issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    valid_until_on DATE NOT NULL,
    redeemed_at TIMESTAMP WITH TIME ZONE,
    station_id UUID,
    redeemed_by TEXT,
    settlement_id UUID,
    ended_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT pk_vouchers PRIMARY KEY (district_code, run_id, line_no),
    CONSTRAINT ck_vouchers_status CHECK (status in ('issued', 'redeemed', 'expired', 'cancelled')),
    CONSTRAINT ck_vouchers_amount CHECK (amount_fen > 0),
    CONSTRAINT ck_vouchers_code CHECK ((status = 'issued') = (code_sealed is not null) and (status <> 'issued' or code_index is not null)),
    CONSTRAINT ck_vouchers_redeemed CHECK ((status = 'redeemed') = (redeemed_at is not null) and (status = 'redeemed') = (station_id is not null) and (status = 'redeemed') = (redeemed_by is not null) and (status = 'redeemed') = (code_tail is not null)),
    CONSTRAINT ck_vouchers_ended CHECK ((status in ('expired', 'cancelled')) = (ended_at is not null)),
    CONSTRAINT ck_vouchers_settled CHECK (settlement_id is null or status = 'redeemed'),
    CONSTRAINT uq_vouchers_code UNIQUE (district_code, code_index),
    CONSTRAINT fk_vouchers_payout_run FOREIGN KEY(district_code, run_id) REFERENCES payout_runs (district_code, id),
    CONSTRAINT fk_vouchers_member FOREIGN KEY(district_code, member_id) REFERENCES members (district_code, id),
    CONSTRAINT fk_vouchers_station FOREIGN KEY(district_code, station_id) REFERENCES service_stations (district_code, id),
    CONSTRAINT fk_vouchers_settlement FOREIGN KEY(district_code, settlement_id, station_id) REFERENCES station_settlements (district_code, id, station_id)
)""",
    """CREATE INDEX ix_vouchers_member ON vouchers (district_code, member_id)""",
    """CREATE INDEX ix_vouchers_open ON vouchers (district_code, valid_until_on) WHERE status = 'issued'""",
    """CREATE INDEX ix_vouchers_settlement ON vouchers (district_code, settlement_id) WHERE settlement_id is not null""",
    """CREATE INDEX ix_vouchers_station ON vouchers (district_code, station_id, redeemed_at) WHERE station_id is not null""",
    """alter table vouchers enable row level security""",
    """alter table vouchers force row level security""",
    """create policy district on vouchers as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on vouchers to jixie_district""",
    """create policy rules on vouchers to jixie_district using (true) with check (true)""",
    """grant select on vouchers to jixie_member""",
    """create policy jixie_member_select on vouchers for select to jixie_member using (member_id = (select nullif(current_setting('jixie.member'), '')::uuid))""",
)
# A voucher is worth money as cash is, and is funded like it.
CHECKS = (
    ('incentive_rules', 'ck_incentive_rules_reward', "reward in ('cash', 'gift', 'draw_ticket', 'service_voucher')"),
    ('incentive_rules', 'ck_incentive_rules_cash', "(reward in ('cash', 'service_voucher')) = (amount_fen is not null)"),
    ('incentive_rules', 'ck_incentive_rules_funding', "district_bp >= 0 and town_bp >= 0 and village_bp >= 0 and enterprise_bp >= 0 and other_bp >= 0 and district_bp + town_bp + village_bp + enterprise_bp + other_bp = case when reward in ('cash', 'service_voucher') then 10000 else 0 end"),
    ('incentive_rules', 'ck_incentive_rules_yearly_cap', "yearly_cap_fen is null or (yearly_cap_fen > 0 and reward in ('cash', 'service_voucher'))"),
    ('code_limits', 'ck_code_limits_kind', "kind in ('phone', 'address', 'member', 'sent', 'wrong', 'voucher')"),
)
FUNDING = "district_bp >= 0 and town_bp >= 0 and village_bp >= 0 and enterprise_bp >= 0 and other_bp >= 0 and district_bp + town_bp + village_bp + enterprise_bp + other_bp"
FORMER_CHECKS = (
    ('incentive_rules', 'ck_incentive_rules_reward', "reward in ('cash', 'gift', 'draw_ticket')"),
    ('incentive_rules', 'ck_incentive_rules_cash', "(reward = 'cash') = (amount_fen is not null)"),
    ('incentive_rules', 'ck_incentive_rules_funding', f"{FUNDING} = case when reward = 'cash' then 10000 else 0 end"),
    ('incentive_rules', 'ck_incentive_rules_yearly_cap', "yearly_cap_fen is null or (yearly_cap_fen > 0 and reward = 'cash')"),
    ('code_limits', 'ck_code_limits_kind', "kind in ('phone', 'address', 'member', 'sent', 'wrong')"),
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table incentive_rules add column valid_days integer")
    _check(CHECKS)
    op.execute("""-- squawk-ignore constraint-missing-not-valid
alter table incentive_rules add constraint ck_incentive_rules_voucher check ((reward = 'service_voucher') = (valid_days is not null) and (valid_days is null or valid_days between 1 and 3660))""")
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Drop vouchers and their stations; refused while a rule thanks with a voucher."""
    op.execute("set local lock_timeout = '5s'")
    for table in ('vouchers', 'station_settlements', 'service_stations'):
        op.execute(f"drop table {table}")
    # The owner looks past the walls; behind them she would see no row to delete.
    op.execute("alter table code_limits no force row level security")
    op.execute("delete from code_limits where kind = 'voucher'")
    op.execute("alter table code_limits force row level security")
    _check(FORMER_CHECKS)
    op.execute("alter table incentive_rules drop column valid_days")


def _check(checks: tuple[tuple[str, str, str], ...]) -> None:
    for table, name, condition in checks:
        op.execute(f"-- squawk-ignore ban-drop-constraint\nalter table {table} drop constraint {name}")
        op.execute(f"-- squawk-ignore constraint-missing-not-valid\nalter table {table} add constraint {name} check ({condition})")
