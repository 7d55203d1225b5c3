"""months: budgets, month closes, published accounts, and since when facts are known that change later"""

from alembic import op
revision = '0019'
down_revision = '0018'
branch_labels = None
depends_on = None

# Of what was entered before, it is known when it held: that stands for when it became known. The
# owner looks past the walls for the statement; behind them she would see no row to fill.
KNOWN = (
    """alter table attendances add column was_void timestamptz[]""",
    """alter table excuses add column withdrawn_at timestamptz, add column withdrawn_by text""",
    """-- squawk-ignore constraint-missing-not-valid
alter table excuses add constraint ck_excuses_withdrawn check ((withdrawn_at is null) = (withdrawn_by is null))""",
    """-- squawk-ignore require-concurrent-index-deletion
drop index uq_excuses_member""",
    """-- squawk-ignore require-concurrent-index-deletion
drop index uq_excuses_area""",
    """-- squawk-ignore require-concurrent-index-creation
create unique index uq_excuses_member on excuses (district_code, member_id, round_sequence) where member_id is not null and withdrawn_at is null""",
    """-- squawk-ignore require-concurrent-index-creation
create unique index uq_excuses_area on excuses (district_code, area_code, round_sequence) where area_code is not null and withdrawn_at is null""",
    """drop policy jixie_staff_delete on excuses""",
    """revoke delete on excuses from jixie_staff""",
    """alter table memberships add column recorded_at timestamptz, add column left_recorded_at timestamptz, add column was_left timestamptz[]""",
    """alter table memberships no force row level security""",
    """alter table members no force row level security""",
    """update memberships s set recorded_at = greatest(m.created_at, s.joined_on::timestamp at time zone 'Asia/Shanghai'),
    left_recorded_at = case when s.left_on is not null then greatest(m.created_at, s.left_on::timestamp at time zone 'Asia/Shanghai') end
from members m where m.district_code = s.district_code and m.id = s.member_id""",
    """alter table memberships force row level security""",
    """alter table members force row level security""",
    """-- squawk-ignore adding-not-nullable-field
alter table memberships alter column recorded_at set not null""",
    """-- squawk-ignore constraint-missing-not-valid
alter table memberships add constraint ck_memberships_left check ((left_on is null) = (left_recorded_at is null))""",
)
TABLES = (
    """CREATE TABLE fund_budgets (
    district_code TEXT COLLATE "C" NOT NULL,
    fund_id UUID NOT NULL,
    number INTEGER NOT NULL,
    planned_fen BIGINT[] NOT NULL,
    set_by TEXT NOT NULL,
    set_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_fund_budgets PRIMARY KEY (district_code, fund_id, number),
    CONSTRAINT ck_fund_budgets_number CHECK (number >= 1),
    CONSTRAINT ck_fund_budgets_planned CHECK (cardinality(planned_fen) = 12 and 0 <= all (planned_fen)),
    CONSTRAINT fk_fund_budgets_fund FOREIGN KEY(district_code, fund_id) REFERENCES funds (district_code, id)
)""",
    """alter table fund_budgets enable row level security""",
    """alter table fund_budgets force row level security""",
    """create policy district on fund_budgets as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on fund_budgets to jixie_district""",
    """create policy rules on fund_budgets to jixie_district using (true) with check (true)""",
    """grant select on fund_budgets to jixie_staff""",
    """create policy jixie_staff_select on fund_budgets for select to jixie_staff using (fund_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """CREATE TABLE month_closes (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    area_code TEXT COLLATE "C" NOT NULL,
    month DATE NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    created_by TEXT NOT NULL,
    calculated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    calculated_by TEXT NOT NULL,
    content BYTEA NOT NULL,
    previous_month DATE,
    closed_at TIMESTAMP WITH TIME ZONE,
    closed_by TEXT,
    sha256 TEXT COLLATE "C",
    signature BYTEA,
    key_id TEXT COLLATE "C",
    CONSTRAINT pk_month_closes PRIMARY KEY (district_code, id),
    CONSTRAINT ck_month_closes_status CHECK (status in ('draft', 'closed')),
    CONSTRAINT ck_month_closes_month CHECK (extract(day from month) = 1),
    CONSTRAINT ck_month_closes_area_range CHECK (substr(area_code, 1, 6) = substr(district_code, 1, 6)),
    CONSTRAINT ck_month_closes_maker_is_not_checker CHECK (closed_by <> created_by),
    CONSTRAINT ck_month_closes_calculator_is_not_checker CHECK (closed_by <> calculated_by),
    CONSTRAINT ck_month_closes_closed CHECK ((status = 'closed') = (closed_at is not null) and (closed_at is null) = (closed_by is null) and (closed_at is null) = (sha256 is null) and (closed_at is null) = (signature is null) and (closed_at is null) = (key_id is null)),
    CONSTRAINT ck_month_closes_previous CHECK (previous_month is null or status = 'closed' and previous_month = month - interval '1 month'),
    CONSTRAINT fk_month_closes_area FOREIGN KEY(area_code) REFERENCES areas (code),
    CONSTRAINT fk_month_closes_previous FOREIGN KEY(district_code, area_code, previous_month) REFERENCES month_closes (district_code, area_code, month),
    CONSTRAINT uq_month_closes_month UNIQUE (district_code, area_code, month)
)""",
    """CREATE UNIQUE INDEX uq_month_closes_first ON month_closes (district_code, area_code) WHERE status = 'closed' and previous_month is null""",
    """alter table month_closes enable row level security""",
    """alter table month_closes force row level security""",
    """create policy district on month_closes as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on month_closes to jixie_district""",
    """create policy rules on month_closes to jixie_district using (true) with check (true)""",
    """grant select on month_closes to jixie_staff""",
    """create policy jixie_staff_select on month_closes for select to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """CREATE TABLE month_fund_totals (
    district_code TEXT COLLATE "C" NOT NULL,
    close_id UUID NOT NULL,
    fund_id UUID NOT NULL,
    opening_available_fen BIGINT NOT NULL,
    opening_reserved_fen BIGINT NOT NULL,
    received_fen BIGINT NOT NULL,
    withdrawn_fen BIGINT NOT NULL,
    allocated_in_fen BIGINT NOT NULL,
    allocated_out_fen BIGINT NOT NULL,
    reserved_fen BIGINT NOT NULL,
    spent_fen BIGINT NOT NULL,
    released_fen BIGINT NOT NULL,
    returned_fen BIGINT NOT NULL,
    closing_available_fen BIGINT NOT NULL,
    closing_reserved_fen BIGINT NOT NULL,
    planned_fen BIGINT,
    CONSTRAINT pk_month_fund_totals PRIMARY KEY (district_code, close_id, fund_id),
    CONSTRAINT ck_month_fund_totals_not_negative CHECK (opening_available_fen >= 0 and opening_reserved_fen >= 0 and closing_available_fen >= 0 and closing_reserved_fen >= 0 and received_fen >= 0 and withdrawn_fen >= 0 and allocated_in_fen >= 0 and allocated_out_fen >= 0 and reserved_fen >= 0 and spent_fen >= 0 and released_fen >= 0 and returned_fen >= 0 and planned_fen >= 0),
    CONSTRAINT ck_month_fund_totals_balanced CHECK (closing_available_fen = opening_available_fen + received_fen - withdrawn_fen + allocated_in_fen - allocated_out_fen - reserved_fen + released_fen + returned_fen and closing_reserved_fen = opening_reserved_fen + reserved_fen - spent_fen - released_fen),
    CONSTRAINT fk_month_fund_totals_close FOREIGN KEY(district_code, close_id) REFERENCES month_closes (district_code, id),
    CONSTRAINT fk_month_fund_totals_fund FOREIGN KEY(district_code, fund_id) REFERENCES funds (district_code, id)
)""",
    """alter table month_fund_totals enable row level security""",
    """alter table month_fund_totals force row level security""",
    """create policy district on month_fund_totals as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on month_fund_totals to jixie_district""",
    """create policy rules on month_fund_totals to jixie_district using (true) with check (true)""",
    """grant select on month_fund_totals to jixie_staff""",
    """create policy jixie_staff_select on month_fund_totals for select to jixie_staff using (close_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """CREATE TABLE published_accounts (
    district_code TEXT COLLATE "C" NOT NULL,
    association_id UUID NOT NULL,
    month DATE NOT NULL,
    number INTEGER NOT NULL,
    close_id UUID NOT NULL,
    figures TEXT NOT NULL,
    correction TEXT,
    published_at TIMESTAMP WITH TIME ZONE NOT NULL,
    published_by TEXT NOT NULL,
    CONSTRAINT pk_published_accounts PRIMARY KEY (district_code, association_id, month, number),
    CONSTRAINT ck_published_accounts_number CHECK (number >= 1),
    CONSTRAINT ck_published_accounts_correction CHECK ((number = 1) = (correction is null)),
    CONSTRAINT ck_published_accounts_month CHECK (extract(day from month) = 1),
    CONSTRAINT fk_published_accounts_association FOREIGN KEY(district_code, association_id) REFERENCES associations (district_code, id),
    CONSTRAINT fk_published_accounts_close FOREIGN KEY(district_code, close_id) REFERENCES month_closes (district_code, id)
)""",
    """alter table published_accounts enable row level security""",
    """alter table published_accounts force row level security""",
    """create policy district on published_accounts as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on published_accounts to jixie_district""",
    """create policy rules on published_accounts to jixie_district using (true) with check (true)""",
    """grant select on published_accounts to jixie_staff""",
    """create policy jixie_staff_select on published_accounts for select to jixie_staff using (association_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (*KNOWN, *TABLES):
        op.execute(statement)


def downgrade() -> None:
    """Forget when facts became known, and the excuses that were taken back."""
    op.execute("set local lock_timeout = '5s'")
    for table in ("published_accounts", "month_fund_totals", "month_closes", "fund_budgets"):
        op.execute(f"drop table {table}")
    for statement in (
        "alter table memberships drop column recorded_at, drop column left_recorded_at, drop column was_left",
        "alter table excuses no force row level security",
        "delete from excuses where withdrawn_at is not null",
        "alter table excuses force row level security",
        "drop index uq_excuses_member",
        "drop index uq_excuses_area",
        "alter table excuses drop column withdrawn_at, drop column withdrawn_by",
        "create unique index uq_excuses_member on excuses (district_code, member_id, round_sequence) where member_id is not null",
        "create unique index uq_excuses_area on excuses (district_code, area_code, round_sequence) where area_code is not null",
        "grant delete on excuses to jixie_staff",
        "create policy jixie_staff_delete on excuses for delete to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])) or member_id = any ((select current_setting('jixie.shown'))::uuid[]))",
        "alter table attendances drop column was_void",
    ):
        op.execute(statement)
