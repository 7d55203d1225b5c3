"""Retention: rows whose time is over, found by rule, counted, and deleted or cleared in batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app import clock
from app.models.privacy.retention import Act, Rule, read
from app.models.privacy.retention_runs import RetentionRun
from app.models.registry import metadata
from app.models.walls import NATION
from app.services import operations
from app.services.privacy import bank_discards
from app.tokens import OF_MEMBERS

BATCH = 1_000
"""How many rows one transaction deletes or clears."""

# A count looks through whole tables, and nobody waits for it.
_PATIENCE = text("set local statement_timeout = '300s'")
_BEGIN = text(
    "insert into retention_runs (district_code, id, version, created_at, updated_at, night_on,"
    " position, counts) values (:district_code, :id, 1, :now, :now, :night_on, 0, '[]')"
    " on conflict do nothing"
)
_UNFINISHED = text(
    "select id from retention_runs where district_code = :district_code and finished_at is null"
    " and (night_on is null) = :asked_for order by night_on limit 1"
)


@dataclass(frozen=True)
class Event:
    """When an event was, in SQL over a row `t` and what it is joined with; null: not yet."""

    since: str
    source: str = ""
    unless: str = "false"


def _midnight(column: str) -> str:
    return f"(cast({column} as timestamp) at time zone 'Asia/Shanghai')"


_OPERATION = "join operations o on o.district_code = :district_code and o.id = t.operation_id"
# Of an import without a result only the file as it was sent is there.
_WAITS = "case o.status when 'running' then o.lease_until else o.created_at end"
_MEMBER = "join members m on m.district_code = :district_code and m.id = t.member_id"
_HELD = (
    "join service_events e on e.district_code = :district_code and e.id = t.event_id"
    " and e.status in ('closed', 'cancelled')"
)
# What a correction that waits is about stays until it is answered.
_DISPUTED = (
    "exists (select from corrections c where c.district_code = :district_code"
    " and c.member_id = t.member_id and c.event_id = t.event_id and c.status = 'open')"
)
# What an office took back of a member's own login would come again with her next one.
_TAKEN_BACK = (
    f"(t.subject = '{OF_MEMBERS}' || t.member_id and t.revoked_at is not null"
    " and exists (select from members m where m.district_code = :district_code"
    " and m.id = t.member_id and m.erased_at is null)"
    " and not exists (select from grants l where l.district_code = :district_code"
    " and l.subject = t.subject and l.member_id = t.member_id and l.created_at > t.created_at))"
)
EVENTS: Mapping[tuple[str, str], Event] = {
    ("bank_files", "made"): Event("t.created_at"),
    ("code_limits", "counted"): Event("t.last_at"),
    ("corrections", "closed"): Event("t.closed_at"),
    ("data_keys", "erased"): Event("m.erased_at", _MEMBER),
    ("grants", "ended"): Event(
        "least(t.revoked_at, t.ends_at)", unless=f"coalesce({_TAKEN_BACK}, false)"
    ),
    ("held_changes", "ended"): Event("coalesce(t.applied_at, t.cancelled_at)"),
    ("held_changes", "erased"): Event("m.erased_at", _MEMBER),
    ("idempotency_keys", "answered"): Event("t.created_at"),
    ("import_rows", "finished"): Event("o.finished_at", _OPERATION),
    ("memberships", "left"): Event(_midnight("t.left_on")),
    ("operation_files", "finished"): Event("o.finished_at", _OPERATION),
    ("operation_files", "waits"): Event(_WAITS, _OPERATION, unless="o.result is not null"),
    ("operations", "finished"): Event("t.finished_at"),
    ("person_keys", "erased"): Event("m.erased_at", _MEMBER),
    ("phone_codes", "asked"): Event("t.created_at"),
    ("registrations", "closed"): Event("e.ends_at", _HELD, _DISPUTED),
    ("registrations", "erased"): Event("m.erased_at", f"{_HELD} {_MEMBER}", _DISPUTED),
    ("retention_runs", "finished"): Event("t.finished_at"),
    ("reveal_counts", "shown"): Event(_midnight("t.on_day + 1")),
    ("vouchers", "closed"): Event("coalesce(t.redeemed_at, t.ended_at)"),
}


class Over(NamedTuple):
    """How many rows of a table a run would delete or clear, and the oldest event among them."""

    table: str
    act: Act
    rows: int
    oldest: datetime | None


@cache
def rules() -> tuple[Rule, ...]:
    """Give the rules by which anything goes, in the order in which a run follows them."""
    return tuple(rule for rule in read() if rule.act is not Act.KEEP)


def _key(table: str) -> list[str]:
    return [column.name for column in metadata.tables[table].primary_key.columns]


def _found(rule: Rule, before: str) -> str:
    """Write the rows whose time is over, as their keys and when the event was."""
    event = EVENTS[rule.table, rule.event]
    keys = ", ".join(f"t.{name}" for name in _key(rule.table))
    filled = " or ".join(f"t.{name} is not null" for name in rule.columns) or "true"
    return (
        f"select {keys}, {event.since} as since from {rule.table} t {event.source}"
        f" where t.district_code = :district_code and {event.since} < :{before}"
        f" and ({filled}) and not {event.unless}"
    )


def _done(rule: Rule) -> str:
    """Write the statement that deletes or clears one batch."""
    # Of the nation's keys a district may delete its own, and lock none.
    lock = "" if rule.table in NATION else " for update of t skip locked"
    # Looked for once: as a sub-select it might be begun again, and would skip what it just took.
    found = f"with d as materialized ({_found(rule, 'before')} limit :limit{lock})"
    same = " and ".join(f"t.{name} = d.{name}" for name in _key(rule.table))
    # Of the nation's keys nothing but the key may be read.
    has_member = "member_id" in metadata.tables[rule.table].columns and rule.table not in NATION
    whose = "t.member_id" if has_member else "cast(null as uuid)"
    where = f"where t.district_code = :district_code and {same} returning {whose}"
    if rule.act is Act.DELETE:
        return f"{found} delete from {rule.table} t using d {where}"
    emptied = ", ".join(f"{name} = null" for name in rule.columns)
    return f"{found} update {rule.table} t set {emptied} from d {where}"


def _before(rule: Rule, at: datetime) -> datetime:
    return at - timedelta(days=rule.days)


async def preview(session: AsyncSession, *, district_code: str, now: datetime) -> list[Over]:
    """Count what a run begun now would delete and clear, and change nothing."""
    await session.execute(_PATIENCE)
    return [
        await _counted(session, table, act, district_code=district_code, now=now)
        for table, act in _acts()
    ]


def _acts() -> Iterator[tuple[str, Act]]:
    yield from dict.fromkeys((rule.table, rule.act) for rule in rules())


async def _counted(
    session: AsyncSession, table: str, act: Act, *, district_code: str, now: datetime
) -> Over:
    """Count each row once, though several rules find it, or another deletes it first."""
    params: dict[str, Any] = {"district_code": district_code}
    parts: dict[Act, list[str]] = {Act.DELETE: [], Act.CLEAR: []}
    for number, rule in enumerate(rules()):
        if rule.table == table:
            params[f"before_{number}"] = _before(rule, now)
            parts[rule.act].append(_found(rule, f"before_{number}"))
    keys = ", ".join(_key(table))
    sql = f"select {keys}, min(since) as since from ({' union all '.join(parts[act])}) u"
    if act is Act.CLEAR and parts[Act.DELETE]:
        deleted = f"select {keys} from ({' union all '.join(parts[Act.DELETE])}) d"
        sql += f" where ({keys}) not in ({deleted})"
    counted = text(f"select count(*), min(since) from ({sql} group by {keys}) g")
    wanted = {name: value for name, value in params.items() if f":{name}" in counted.text}
    count, oldest = (await session.execute(counted, wanted)).one()
    return Over(table, act, count, oldest)


async def begin(
    session: AsyncSession, *, district_code: str, night_on: date | None, now: datetime
) -> UUID | None:
    """Begin a night's run, or one that was asked for; what was begun before comes first.

    Gives None when the night's run is finished.
    """
    begun = await unfinished(session, district_code=district_code, asked_for=night_on is None)
    if begun is not None:
        return begun
    params = {"district_code": district_code, "night_on": night_on, "now": now}
    await session.execute(_BEGIN, {**params, "id": clock.new_id()})
    return await unfinished(session, district_code=district_code, asked_for=night_on is None)


async def unfinished(session: AsyncSession, *, district_code: str, asked_for: bool) -> UUID | None:
    """Give the oldest run of a night that has more to do, or the one that was asked for."""
    params = {"district_code": district_code, "asked_for": asked_for}
    run_id: UUID | None = await session.scalar(_UNFINISHED, params)
    return run_id


async def step(
    session: AsyncSession, *, district_code: str, run_id: UUID, now: datetime, limit: int = BATCH
) -> tuple[Rule, int, Sequence[UUID]] | None:
    """Do one batch of a run, and count it with it.

    Gives the rule that it followed, how many rows went and of which members; None when the run is
    finished, or another process has it at this moment.
    """
    run = await session.scalar(
        select(RetentionRun)
        .where(
            col(RetentionRun.district_code) == district_code,
            col(RetentionRun.id) == run_id,
            col(RetentionRun.finished_at).is_(None),
        )
        .with_for_update(skip_locked=True)
    )
    if run is None:
        return None
    if run.position >= len(rules()):
        run.change(now, finished_at=now)
        await session.flush()
        return None
    rule = rules()[run.position]
    gone = await _let_go(session, run, rule, now=now, limit=limit)
    done = len(gone)
    position = run.position if done == limit else run.position + 1
    run.change(now, position=position, counts=_added(run.counts, rule, done))
    await session.flush()
    return rule, done, [each for each in gone if each is not None]


async def _let_go(
    session: AsyncSession, run: RetentionRun, rule: Rule, *, now: datetime, limit: int
) -> Sequence[UUID | None]:
    """Delete or clear one batch, with what hangs on it; give whose the rows were."""
    await session.execute(_PATIENCE)
    district_code, before = run.district_code, _before(rule, run.created_at)
    if (rule.table, rule.event) == ("operation_files", "waits"):
        await operations.fail_overdue(session, district_code=district_code, before=before, now=now)
    facts: dict[str, Any] = {"district_code": district_code, "before": before}
    if rule.table != "bank_files":
        return (await session.scalars(text(_done(rule)), {**facts, "limit": limit})).all()
    await bank_discards.hold_overdue(session, **facts)
    gone = (await session.scalars(text(_done(rule)), {**facts, "limit": limit})).all()
    await bank_discards.free_overdue(session, **facts, now=now)
    return gone


def _added(counts: Sequence[Mapping[str, Any]], rule: Rule, done: int) -> list[dict[str, Any]]:
    """Add a batch to the counts by table; a new list is seen to change."""
    by_table = {each["table"]: dict(each) for each in counts}
    if done:
        none = {"table": rule.table, "deleted": 0, "cleared": 0}
        count = by_table.setdefault(rule.table, none)
        count["deleted" if rule.act is Act.DELETE else "cleared"] += done
    return list(by_table.values())
