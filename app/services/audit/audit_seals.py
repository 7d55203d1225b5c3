"""Seals of the audit: entries in batches under a Merkle root, each head bound to the one before.

An entry is stored among the unsealed, in the transaction of its act; whoever sees it there sees a
transaction that is over, and who commits late is in a later seal. So no clock, transaction number
or waiting decides what a seal holds, and it is the same on every PostgreSQL and on Citus.
"""

import asyncio
import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, locks
from app.database import Statements
from app.models.shapes import rfc3339

BATCH = 5_000
"""Entries of one seal at most; each seal says how many that was when it was made."""
_BATCH_BEFORE = 5_000
"""What it was for the seals that do not say it."""
_LAST = text(
    "select sequence, head from audit_seals where district_code = :district_code"
    " order by sequence desc limit 1"
)
COLUMNS = (
    "id, at, subject, role, act, object_kind, object_ids, person_ids, fields, purpose, area_code,"
    " request_id, refusal"
)
"""What an entry holds beside its district."""
STORED = f"{COLUMNS}, malformed"
"""With the text of what could not be taken apart."""
# Whom the path named and whom the rows did, each once. A time without an end is none.
_APART = (
    "lateral (select case when isfinite(at) then at end as at, role, act, object_kind,"
    " object_ids, array(select distinct person from unnest(named || person_ids) person"
    " where person is not null) as person_ids, fields,"
    " purpose, area_code, request_id, refusal from jsonb_to_record(cast(u.entry as jsonb)) as r("
    "at timestamptz, role text, act text, object_kind text, object_ids text[], named uuid[],"
    " person_ids uuid[], fields text[], purpose text, area_code text, request_id text,"
    " refusal text)) e"
)
UNSEALED = f"select district_code, {COLUMNS} from audit_unsealed u, {_APART}"
"""The entries that no seal covers yet, as they will be stored."""
# A batch is moved and its persons listed by one statement; what it gives is what is sealed.
_MOVE = text(
    "with taken as (delete from audit_unsealed where district_code = :district_code and id in"
    " (select id from audit_unsealed where district_code = :district_code order by id"
    " limit :count) returning district_code, id, subject, entry),"
    f" told as (select district_code, {COLUMNS} from taken u, {_APART}),"
    f" moved as (insert into audit_entries (district_code, {COLUMNS})"
    f" select district_code, {COLUMNS} from told),"
    " sighted as (insert into audit_sightings (district_code, person_id, entry_id)"
    " select t.district_code, p.person_id, t.id"
    " from told t, unnest(t.person_ids) as p(person_id))"
    f" select {COLUMNS} from told order by id"
)
# What cannot be taken apart is found by halves, and kept as it stands under what is known of it.
_READ = text(
    f"select {COLUMNS}, exists (select from audit_entries k where"
    " k.district_code = :district_code and k.id = u.id) as is_twice"
    f" from audit_unsealed u, {_APART} where district_code = :district_code and id = any(:ids)"
)
_OLDEST = text(
    "select id from audit_unsealed where district_code = :district_code order by id limit :count"
)
_SET_ASIDE = text(
    "with taken as (delete from audit_unsealed where district_code = :district_code and id = :id"
    " returning subject, entry)"
    f" insert into audit_entries (district_code, {STORED}) select :district_code,"
    " cast(:new_id as uuid), cast(:at as timestamptz), subject, '', 'malformed', '', '{}', '{}',"
    f" '{{}}', null, :district_code, '', null, entry from taken returning {STORED}"
)
_IS_SEALED = text(
    "select exists (select from audit_entries where district_code = :district_code and id = :id)"
)
_LAST_MILLISECOND = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000)
"""As late as an id is believed: what somebody wrote into it may lie beyond all calendars."""
_EXTRA = ("refusal", "malformed")
_NEEDED = ("at", "role", "act", "object_kind", "object_ids", "fields", "area_code", "request_id")
_UNREADABLE = (DBAPIError, ValueError, OverflowError)
_SEAL = text(
    "insert into audit_seals"
    " (district_code, sequence, sealed_at, count, batch, entry_ids, leaves, root, head)"
    " values (:district_code, :sequence, :sealed_at, :count, :batch, cast(:ids as uuid[]), :leaves,"
    " :root, :head)"
)
_UNPUBLISHED = (
    "select sequence, sealed_at, count, batch, root, head from audit_seals"
    " where district_code = :district_code and sequence > :sequence order by sequence"
)

_TAIL = (
    "select id, count(*) over () as count from audit_unsealed"
    " where district_code = :district_code order by id limit 1"
)
_BEGINNING = b'{"district_code"'
"""How the line of a head begins."""
_REACH = 1 << 20
"""How many bytes of the heads' end are read at first: some thousand lines."""


async def districts_to_seal(statements: Statements) -> list[str]:
    """Give the districts that have unsealed entries, as the queue's role sees them."""
    rows = await statements.fetch("select distinct district_code from audit_unsealed", {})
    return sorted(row["district_code"] for row in rows)


async def districts_sealed(statements: Statements) -> list[str]:
    """Give the districts that have a seal, as the queue's role sees them."""
    rows = await statements.fetch(
        "select district_code from audit_seals where sequence = 1 order by district_code", {}
    )
    return [row["district_code"] for row in rows]


async def unsealed(
    statements: Statements, *, district_code: str, now: datetime
) -> tuple[int, timedelta]:
    """Give how many entries of a district no seal covers yet, and how old the oldest is."""
    key = {"district_code": district_code}
    row = await statements.fetch_row(_TAIL, key)
    if row is None:
        return 0, timedelta()
    return row["count"], now - made_at(row["id"])


def made_at(identity: UUID) -> datetime:
    """Give the time at which an entry's id was made, which stands in it, as far as years go."""
    milliseconds = identity.int >> 80
    return datetime.fromtimestamp(min(milliseconds, _LAST_MILLISECOND) / 1000, UTC)


async def seal(session: AsyncSession, *, district_code: str, now: datetime) -> int:
    """Seal the oldest unsealed entries of a district; give how many, 0 when another is at it."""
    key: dict[str, Any] = {"district_code": district_code}
    if not await locks.try_hold(session, f"audit/{district_code}"):
        return 0
    rows = await _moved(session, key)
    if not rows:
        return 0
    ids, leaves = [row["id"] for row in rows], [leaf(row) for row in rows]
    last = (await session.execute(_LAST, key)).one_or_none()
    sequence = 1 if last is None else last.sequence + 1
    facts = {
        **key,
        "sequence": sequence,
        "sealed_at": now,
        "count": len(ids),
        "batch": BATCH,
        "root": root(leaves),
    }
    before = first_head(district_code) if last is None else bytes(last.head)
    sealed = {**facts, "ids": ids, "leaves": b"".join(leaves), "head": head(before, facts)}
    await session.execute(_SEAL, sealed)
    return len(ids)


async def _moved(session: AsyncSession, key: Mapping[str, Any]) -> Sequence[Mapping[Any, Any]]:
    """Move a batch; what is malformed in it goes as it stands, or it would keep all later ones."""
    try:
        async with session.begin_nested():
            moved = (await session.execute(_MOVE, {**key, "count": BATCH})).mappings().all()
            return [*moved]
    except _UNREADABLE:
        oldest = list(await session.scalars(_OLDEST, {**key, "count": BATCH}))
    aside = [
        (await session.execute(_SET_ASIDE, {**key, **kept})).mappings().one()
        async for kept in _malformed(session, key, oldest)
    ]
    most = BATCH - len(aside)
    return [*aside, *(await session.execute(_MOVE, {**key, "count": most})).mappings()]


def _kept_as(identity: UUID, *, is_twice: bool = False) -> Mapping[str, Any]:
    """Give under which id and time it is kept: another if its own is sealed, or of no time."""
    is_of_no_time = identity.int >> 80 > _LAST_MILLISECOND
    new_id = clock.new_id() if is_twice or is_of_no_time else identity
    return {"id": identity, "new_id": new_id, "at": made_at(new_id)}


async def _malformed(
    session: AsyncSession, key: Mapping[str, Any], ids: Sequence[UUID]
) -> AsyncIterator[Mapping[str, Any]]:
    """Walk the entries that cannot be taken apart, each with what it is kept as."""
    try:
        async with session.begin_nested():
            rows = (await session.execute(_READ, {**key, "ids": ids})).mappings().all()
    except _UNREADABLE:
        if len(ids) == 1:
            is_twice = await session.scalar(_IS_SEALED, {**key, "id": ids[0]})
            yield _kept_as(ids[0], is_twice=bool(is_twice))
            return
        half = len(ids) // 2
        for part in (ids[:half], ids[half:]):
            async for found in _malformed(session, key, part):
                yield found
        return
    for row in rows:
        if row["is_twice"] or any(row[name] is None for name in _NEEDED):
            yield _kept_as(row["id"], is_twice=row["is_twice"])


def leaf(entry: Mapping[Any, Any]) -> bytes:
    """Hash one entry: its id together with its content."""
    return bind(entry["id"], content_of(entry))


def content_of(entry: Mapping[Any, Any]) -> bytes:
    """Hash all that an entry says besides its id; what was not refused says nothing of it."""
    facts = [
        rfc3339(entry["at"]),
        *(entry[name] for name in ("subject", "role", "act", "object_kind", "object_ids")),
        [str(each) for each in entry["person_ids"]],
        *(entry[name] for name in ("fields", "purpose", "area_code", "request_id")),
        *({name: entry[name]} for name in _EXTRA if entry.get(name) is not None),
    ]
    canonical = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()


def bind(identity: UUID, content: bytes) -> bytes:
    """Hash an entry's id with the hash of its content; leaves and nodes begin differently."""
    return hashlib.sha256(b"\x00" + identity.bytes + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Give the Merkle root of leaves in their order; an odd one rises as it is."""
    level = list(leaves)
    while len(level) > 1:
        paired = [
            hashlib.sha256(b"\x01" + level[n] + level[n + 1]).digest()
            for n in range(0, len(level) - 1, 2)
        ]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def first_head(district_code: str) -> bytes:
    """Give the head before a district's first seal."""
    return hashlib.sha256(f"jixie audit {district_code}".encode()).digest()


def head(before: bytes, seal_: Mapping[Any, Any]) -> bytes:
    """Bind a seal to the head before it: its sequence, count, time, batch and root."""
    numbers = f"|{seal_['sequence']}|{seal_['count']}|{rfc3339(seal_['sealed_at'])}|"
    if seal_["batch"] is not None:
        numbers += f"{seal_['batch']}|"
    return hashlib.sha256(before + numbers.encode() + bytes(seal_["root"])).digest()


def left_some_behind(seal_: Mapping[Any, Any]) -> bool:
    """Tell whether a seal was as full as one might be when it was made: more may have waited."""
    most: int = seal_["batch"] or _BATCH_BEFORE
    return bool(seal_["count"] >= most)


def published(file: Path) -> Iterator[Mapping[str, Any]]:
    """Read a file of published heads; raises ValueError at a line that is none.

    What was cut off by a crash or a full disk is skipped: its head was published again.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if (known := _head_in(line.rstrip(b"\n"), f"line {number}", file)) is not None:
                yield known


def _head_in(line: bytes, place: str, file: Path) -> Mapping[str, Any] | None:
    try:
        known: Mapping[str, Any] = json.loads(line)
        known["district_code"], known["sequence"], known["head"]
    except (ValueError, KeyError, TypeError) as error:
        begins = line[: len(_BEGINNING)] == _BEGINNING[: len(line)]
        if isinstance(error, ValueError) and begins:
            return None
        raise ValueError(f"{place} of {file} is no published head") from None
    return known


class Heads:
    """The heads published outside the database, as JSON lines that are only ever appended.

    How far a district has come is read from the file's end once, and again after an error, which
    may have cut something off.
    """

    def __init__(self, file: Path) -> None:
        """Read nothing yet."""
        self._file = file
        self._published: dict[str, int] = {}

    async def publish(self, statements: Statements, *, district_code: str) -> int:
        """Append the heads that the file does not have; give how many."""
        if district_code not in self._published:
            found = await asyncio.to_thread(_come_to, self._file, district_code)
            self._published[district_code] = found
        rows = await statements.fetch(
            _UNPUBLISHED,
            {"district_code": district_code, "sequence": self._published[district_code]},
        )
        if not rows:
            return 0
        lines = "".join(json.dumps(_line(district_code, row)) + "\n" for row in rows)
        # What of it reaches the file when this fails, only the file tells.
        del self._published[district_code]
        await asyncio.to_thread(_append, self._file, lines.encode())
        self._published[district_code] = rows[-1]["sequence"]
        return len(rows)


def _come_to(file: Path, district_code: str) -> int:
    """Give how far the file has come with a district, by as much of its end as tells.

    That is up to the first that is missing there: what follows it, another worker may have
    appended.
    """
    reach = _REACH
    while True:
        found, is_whole = _sequences(file, district_code, reach)
        if is_whole:
            return next(n for n in count() if n + 1 not in found)
        if found:
            return next(n for n in count(min(found)) if n + 1 not in found)
        reach *= 8


def _sequences(file: Path, district_code: str, reach: int) -> tuple[set[int], bool]:
    """Give which seals of a district the end of a file has, and whether that is the whole file."""
    if not file.exists():
        return set(), True
    with file.open("rb") as lines:
        start = max(0, lines.seek(0, os.SEEK_END) - reach)
        lines.seek(start)
        if start:
            # What may be a part of a line.
            lines.readline()
        heads = (_head_in(line.rstrip(b"\n"), "a late line", file) for line in lines)
        known = [each for each in heads if each is not None]
    return {each["sequence"] for each in known if each["district_code"] == district_code}, not start


def _append(file: Path, lines: bytes) -> None:
    """Append lines in one piece and see them to the disk; raises OSError when not all went in.

    Nothing is ever taken away, as the volume may allow appending alone and others may be writing.
    """
    opened = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(opened).st_size
        if size and os.pread(opened, 1, size - 1) != b"\n":
            # What was cut off keeps a line of its own.
            lines = b"\n" + lines
        if os.write(opened, lines) < len(lines):
            raise OSError(errno.ENOSPC, "heads cut off")
        os.fsync(opened)
    finally:
        os.close(opened)


def _line(district_code: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "district_code": district_code,
        "sequence": row["sequence"],
        "count": row["count"],
        "batch": row["batch"],
        "sealed_at": rfc3339(row["sealed_at"]),
        "root": row["root"].hex(),
        "head": row["head"].hex(),
    }
