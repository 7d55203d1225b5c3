"""funds: the ledger, and which source pays which part of a rule"""

from alembic import op
revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None

TABLES = (
    """CREATE TABLE funds (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    name TEXT NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    fiscal_year INTEGER NOT NULL,
    area_code TEXT COLLATE "C" NOT NULL,
    association_id UUID,
    status TEXT COLLATE "C" NOT NULL,
    available_fen BIGINT NOT NULL,
    reserved_fen BIGINT NOT NULL,
    spent_fen BIGINT NOT NULL,
    received_fen BIGINT NOT NULL,
    allocated_in_fen BIGINT NOT NULL,
    allocated_out_fen BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    closed_at TIMESTAMP WITH TIME ZONE,
    closed_by TEXT,
    CONSTRAINT pk_funds PRIMARY KEY (district_code, id),
    CONSTRAINT ck_funds_source CHECK (source in ('district', 'town', 'village', 'enterprise', 'other')),
    CONSTRAINT ck_funds_status CHECK (status in ('open', 'closed')),
    CONSTRAINT ck_funds_fiscal_year CHECK (fiscal_year between 2000 and 2200),
    CONSTRAINT ck_funds_area_range CHECK (substr(area_code, 1, 6) = substr(district_code, 1, 6)),
    CONSTRAINT ck_funds_available CHECK (available_fen >= 0),
    CONSTRAINT ck_funds_reserved CHECK (reserved_fen >= 0),
    CONSTRAINT ck_funds_spent CHECK (spent_fen >= 0),
    CONSTRAINT ck_funds_balanced CHECK (received_fen >= 0 and allocated_in_fen >= 0 and allocated_out_fen >= 0 and received_fen + allocated_in_fen - allocated_out_fen = available_fen + reserved_fen + spent_fen),
    CONSTRAINT ck_funds_closed CHECK ((status = 'closed') = (closed_at is not null) and (closed_at is null) = (closed_by is null) and (status = 'open' or available_fen + reserved_fen = 0)),
    CONSTRAINT fk_funds_area FOREIGN KEY(area_code) REFERENCES areas (code),
    CONSTRAINT fk_funds_association FOREIGN KEY(district_code, association_id) REFERENCES associations (district_code, id),
    CONSTRAINT uq_funds_scope UNIQUE NULLS NOT DISTINCT (district_code, fiscal_year, source, area_code, association_id)
)""",
    """alter table funds enable row level security""",
    """alter table funds force row level security""",
    """create policy district on funds as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert, update, delete on funds to jixie_district""",
    """create policy rules on funds to jixie_district using (true) with check (true)""",
    """grant select on funds to jixie_staff""",
    """create policy jixie_staff_select on funds for select to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])) or association_id = any ((select current_setting('jixie.associations'))::uuid[]))""",
    """grant insert on funds to jixie_staff""",
    """create policy jixie_staff_insert on funds for insert to jixie_staff with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant update on funds to jixie_staff""",
    """create policy jixie_staff_update on funds for update to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[]))) with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """CREATE TABLE transfers (
    district_code TEXT COLLATE "C" NOT NULL,
    posting_id UUID NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    fund_id UUID NOT NULL,
    credit_fund_id UUID NOT NULL,
    debit TEXT COLLATE "C" NOT NULL,
    credit TEXT COLLATE "C" NOT NULL,
    amount_fen BIGINT NOT NULL,
    run_id UUID,
    line_no INTEGER,
    document_no TEXT,
    note TEXT,
    occurred_on DATE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_by TEXT NOT NULL,
    CONSTRAINT pk_transfers PRIMARY KEY (district_code, posting_id, number),
    CONSTRAINT ck_transfers_kind CHECK (kind in ('receive', 'withdraw', 'allocate', 'reserve', 'pay', 'release', 'return')),
    CONSTRAINT ck_transfers_sides CHECK (kind = 'receive' and debit = 'available' and credit = 'outside' or kind = 'withdraw' and debit = 'outside' and credit = 'available' or kind = 'allocate' and debit = 'available' and credit = 'available' or kind = 'reserve' and debit = 'reserved' and credit = 'available' or kind = 'pay' and debit = 'spent' and credit = 'reserved' or kind = 'release' and debit = 'available' and credit = 'reserved' or kind = 'return' and debit = 'available' and credit = 'spent'),
    CONSTRAINT ck_transfers_amount CHECK (amount_fen > 0),
    CONSTRAINT ck_transfers_funds CHECK ((kind = 'allocate') = (fund_id <> credit_fund_id)),
    CONSTRAINT ck_transfers_document CHECK ((kind in ('receive', 'withdraw', 'allocate')) = (document_no is not null)),
    CONSTRAINT ck_transfers_run CHECK ((kind in ('receive', 'withdraw', 'allocate')) = (run_id is null)),
    CONSTRAINT ck_transfers_payout CHECK ((kind in ('pay', 'return')) = (line_no is not null)),
    CONSTRAINT fk_transfers_fund FOREIGN KEY(district_code, fund_id) REFERENCES funds (district_code, id),
    CONSTRAINT fk_transfers_credit_fund FOREIGN KEY(district_code, credit_fund_id) REFERENCES funds (district_code, id),
    CONSTRAINT fk_transfers_payout_run FOREIGN KEY(district_code, run_id) REFERENCES payout_runs (district_code, id)
)""",
    """CREATE INDEX ix_transfers_fund ON transfers (district_code, fund_id, posting_id, number)""",
    """CREATE UNIQUE INDEX uq_transfers_document ON transfers (district_code, credit_fund_id, kind, document_no, fund_id) WHERE document_no is not null""",
    """CREATE UNIQUE INDEX uq_transfers_payout ON transfers (district_code, run_id, line_no, fund_id, kind) WHERE line_no is not null""",
    """CREATE UNIQUE INDEX uq_transfers_run ON transfers (district_code, run_id, fund_id, kind) WHERE run_id is not null and line_no is null""",
    """alter table transfers enable row level security""",
    """alter table transfers force row level security""",
    """create policy district on transfers as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on transfers to jixie_district""",
    """create policy rules on transfers to jixie_district using (true) with check (true)""",
    """grant select on transfers to jixie_staff""",
    """create policy jixie_staff_select on transfers for select to jixie_staff using (fund_id = any ((select current_setting('jixie.shown'))::uuid[]) or credit_fund_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """CREATE TABLE run_shares (
    district_code TEXT COLLATE "C" NOT NULL,
    run_id UUID NOT NULL,
    rule_id UUID NOT NULL,
    association_id UUID NOT NULL,
    from_bp INTEGER NOT NULL,
    to_bp INTEGER NOT NULL,
    fund_id UUID NOT NULL,
    CONSTRAINT pk_run_shares PRIMARY KEY (district_code, run_id, rule_id, association_id, from_bp),
    CONSTRAINT ck_run_shares_points CHECK (from_bp >= 0 and to_bp > from_bp and to_bp <= 10000),
    CONSTRAINT fk_run_shares_fund FOREIGN KEY(district_code, fund_id) REFERENCES funds (district_code, id),
    CONSTRAINT fk_run_shares_payout_run FOREIGN KEY(district_code, run_id) REFERENCES payout_runs (district_code, id)
)""",
    """alter table run_shares enable row level security""",
    """alter table run_shares force row level security""",
    """create policy district on run_shares as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on run_shares to jixie_district""",
    """create policy rules on run_shares to jixie_district using (true) with check (true)""",
    """grant select on run_shares to jixie_staff""",
    """create policy jixie_staff_select on run_shares for select to jixie_staff using (run_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
)
# Rules from before there were funds are paid by those of their policy's own level. The owner is
# behind the walls too, unless she lowers them for the statement.
FUNDING = (
    """alter table incentive_rules add column district_bp integer not null default 0, add column town_bp integer not null default 0, add column village_bp integer not null default 0, add column enterprise_bp integer not null default 0, add column other_bp integer not null default 0""",
    """alter table incentive_rules no force row level security""",
    """alter table incentive_policies no force row level security""",
    """update incentive_rules r set
    enterprise_bp = case when p.association_id is not null then 10000 else 0 end,
    district_bp = case when p.association_id is null and right(p.area_code, 6) = '000000' then 10000 else 0 end,
    town_bp = case when p.association_id is null and right(p.area_code, 6) <> '000000' and right(p.area_code, 3) = '000' then 10000 else 0 end,
    village_bp = case when p.association_id is null and right(p.area_code, 3) <> '000' then 10000 else 0 end
from incentive_policies p
where p.district_code = r.district_code and p.id = r.policy_id and r.reward = 'cash'""",
    """alter table incentive_rules force row level security""",
    """alter table incentive_policies force row level security""",
    """-- squawk-ignore constraint-missing-not-valid
alter table incentive_rules add constraint ck_incentive_rules_funding check (district_bp >= 0 and town_bp >= 0 and village_bp >= 0 and enterprise_bp >= 0 and other_bp >= 0 and district_bp + town_bp + village_bp + enterprise_bp + other_bp = case when reward = 'cash' then 10000 else 0 end)""",
    """-- squawk-ignore ban-drop-constraint
alter table payouts drop constraint ck_payouts_status""",
    """-- squawk-ignore constraint-missing-not-valid
alter table payouts add constraint ck_payouts_status check (status = 'pending' and failure_reason is null and settled_at is null and released = 0 or status = 'paid' and failure_reason is null and settled_at is not null and released = 0 or status in ('failed', 'returned') and failure_reason is not null and settled_at is not null and released >= 0)""",
)
STATUS = "status = 'pending' and failure_reason is null and settled_at is null and released = 0 or status = 'paid' and failure_reason is null and settled_at is not null and released = 0 or status = 'failed' and failure_reason is not null and settled_at is not null and released >= 0"


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (*TABLES, *FUNDING):
        op.execute(statement)


def downgrade() -> None:
    """Drop the books; refused while a payout is returned, which has no meaning without them."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table payouts drop constraint ck_payouts_status")
    op.execute(f"alter table payouts add constraint ck_payouts_status check ({STATUS})")
    op.execute("alter table incentive_rules drop constraint ck_incentive_rules_funding")
    for source in ('district', 'town', 'village', 'enterprise', 'other'):
        op.execute(f"alter table incentive_rules drop column {source}_bp")
    for table in ('run_shares', 'transfers', 'funds'):
        op.execute(f"drop table {table}")
