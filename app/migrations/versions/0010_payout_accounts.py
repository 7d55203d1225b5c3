"""payout accounts: in the member's row, and held with her new phones until they are in force"""

from alembic import op
revision = '0010'
down_revision = '0009'
branch_labels = None
depends_on = None

CHECKS = (
    ('ck_members_consents', """(identity_consented_on is not null or id_number_sealed is null) and (contact_consented_on is not null or phone_sealed is null) and (payment_consented_on is not null or payout_account_sealed is null)"""),
    ('ck_members_sealed_is_indexed', """(id_number_sealed is null) = (id_number_index is null) and (phone_sealed is null) = (phone_index is null) and (payout_account_sealed is null) = (payout_account_index is null)"""),
)
FORMER_CHECKS = (
    ('ck_members_consents', """(identity_consented_on is not null or id_number_sealed is null) and (contact_consented_on is not null or phone_sealed is null)"""),
    ('ck_members_sealed_is_indexed', """(id_number_sealed is null) = (id_number_index is null) and (phone_sealed is null) = (phone_index is null)"""),
)
CONSTRAINTS = ('pk_%s', 'fk_%s_member', 'ck_%s_hold', 'ck_%s_one_end', 'ck_%s_noticed', 'ck_%s_erased_at_the_end')
STATEMENTS = (
    """alter table members add column payout_account_sealed bytea, add column payout_account_index bytea""",
    """-- squawk-ignore renaming-table
alter table phone_changes rename to held_changes""",
    """-- squawk-ignore renaming-column
alter table held_changes rename column phone_sealed to value_sealed""",
    """alter table held_changes add column field text collate "C" """,
    # The owner looks past the wall for a moment: behind it she would see no row to fill.
    """alter table held_changes no force row level security""",
    """update held_changes set field = 'phone' where field is null""",
    """alter table held_changes force row level security""",
    """-- squawk-ignore adding-not-nullable-field
alter table held_changes alter column field set not null""",
    """-- squawk-ignore constraint-missing-not-valid
alter table held_changes add constraint ck_held_changes_field check (field in ('phone', 'payout_account'))""",
    """-- squawk-ignore require-concurrent-index-deletion
drop index uq_phone_changes_open""",
    """-- squawk-ignore require-concurrent-index-creation
create unique index uq_held_changes_open on held_changes (district_code, member_id, field) where applied_at is null and cancelled_at is null""",
)


def upgrade() -> None:
    """Apply, waiting at most five seconds for a lock."""
    op.execute("set local lock_timeout = '5s'")
    for statement in STATEMENTS:
        op.execute(statement)
    _rename('phone_changes', 'held_changes')
    _check(CHECKS)


def _rename(former: str, name: str) -> None:
    for constraint in CONSTRAINTS:
        op.execute(f"-- squawk-ignore renaming-object\nalter table held_changes rename constraint {constraint % former} to {constraint % name}")


def _check(checks: tuple[tuple[str, str], ...]) -> None:
    for name, condition in checks:
        op.execute(f"-- squawk-ignore ban-drop-constraint\nalter table members drop constraint {name}")
        op.execute(f"-- squawk-ignore constraint-missing-not-valid\nalter table members add constraint {name} check ({condition})")


def downgrade() -> None:
    """Forget the accounts; a change of phone goes on waiting."""
    op.execute("set local lock_timeout = '5s'")
    _check(FORMER_CHECKS)
    _rename('held_changes', 'phone_changes')
    for statement in (
        "alter table members drop column payout_account_sealed, drop column payout_account_index",
        "alter table held_changes no force row level security",
        "delete from held_changes where field <> 'phone'",
        "alter table held_changes force row level security",
        "drop index uq_held_changes_open",
        "alter table held_changes drop column field",
        "create unique index uq_phone_changes_open on held_changes (district_code, member_id) where applied_at is null and cancelled_at is null",
        "alter table held_changes rename column value_sealed to phone_sealed",
        "alter table held_changes rename to phone_changes",
    ):
        op.execute(statement)
