"""Seals cover what is over, in order and once, and their heads are published."""

import asyncio
import hashlib
import json
import resource
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import clock, worker
from app.crypto import Keyring
from app.database import Database, Statements, note, transaction
from app.scopes import Acting, Scope
from app.services.audit import audit_checks, audit_seals
from app.services.audit.audit_checks import Tampering, Verified
from app.services.audit.audit_seals import Heads
from tests.factories.callers import DISTRICT, make_act

_SCOPE = Scope(Acting.DISTRICT, DISTRICT, "district_officer-1")


async def _note(database: Database, *persons: UUID) -> None:
    await Statements(database.pool, _SCOPE, make_act()).note(persons)


async def _counts(owner: Database) -> list[int]:
    rows = await owner.pool.fetch("select count from audit_seals order by sequence")
    return [row["count"] for row in rows]


async def test_what_is_still_open_waits_and_is_sealed_once_it_is_over(
    owner: Database, database: Database, tmp_path: Path
) -> None:
    heads = Heads(tmp_path / "heads.jsonl")
    async with transaction(database, _SCOPE, make_act(name="slow")) as session:
        note(session, [])
        await _note(database)
        await worker.seal_all(database, heads)
        assert await _counts(owner) == [1]
    await _note(database)
    await worker.seal_all(database, heads)
    assert await _counts(owner) == [1, 2]
    assert await owner.pool.fetchval("select count(*) from audit_unsealed") == 0
    verified = await audit_checks.verify(
        Statements(database.pool, _SCOPE), district_code=DISTRICT, heads={}
    )
    assert (verified.seals, verified.entries, verified.first_break) == (2, 3, None)


async def test_nothing_new_makes_no_seal(
    owner: Database, database: Database, tmp_path: Path
) -> None:
    heads = Heads(tmp_path / "heads.jsonl")
    await _note(database)
    for _ in range(3):
        await worker.seal_all(database, heads)
    assert await _counts(owner) == [1]


async def test_an_entry_that_cannot_be_sealed_keeps_no_other_district(
    owner: Database, database: Database, tmp_path: Path
) -> None:
    heads = Heads(tmp_path / "heads.jsonl")
    await _write_unsealable(owner)
    await _note(database)
    assert not await worker.seal_all(database, heads)
    assert await _counts(owner) == [1, 1]
    assert list(audit_checks.read_heads(tmp_path / "heads.jsonl")) == [DISTRICT]
    await owner.pool.execute("delete from audit_unsealed")
    assert await worker.seal_all(database, heads)


async def _write_unsealable(owner: Database) -> None:
    """Write an entry where no seal can follow: after the greatest number there is none."""
    far = "110101000000"
    await owner.pool.execute(
        "insert into audit_seals values ($1, 2147483647, $2, 1, '{}', '', '', '')",
        far,
        clock.now(),
    )
    await _write(owner, far, "{}")


async def _write(owner: Database, district_code: str, entry: str, **facts: UUID) -> UUID:
    """Write what stands for an entry, as somebody would who has the database."""
    identity = facts.get("id", clock.new_id())
    await owner.pool.execute(
        "insert into audit_unsealed values ($1, $2, 'somebody', $3)", district_code, identity, entry
    )
    return identity


_WHOLE = (
    '{{"at":"{at}","role":"guide","act":"a","object_kind":"k","object_ids":["1"],"fields":[],'
    '"area_code":"440605000000","request_id":"r","person_ids":"{{{person}}}"}}'
)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("not even an object", id="no JSON"),
        pytest.param("{}", id="nothing said"),
        pytest.param(_WHOLE.format(at="never", person=""), id="no time"),
        pytest.param(_WHOLE.format(at="200000-01-01T00:00Z", person=""), id="no time of ours"),
        pytest.param(_WHOLE.format(at="infinity", person=""), id="after all time"),
        pytest.param(_WHOLE.format(at="-infinity", person=""), id="before all time"),
        pytest.param(_WHOLE.format(at="2026-01-01T00:00Z", person="nobody"), id="no person"),
    ],
)
async def test_a_malformed_entry_is_sealed_as_it_stands_and_named(
    owner: Database, database: Database, tmp_path: Path, entry: str
) -> None:
    file = tmp_path / "heads.jsonl"
    await _note(database)
    identity = await _write(owner, DISTRICT, entry)
    await _note(database)
    assert await worker.seal_all(database, Heads(file))
    assert await _counts(owner) == [3]
    assert await owner.pool.fetchval("select count(*) from audit_unsealed") == 0
    kept = await owner.pool.fetchval("select malformed from audit_entries where id = $1", identity)
    assert kept == entry
    (found,) = (await _verified(database)).breaks
    assert (found.tampering, found.entry_id) == (Tampering.MALFORMED, identity)
    await owner.pool.execute("update audit_entries set malformed = 'x' where id = $1", identity)
    (found,) = (await _verified(database)).breaks
    assert found.tampering == Tampering.ALTERED


async def test_an_entry_under_the_id_of_a_sealed_one_is_sealed_under_another(
    owner: Database, database: Database, tmp_path: Path
) -> None:
    heads = Heads(tmp_path / "heads.jsonl")
    await _note(database)
    await worker.seal_all(database, heads)
    sealed = await owner.pool.fetchval("select id from audit_entries")
    await _write(owner, DISTRICT, _WHOLE.format(at="2026-01-01T00:00Z", person=""), id=sealed)
    assert await worker.seal_all(database, heads)
    (found,) = (await _verified(database)).breaks
    assert found.tampering == Tampering.MALFORMED
    assert found.entry_id != sealed


@pytest.mark.parametrize("entry", ["not even an object", "{}"])
async def test_a_malformed_entry_under_the_id_of_a_sealed_one_stops_no_seal(
    owner: Database, database: Database, tmp_path: Path, entry: str
) -> None:
    heads = Heads(tmp_path / "heads.jsonl")
    await _note(database)
    await worker.seal_all(database, heads)
    sealed = await owner.pool.fetchval("select id from audit_entries")
    await _write(owner, DISTRICT, entry, id=sealed)
    assert await worker.seal_all(database, heads)
    assert await _counts(owner) == [1, 1]
    (found,) = (await _verified(database)).breaks
    assert found.tampering == Tampering.MALFORMED
    assert found.entry_id != sealed


_OF_NO_TIME = UUID("ffffffff-0000-4000-8000-000000000000")


@pytest.mark.parametrize("entry", ["not even an object", "{}"])
async def test_a_malformed_entry_whose_id_is_of_no_time_is_sealed_under_another(
    owner: Database, database: Database, tmp_path: Path, entry: str
) -> None:
    await _write(owner, DISTRICT, entry, id=_OF_NO_TIME)
    age = await audit_seals.unsealed(
        Statements(database.pool, _SCOPE), district_code=DISTRICT, now=clock.now()
    )
    assert age[0] == 1
    assert await worker.seal_all(database, Heads(tmp_path / "heads.jsonl"))
    (found,) = (await _verified(database)).breaks
    assert found.tampering == Tampering.MALFORMED
    assert found.entry_id != _OF_NO_TIME


async def test_an_altered_entry_whose_id_is_of_no_time_is_found_so(
    owner: Database, database: Database, tmp_path: Path
) -> None:
    whole = _WHOLE.format(at="2026-01-01T00:00Z", person="")
    await _write(owner, DISTRICT, whole, id=_OF_NO_TIME)
    assert await worker.seal_all(database, Heads(tmp_path / "heads.jsonl"))
    assert (await _verified(database)).first_break is None
    await owner.pool.execute("update audit_entries set role = 'x' where id = $1", _OF_NO_TIME)
    (found,) = (await _verified(database)).breaks
    assert (found.tampering, found.entry_id) == (Tampering.BACK_DATED, _OF_NO_TIME)


@pytest.mark.parametrize("at", ["infinity", "-infinity", "200000-01-01T00:00Z"])
async def test_an_entry_altered_to_no_time_of_ours_is_found_so(
    owner: Database, database: Database, tmp_path: Path, at: str
) -> None:
    await _note(database)
    await worker.seal_all(database, Heads(tmp_path / "heads.jsonl"))
    await owner.pool.execute(f"update audit_entries set at = '{at}'")
    (found,) = (await _verified(database)).breaks
    assert found.tampering == Tampering.BACK_DATED


async def _verified(database: Database) -> Verified:
    statements = Statements(database.pool, _SCOPE)
    return await audit_checks.verify(statements, district_code=DISTRICT, heads={})


async def test_two_workers_at_once_seal_each_entry_once(
    owner: Database, database: Database
) -> None:
    for _ in range(4):
        await _note(database)
    async with transaction(database, _SCOPE) as one, transaction(database, _SCOPE) as other:
        first = await audit_seals.seal(one, district_code=DISTRICT, now=clock.now())
        second = await audit_seals.seal(other, district_code=DISTRICT, now=clock.now())
    assert (first, second) == (4, 0)
    assert await _counts(owner) == [4]


async def test_more_than_a_batch_becomes_several_seals(
    owner: Database, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_seals, "BATCH", 3)
    for _ in range(7):
        await _note(database)
    await worker.seal_all(database, Heads(tmp_path / "heads.jsonl"))
    assert await _counts(owner) == [3, 3, 1]


async def test_each_head_is_published_once_whatever_was_missed(
    owner: Database, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "heads.jsonl"
    await _note(database)
    async with transaction(database, _SCOPE) as session:
        await audit_seals.seal(session, district_code=DISTRICT, now=clock.now())
    for _ in range(2):
        # A worker that begins anew reads how far the file has come.
        await _note(database)
        await worker.seal_all(database, Heads(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    rows = await owner.pool.fetch("select sequence, head from audit_seals order by sequence")
    assert [(line["sequence"], line["head"]) for line in lines] == [
        (row["sequence"], row["head"].hex()) for row in rows
    ]
    assert [line["sequence"] for line in lines] == [1, 2, 3]


async def _publish(database: Database, heads: Heads) -> None:
    await heads.publish(Statements(database.pool, _SCOPE), district_code=DISTRICT)


@pytest.mark.parametrize("lost", [1, 2, 30, -5])
async def test_a_head_that_a_crash_cut_off_is_published_again(
    database: Database, tmp_path: Path, lost: int
) -> None:
    file = tmp_path / "heads.jsonl"
    for _ in range(2):
        await _note(database)
        await worker.seal_all(database, Heads(file))
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    # Cut off from the end, or so early that hardly the line's beginning is left.
    cut = whole[:-lost] if lost > 0 else whole[: first - lost]
    file.write_bytes(cut)
    known = audit_checks.read_heads(file)[DISTRICT]
    assert list(known) == ([1, 2] if lost == 1 else [1]), "only the end of the line is missing"
    await _publish(database, Heads(file))
    await _note(database)
    await worker.seal_all(database, Heads(file))
    assert file.read_bytes().startswith(cut), "nothing is ever taken away"
    assert sorted(audit_checks.read_heads(file)[DISTRICT]) == [1, 2, 3]
    assert file.read_bytes().endswith(b"}\n")


async def test_a_disk_that_is_full_while_a_head_is_written_loses_none(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "heads.jsonl"
    heads = Heads(file)
    await _note(database)
    await worker.seal_all(database, heads)
    await _note(database)
    async with transaction(database, _SCOPE) as session:
        await audit_seals.seal(session, district_code=DISTRICT, now=clock.now())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 40, before[1]))
    try:
        with pytest.raises(OSError, match="cut off"):
            await _publish(database, heads)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(audit_checks.read_heads(file)[DISTRICT]) == [1]
    await _publish(database, Heads(file))
    assert list(audit_checks.read_heads(file)[DISTRICT]) == [1, 2]


async def test_a_head_lost_before_one_that_another_worker_appended_is_published_again(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "heads.jsonl"
    for _ in range(3):
        await _note(database)
        await worker.seal_all(database, Heads(file))
    lines = file.read_bytes().splitlines(keepends=True)
    # An append onto a fragment makes one line of both.
    file.write_bytes(lines[0] + lines[1][:30] + lines[2])
    await _publish(database, Heads(file))
    assert list(audit_checks.read_heads(file)[DISTRICT]) == [1, 2, 3]


async def test_of_a_long_file_the_end_is_read(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "heads.jsonl"
    for _ in range(6):
        await _note(database)
        await worker.seal_all(database, Heads(file))
    # Whoever reads the first line is told that it is no head.
    file.write_bytes(b"x" + file.read_bytes())
    monkeypatch.setattr(audit_seals, "_REACH", 2 * len(file.read_bytes().splitlines()[-1]))
    await _note(database)
    assert await worker.seal_all(database, Heads(file))
    numbers = [json.loads(line)["sequence"] for line in file.read_bytes().splitlines()[1:]]
    assert numbers == [2, 3, 4, 5, 6, 7]


async def test_what_lies_far_back_in_a_long_file_is_found(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, district = tmp_path / "heads.jsonl", "440606000000"
    for _ in range(2):
        await _note(database)
        await worker.seal_all(database, Heads(file))
    line = json.loads(file.read_bytes().splitlines()[-1])
    with file.open("a") as opened:
        for sequence in range(1, 60):
            other = line | {"district_code": district, "sequence": sequence}
            opened.write(json.dumps(other) + "\n")
    monkeypatch.setattr(audit_seals, "_REACH", 500)
    await _note(database)
    await worker.seal_all(database, Heads(file))
    assert list(audit_checks.read_heads(file)[DISTRICT]) == [1, 2, 3]
    assert len(file.read_bytes().splitlines()) == 62


async def test_after_an_error_the_heads_are_not_read_again(
    owner: Database,
    database: Database,
    keyring: Keyring,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop, file = asyncio.Event(), tmp_path / "heads.jsonl"
    await _note(database)
    await worker.seal_all(database, Heads(file))
    await _write_unsealable(owner)
    read: list[str] = []
    sequences = audit_seals._sequences

    def watched(heads: Path, district_code: str, reach: int) -> tuple[set[int], bool]:
        read.append(district_code)
        return sequences(heads, district_code, reach)

    monkeypatch.setattr(audit_seals, "_sequences", watched)
    monkeypatch.setattr(worker, "_TROUBLE_SECONDS", 0.01)
    working = asyncio.create_task(worker.work(database, keyring, stop, heads_file=file))
    async with asyncio.timeout(20):
        for sealed in (2, 3, 4):
            await _note(database)
            while len(file.read_bytes().splitlines()) < sealed:  # noqa: ASYNC110  (only the file shows it)
                await asyncio.sleep(0.05)
    stop.set()
    await working
    assert sorted(read) == [DISTRICT]


async def test_who_is_named_in_an_entry_is_found_by_it_once_it_is_sealed(
    owner: Database, database: Database, tmp_path: Path
) -> None:
    persons = [clock.new_id(), clock.new_id()]
    await _note(database, *persons, persons[0])
    await worker.seal_all(database, Heads(tmp_path / "heads.jsonl"))
    rows = await owner.pool.fetch("select person_id from audit_sightings order by person_id")
    assert [row["person_id"] for row in rows] == persons


async def test_the_worker_seals_beside_its_queue(
    owner: Database, database: Database, keyring: Keyring, tmp_path: Path
) -> None:
    stop, file = asyncio.Event(), tmp_path / "heads.jsonl"
    working = asyncio.create_task(worker.work(database, keyring, stop, heads_file=file))
    await _note(database)
    async with asyncio.timeout(20):
        while not await _counts(owner):  # noqa: ASYNC110  (only the database shows it)
            await asyncio.sleep(0.1)
    stop.set()
    await working
    assert len(file.read_text().splitlines()) == 1


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
def test_a_root_changes_with_any_leaf_its_place_or_their_number(leaves: list[bytes]) -> None:
    root = audit_seals.root(leaves)
    for n in range(len(leaves)):
        changed = hashlib.sha256(leaves[n]).digest()
        assert audit_seals.root([*leaves[:n], changed, *leaves[n + 1 :]]) != root
    assert audit_seals.root([*leaves, leaves[-1]]) != root
    if leaves[0] != leaves[-1]:
        assert audit_seals.root([leaves[-1], *leaves[1:-1], leaves[0]]) != root
