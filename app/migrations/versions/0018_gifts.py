"""gifts: the catalogue, depots, stock beside its movements, stock-takes"""

from alembic import op
revision = '0018'
down_revision = '0017'
branch_labels = None
depends_on = None

TABLES = (
    """CREATE TABLE gifts (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    unit TEXT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    created_by TEXT NOT NULL,
    CONSTRAINT pk_gifts PRIMARY KEY (district_code, id),
    CONSTRAINT ck_gifts_status CHECK (status in ('active', 'retired')),
    CONSTRAINT ck_gifts_code_form CHECK (code ~ '^[a-z][a-z0-9_]{0,39}$'),
    CONSTRAINT uq_gifts_code UNIQUE (district_code, code)
)""",
    """alter table gifts enable row level security""",
    """alter table gifts force row level security""",
    """create policy district on gifts as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on gifts to jixie_district""",
    """create policy rules on gifts to jixie_district using (true) with check (true)""",
    """grant select on gifts to jixie_staff""",
    """create policy jixie_staff_select on gifts for select to jixie_staff using (true)""",
    """grant insert on gifts to jixie_staff""",
    """create policy jixie_staff_insert on gifts for insert to jixie_staff with check ((district_code >= (select current_setting('jixie.area_low')) and district_code <= (select current_setting('jixie.area_high')) and district_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant update on gifts to jixie_staff""",
    """create policy jixie_staff_update on gifts for update to jixie_staff using ((district_code >= (select current_setting('jixie.area_low')) and district_code <= (select current_setting('jixie.area_high')) and district_code ^@ any ((select current_setting('jixie.areas'))::text[]))) with check ((district_code >= (select current_setting('jixie.area_low')) and district_code <= (select current_setting('jixie.area_high')) and district_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """CREATE TABLE depots (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    name TEXT NOT NULL,
    area_code TEXT COLLATE "C" NOT NULL,
    association_id UUID,
    status TEXT COLLATE "C" NOT NULL,
    created_by TEXT NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE,
    closed_by TEXT,
    CONSTRAINT pk_depots PRIMARY KEY (district_code, id),
    CONSTRAINT ck_depots_status CHECK (status in ('open', 'closed')),
    CONSTRAINT ck_depots_area_range CHECK (substr(area_code, 1, 6) = substr(district_code, 1, 6)),
    CONSTRAINT ck_depots_closed CHECK ((status = 'closed') = (closed_at is not null) and (closed_at is null) = (closed_by is null)),
    CONSTRAINT fk_depots_area FOREIGN KEY(area_code) REFERENCES areas (code),
    CONSTRAINT fk_depots_association FOREIGN KEY(district_code, association_id) REFERENCES associations (district_code, id)
)""",
    """CREATE UNIQUE INDEX uq_depots_scope ON depots (district_code, area_code, association_id) NULLS NOT DISTINCT WHERE status = 'open'""",
    """alter table depots enable row level security""",
    """alter table depots force row level security""",
    """create policy district on depots as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on depots to jixie_district""",
    """create policy rules on depots to jixie_district using (true) with check (true)""",
    """grant select on depots to jixie_staff""",
    """create policy jixie_staff_select on depots for select to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])) or association_id = any ((select current_setting('jixie.associations'))::uuid[]))""",
    """grant insert on depots to jixie_staff""",
    """create policy jixie_staff_insert on depots for insert to jixie_staff with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant update on depots to jixie_staff""",
    """create policy jixie_staff_update on depots for update to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[]))) with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """CREATE TABLE stock (
    district_code TEXT COLLATE "C" NOT NULL,
    depot_id UUID NOT NULL,
    gift_id UUID NOT NULL,
    received BIGINT NOT NULL,
    transferred_in BIGINT NOT NULL,
    transferred_out BIGINT NOT NULL,
    written_off BIGINT NOT NULL,
    adjusted BIGINT NOT NULL,
    available BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    handed_out BIGINT NOT NULL,
    CONSTRAINT pk_stock PRIMARY KEY (district_code, depot_id, gift_id),
    CONSTRAINT ck_stock_available CHECK (available >= 0),
    CONSTRAINT ck_stock_reserved CHECK (reserved >= 0),
    CONSTRAINT ck_stock_handed_out CHECK (handed_out >= 0),
    CONSTRAINT ck_stock_balanced CHECK (received >= 0 and transferred_in >= 0 and transferred_out >= 0 and written_off >= 0 and received + transferred_in - transferred_out - written_off + adjusted = available + reserved + handed_out),
    CONSTRAINT fk_stock_depot FOREIGN KEY(district_code, depot_id) REFERENCES depots (district_code, id),
    CONSTRAINT fk_stock_gift FOREIGN KEY(district_code, gift_id) REFERENCES gifts (district_code, id)
)""",
    """alter table stock enable row level security""",
    """alter table stock force row level security""",
    """create policy district on stock as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update on stock to jixie_district""",
    """create policy rules on stock to jixie_district using (true) with check (true)""",
    """grant select on stock to jixie_staff""",
    """create policy jixie_staff_select on stock for select to jixie_staff using (depot_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """CREATE TABLE stock_takes (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    depot_id UUID NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    opened_by TEXT NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    ended_by TEXT,
    reason TEXT,
    CONSTRAINT pk_stock_takes PRIMARY KEY (district_code, id),
    CONSTRAINT ck_stock_takes_status CHECK (status in ('open', 'closed', 'cancelled')),
    CONSTRAINT ck_stock_takes_ended CHECK ((status = 'open') = (ended_at is null) and (ended_at is null) = (ended_by is null) and (ended_at is null) = (reason is null)),
    CONSTRAINT ck_stock_takes_counter_is_not_confirmer CHECK (status <> 'closed' or ended_by <> opened_by),
    CONSTRAINT fk_stock_takes_depot FOREIGN KEY(district_code, depot_id) REFERENCES depots (district_code, id)
)""",
    """CREATE UNIQUE INDEX uq_stock_takes_open ON stock_takes (district_code, depot_id) WHERE status = 'open'""",
    """alter table stock_takes enable row level security""",
    """alter table stock_takes force row level security""",
    """create policy district on stock_takes as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update on stock_takes to jixie_district""",
    """create policy rules on stock_takes to jixie_district using (true) with check (true)""",
    """grant select on stock_takes to jixie_staff""",
    """create policy jixie_staff_select on stock_takes for select to jixie_staff using (depot_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """CREATE TABLE stock_counts (
    district_code TEXT COLLATE "C" NOT NULL,
    stock_take_id UUID NOT NULL,
    gift_id UUID NOT NULL,
    quantity BIGINT NOT NULL,
    book_quantity BIGINT,
    counted_by TEXT NOT NULL,
    counted_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_stock_counts PRIMARY KEY (district_code, stock_take_id, gift_id),
    CONSTRAINT ck_stock_counts_quantity CHECK (quantity >= 0),
    CONSTRAINT ck_stock_counts_book_quantity CHECK (book_quantity >= 0),
    CONSTRAINT fk_stock_counts_stock_take FOREIGN KEY(district_code, stock_take_id) REFERENCES stock_takes (district_code, id),
    CONSTRAINT fk_stock_counts_gift FOREIGN KEY(district_code, gift_id) REFERENCES gifts (district_code, id)
)""",
    """alter table stock_counts enable row level security""",
    """alter table stock_counts force row level security""",
    """create policy district on stock_counts as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update on stock_counts to jixie_district""",
    """create policy rules on stock_counts to jixie_district using (true) with check (true)""",
    """grant select on stock_counts to jixie_staff""",
    """create policy jixie_staff_select on stock_counts for select to jixie_staff using (stock_take_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """CREATE TABLE stock_movements (
    district_code TEXT COLLATE "C" NOT NULL,
    posting_id UUID NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    gift_id UUID NOT NULL,
    depot_id UUID NOT NULL,
    credit_depot_id UUID NOT NULL,
    debit TEXT COLLATE "C" NOT NULL,
    credit TEXT COLLATE "C" NOT NULL,
    quantity BIGINT NOT NULL,
    run_id UUID,
    line_no INTEGER,
    stock_take_id UUID,
    document_no TEXT,
    note TEXT,
    occurred_on DATE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_by TEXT NOT NULL,
    CONSTRAINT pk_stock_movements PRIMARY KEY (district_code, posting_id, number),
    CONSTRAINT ck_stock_movements_kind CHECK (kind in ('receive', 'transfer', 'write_off', 'reserve', 'hand_out', 'release', 'return', 'adjust')),
    CONSTRAINT ck_stock_movements_sides CHECK (kind = 'receive' and debit = 'available' and credit = 'outside' or kind = 'transfer' and debit = 'available' and credit = 'available' or kind = 'write_off' and debit = 'outside' and credit = 'available' or kind = 'reserve' and debit = 'reserved' and credit = 'available' or kind = 'hand_out' and debit = 'handed_out' and credit = 'reserved' or kind = 'release' and debit = 'available' and credit = 'reserved' or kind = 'return' and debit = 'available' and credit = 'handed_out' or kind = 'adjust' and (debit = 'available' and credit = 'outside' or debit = 'outside' and credit = 'available')),
    CONSTRAINT ck_stock_movements_quantity CHECK (quantity > 0),
    CONSTRAINT ck_stock_movements_depots CHECK ((kind = 'transfer') = (depot_id <> credit_depot_id)),
    CONSTRAINT ck_stock_movements_document CHECK ((kind in ('receive', 'transfer', 'write_off')) = (document_no is not null)),
    CONSTRAINT ck_stock_movements_run CHECK ((kind in ('reserve', 'hand_out', 'release', 'return')) = (run_id is not null)),
    CONSTRAINT ck_stock_movements_payout CHECK ((kind in ('hand_out', 'return')) = (line_no is not null)),
    CONSTRAINT ck_stock_movements_stock_take CHECK ((kind = 'adjust') = (stock_take_id is not null)),
    CONSTRAINT ck_stock_movements_reason CHECK (kind not in ('write_off', 'adjust') or note is not null),
    CONSTRAINT fk_stock_movements_stock FOREIGN KEY(district_code, depot_id, gift_id) REFERENCES stock (district_code, depot_id, gift_id),
    CONSTRAINT fk_stock_movements_credit_stock FOREIGN KEY(district_code, credit_depot_id, gift_id) REFERENCES stock (district_code, depot_id, gift_id),
    CONSTRAINT fk_stock_movements_payout_run FOREIGN KEY(district_code, run_id) REFERENCES payout_runs (district_code, id),
    CONSTRAINT fk_stock_movements_stock_take FOREIGN KEY(district_code, stock_take_id) REFERENCES stock_takes (district_code, id)
)""",
    """CREATE INDEX ix_stock_movements_gift ON stock_movements (district_code, gift_id, posting_id, number)""",
    """CREATE UNIQUE INDEX uq_stock_movements_document ON stock_movements (district_code, gift_id, credit_depot_id, kind, document_no, depot_id) WHERE document_no is not null""",
    """CREATE UNIQUE INDEX uq_stock_movements_payout ON stock_movements (district_code, run_id, line_no, kind) WHERE line_no is not null""",
    """CREATE UNIQUE INDEX uq_stock_movements_run ON stock_movements (district_code, run_id, depot_id, gift_id, kind) WHERE run_id is not null and line_no is null""",
    """CREATE UNIQUE INDEX uq_stock_movements_stock_take ON stock_movements (district_code, stock_take_id, gift_id) WHERE stock_take_id is not null""",
    """alter table stock_movements enable row level security""",
    """alter table stock_movements force row level security""",
    """create policy district on stock_movements as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on stock_movements to jixie_district""",
    """create policy rules on stock_movements to jixie_district using (true) with check (true)""",
    """grant select on stock_movements to jixie_staff""",
    """create policy jixie_staff_select on stock_movements for select to jixie_staff using (depot_id = any ((select current_setting('jixie.shown'))::uuid[]) or credit_depot_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """CREATE TABLE run_gifts (
    district_code TEXT COLLATE "C" NOT NULL,
    run_id UUID NOT NULL,
    rule_id UUID NOT NULL,
    association_id UUID NOT NULL,
    gift_id UUID NOT NULL,
    depot_id UUID NOT NULL,
    CONSTRAINT pk_run_gifts PRIMARY KEY (district_code, run_id, rule_id, association_id),
    CONSTRAINT fk_run_gifts_stock FOREIGN KEY(district_code, depot_id, gift_id) REFERENCES stock (district_code, depot_id, gift_id),
    CONSTRAINT fk_run_gifts_payout_run FOREIGN KEY(district_code, run_id) REFERENCES payout_runs (district_code, id)
)""",
    """alter table run_gifts enable row level security""",
    """alter table run_gifts force row level security""",
    """create policy district on run_gifts as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on run_gifts to jixie_district""",
    """create policy rules on run_gifts to jixie_district using (true) with check (true)""",
    """grant select on run_gifts to jixie_staff""",
    """create policy jixie_staff_select on run_gifts for select to jixie_staff using (run_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
)
# Each gift that a rule names becomes an article of its district's catalogue, under a code of its
# own, so that rules and runs from before stay what they were. The owner is behind the walls too,
# unless she lowers them for the statement.
CATALOGUE = (
    """alter table incentive_rules add column gift_code text collate "C" """,
    """alter table incentive_rules no force row level security""",
    """alter table gifts no force row level security""",
    """insert into gifts (district_code, id, version, created_at, updated_at, code, name, unit, status, created_by)
select district_code, md5(district_code || '/' || gift_item)::uuid, 1, now(), now(), 'gift_' || row_number() over (partition by district_code order by gift_item), gift_item, '件', 'active', 'migration'
from (select distinct district_code, gift_item from incentive_rules where reward = 'gift') named""",
    """update incentive_rules r set gift_code = g.code from gifts g where g.district_code = r.district_code and g.name = r.gift_item and r.reward = 'gift'""",
    """alter table incentive_rules force row level security""",
    """alter table gifts force row level security""",
    """-- squawk-ignore ban-drop-constraint
alter table incentive_rules drop constraint ck_incentive_rules_gift""",
    """-- squawk-ignore constraint-missing-not-valid
alter table incentive_rules add constraint ck_incentive_rules_gift check ((reward = 'gift') = (gift_item is not null) and (reward = 'gift') = (gift_code is not null) and (reward in ('gift', 'draw_ticket')) = (quantity is not null))""",
    """-- squawk-ignore constraint-missing-not-valid, adding-foreign-key-constraint
alter table incentive_rules add constraint fk_incentive_rules_gift_code foreign key (district_code, gift_code) references gifts (district_code, code)""",
)
GIFT = "(reward = 'gift') = (gift_item is not null) and (reward in ('gift', 'draw_ticket')) = (quantity is not null)"


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (*TABLES, *CATALOGUE):
        op.execute(statement)


def downgrade() -> None:
    """Drop the catalogue and the stock; rules keep the names of their gifts."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table incentive_rules drop constraint fk_incentive_rules_gift_code")
    op.execute("alter table incentive_rules drop constraint ck_incentive_rules_gift")
    op.execute(f"alter table incentive_rules add constraint ck_incentive_rules_gift check ({GIFT})")
    op.execute("alter table incentive_rules drop column gift_code")
    for table in ('run_gifts', 'stock_movements', 'stock_counts', 'stock_takes', 'stock', 'depots', 'gifts'):
        op.execute(f"drop table {table}")
