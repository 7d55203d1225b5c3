"""Whoever may write into the database may try to change the audit: verifying finds each try."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from app import auditing, clock, worker
from app.auditing import AuditBroken
from app.database import Database, Statements, transaction
from app.models.shapes import rfc3339
from app.scopes import Acting, Scope
from app.services.audit import audit_checks, audit_seals
from app.services.audit.audit_checks import Break, Tampering, Verified
from app.services.audit.audit_seals import Heads
from tests.factories.callers import DISTRICT, make_act

_SCOPE = Scope(Acting.DISTRICT, DISTRICT, "district_officer-1")
_OTHER = Scope(Acting.DISTRICT, "440606000000", "district_officer-1")
_SEALS = 4
_ENTRIES = 5
Tamper = Callable[[Database], Awaitable[None]]


async def _note(database: Database, count: int) -> None:
    for number in range(count):
        act = make_act(name=f"act_{number}", object_ids=(str(number),))
        await Statements(database.pool, _SCOPE, act).note([clock.new_id(), clock.new_id()])


@pytest.fixture
async def heads_file(database: Database, tmp_path: Path) -> Path:
    """Four sealed batches of five entries, their heads published."""
    file = tmp_path / "heads.jsonl"
    heads = Heads(file)
    for _ in range(_SEALS):
        await _note(database, _ENTRIES)
        await worker.seal_all(database, heads)
    return file


async def _verified(
    database: Database, heads: Path | None = None, scope: Scope = _SCOPE
) -> Verified:
    known = {} if heads is None else audit_checks.read_heads(heads)
    statements = Statements(database.pool, scope)
    return await audit_checks.verify(statements, district_code=scope.district_code, heads=known)


async def _first_break(database: Database, heads: Path | None = None) -> Break | None:
    return (await _verified(database, heads)).first_break


def _sql(statement: str) -> Tamper:
    async def tamper(owner: Database) -> None:
        entries = "(select unnest(entry_ids) from audit_seals where sequence = 2)"
        first = "(select entry_ids[1] from audit_seals where sequence = 2)"
        second = "(select entry_ids[2] from audit_seals where sequence = 2)"
        done = await owner.pool.execute(
            statement.format(entries=entries, first=first, second=second, new=clock.new_id())
        )
        assert not done.endswith(" 0"), "nothing was tampered with"

    return tamper


async def _swap_contents(owner: Database) -> None:
    rows = await owner.pool.fetch(
        "select e.* from audit_entries e where id = any(select unnest(entry_ids[1:2])"
        " from audit_seals where sequence = 2) order by id"
    )
    names = [name for name in rows[0].keys() if name not in {"district_code", "id"}]  # noqa: SIM118  (a record is no mapping)
    for to, of in ((rows[0], rows[1]), (rows[1], rows[0])):
        settings = ", ".join(f"{name} = ${n}" for n, name in enumerate(names, 2))
        await owner.pool.execute(
            f"update audit_entries set {settings} where id = $1",
            to["id"],
            *(of[name] for name in names),
        )


_SWAP_PLACES = (
    "update audit_seals set entry_ids = array[entry_ids[2], entry_ids[1]] || entry_ids[3:]"
    " where sequence = 2"
)
_INSERT = (
    "with e as (insert into audit_entries select district_code, '{{new}}', at, subject, role, act,"
    " object_kind, object_ids, person_ids, fields, purpose, area_code, request_id from"
    " audit_entries where id = {{first}} returning id) {more}"
)
_INTO_SEAL = (
    "update audit_seals set entry_ids = entry_ids || (select id from e){count} where sequence = 2"
)

_TAMPERED: dict[str, tuple[Tamper, Tampering, int | None]] = {
    "an altered name": (
        _sql("update audit_entries set subject = 'nobody' where id = {first}"),
        Tampering.ALTERED,
        2,
    ),
    "a person taken out": (
        _sql("update audit_entries set person_ids = '{{}}' where id = {second}"),
        Tampering.ALTERED,
        2,
    ),
    "a deleted entry": (
        _sql("delete from audit_entries where id = {second}"),
        Tampering.DELETED,
        2,
    ),
    "all entries of a seal deleted": (
        _sql("delete from audit_entries where id in {entries}"),
        Tampering.DELETED,
        2,
    ),
    "an entry beside the seals": (
        _sql(_INSERT.format(more="select id from e")),
        Tampering.INSERTED,
        None,
    ),
    "an entry put into a seal": (
        _sql(_INSERT.format(more=_INTO_SEAL.format(count=""))),
        Tampering.INSERTED,
        2,
    ),
    "an entry counted into a seal": (
        _sql(
            _INSERT.format(
                more=_INTO_SEAL.format(count=", count = count + 1, leaves = leaves || root"),
            )
        ),
        Tampering.ALTERED,
        2,
    ),
    "contents exchanged": (_swap_contents, Tampering.SWAPPED, 2),
    "places exchanged": (_sql(_SWAP_PLACES), Tampering.SWAPPED, 2),
    "a look taken out of the lookups": (
        _sql(
            "delete from audit_sightings where ctid = (select min(ctid) from audit_sightings"
            " where entry_id = {second})"
        ),
        Tampering.MISSIGHTED,
        2,
    ),
    "a look put into the lookups": (
        _sql(
            "insert into audit_sightings select district_code, '{new}', entry_id"
            " from audit_sightings where entry_id = {first} limit 1"
        ),
        Tampering.MISSIGHTED,
        2,
    ),
    "a look at an entry that does not exist": (
        _sql(
            "insert into audit_sightings select district_code, person_id, '{new}'"
            " from audit_sightings where entry_id = {first} limit 1"
        ),
        Tampering.SIGHTED_NOWHERE,
        None,
    ),
    "a seal dropped": (
        _sql("delete from audit_seals where sequence = 2"),
        Tampering.SEAL_DROPPED,
        2,
    ),
    "a seal of another time": (
        _sql("update audit_seals set sealed_at = sealed_at - interval '1 day' where sequence = 2"),
        Tampering.BACK_DATED,
        2,
    ),
    "an entry of another time": (
        _sql("update audit_entries set at = at - interval '1 day' where id = {first}"),
        Tampering.BACK_DATED,
        2,
    ),
    "another root": (
        _sql("update audit_seals set root = sha256('x') where sequence = 2"),
        Tampering.SEAL_ALTERED,
        2,
    ),
    "another head": (
        _sql("update audit_seals set head = sha256('x') where sequence = 3"),
        Tampering.SEAL_ALTERED,
        3,
    ),
}


@pytest.mark.parametrize("kind", _TAMPERED)
async def test_tampering_is_found_and_its_place_named(
    owner: Database, database: Database, heads_file: Path, kind: str
) -> None:
    assert heads_file.name
    assert await _first_break(database) is None
    tamper, tampering, sequence = _TAMPERED[kind]
    await tamper(owner)
    found = await _first_break(database)
    assert found is not None
    assert (found.tampering, found.sequence) == (tampering, sequence)


async def _unseal(owner: Database) -> None:
    """Take all seals away, as whoever computes them anew would."""
    await owner.pool.execute(
        "insert into audit_unsealed select district_code, id, subject, to_jsonb(e)::text"
        " from audit_entries e"
    )
    await owner.pool.execute("truncate audit_seals, audit_sightings, audit_entries")


async def test_what_is_computed_anew_as_a_whole_is_found_by_the_published_heads(
    owner: Database, database: Database, heads_file: Path
) -> None:
    await owner.pool.execute("update audit_entries set subject = 'nobody' where act = 'act_0'")
    await _unseal(owner)
    async with transaction(database, _SCOPE) as session:
        await audit_seals.seal(session, district_code=DISTRICT, now=clock.now())
    assert await _first_break(database) is None, "within itself it holds"
    found = await _first_break(database, heads_file)
    assert found is not None
    assert (found.tampering, found.sequence) == (Tampering.HEAD_DIFFERS, 1)


async def test_the_last_seals_dropped_with_their_entries_are_found_by_the_published_heads(
    owner: Database, database: Database, heads_file: Path
) -> None:
    for table, column in (("audit_entries", "id"), ("audit_sightings", "entry_id")):
        await owner.pool.execute(
            f"delete from {table} where {column} in"
            " (select unnest(entry_ids) from audit_seals where sequence = 4)"
        )
    await owner.pool.execute("delete from audit_seals where sequence = 4")
    assert await _first_break(database) is None, "within itself it holds"
    found = await _first_break(database, heads_file)
    assert found is not None
    assert (found.tampering, found.sequence) == (Tampering.SEAL_DROPPED, 4)


async def test_the_command_says_where_the_audit_breaks(
    owner: Database, database: Database, heads_file: Path
) -> None:
    assert await auditing.verify(database, heads_file) == [f"{DISTRICT}: 4 seals, 20 entries hold"]
    await owner.pool.execute("delete from audit_seals where sequence = 3")
    with pytest.raises(AuditBroken, match=f"{DISTRICT}: seal 3: seal dropped"):
        await auditing.verify(database, heads_file)


@pytest.mark.parametrize("minutes", [0, 20, 90])
async def test_the_command_says_how_much_no_seal_covers_and_for_how_long(
    owner: Database, database: Database, heads_file: Path, minutes: int
) -> None:
    await _note(database, 2)
    # The first one's id as it would have been made so long ago.
    made = int((clock.now() - timedelta(minutes=minutes)).timestamp() * 1000)
    await owner.pool.execute(
        "update audit_unsealed set id = cast($1 || right(replace(id::text, '-', ''), 20) as uuid)"
        " where id = (select id from audit_unsealed order by id limit 1)",
        f"{made:012x}",
    )
    tail = f"{DISTRICT}: 2 entries unsealed, the oldest for {minutes // 60} h {minutes % 60} min"
    if minutes > 60:
        with pytest.raises(AuditBroken, match=tail):
            await auditing.verify(database, heads_file)
    else:
        lines = await auditing.verify(database, heads_file)
        assert lines[1:] == ([tail] if minutes else [])


async def test_every_place_that_breaks_is_named(
    owner: Database, database: Database, heads_file: Path
) -> None:
    for sequence, change in ((1, "subject = 'nobody'"), (4, "act = 'nothing'")):
        await owner.pool.execute(
            f"update audit_entries set {change} where id ="
            " (select entry_ids[1] from audit_seals where sequence = $1)",
            sequence,
        )
    await owner.pool.execute("delete from audit_seals where sequence = 2")
    found = await _verified(database, heads_file)
    assert [(each.sequence, each.tampering) for each in found.breaks] == [
        (1, Tampering.ALTERED),
        (2, Tampering.SEAL_DROPPED),
        (4, Tampering.ALTERED),
        (None, Tampering.INSERTED),
    ]


async def test_a_seal_altered_does_not_make_the_next_one_seem_so(
    owner: Database, database: Database, heads_file: Path
) -> None:
    for what in ("head", "root"):
        kept = await owner.pool.fetchval(f"select {what} from audit_seals where sequence = 2")
        await _set(owner, what, b"\x00" * 32)
        found = await _verified(database, heads_file)
        assert [each.sequence for each in found.breaks] == [2]
        await _set(owner, what, kept)


async def _set(owner: Database, what: str, value: bytes) -> None:
    await owner.pool.execute(f"update audit_seals set {what} = $1 where sequence = 2", value)


async def _note_other(database: Database, count: int, *, at: datetime) -> None:
    for _ in range(count):
        act = make_act(district_code=_OTHER.district_code, at=at)
        await Statements(database.pool, _OTHER, act).note([])


async def test_what_piled_up_while_no_worker_ran_is_not_taken_for_back_dated(
    database: Database, heads_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_seals, "BATCH", 6)
    long_ago = clock.now() - timedelta(hours=9)
    await _note_other(database, 1, at=long_ago)
    # The last seal before nobody sealed for nine hours.
    async with transaction(database, _OTHER) as session:
        await audit_seals.seal(session, district_code=_OTHER.district_code, now=long_ago)
    await _note_other(database, 14, at=long_ago + timedelta(hours=1))
    await worker.seal_all(database, Heads(heads_file))
    assert (await _verified(database, heads_file, _OTHER)).breaks == []
    # Once all is sealed, nothing so old can come any more.
    await _note_other(database, 1, at=long_ago + timedelta(hours=1))
    await worker.seal_all(database, Heads(heads_file))
    found = await _verified(database, heads_file, _OTHER)
    assert [(each.tampering, each.sequence) for each in found.breaks] == [(Tampering.BACK_DATED, 5)]


@pytest.mark.parametrize("batch", [2, 6, 50])
async def test_how_large_seals_are_later_does_not_change_what_is_said_of_those_before(
    database: Database, heads_file: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    long_ago = clock.now() - timedelta(hours=9)
    await _note_other(database, 1, at=long_ago)
    async with transaction(database, _OTHER) as session:
        await audit_seals.seal(session, district_code=_OTHER.district_code, now=long_ago)
    await _note_other(database, 14, at=long_ago + timedelta(hours=1))
    monkeypatch.setattr(audit_seals, "BATCH", 6)
    await worker.seal_all(database, Heads(heads_file))
    monkeypatch.setattr(audit_seals, "BATCH", batch)
    assert (await _verified(database, heads_file, _OTHER)).breaks == []
    await _note_other(database, 1, at=long_ago + timedelta(hours=1))
    await worker.seal_all(database, Heads(heads_file))
    found = await _verified(database, heads_file, _OTHER)
    assert [(each.tampering, each.sequence) for each in found.breaks] == [(Tampering.BACK_DATED, 5)]


async def test_a_seal_made_to_seem_full_is_found(
    owner: Database, database: Database, heads_file: Path
) -> None:
    assert await _first_break(database, heads_file) is None
    await owner.pool.execute("update audit_seals set batch = count where sequence = 2")
    found = await _first_break(database)
    assert found is not None
    assert (found.tampering, found.sequence) == (Tampering.SEAL_ALTERED, 2)


async def test_a_seal_from_before_seals_said_how_large_they_might_be_holds(
    owner: Database, database: Database
) -> None:
    await _note(database, 2)
    now = clock.now()
    ids = [row["id"] for row in await owner.pool.fetch("select id from audit_unsealed order by id")]
    async with transaction(database, _SCOPE) as session:
        await audit_seals.seal(session, district_code=DISTRICT, now=now)
    root = await owner.pool.fetchval("select root from audit_seals")
    said = f"|1|{len(ids)}|{rfc3339(now)}|".encode()
    head = hashlib.sha256(audit_seals.first_head(DISTRICT) + said + root).digest()
    await owner.pool.execute("update audit_seals set batch = null, head = $1", head)
    assert (await _verified(database)).breaks == []


async def test_a_file_that_holds_no_heads_is_refused(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "heads.jsonl"
    file.write_text(json.dumps({"sequence": 1}) + "\n")
    with pytest.raises(AuditBroken, match="is no published head"):
        await auditing.verify(database, file)


async def test_an_entry_far_older_than_the_seal_before_its_own_is_found(
    database: Database, heads_file: Path
) -> None:
    act = make_act(at=clock.now() - timedelta(days=2))
    await Statements(database.pool, _SCOPE, act).note([])
    await worker.seal_all(database, Heads(heads_file))
    found = await _first_break(database)
    assert found is not None
    assert (found.tampering, found.sequence) == (Tampering.BACK_DATED, 5)


def _line(file: Path, sequence: int) -> str:
    return file.read_text().splitlines(keepends=True)[sequence - 1]


def _append(file: Path, line: str) -> None:
    with file.open("a") as opened:
        opened.write(line)


async def test_a_head_published_beside_another_for_the_same_seal_is_found(
    database: Database, heads_file: Path
) -> None:
    line = _line(heads_file, 2)
    _append(heads_file, line)
    assert await _first_break(database, heads_file) is None, "a repetition says nothing else"
    _append(heads_file, json.dumps(json.loads(line) | {"head": "00" * 32}) + "\n")
    found = await _first_break(database, heads_file)
    assert found is not None
    assert (found.tampering, found.sequence) == (Tampering.HEAD_CONTRADICTED, 2)


async def test_a_head_published_later_does_not_vouch_for_what_was_computed_anew(
    owner: Database, database: Database, heads_file: Path
) -> None:
    await _unseal(owner)
    await worker.seal_all(database, Heads(heads_file.with_name("anew.jsonl")))
    for sequence in range(1, await owner.pool.fetchval("select count(*) from audit_seals") + 1):
        _append(heads_file, _line(heads_file.with_name("anew.jsonl"), sequence))
    found = await _first_break(database, heads_file)
    assert found is not None
    assert (found.tampering, found.sequence) == (Tampering.HEAD_DIFFERS, 1)
