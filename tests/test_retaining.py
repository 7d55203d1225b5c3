"""Rows go when their time is over and not before; a dry run says the same and touches nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, errands, metrics, retaining
from app.crypto import Keyring
from app.database import Database, Door
from app.models.disbursement.payout_runs import PayoutRun
from app.models.membership.members import Member
from app.models.privacy.retention import Act, Rule
from app.services.audit.audit_seals import UNSEALED
from app.services.privacy import data_keys, retention
from tests.factories.access.grants import make_grant
from tests.factories.callers import DISTRICT
from tests.factories.channels.bank_files import make_bank_file
from tests.factories.disbursement.payout_runs import make_run
from tests.factories.disbursement.vouchers import make_voucher_of
from tests.factories.events.exam_rounds import make_round
from tests.factories.events.registrations import make_registration
from tests.factories.events.service_events import make_event
from tests.factories.incentives.incentive_policies import make_policy
from tests.factories.membership.corrections import make_correction
from tests.factories.membership.members import make_member
from tests.factories.organisation.associations import make_association

NOW = datetime(2026, 6, 15, 4, 30, tzinfo=UTC)
NIGHT = date(2026, 6, 15)
_INSTANT = timedelta(microseconds=1)
_OPERATION = (
    "insert into operations (district_code, id, version, created_at, updated_at, kind, status,"
    " requested_by, arguments, done, attempts, cancel_requested, finished_at) values ($1, $2, 1,"
    " $3, $3, 'import_members', 'succeeded', 'o', '{}', 0, 1, false, $3)"
)
_EVERYTHING = "select md5(string_agg(t::text, '|' order by t::text)) from {} t"


@dataclass
class Scene:
    """A district in which rows are made whose time has an end."""

    session: AsyncSession
    owner: Database
    keyring: Keyring
    district: str = DISTRICT

    async def member(self, **facts: Any) -> Member:
        """Store a member of an association of her own."""
        association = await make_association(
            self.session,
            district_code=self.district,
            area_code=f"{self.district[:6]}124201" if self.district == DISTRICT else self.district,
        )
        made = await make_member(self.session, association, **facts)
        await self.session.commit()
        return made

    async def erased(self, at: datetime) -> Member:
        """Store a member who was erased."""
        return await self.member(status="left", erased_at=at)

    async def operation(self, at: datetime) -> UUID:
        """Store an import that ended."""
        operation_id = clock.new_id()
        await self.put(_OPERATION, self.district, operation_id, at)
        return operation_id

    async def registration(self, member: Member, at: datetime, status: str = "closed") -> None:
        """Store a seat at an event that ended."""
        facts: dict[str, Any] = {"starts_at": at - timedelta(hours=2), "ends_at": at}
        facts["status"] = status
        if status == "cancelled":
            facts["status_reason"] = "台风"
        await make_registration(self.session, await make_event(self.session, **facts), member)
        await self.session.commit()

    async def run(self, **facts: Any) -> PayoutRun:
        """Store a run of a round of its own."""
        before = await self.owner.pool.fetchval("select count(*) from exam_rounds")
        held = await make_round(self.session, before + 1)
        run = await make_run(self.session, held, await make_policy(self.session), **facts)
        await self.session.commit()
        return run

    async def put(self, sql: str, *values: Any) -> None:
        """Write as the owner, past every wall."""
        await self.owner.pool.execute(sql, *values)


@pytest_asyncio.fixture
async def scene(session: AsyncSession, owner: Database, keyring: Keyring) -> Scene:
    """Nothing is stored yet."""
    return Scene(session, owner, keyring)


@pytest.fixture
def door(database: Database) -> Door:
    return Door(database)


async def _code_limit(scene: Scene, at: datetime) -> None:
    sql = "insert into code_limits values ($1, 'phone', $2, $3, $3, 1)"
    await scene.put(sql, DISTRICT, clock.new_id().bytes, at)


async def _correction(scene: Scene, at: datetime) -> None:
    facts: dict[str, Any] = {"status": "refused", "closed_at": at, "answered_by": "o"}
    facts["answer_sealed"] = b"a"
    await make_correction(scene.session, scene.keyring, await scene.member(), **facts)
    await scene.session.commit()


async def _data_key(scene: Scene, at: datetime) -> None:
    member = await scene.erased(at)
    await scene.put("insert into data_keys values ($1, $2, '', 1)", DISTRICT, member.id)


async def _ended_grant(scene: Scene, at: datetime) -> None:
    started = at - timedelta(days=1)
    await make_grant(scene.session, starts_at=started, ends_at=at)
    await make_grant(scene.session, starts_at=started)
    await scene.session.commit()


async def _answer(scene: Scene, at: datetime) -> None:
    sql = "insert into idempotency_keys values ($1, 'o', $2, '', 200, '', '', $3)"
    await scene.put(sql, DISTRICT, str(clock.new_id()), at)


async def _import_row(scene: Scene, at: datetime) -> None:
    sql = (
        "insert into import_rows (district_code, operation_id, row_no, outcome, notes)"
        " values ($1, $2, 1, 'created', '[]')"
    )
    await scene.put(sql, DISTRICT, await scene.operation(at))


async def _file(scene: Scene, at: datetime) -> UUID:
    sql = "insert into operation_files values ($1, $2, 'csv', '')"
    operation_id = await scene.operation(at)
    await scene.put("update operations set result = '{}' where id = $1", operation_id)
    await scene.put(sql, DISTRICT, operation_id)
    return operation_id


async def _waiting_file(scene: Scene, at: datetime, status: str = "queued") -> UUID:
    """Store an import as it is before it has a result; of one that runs, its lease ended then."""
    operation_id = await _file(scene, at)
    await scene.put(
        "update operations set status = $2, result = null, finished_at = null,"
        " lease_until = case when $2 = 'running' then $3::timestamptz end where id = $1",
        operation_id,
        status,
        at,
    )
    return operation_id


async def _operation(scene: Scene, at: datetime) -> None:
    await scene.operation(at)


async def _left(scene: Scene, at: datetime) -> None:
    member = await scene.member()
    sql = (
        "update memberships set left_on = $1, left_recorded_at = now(), reason = '返乡'"
        " where member_id = $2"
    )
    await scene.put(sql, _day(at), member.id)


async def _bank_file(scene: Scene, at: datetime) -> None:
    run = await scene.run(channel="bank_file")
    await make_bank_file(scene.session, run, created_at=at, content_sealed=b"<x/>")
    await scene.session.commit()


async def _voucher(scene: Scene, at: datetime) -> None:
    member, run = await scene.member(), await scene.run()
    await data_keys.find_or_make(scene.session, scene.keyring, member)
    facts: dict[str, Any] = {"status": "expired", "ended_at": at, "code_sealed": None}
    await make_voucher_of(scene.session, scene.keyring, run, member, **facts)
    await scene.session.commit()


async def _person_key(scene: Scene, at: datetime) -> None:
    member = await scene.erased(at)
    key = clock.new_id().bytes
    await scene.put("insert into person_keys values ($1, $2, $3)", key, DISTRICT, member.id)


async def _put_held_change(scene: Scene, member: Member, at: datetime) -> None:
    sql = (
        "insert into held_changes (district_code, id, member_id, field, requested_at, in_force_at,"
        " cancelled_at) values ($1, $2, $3, 'phone', $4::timestamptz - interval '3 days', $4, $4)"
    )
    await scene.put(sql, DISTRICT, clock.new_id(), member.id, at)


async def _ended_held_change(scene: Scene, at: datetime) -> None:
    await _put_held_change(scene, await scene.member(), at)


async def _held_change_of_erased(scene: Scene, at: datetime) -> None:
    await _put_held_change(scene, await scene.erased(at), NOW)


async def _code(scene: Scene, at: datetime) -> None:
    sql = (
        "insert into phone_codes (district_code, id, purpose, phone_index, digest, tries,"
        " created_at, expires_at) values ($1, $2, 'login', '', '', 0, $3, $3)"
    )
    await scene.put(sql, DISTRICT, clock.new_id(), at)


async def _registration(scene: Scene, at: datetime) -> None:
    await scene.registration(await scene.member(), at)


async def _registration_of_erased(scene: Scene, at: datetime) -> None:
    await scene.registration(await scene.erased(at), NOW, "cancelled")


async def _run(scene: Scene, at: datetime, night_on: date | None = None) -> None:
    sql = (
        "insert into retention_runs (district_code, id, version, created_at, updated_at, night_on,"
        " position, counts, finished_at) values ($1, $2, 1, $3, $3, $4, 0, '[]', $3)"
    )
    await scene.put(sql, DISTRICT, clock.new_id(), at, night_on)


async def _reveal_count(scene: Scene, at: datetime) -> None:
    sql = "insert into reveal_counts values ($1, $2, $3, 1)"
    await scene.put(sql, DISTRICT, str(clock.new_id()), _day(at) - timedelta(days=1))


def _day(at: datetime) -> date:
    """Give the day that begins at an instant, or the last one that began before."""
    begins = at.astimezone(clock.CIVIL_ZONE)
    return begins.date() if begins.time().microsecond else begins.date() + timedelta(days=1)


MAKERS: dict[tuple[str, str], Callable[[Scene, datetime], Awaitable[object]]] = {
    ("bank_files", "made"): _bank_file,
    ("code_limits", "counted"): _code_limit,
    ("corrections", "closed"): _correction,
    ("data_keys", "erased"): _data_key,
    ("grants", "ended"): _ended_grant,
    ("held_changes", "ended"): _ended_held_change,
    ("held_changes", "erased"): _held_change_of_erased,
    ("idempotency_keys", "answered"): _answer,
    ("import_rows", "finished"): _import_row,
    ("memberships", "left"): _left,
    ("operation_files", "finished"): _file,
    ("operation_files", "waits"): _waiting_file,
    ("operations", "finished"): _operation,
    ("person_keys", "erased"): _person_key,
    ("phone_codes", "asked"): _code,
    ("registrations", "closed"): _registration,
    ("registrations", "erased"): _registration_of_erased,
    ("retention_runs", "finished"): _run,
    ("reveal_counts", "shown"): _reveal_count,
    ("vouchers", "closed"): _voucher,
}
"""How a row is made whose event was at an instant; of days, the last that is over or not."""


async def _retain(door: Door, **options: Any) -> retaining.Gone:
    options = {"district_code": DISTRICT, "night_on": NIGHT, "now": NOW, **options}
    gone = await retaining.run(door, **options)
    return {what: rows for what, rows in gone.items() if rows}


async def _preview(door: Door, *, now: datetime = NOW) -> retaining.Gone:
    async with door.transaction(DISTRICT) as session:
        found = await retention.preview(session, district_code=DISTRICT, now=now)
    return {(over.table, over.act): over.rows for over in found if over.rows}


async def _left_of(owner: Database, rule: Rule) -> int:
    count = ", ".join(f"count({name})" for name in rule.columns) or "count(*)"
    where = f" where created_at <> '{NOW}'" if rule.table == "retention_runs" else ""
    return int(await owner.pool.fetchval(f"select {count} from {rule.table}{where}"))


def _limit(rule: Rule) -> datetime:
    return NOW - timedelta(days=rule.days)


@pytest.mark.parametrize("rule", retention.rules(), ids=lambda r: f"{r.act}-{r.table}-{r.event}")
async def test_a_row_goes_just_outside_its_limit_and_stays_just_inside(
    scene: Scene, door: Door, owner: Database, rule: Rule
) -> None:
    make = MAKERS[rule.table, rule.event]
    await make(scene, _limit(rule))
    before = await _left_of(owner, rule)
    assert (rule.table, rule.act) not in await _preview(door)
    assert (rule.table, rule.act) not in await _retain(door)
    assert await _left_of(owner, rule) == before > 0

    await make(scene, _limit(rule) - _INSTANT)
    assert await _left_of(owner, rule) > before
    assert (await _preview(door))[rule.table, rule.act] == 1
    assert (await _retain(door, night_on=None))[rule.table, rule.act] == 1
    kept = before + (1 if rule.table == "grants" else 0)
    assert await _left_of(owner, rule) == kept, "a grant without an end is kept"


async def _everything(scene: Scene) -> None:
    """Make a row on each side of every limit, and some that two rules find."""
    for rule in retention.rules():
        make = MAKERS[rule.table, rule.event]
        for at in (_limit(rule), _limit(rule) - _INSTANT, _limit(rule) - timedelta(days=9)):
            await make(scene, at)
    long_ago = NOW - timedelta(days=2000)
    await scene.registration(await scene.erased(long_ago), long_ago)
    await _put_held_change(scene, await scene.erased(long_ago), long_ago)
    await _correction(scene, long_ago)


async def test_what_goes_of_a_member_is_noted_as_done_by_the_clock(
    scene: Scene, door: Door, owner: Database
) -> None:
    member = await scene.erased(NOW - timedelta(days=2000))
    await scene.registration(member, NOW - timedelta(days=2000))
    await _code_limit(scene, NOW - timedelta(days=2000))
    assert len(await _retain(door)) > 1
    rows = await owner.pool.fetch(f"select * from ({UNSEALED}) e")
    assert {(row["subject"], row["act"], row["object_kind"]) for row in rows} == {
        ("clock", "retain", "retention_runs")
    }
    assert [row["person_ids"] for row in rows] == [[member.id]] * len(rows)


async def test_a_dry_run_changes_nothing_and_says_what_the_run_does(
    scene: Scene, door: Door, owner: Database
) -> None:
    await _everything(scene)
    tables = {rule.table for rule in retention.rules()} | {"members", "service_events"}
    before = {name: await owner.pool.fetchval(_EVERYTHING.format(name)) for name in tables}
    said = await _preview(door)
    after = {name: await owner.pool.fetchval(_EVERYTHING.format(name)) for name in tables}
    assert after == before

    assert said.keys() == {(rule.table, rule.act) for rule in retention.rules()}
    assert await _retain(door, limit=2) == said
    assert await _preview(door) == {}
    kept = await owner.pool.fetchval("select counts from retention_runs where night_on is not null")
    assert said == {
        (counts["table"], act): counts[name]
        for counts in json.loads(kept)
        for act, name in ((Act.DELETE, "deleted"), (Act.CLEAR, "cleared"))
        if counts[name]
    }


async def test_a_repeat_of_a_finished_night_does_nothing(
    scene: Scene, door: Door, owner: Database
) -> None:
    await _answer(scene, NOW - timedelta(days=5))
    assert await _retain(door) == {("idempotency_keys", Act.DELETE): 1}
    await _answer(scene, NOW - timedelta(days=5))
    assert await _retain(door) == {}
    assert await owner.pool.fetchval("select count(*) from retention_runs") == 1
    assert await _retain(door, night_on=NIGHT + timedelta(days=1)) != {}


async def test_a_run_that_ends_between_batches_is_taken_up_where_it_was(
    scene: Scene, door: Door, owner: Database
) -> None:
    for _ in range(5):
        await _answer(scene, NOW - timedelta(days=5))
    first = await _retain(door, limit=2, most=3)
    run = await owner.pool.fetchrow("select * from retention_runs")
    assert run["finished_at"] is None
    rest = await _retain(door, limit=2, now=NOW + timedelta(hours=1))
    key = ("idempotency_keys", Act.DELETE)
    assert first.get(key, 0) + rest.get(key, 0) == 5
    run = await owner.pool.fetchrow("select * from retention_runs")
    assert run["finished_at"] is not None
    assert run["counts"] == '[{"table": "idempotency_keys", "cleared": 0, "deleted": 5}]'


async def _break_off(door: Door, run_id: UUID) -> None:
    options: dict[str, Any] = {"district_code": DISTRICT, "run_id": run_id, "now": NOW}
    async with door.transaction(DISTRICT) as session:
        done = await retention.step(session, **options, limit=2)
        raise ConnectionResetError(f"after {done and done[1]} rows")


async def test_a_batch_that_breaks_off_counts_nothing_and_loses_nothing(
    scene: Scene, door: Door, owner: Database
) -> None:
    for _ in range(3):
        await _code_limit(scene, NOW - timedelta(days=5))
    async with door.transaction(DISTRICT) as session:
        run_id = await retention.begin(session, district_code=DISTRICT, night_on=NIGHT, now=NOW)
    assert run_id is not None
    place = [rule.table for rule in retention.rules()].index("code_limits")
    await owner.pool.execute("update retention_runs set position = $1", place)
    with pytest.raises(ConnectionResetError, match="after 2 rows"):
        await _break_off(door, run_id)
    assert await owner.pool.fetchval("select count(*) from code_limits") == 3
    assert await owner.pool.fetchval("select counts from retention_runs") == "[]"
    assert await _retain(door) == {("code_limits", Act.DELETE): 3}


async def test_two_processes_at_once_make_one_run(
    scene: Scene, door: Door, owner: Database
) -> None:
    for _ in range(20):
        await _code(scene, NOW - timedelta(days=5))
    both = await asyncio.gather(*(_retain(door, limit=3) for _ in range(4)))
    both = [*both, await _retain(door)]
    assert sum(gone.get(("phone_codes", Act.DELETE), 0) for gone in both) == 20
    (run,) = await owner.pool.fetch("select counts, finished_at from retention_runs")
    assert '"deleted": 20' in run["counts"]
    assert run["finished_at"] is not None


async def test_what_an_open_correction_is_about_stays(scene: Scene, door: Door) -> None:
    member, long_ago = await scene.member(), NOW - timedelta(days=2000)
    await scene.registration(member, long_ago)
    event_id = await scene.owner.pool.fetchval("select event_id from registrations")
    facts = {"subject": "attendance", "event_id": event_id}
    await make_correction(scene.session, scene.keyring, member, **facts)
    await scene.session.commit()
    assert await _preview(door) == await _retain(door) == {}
    await scene.put(
        "update corrections set status = 'withdrawn', closed_at = $1, said_sealed = null", NOW
    )
    assert await _retain(door, night_on=None) == {("registrations", Act.DELETE): 1}


async def test_what_is_under_way_stays_however_old(scene: Scene, door: Door) -> None:
    member, long_ago = await scene.member(), NOW - timedelta(days=2000)
    await scene.registration(member, long_ago, "in_progress")
    await make_correction(scene.session, scene.keyring, member, created_at=long_ago)
    await scene.session.commit()
    operation = await _waiting_file(scene, NOW, "running")
    await scene.put("update operations set created_at = $2 where id = $1", operation, long_ago)
    await scene.put(
        "insert into held_changes (district_code, id, member_id, field, value_sealed, requested_at,"
        " in_force_at) values ($1, $2, $3, 'payout_account', '',"
        " $4::timestamptz - interval '3 days', $4)",
        DISTRICT,
        clock.new_id(),
        member.id,
        long_ago,
    )
    assert await _preview(door) == await _retain(door) == {}


@pytest.mark.parametrize("status", ["queued", "running"])
async def test_an_import_that_no_worker_takes_up_fails_after_a_day_without_its_file(
    scene: Scene, door: Door, owner: Database, status: str
) -> None:
    day = timedelta(days=1)
    fresh = await _waiting_file(scene, NOW - day, status)
    overdue = await _waiting_file(scene, NOW - day - _INSTANT, status)
    assert await _preview(door) == {("operation_files", Act.DELETE): 1}
    assert await _retain(door) == {("operation_files", Act.DELETE): 1}
    files = await owner.pool.fetch("select operation_id from operation_files")
    assert [row[0] for row in files] == [fresh]
    ended = "select status, finished_at is not null, problem from operations where id = $1"
    found, is_finished, problem = await owner.pool.fetchrow(ended, overdue)
    assert (found, is_finished) == ("failed", True)
    assert json.loads(problem)["code"] == "operation_overdue"
    assert (await owner.pool.fetchrow(ended, fresh))[:2] == (status, False)


async def test_a_row_that_somebody_holds_is_not_waited_for(
    scene: Scene, door: Door, owner: Database
) -> None:
    await _answer(scene, NOW - timedelta(days=5))
    async with owner.pool.acquire() as connection, connection.transaction():
        await connection.fetch("select from idempotency_keys for update")
        assert await asyncio.wait_for(_retain(door), 10) == {}
    assert await _retain(door, night_on=NIGHT + timedelta(days=1)) == {
        ("idempotency_keys", Act.DELETE): 1
    }


async def test_another_district_is_left_alone(scene: Scene, door: Door, owner: Database) -> None:
    elsewhere = "440606000000"
    sql = "insert into idempotency_keys values ($1, 'o', 'k', '', 200, '', '', $2)"
    await scene.put(sql, elsewhere, NOW - timedelta(days=5))
    assert await _preview(door) == await _retain(door) == {}
    gone = await _retain(door, district_code=elsewhere)
    assert gone == {("idempotency_keys", Act.DELETE): 1}
    assert await owner.pool.fetchval("select count(*) from retention_runs") == 2


async def test_a_run_begins_at_night_once_a_night(
    scene: Scene, door: Door, owner: Database
) -> None:
    await _answer(scene, NOW - timedelta(days=5))
    for at, runs in (
        (datetime(2026, 6, 14, 17, 59, tzinfo=UTC), 0),
        (datetime(2026, 6, 14, 18, 0, tzinfo=UTC), 1),
        (datetime(2026, 6, 14, 21, 59, tzinfo=UTC), 1),
        (datetime(2026, 6, 15, 18, 0, tzinfo=UTC), 2),
        (datetime(2026, 6, 16, 22, 0, tzinfo=UTC), 2),
    ):
        await retaining.nightly(door, district_code=DISTRICT, now=at)
        assert await owner.pool.fetchval("select count(*) from retention_runs") == runs, at
    nights = await owner.pool.fetch("select night_on from retention_runs order by 1")
    assert [row["night_on"] for row in nights] == [NIGHT, NIGHT + timedelta(days=1)]


async def test_what_a_night_left_unfinished_is_finished_by_day_and_before_the_next(
    scene: Scene, door: Door, owner: Database
) -> None:
    finished = "select night_on, finished_at is not null from retention_runs order by night_on"
    await _retain(door, most=1)
    assert [tuple(row) for row in await owner.pool.fetch(finished)] == [(NIGHT, False)]
    next_night = datetime(2026, 6, 15, 18, 0, tzinfo=UTC)
    await retaining.nightly(door, district_code=DISTRICT, now=next_night)
    assert [tuple(row) for row in await owner.pool.fetch(finished)] == [(NIGHT, True)]
    await retaining.nightly(door, district_code=DISTRICT, now=next_night)
    assert len(await owner.pool.fetch(finished)) == 2
    assert scene.district == DISTRICT


async def test_the_errands_look_after_it(app: FastAPI, door: Door, owner: Database) -> None:
    await _retain(door, most=1)
    state = app.state
    await errands.run(Door(state.database), state.keyring, state.settings, None)
    finished = "select finished_at is not null from retention_runs where night_on = $1"
    assert await owner.pool.fetchval(finished, NIGHT)
    counted = metrics.BOOKS_DISAGREEING.labels(DISTRICT).collect()
    assert [sample.value for family in counted for sample in family.samples] == [0]


async def test_the_database_keeps_one_run_a_night(owner: Database, scene: Scene) -> None:
    await _run(scene, NOW, NIGHT)
    with pytest.raises(asyncpg.UniqueViolationError, match="uq_retention_runs_night"):
        await _run(scene, NOW, NIGHT)
    await owner.pool.execute("update retention_runs set night_on = null, finished_at = null")
    await _run(scene, NOW)
    with pytest.raises(asyncpg.UniqueViolationError, match="uq_retention_runs_asked_for"):
        await owner.pool.execute("update retention_runs set night_on = null, finished_at = null")
    with pytest.raises(asyncpg.CheckViolationError):
        await owner.pool.execute("update retention_runs set position = -1")
