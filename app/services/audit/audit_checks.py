"""Verifying the audit: every entry and seal is computed again and compared with what is stored."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from app.database import Statements
from app.services.audit import audit_seals
from app.services.audit.audit_seals import STORED

LONGEST = timedelta(hours=6)
"""How long before the last seal that left nothing behind an entry may have begun: an import."""
_MOST_PAIRS = 200
_MOST_BREAKS = 20
"""How many breaks of a district are named; what is broken everywhere need not be listed whole."""

_SEALS = (
    "select sequence, sealed_at, count, batch, entry_ids, leaves, root, head from audit_seals"
    " where district_code = :district_code and sequence > :after order by sequence limit 1"
)
# What was altered to lie beyond our calendar is read as its edge, and is altered all the same.
_TIME = "greatest(least(at, '9999-12-30Z'), '0001-01-03Z') as at"
_ENTRIES = (
    f"select {STORED.replace(' at,', f' {_TIME},', 1)} from audit_entries"
    " where district_code = :district_code and id = any(:ids)"
)
_STRAYS = (
    "select e.id from audit_entries e where e.district_code = :district_code"
    " and e.id not in (select unnest(entry_ids) from audit_seals"
    " where district_code = :district_code)"
    " order by e.id limit 1"
)

_STRAY_SIGHTING = (
    "select s.entry_id from audit_sightings s where s.district_code = :district_code"
    " and not exists (select from audit_entries e"
    " where e.district_code = :district_code and e.id = s.entry_id)"
    " order by s.entry_id limit 1"
)

# Of whom the entries of a seal name, whom the lookups do not find, and the other way round.
_UNSIGHTED = (
    "select coalesce(n.entry_id, s.entry_id) from"
    " (select e.id as entry_id, person_id from audit_entries e, unnest(e.person_ids) person_id"
    " where e.district_code = :district_code and e.id = any(:ids)) n"
    " full join (select entry_id, person_id from audit_sightings"
    " where district_code = :district_code and entry_id = any(:ids)) s using (entry_id, person_id)"
    " where n.entry_id is null or s.entry_id is null order by 1 limit 1"
)


class Tampering(StrEnum):
    """What was done to the audit."""

    ALTERED = "altered"
    DELETED = "deleted"
    INSERTED = "inserted"
    SWAPPED = "swapped"
    SEAL_ALTERED = "seal altered"
    SEAL_DROPPED = "seal dropped"
    BACK_DATED = "back-dated"
    MALFORMED = "malformed, and sealed as it stood"
    MISSIGHTED = "whom it names is not whose lookups show it"
    SIGHTED_NOWHERE = "lookups show an entry that does not exist"
    HEAD_DIFFERS = "head differs from the published one"
    HEAD_CONTRADICTED = "two different heads published"


@dataclass(frozen=True)
class Break:
    """Where the audit of a district breaks."""

    district_code: str
    tampering: Tampering
    sequence: int | None
    entry_id: UUID | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        where = "beside the seals" if self.sequence is None else f"seal {self.sequence}"
        entry = "" if self.entry_id is None else f", entry {self.entry_id}"
        return f"{self.district_code}: {where}{entry}: {self.tampering}"


@dataclass(frozen=True)
class Verified:
    """How much of a district was computed again, and where it breaks, the first places of many."""

    seals: int
    entries: int
    breaks: Sequence[Break]

    @property
    def first_break(self) -> Break | None:
        """Give where it breaks first, if it does."""
        return next(iter(self.breaks), None)


Heads = Mapping[str, Mapping[int, Sequence[str]]]
"""The published heads in hex, by district and sequence: the first counts, others contradict it."""


def read_heads(file: Path) -> Heads:
    """Read published heads; raises ValueError at a line that is none."""
    heads: dict[str, dict[int, list[str]]] = {}
    for known in audit_seals.published(file):
        of_district = heads.setdefault(known["district_code"], {})
        said = of_district.setdefault(known["sequence"], [])
        if known["head"] not in said:
            said.append(known["head"])
    return heads


async def verify(statements: Statements, *, district_code: str, heads: Heads) -> Verified:
    """Compute a district's audit again from its first entry."""
    published = heads.get(district_code, {})
    seals = entries = 0
    breaks: list[Break] = []
    past = _Past({audit_seals.first_head(district_code)})
    async for row in _seals(statements, district_code):
        expected, seals = seals + 1, row["sequence"]
        if seals != expected:
            breaks.append(Break(district_code, Tampering.SEAL_DROPPED, expected))
            past = replace(past, heads=None)
        found = await _found(statements, district_code, row["entry_ids"])
        check = _Check(district_code, row, found)
        breaks += check.breaks(past, published.get(seals, ()))
        breaks += await _missighted(statements, district_code, row)
        past = past.followed_by(row)
        entries += row["count"]
        if len(breaks) >= _MOST_BREAKS:
            return Verified(seals, entries, breaks[:_MOST_BREAKS])
    if any(sequence > seals for sequence in published):
        breaks.append(Break(district_code, Tampering.SEAL_DROPPED, seals + 1))
    for sql, tampering in (
        (_STRAYS, Tampering.INSERTED),
        (_STRAY_SIGHTING, Tampering.SIGHTED_NOWHERE),
    ):
        stray = await statements.fetch_value(sql, {"district_code": district_code})
        if stray is not None:
            breaks.append(Break(district_code, tampering, None, stray))
    return Verified(seals, entries, breaks)


@dataclass(frozen=True)
class _Past:
    """What is known from the seals before one."""

    heads: AbstractSet[bytes] | None
    """Those to which it may be bound, as stored and as computed; None when one is missing."""
    sealed_at: datetime | None = None
    """When the one before it was made."""
    emptied_at: datetime | None = None
    """When the last was made that left nothing behind: nothing later is much older than that.

    Of what piles up while no worker runs, each batch is full but the last, and all are made in a
    moment: the older entries of a later one tell nothing.
    """

    def followed_by(self, seal: Mapping[str, Any]) -> "_Past":
        """Add the next seal."""
        computed = {audit_seals.head(head, seal) for head in self.heads or ()}
        return _Past(
            heads=computed | {seal["head"]},
            sealed_at=seal["sealed_at"],
            emptied_at=self.emptied_at if audit_seals.left_some_behind(seal) else seal["sealed_at"],
        )


async def _seals(statements: Statements, district_code: str) -> AsyncIterator[Mapping[str, Any]]:
    after = 0
    while True:
        row = await statements.fetch_row(_SEALS, {"district_code": district_code, "after": after})
        if row is None:
            return
        yield row
        after = row["sequence"]


async def _found(
    statements: Statements, district_code: str, ids: Sequence[UUID]
) -> Mapping[UUID, Mapping[str, Any]]:
    rows = await statements.fetch(_ENTRIES, {"district_code": district_code, "ids": list(ids)})
    return {row["id"]: row for row in rows}


async def _missighted(
    statements: Statements, district_code: str, seal: Mapping[str, Any]
) -> Sequence[Break]:
    ids = list(seal["entry_ids"])
    found = await statements.fetch_value(_UNSIGHTED, {"district_code": district_code, "ids": ids})
    if found is None:
        return ()
    return (Break(district_code, Tampering.MISSIGHTED, seal["sequence"], found),)


def _is_of_its_time(entry: Mapping[str, Any]) -> bool:
    """Tell whether an entry's time is that at which its id was made, or of the work before it."""
    made = audit_seals.made_at(entry["id"])
    at: datetime = entry["at"]
    return made - LONGEST <= at <= made + timedelta(seconds=1)


class _Check:
    """One seal beside what is stored of its entries."""

    def __init__(
        self, district_code: str, seal: Mapping[str, Any], found: Mapping[UUID, Mapping[str, Any]]
    ) -> None:
        self._district_code = district_code
        self._seal = seal
        self._found = found
        self._ids: Sequence[UUID] = seal["entry_ids"]
        sealed: bytes = seal["leaves"]
        self._leaves = [sealed[n : n + 32] for n in range(0, len(sealed), 32)]

    def breaks(self, past: _Past, published: Sequence[str]) -> Iterator[Break]:
        """Say what is wrong with the seal, its entries first: they are what it is for."""
        if (miscounted := self._of_numbers()) is not None:
            yield miscounted
            return
        yield from self._of_entries()
        for broken in (self._of_chain(past, published), self._of_times(past)):
            if broken is not None:
                yield broken

    def _break(self, tampering: Tampering, entry_id: UUID | None = None) -> Break:
        return Break(self._district_code, tampering, self._seal["sequence"], entry_id)

    def _of_numbers(self) -> Break | None:
        if len(self._ids) > self._seal["count"]:
            return self._break(Tampering.INSERTED, self._ids[-1])
        if len(self._ids) != self._seal["count"] or len(self._leaves) != len(self._ids):
            return self._break(Tampering.SEAL_ALTERED)
        return None

    def _of_entries(self) -> Iterator[Break]:
        wrong: list[tuple[UUID, bytes]] = []
        for identity, leaf in zip(self._ids, self._leaves, strict=True):
            entry = self._found.get(identity)
            if entry is None:
                yield self._break(Tampering.DELETED, identity)
            elif audit_seals.leaf(entry) != leaf and not _is_of_its_time(entry):
                yield self._break(Tampering.BACK_DATED, identity)
            elif audit_seals.leaf(entry) != leaf:
                wrong.append((identity, leaf))
            elif entry["malformed"] is not None:
                yield self._break(Tampering.MALFORMED, identity)
        if not wrong:
            return
        was_swapped = self._are_swapped(wrong[:_MOST_PAIRS])
        yield self._break(Tampering.SWAPPED if was_swapped else Tampering.ALTERED, wrong[0][0])

    def _are_swapped(self, wrong: Sequence[tuple[UUID, bytes]]) -> bool:
        """Tell whether the first wrong entry now says what another of them said, or stands there.

        Either the contents of two entries were exchanged, or their places in the seal.
        """
        identity, leaf = wrong[0]
        contents = [audit_seals.content_of(self._found[other]) for other, _ in wrong[1:]]
        if any(audit_seals.bind(identity, content) == leaf for content in contents):
            return True
        return audit_seals.leaf(self._found[identity]) in {other for _, other in wrong[1:]}

    def _of_chain(self, past: _Past, published: Sequence[str]) -> Break | None:
        seal = self._seal
        if audit_seals.root(self._leaves) != seal["root"]:
            return self._break(Tampering.SEAL_ALTERED)
        heads = past.heads
        if heads is not None and seal["head"] not in {audit_seals.head(h, seal) for h in heads}:
            is_early = past.sealed_at is not None and seal["sealed_at"] < past.sealed_at
            return self._break(Tampering.BACK_DATED if is_early else Tampering.SEAL_ALTERED)
        if published and published[0] != seal["head"].hex():
            return self._break(Tampering.HEAD_DIFFERS)
        if len(published) > 1:
            return self._break(Tampering.HEAD_CONTRADICTED)
        return None

    def _of_times(self, past: _Past) -> Break | None:
        if past.sealed_at is not None and self._seal["sealed_at"] < past.sealed_at:
            return self._break(Tampering.BACK_DATED)
        if past.emptied_at is None:
            return None
        bound = past.emptied_at - LONGEST
        identity = next((i for i, each in self._found.items() if each["at"] < bound), None)
        return None if identity is None else self._break(Tampering.BACK_DATED, identity)
