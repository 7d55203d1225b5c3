"""consents: privacy notices, each consent and each withdrawal, and what holds of them by now"""

import hashlib
import tomllib
from pathlib import Path

from alembic import op
revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

TABLES = (
    """CREATE TABLE privacy_notices (
    district_code TEXT COLLATE "C" NOT NULL,
    purpose TEXT COLLATE "C" NOT NULL,
    number INTEGER NOT NULL,
    effective_on DATE NOT NULL,
    controller TEXT NOT NULL,
    text_zh TEXT NOT NULL,
    text_en TEXT NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    data_categories TEXT[] COLLATE "C" NOT NULL,
    processing TEXT[] COLLATE "C" NOT NULL,
    recipients TEXT[] COLLATE "C" NOT NULL,
    retention TEXT COLLATE "C" NOT NULL,
    jurisdiction TEXT COLLATE "C" NOT NULL,
    published_by TEXT NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT pk_privacy_notices PRIMARY KEY (district_code, purpose, number),
    CONSTRAINT ck_privacy_notices_purpose CHECK (purpose in ('identity', 'contact', 'payment', 'thanks')),
    CONSTRAINT ck_privacy_notices_number CHECK (number >= 1),
    CONSTRAINT ck_privacy_notices_words CHECK (text_zh <> '' and text_en <> '' and controller <> ''),
    CONSTRAINT ck_privacy_notices_digest CHECK (digest ~ '^[0-9a-f]{64}$')
)""",
    """CREATE TABLE consents (
    district_code TEXT COLLATE "C" NOT NULL,
    member_id UUID NOT NULL,
    purpose TEXT COLLATE "C" NOT NULL,
    id UUID NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    notice_number INTEGER,
    language TEXT COLLATE "C",
    method TEXT COLLATE "C" NOT NULL,
    acted_on DATE NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    recorded_by TEXT NOT NULL,
    withdraws UUID,
    CONSTRAINT pk_consents PRIMARY KEY (district_code, member_id, purpose, id),
    CONSTRAINT ck_consents_purpose CHECK (purpose in ('identity', 'contact', 'payment', 'thanks')),
    CONSTRAINT ck_consents_state CHECK (state in ('given', 'withdrawn')),
    CONSTRAINT ck_consents_method CHECK (method in ('app', 'paper', 'officer', 'import', 'carried_over')),
    CONSTRAINT ck_consents_language CHECK (language in ('zh', 'en')),
    CONSTRAINT ck_consents_withdraws CHECK ((state = 'withdrawn') = (withdraws is not null)),
    CONSTRAINT ck_consents_notice CHECK (notice_number is not null or method <> 'app' or state = 'withdrawn'),
    CONSTRAINT fk_consents_member FOREIGN KEY(district_code, member_id) REFERENCES members (district_code, id),
    CONSTRAINT fk_consents_notice FOREIGN KEY(district_code, purpose, notice_number) REFERENCES privacy_notices (district_code, purpose, number),
    CONSTRAINT fk_consents_withdrawn FOREIGN KEY(district_code, member_id, purpose, withdraws) REFERENCES consents (district_code, member_id, purpose, id)
)""",
    """CREATE UNIQUE INDEX uq_consents_withdraws ON consents (district_code, member_id, purpose, withdraws) WHERE withdraws is not null""",
)
WALLS = (
    """alter table privacy_notices enable row level security""",
    """alter table privacy_notices force row level security""",
    """create policy district on privacy_notices as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on privacy_notices to jixie_district""",
    """create policy rules on privacy_notices to jixie_district using (true) with check (true)""",
    """grant select on privacy_notices to jixie_staff""",
    """create policy jixie_staff_select on privacy_notices for select to jixie_staff using (true)""",
    """grant select on privacy_notices to jixie_member""",
    """create policy jixie_member_select on privacy_notices for select to jixie_member using (true)""",
    """grant select on privacy_notices to jixie_platform""",
    """create policy jixie_platform_select on privacy_notices for select to jixie_platform using (true)""",
    """alter table consents enable row level security""",
    """alter table consents force row level security""",
    """create policy district on consents as restrictive to jixie_staff, jixie_member, jixie_platform, jixie_district using (district_code = (select current_setting('jixie.district')::bigint::text)) with check (district_code = (select current_setting('jixie.district')::bigint::text))""",
    """grant select, insert on consents to jixie_district""",
    """create policy rules on consents to jixie_district using (true) with check (true)""",
    """grant select on consents to jixie_staff""",
    """create policy jixie_staff_select on consents for select to jixie_staff using (member_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant insert on consents to jixie_staff""",
    """create policy jixie_staff_insert on consents for insert to jixie_staff with check (member_id = any ((select current_setting('jixie.shown'))::uuid[]))""",
    """grant select on consents to jixie_member""",
    """create policy jixie_member_select on consents for select to jixie_member using (member_id = (select nullif(current_setting('jixie.member'), '')::uuid))""",
)
# The owner looks past the wall for a moment: behind it she would see no row to carry over.
COLUMNS = (
    """alter table members no force row level security""",
    """alter table members add column identity_consented_on date, add column contact_consented_on date, add column payment_consented_on date, add column thanks_consented_on date, add column thanks_withdrawn_on date""",
    """update members set identity_consented_on = case when id_number_sealed is not null then consented_on end, contact_consented_on = case when phone_sealed is not null then consented_on end, thanks_consented_on = consented_on where consented_on is not null""",
    """-- squawk-ignore ban-drop-column
alter table members drop column consented_on""",
    """alter table members add constraint ck_members_consents check ((identity_consented_on is not null or id_number_sealed is null) and (contact_consented_on is not null or phone_sealed is null)) not valid""",
    """-- squawk-ignore constraint-missing-not-valid
alter table members validate constraint ck_members_consents""",
    """alter table members add constraint ck_members_thanks check (thanks_consented_on is null or thanks_withdrawn_on is null) not valid""",
    """-- squawk-ignore constraint-missing-not-valid
alter table members validate constraint ck_members_thanks""",
    """alter table members add constraint ck_members_erased check (erased_at is null or (status = 'left' and employee_no is null and coalesce(identity_consented_on, contact_consented_on, payment_consented_on, thanks_consented_on) is null)) not valid""",
    """-- squawk-ignore constraint-missing-not-valid
alter table members validate constraint ck_members_erased""",
    """create index ix_members_without_thanks_consent on members (district_code, id) where thanks_consented_on is null""",
    """create index ix_members_thanks_withdrawn on members (district_code, id) where thanks_withdrawn_on is not null""",
    """insert into consents (district_code, member_id, purpose, id, state, method, acted_on, recorded_at, recorded_by) select m.district_code, m.id, p.purpose, md5(m.district_code || m.id || p.purpose)::uuid, 'given', 'carried_over', p.given_on, m.updated_at, 'migration' from members m cross join lateral (values ('identity', m.identity_consented_on), ('contact', m.contact_consented_on), ('thanks', m.thanks_consented_on)) p(purpose, given_on) where p.given_on is not null""",
    """alter table members force row level security""",
)
NOTICE = """insert into privacy_notices (district_code, purpose, number, effective_on, controller, text_zh, text_en, digest, data_categories, processing, recipients, retention, jurisdiction, published_by, published_at) select code, {purpose}, 1, cast(statement_timestamp() at time zone 'Asia/Shanghai' as date), {controller}, {text_zh}, {text_en}, {digest}, {data_categories}, {processing}, {recipients}, 'until_withdrawal', 'CN', 'first-notices', statement_timestamp() from areas where level = 'district'"""
DATA = {'identity': 'resident_id_number', 'contact': 'phone_number', 'payment': 'financial_account', 'thanks': 'attendance'}
PROCESSING = {'identity': ['collect', 'store', 'match'], 'contact': ['collect', 'store', 'contact'], 'payment': ['collect', 'store', 'pay'], 'thanks': ['calculate']}
FIRSTS = Path(__file__).parents[2] / 'data' / 'privacy_notices.toml'


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in TABLES:
        op.execute(statement)
    _provide_notices()
    for statement in (*COLUMNS, *WALLS):
        op.execute(statement)


def _provide_notices() -> None:
    """Give each district that there is the notices with which a new one begins."""
    firsts = tomllib.loads(FIRSTS.read_text('utf-8'))
    for purpose, category in DATA.items():
        zh, en = (firsts[purpose][name].strip() for name in ('text_zh', 'text_en'))
        facts = {
            'purpose': purpose,
            'controller': firsts['controller'],
            'text_zh': zh,
            'text_en': en,
            'digest': hashlib.sha256(f'{zh}\n{en}'.encode()).hexdigest(),
        }
        lists = {
            'data_categories': [category],
            'processing': PROCESSING[purpose],
            'recipients': firsts[purpose]['recipients'],
        }
        said = {name: _literal(value) for name, value in facts.items()}
        for name, values in lists.items():
            said[name] = f"array[{', '.join(map(_literal, values))}]::text[]"
        op.execute(NOTICE.format(**said))


def _literal(words: str) -> str:
    """Write words so that neither SQL nor SQLAlchemy finds anything in them."""
    return "'" + words.replace("'", "''").replace(':', '\\:') + "'"


def downgrade() -> None:
    """Keep of each member one date again, the earliest; what she withdrew stays withdrawn."""
    op.execute("set local lock_timeout = '5s'")
    for statement in (
        "alter table members no force row level security",
        "alter table members add column consented_on date",
        "update members set consented_on = least(identity_consented_on, contact_consented_on, thanks_consented_on)",
        "alter table members drop column identity_consented_on, drop column contact_consented_on, drop column payment_consented_on, drop column thanks_consented_on, drop column thanks_withdrawn_on",
        "alter table members add constraint ck_members_consent check (consented_on is not null or (id_number_sealed is null and phone_sealed is null))",
        "alter table members add constraint ck_members_erased check (erased_at is null or (status = 'left' and consented_on is null and employee_no is null))",
        "create index ix_members_without_consent on members (district_code, id) where consented_on is null",
        "alter table members force row level security",
        "drop table consents",
        "drop table privacy_notices",
    ):
        op.execute(statement)
