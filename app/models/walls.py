"""The walls in the database: which acting role reaches which rows of which table.

A wall is a forced row-level policy. Every tenant table has one for the district, and for each
role a narrower one. `shown` are the ids of records that the caller was shown before, in the same
request and behind the same walls: a row without an area of its own is reached through them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.models.disbursement import payout_decisions, payout_disputes
from app.models.lucky_draws.draw_winners import MOVED
from app.models.lucky_draws.draws import STEPPED
from app.scopes import LOGIN, Acting

SHARED = frozenset({"areas"})
"""Tables without walls: what is the same for everybody and says nothing of anybody."""
NATION = frozenset({"person_keys"})
"""Keyed hashes that keep enrolment unique in the nation: only rules of a district see them."""

# The cast makes it an error to act without a scope: what a past transaction set reads back empty.
_DISTRICT = "district_code = (select current_setting('jixie.district')::bigint::text)"
# Without the sub-select: for one row that is appended it costs less, for many that are read more.
_DISTRICT_OF_ONE = "district_code = current_setting('jixie.district')::bigint::text"


def _in_areas(column: str) -> str:
    """Within the caller's areas: a range that an index can use, then the exact areas."""
    return (
        f"({column} >= (select current_setting('jixie.area_low'))"
        f" and {column} <= (select current_setting('jixie.area_high'))"
        f" and {column} ^@ any ((select current_setting('jixie.areas'))::text[]))"
    )


def _among(column: str, setting: str) -> str:
    return f"{column} = any ((select current_setting('jixie.{setting}'))::uuid[])"


def _shown(*columns: str) -> str:
    return " or ".join(_among(column, "shown") for column in columns)


def _hers(column: str) -> str:
    return f"{column} = (select nullif(current_setting('jixie.member'), '')::uuid)"


def _resolved(columns: Sequence[str]) -> str:
    return f"select, insert, update ({', '.join(columns)})"


_OWN_REQUEST = "requested_by = (select current_setting('jixie.subject'))"
_OWN_SUBJECT_OF_ONE = "subject = current_setting('jixie.subject')"
_OWN_SUBJECT = "subject = (select current_setting('jixie.subject'))"
_ALL = "true"
_APPENDED = "select, insert"
# Only what is decided anew, retained for a time or destroyed with a key is ever deleted.
_DELETED = "select, insert, update, delete"
_EVERYBODY = (Acting.STAFF, Acting.MEMBER, Acting.PLATFORM)
_HERE = _in_areas("area_code")
_OURS = f"{_HERE} or {_among('association_id', 'associations')}"


@dataclass(frozen=True)
class Wall:
    """What of a table the offices, members and data platforms reach within their district.

    Without `staff` no office reads it. `writes` is what offices may change; without it they only
    read. `adds` is what each of them may append without ever reading it, and `district` what a rule
    of the whole district may do: what no such rule may change, no office changes either, and only
    such rules delete. `changes` are the only columns that anybody may change, where the rest of a
    row stays as it was entered. `bounds` keeps every one to her district. Of the rows that `queue`
    reaches, it reads the columns that `looks` names, or all.
    """

    staff: str | None
    writes: str | None = None
    member: str | None = None
    platform: str | None = None
    queue: str | None = None
    looks: tuple[str, ...] = ()
    adds: str | None = None
    district: str = "select, insert, update"
    changes: tuple[str, ...] = ()
    bounds: str = _DISTRICT

    @property
    def updates(self) -> str | None:
        """Give the right to change rows, as PostgreSQL names it; None where nobody has it."""
        if self.changes:
            return f"update ({', '.join(self.changes)})"
        return "update" if "update" in self.district else None


WALLS = {
    "area_settings": Wall(_ALL, writes=_HERE, member=_ALL, platform=_ALL),
    "host_organisations": Wall(_ALL, writes=_HERE, member=_ALL, platform=_ALL),
    "associations": Wall(
        f"{_HERE} or {_among('id', 'associations')}",
        writes=f"{_HERE} or {_among('id', 'associations')}",
        member=_ALL,
        platform=_ALL,
    ),
    "officers": Wall(_shown("association_id"), writes=_shown("association_id"), member=_ALL),
    "facilities": Wall(
        _shown("association_id"), writes=_shown("association_id"), member=_ALL, platform=_ALL
    ),
    "regulations": Wall(
        _shown("association_id"), writes=_shown("association_id"), member=_ALL, platform=_ALL
    ),
    "members": Wall(_OURS, writes=_OURS, member=_hers("id")),
    "memberships": Wall(_shown("member_id"), writes=_shown("member_id"), member=_hers("member_id")),
    "data_keys": Wall(
        _shown("member_id"),
        writes=_shown("member_id"),
        member=_hers("member_id"),
        district=_DELETED,
    ),
    "privacy_notices": Wall(_ALL, member=_ALL, platform=_ALL, district=_APPENDED),
    "consents": Wall(
        _shown("member_id"),
        writes=_shown("member_id"),
        member=_hers("member_id"),
        district=_APPENDED,
    ),
    "reveal_counts": Wall(_OWN_SUBJECT, district=_DELETED),
    "exam_rounds": Wall(_ALL, writes=_in_areas("district_code"), member=_ALL, platform=_ALL),
    "excuses": Wall(
        f"{_HERE} or {_shown('member_id')}",
        writes=f"{_HERE} or {_shown('member_id')}",
        member=_hers("member_id"),
    ),
    "service_events": Wall(
        f"{_OURS} or {_among('id', 'events')}",
        writes=f"{_OURS} or {_among('id', 'events')}",
        member="status <> 'draft'",
        platform="status <> 'draft'",
    ),
    "registrations": Wall(
        _shown("event_id", "member_id"),
        writes=_shown("event_id"),
        member=_hers("member_id"),
        district=_DELETED,
    ),
    "attendances": Wall(
        _shown("event_id", "member_id"),
        writes=_shown("event_id"),
        member=_hers("member_id"),
    ),
    "incentive_policies": Wall(f"association_id is null or {_OURS}", writes=_HERE),
    "policy_versions": Wall(_ALL, writes=_shown("policy_id")),
    "incentive_rules": Wall(_ALL, writes=_shown("policy_id")),
    "payout_runs": Wall(_HERE, writes=_HERE),
    "payouts": Wall(_shown("run_id", "member_id"), writes=_shown("run_id"), district=_DELETED),
    # What was said and why somebody must decide stay; only what became of it may change.
    "payout_disputes": Wall(
        _shown("member_id"),
        member=_hers("member_id"),
        district=_resolved(payout_disputes.RESOLUTION),
    ),
    "payout_decisions": Wall(_shown("member_id"), district=_resolved(payout_decisions.RESOLUTION)),
    # What a bank was given, and that it answered, stays.
    "bank_files": Wall(_shown("run_id"), writes=_shown("run_id")),
    "bank_results": Wall(_shown("run_id"), writes=_shown("run_id"), district=_APPENDED),
    "funds": Wall(_OURS, writes=_HERE),
    # What is in the books stays: even a rule of the district only adds to them.
    "transfers": Wall(_shown("fund_id", "credit_fund_id"), district=_APPENDED),
    "run_shares": Wall(_shown("run_id"), district=_APPENDED),
    "gateway_payments": Wall(None),
    # What a draw promises is public and stays: only its steps are filled in.
    "draws": Wall(
        _ALL,
        writes=_HERE,
        member="status <> 'draft'",
        platform="status <> 'draft'",
        district=_APPENDED,
        changes=STEPPED,
    ),
    "draw_prizes": Wall(_ALL, member=_ALL, platform=_ALL, district=_APPENDED),
    "draw_entries": Wall(_ALL, member=_ALL, platform=_ALL, district=_APPENDED),
    # Whose a ticket is, is hers to know; a rule of the district says whose has won.
    "draw_tickets": Wall(None, member=_hers("member_id"), district=_APPENDED, changes=("draw_id",)),
    "draw_winners": Wall(None, district=_APPENDED, changes=MOVED),
    "service_stations": Wall(_ALL, writes=_HERE, member=_ALL, platform=_ALL),
    "station_settlements": Wall(_HERE, writes=_HERE),
    # Whose code is whose no office reads: a station learns a value, and nobody's name.
    "vouchers": Wall(None, member=_hers("member_id")),
    "gifts": Wall(_ALL, writes=_in_areas("district_code")),
    "depots": Wall(_OURS, writes=_HERE),
    "stock": Wall(_shown("depot_id")),
    "stock_movements": Wall(_shown("depot_id", "credit_depot_id"), district=_APPENDED),
    "run_gifts": Wall(_shown("run_id"), district=_APPENDED),
    "stock_takes": Wall(_shown("depot_id")),
    "stock_counts": Wall(_shown("stock_take_id")),
    "fund_budgets": Wall(_shown("fund_id"), district=_APPENDED),
    "month_closes": Wall(_HERE),
    "month_fund_totals": Wall(_shown("close_id"), district=_DELETED),
    "published_accounts": Wall(_shown("association_id"), district=_APPENDED),
    "operations": Wall(
        f"{_OWN_REQUEST} or {_in_areas('district_code')}",
        writes=f"{_OWN_REQUEST} or {_in_areas('district_code')}",
        queue=_ALL,
        looks=("district_code", "status", "lease_until"),
        district=_DELETED,
    ),
    "operation_files": Wall(
        _shown("operation_id"), writes=_shown("operation_id"), district=_DELETED
    ),
    "import_rows": Wall(_shown("operation_id"), district=_DELETED),
    "attendance_flags": Wall(_in_areas("district_code"), district=_DELETED),
    "audit_unsealed": Wall(
        None,
        adds=_OWN_SUBJECT_OF_ONE,
        district="select, insert, delete",
        queue=_ALL,
        looks=("district_code",),
        bounds=_DISTRICT_OF_ONE,
    ),
    "audit_entries": Wall(None, district=_APPENDED),
    "audit_sightings": Wall(None, district=_APPENDED),
    "audit_seals": Wall(None, district=_APPENDED, queue=_ALL, looks=("district_code", "sequence")),
    "idempotency_keys": Wall(
        _OWN_SUBJECT,
        writes=_OWN_SUBJECT,
        member=_OWN_SUBJECT,
        platform=_OWN_SUBJECT,
        district=_DELETED,
    ),
    # Who somebody is must be known before her district is: the queue alone looks into every one.
    "grants": Wall(_HERE, writes=_HERE, queue=_OWN_SUBJECT, district=_DELETED),
    "phone_codes": Wall(None, district=_DELETED),
    "code_limits": Wall(None, district=_DELETED),
    "held_changes": Wall(None, member=_hers("member_id"), district=_DELETED),
    "retention_runs": Wall(_in_areas("district_code"), district=_DELETED),
    "corrections": Wall(_shown("member_id"), member=_hers("member_id"), district=_DELETED),
}


@dataclass(frozen=True)
class Policy:
    """One policy of a wall; as text it is the statement that puts it up."""

    table: str
    name: str
    roles: tuple[Acting, ...]
    command: str = "all"
    using: str | None = None
    check: str | None = None
    restrictive: bool = False

    def __str__(self) -> str:
        """Write the statement."""
        kind = " as restrictive" if self.restrictive else ""
        command = "" if self.command == "all" else f" for {self.command}"
        using = f" using ({self.using})" if self.using else ""
        check = f" with check ({self.check})" if self.check else ""
        return (
            f"create policy {self.name} on {self.table}{kind}{command}"
            f" to {', '.join(self.roles)}{using}{check}"
        )


@dataclass(frozen=True)
class Right:
    """What roles may do with a table; as text it is the statement that grants it."""

    table: str
    acts: str
    roles: tuple[Acting, ...]

    def __str__(self) -> str:
        """Write the statement."""
        return f"grant {self.acts} on {self.table} to {', '.join(self.roles)}"

    def each(self) -> Iterator[tuple[str, str, str, str]]:
        """Give table, column or nothing, act and role of each entry that it makes."""
        for act, columns in re.findall(r"(\w+)(?: \(([^)]+)\))?", self.acts):
            for column in columns.split(", "):
                yield from ((self.table, column, act, role) for role in self.roles)


def policies() -> Iterator[Policy]:
    """Give each policy that stands; the database should have these and no other."""
    yield from (each for each in _declared() if isinstance(each, Policy))


def rights() -> Iterator[Right]:
    """Give each right that roles have to tables; there should be no other."""
    yield from (each for each in _declared() if isinstance(each, Right))


def ddl() -> Iterator[str]:
    """Write the statements that put up the walls and give the roles their rights."""
    yield from map(str, _declared())


def _declared() -> Iterator[str | Policy | Right]:
    for role in (LOGIN, *Acting):
        yield _role(role, "login noinherit" if role == LOGIN else "nologin")
    yield f"grant {', '.join(Acting)} to {LOGIN}"
    yield f"grant {Acting.DISTRICT}, {Acting.QUEUE} to current_user"
    for name in sorted(SHARED):
        yield Right(name, "select", tuple(Acting))
        yield Right(name, "insert, update", (Acting.DISTRICT,))
    yield Right("alembic_version", "select", (Acting.QUEUE,))
    yield from _nation_ddl()
    for name in WALLS:
        yield from _of_table(name)
    for role in (Acting.MEMBER, Acting.PLATFORM):
        yield from _inserting("idempotency_keys", role, _OWN_SUBJECT)


def table_ddl(name: str) -> Iterator[str]:
    """Write the statements that put up the walls of one table."""
    yield from map(str, _of_table(name))


def _of_table(name: str) -> Iterator[str | Policy | Right]:
    wall = WALLS[name]
    yield from _forced(name)
    yield from _district_ddl(name, wall)
    yield from _staff_ddl(name, wall)
    for role in _EVERYBODY if wall.adds is not None else ():
        yield from _inserting(name, role, wall.adds or "false")
    for role, rows, columns in (
        (Acting.MEMBER, wall.member, ()),
        (Acting.PLATFORM, wall.platform, ()),
        (Acting.QUEUE, wall.queue, wall.looks),
    ):
        if rows is not None:
            yield from _reading(name, role, rows, columns)


def _role(role: str, options: str) -> str:
    """Roles belong to the whole server: another database of it may have made them."""
    return (
        f"do $$ begin create role {role} {options}; exception when duplicate_object or"
        " unique_violation then null; end $$"
    )


def _forced(name: str) -> Iterator[str]:
    yield f"alter table {name} enable row level security"
    yield f"alter table {name} force row level security"


def _nation_ddl() -> Iterator[str | Policy | Right]:
    rule = (Acting.DISTRICT,)
    for name in sorted(NATION):
        yield from _forced(name)
        yield Right(name, "select, insert, delete", rule)
        yield Policy(name, "known", rule, "select", using=_ALL)
        yield Policy(name, "own_insert", rule, "insert", check=_DISTRICT)
        yield Policy(name, "own_delete", rule, "delete", using=_DISTRICT)


def _district_ddl(name: str, wall: Wall) -> Iterator[Policy | Right]:
    bounded = tuple(role for role in Acting if role is not Acting.QUEUE)
    yield Policy(name, "district", bounded, using=wall.bounds, check=wall.bounds, restrictive=True)
    yield Right(name, wall.district, (Acting.DISTRICT,))
    if wall.changes:
        yield Right(name, wall.updates or "", (Acting.DISTRICT,))
    yield Policy(name, "rules", (Acting.DISTRICT,), using=_ALL, check=_ALL)


def _staff_ddl(name: str, wall: Wall) -> Iterator[Policy | Right]:
    staff = (Acting.STAFF,)
    if wall.staff is not None:
        yield from _reading(name, Acting.STAFF, wall.staff)
    if wall.writes is None:
        return
    yield from _inserting(name, Acting.STAFF, wall.writes)
    if wall.updates is None:
        return
    yield Right(name, wall.updates, staff)
    yield Policy(
        name, f"{Acting.STAFF}_update", staff, "update", using=wall.writes, check=wall.writes
    )


def _reading(
    name: str, role: Acting, rows: str, columns: Sequence[str] = ()
) -> Iterator[Policy | Right]:
    acts = f"select ({', '.join(columns)})" if columns else "select"
    yield Right(name, acts, (role,))
    yield Policy(name, f"{role}_select", (role,), "select", using=rows)


def _inserting(name: str, role: Acting, rows: str) -> Iterator[Policy | Right]:
    yield Right(name, "insert", (role,))
    yield Policy(name, f"{role}_insert", (role,), "insert", check=rows)
