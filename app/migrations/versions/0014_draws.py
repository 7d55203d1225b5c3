"""draws: tickets, a frozen list, winners; and rules that give tickets"""

from alembic import op
revision = '0014'
down_revision = '0013'
branch_labels = None
depends_on = None

TABLES = (
    """CREATE TABLE draws (
    district_code TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    version INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
    name TEXT NOT NULL,
    area_code TEXT COLLATE "C" NOT NULL,
    round_sequence INTEGER NOT NULL,
    closes_at TIMESTAMP WITH TIME ZONE NOT NULL,
    beacon_name TEXT NOT NULL,
    beacon_at TIMESTAMP WITH TIME ZONE NOT NULL,
    prize_count INTEGER NOT NULL,
    winner_count INTEGER NOT NULL,
    reserve_count INTEGER NOT NULL,
    claim_days INTEGER NOT NULL,
    replaces_id UUID,
    status TEXT COLLATE "C" NOT NULL,
    status_reason TEXT,
    created_by TEXT NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE,
    opened_by TEXT,
    commitment TEXT COLLATE "C",
    wrapped_seed BYTEA,
    seed BYTEA,
    closed_at TIMESTAMP WITH TIME ZONE,
    closed_by TEXT,
    digest TEXT COLLATE "C",
    ticket_count INTEGER,
    beacon_value TEXT,
    beacon_source TEXT,
    beacon_entered_at TIMESTAMP WITH TIME ZONE,
    beacon_entered_by TEXT,
    drawn_at TIMESTAMP WITH TIME ZONE,
    drawn_by TEXT,
    cancelled_at TIMESTAMP WITH TIME ZONE,
    cancelled_by TEXT,
    CONSTRAINT pk_draws PRIMARY KEY (district_code, id),
    CONSTRAINT ck_draws_status CHECK (status in ('draft', 'open', 'closed', 'drawn', 'cancelled')),
    CONSTRAINT ck_draws_area_range CHECK (substr(area_code, 1, 6) = substr(district_code, 1, 6)),
    CONSTRAINT ck_draws_beacon_after_closing CHECK (closes_at < beacon_at),
    CONSTRAINT ck_draws_sizes CHECK (prize_count between 1 and 50 and winner_count >= prize_count and reserve_count between 0 and 1000 and claim_days between 1 and 365),
    CONSTRAINT ck_draws_opened CHECK ((status <> 'draft' or opened_at is null) and (status not in ('open', 'closed', 'drawn') or opened_at is not null) and (opened_at is null) = (opened_by is null) and (opened_at is null) = (commitment is null) and (opened_at is null) = (wrapped_seed is null and seed is null) and opened_at < closes_at and commitment ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_draws_seed CHECK ((wrapped_seed is null or seed is null) and (seed is null) = (opened_at is null or status in ('open', 'closed'))),
    CONSTRAINT ck_draws_commitment CHECK (seed is null or commitment = encode(sha256(cast('jixie-draw-v1' as bytea) || cast(cast(id as text) as bytea) || seed), 'hex')),
    CONSTRAINT ck_draws_closed CHECK ((status not in ('draft', 'open') or closed_at is null) and (status not in ('closed', 'drawn') or closed_at is not null) and (closed_at is null) = (closed_by is null) and (closed_at is null) = (digest is null) and (closed_at is null) = (ticket_count is null) and closed_at >= closes_at and closed_at < beacon_at and ticket_count >= 0 and digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_draws_beacon CHECK ((beacon_value is null) = (beacon_source is null) and (beacon_value is null) = (beacon_entered_at is null) and (beacon_value is null) = (beacon_entered_by is null) and (beacon_value is null or closed_at is not null) and beacon_entered_at >= beacon_at),
    CONSTRAINT ck_draws_drawn CHECK ((status = 'drawn') = (drawn_at is not null) and (drawn_at is null) = (drawn_by is null) and (drawn_at is null or beacon_value is not null)),
    CONSTRAINT ck_draws_maker_is_not_checker CHECK (drawn_by <> beacon_entered_by),
    CONSTRAINT ck_draws_committer_is_not_checker CHECK (drawn_by <> opened_by),
    CONSTRAINT ck_draws_cancelled CHECK ((status = 'cancelled') = (cancelled_at is not null) and (cancelled_at is null) = (cancelled_by is null) and (cancelled_at is null) = (status_reason is null)),
    CONSTRAINT fk_draws_area FOREIGN KEY(area_code) REFERENCES areas (code),
    CONSTRAINT fk_draws_round FOREIGN KEY(district_code, round_sequence) REFERENCES exam_rounds (district_code, sequence),
    CONSTRAINT fk_draws_replaces FOREIGN KEY(district_code, replaces_id) REFERENCES draws (district_code, id),
    CONSTRAINT uq_draws_tickets UNIQUE (district_code, id, ticket_count),
    CONSTRAINT uq_draws_prizes UNIQUE (district_code, id, prize_count),
    CONSTRAINT uq_draws_replaces UNIQUE (district_code, replaces_id)
)""",
    """CREATE UNIQUE INDEX uq_draws_open ON draws (district_code, round_sequence, area_code) WHERE status = 'open'""",
    """alter table draws enable row level security""",
    """alter table draws force row level security""",
    """create policy district on draws as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on draws to jixie_district""",
    """grant update (version, updated_at, status, status_reason, opened_at, opened_by, commitment, wrapped_seed, seed, closed_at, closed_by, digest, ticket_count, beacon_value, beacon_source, beacon_entered_at, beacon_entered_by, drawn_at, drawn_by, cancelled_at, cancelled_by) on draws to jixie_district""",
    """create policy rules on draws to jixie_district using (true) with check (true)""",
    """grant select on draws to jixie_staff""",
    """create policy jixie_staff_select on draws for select to jixie_staff using (true)""",
    """grant insert on draws to jixie_staff""",
    """create policy jixie_staff_insert on draws for insert to jixie_staff with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant update (version, updated_at, status, status_reason, opened_at, opened_by, commitment, wrapped_seed, seed, closed_at, closed_by, digest, ticket_count, beacon_value, beacon_source, beacon_entered_at, beacon_entered_by, drawn_at, drawn_by, cancelled_at, cancelled_by) on draws to jixie_staff""",
    """create policy jixie_staff_update on draws for update to jixie_staff using ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[]))) with check ((area_code >= (select current_setting('jixie.area_low')) and area_code <= (select current_setting('jixie.area_high')) and area_code ^@ any ((select current_setting('jixie.areas'))::text[])))""",
    """grant select on draws to jixie_member""",
    """create policy jixie_member_select on draws for select to jixie_member using (status <> 'draft')""",
    """grant select on draws to jixie_platform""",
    """create policy jixie_platform_select on draws for select to jixie_platform using (status <> 'draft')""",
    """CREATE TABLE draw_prizes (
    district_code TEXT COLLATE "C" NOT NULL,
    draw_id UUID NOT NULL,
    number INTEGER NOT NULL,
    prize_count INTEGER NOT NULL,
    name TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    first_unit INTEGER NOT NULL,
    CONSTRAINT pk_draw_prizes PRIMARY KEY (district_code, draw_id, number),
    CONSTRAINT ck_draw_prizes_number CHECK (number between 1 and prize_count),
    CONSTRAINT ck_draw_prizes_units CHECK (quantity >= 1 and first_unit >= number),
    CONSTRAINT fk_draw_prizes_draw FOREIGN KEY(district_code, draw_id, prize_count) REFERENCES draws (district_code, id, prize_count)
)""",
    """alter table draw_prizes enable row level security""",
    """alter table draw_prizes force row level security""",
    """create policy district on draw_prizes as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on draw_prizes to jixie_district""",
    """create policy rules on draw_prizes to jixie_district using (true) with check (true)""",
    """grant select on draw_prizes to jixie_staff""",
    """create policy jixie_staff_select on draw_prizes for select to jixie_staff using (true)""",
    """grant select on draw_prizes to jixie_member""",
    """create policy jixie_member_select on draw_prizes for select to jixie_member using (true)""",
    """grant select on draw_prizes to jixie_platform""",
    """create policy jixie_platform_select on draw_prizes for select to jixie_platform using (true)""",
    """CREATE TABLE draw_entries (
    district_code TEXT COLLATE "C" NOT NULL,
    draw_id UUID NOT NULL,
    number INTEGER NOT NULL,
    ticket_count INTEGER NOT NULL,
    ticket TEXT COLLATE "C" NOT NULL,
    CONSTRAINT pk_draw_entries PRIMARY KEY (district_code, draw_id, number),
    CONSTRAINT ck_draw_entries_number CHECK (number between 1 and ticket_count),
    CONSTRAINT fk_draw_entries_draw FOREIGN KEY(district_code, draw_id, ticket_count) REFERENCES draws (district_code, id, ticket_count),
    CONSTRAINT uq_draw_entries_ticket UNIQUE (district_code, draw_id, ticket)
)""",
    """alter table draw_entries enable row level security""",
    """alter table draw_entries force row level security""",
    """create policy district on draw_entries as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on draw_entries to jixie_district""",
    """create policy rules on draw_entries to jixie_district using (true) with check (true)""",
    """grant select on draw_entries to jixie_staff""",
    """create policy jixie_staff_select on draw_entries for select to jixie_staff using (true)""",
    """grant select on draw_entries to jixie_member""",
    """create policy jixie_member_select on draw_entries for select to jixie_member using (true)""",
    """grant select on draw_entries to jixie_platform""",
    """create policy jixie_platform_select on draw_entries for select to jixie_platform using (true)""",
    """CREATE TABLE draw_tickets (
    district_code TEXT COLLATE "C" NOT NULL,
    ticket TEXT COLLATE "C" NOT NULL,
    draw_id UUID NOT NULL,
    member_id UUID NOT NULL,
    run_id UUID NOT NULL,
    line_no INTEGER NOT NULL,
    copy_no INTEGER NOT NULL,
    issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_draw_tickets PRIMARY KEY (district_code, ticket),
    CONSTRAINT ck_draw_tickets_ticket CHECK (ticket ~ '^[0-9a-f]{32}$'),
    CONSTRAINT ck_draw_tickets_copy_no CHECK (copy_no >= 1),
    CONSTRAINT fk_draw_tickets_draw FOREIGN KEY(district_code, draw_id) REFERENCES draws (district_code, id),
    CONSTRAINT fk_draw_tickets_member FOREIGN KEY(district_code, member_id) REFERENCES members (district_code, id),
    CONSTRAINT uq_draw_tickets_line UNIQUE (district_code, run_id, line_no, copy_no)
)""",
    """CREATE INDEX ix_draw_tickets_draw ON draw_tickets (district_code, draw_id)""",
    """CREATE INDEX ix_draw_tickets_member ON draw_tickets (district_code, member_id)""",
    """alter table draw_tickets enable row level security""",
    """alter table draw_tickets force row level security""",
    """create policy district on draw_tickets as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on draw_tickets to jixie_district""",
    """grant update (draw_id) on draw_tickets to jixie_district""",
    """create policy rules on draw_tickets to jixie_district using (true) with check (true)""",
    """grant select on draw_tickets to jixie_member""",
    """create policy jixie_member_select on draw_tickets for select to jixie_member using (member_id = (select nullif(current_setting('jixie.member'), '')::uuid))""",
    """CREATE TABLE draw_winners (
    district_code TEXT COLLATE "C" NOT NULL,
    draw_id UUID NOT NULL,
    rank INTEGER NOT NULL,
    ticket TEXT COLLATE "C" NOT NULL,
    unit INTEGER,
    status TEXT COLLATE "C" NOT NULL,
    won_at TIMESTAMP WITH TIME ZONE,
    claim_until DATE,
    handed_out_at TIMESTAMP WITH TIME ZONE,
    handed_out_by TEXT,
    ended_at TIMESTAMP WITH TIME ZONE,
    ended_by TEXT,
    end_reason TEXT,
    CONSTRAINT pk_draw_winners PRIMARY KEY (district_code, draw_id, rank),
    CONSTRAINT ck_draw_winners_status CHECK (status in ('reserve', 'winning', 'handed_out', 'declined', 'lapsed')),
    CONSTRAINT ck_draw_winners_numbers CHECK (rank >= 1 and unit >= 1),
    CONSTRAINT ck_draw_winners_won CHECK ((status = 'reserve') = (unit is null) and (unit is null) = (won_at is null) and (unit is null) = (claim_until is null)),
    CONSTRAINT ck_draw_winners_handed_out CHECK ((status = 'handed_out') = (handed_out_at is not null) and (handed_out_at is null) = (handed_out_by is null)),
    CONSTRAINT ck_draw_winners_ended CHECK ((status in ('declined', 'lapsed')) = (ended_at is not null) and (ended_at is null) = (ended_by is null) and (status = 'declined') = (end_reason is not null)),
    CONSTRAINT fk_draw_winners_entry FOREIGN KEY(district_code, draw_id, ticket) REFERENCES draw_entries (district_code, draw_id, ticket),
    CONSTRAINT uq_draw_winners_ticket UNIQUE (district_code, draw_id, ticket)
)""",
    """CREATE UNIQUE INDEX uq_draw_winners_unit ON draw_winners (district_code, draw_id, unit) WHERE status in ('winning', 'handed_out')""",
    """alter table draw_winners enable row level security""",
    """alter table draw_winners force row level security""",
    """create policy district on draw_winners as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on draw_winners to jixie_district""",
    """grant update (unit, status, won_at, claim_until, handed_out_at, handed_out_by, ended_at, ended_by, end_reason) on draw_winners to jixie_district""",
    """create policy rules on draw_winners to jixie_district using (true) with check (true)""",
)
RULES = (
    """-- squawk-ignore ban-drop-constraint
alter table incentive_rules drop constraint ck_incentive_rules_reward""",
    """-- squawk-ignore constraint-missing-not-valid
alter table incentive_rules add constraint ck_incentive_rules_reward check (reward in ('cash', 'gift', 'draw_ticket'))""",
    """-- squawk-ignore ban-drop-constraint
alter table incentive_rules drop constraint ck_incentive_rules_gift""",
    """-- squawk-ignore constraint-missing-not-valid
alter table incentive_rules add constraint ck_incentive_rules_gift check ((reward = 'gift') = (gift_item is not null) and (reward in ('gift', 'draw_ticket')) = (quantity is not null))""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (*TABLES, *RULES):
        op.execute(statement)


def downgrade() -> None:
    """Drop the draws; refused while a rule gives tickets, which have no meaning without them."""
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table incentive_rules drop constraint ck_incentive_rules_reward")
    op.execute("alter table incentive_rules add constraint ck_incentive_rules_reward check (reward in ('cash', 'gift'))")
    op.execute("alter table incentive_rules drop constraint ck_incentive_rules_gift")
    op.execute("alter table incentive_rules add constraint ck_incentive_rules_gift check ((reward = 'gift') = (gift_item is not null) and (reward = 'gift') = (quantity is not null))")
    for table in ('draw_winners', 'draw_tickets', 'draw_entries', 'draw_prizes', 'draws'):
        op.execute(f"drop table {table}")
