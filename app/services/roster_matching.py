"""Who of a roster is a member already: found set-wise, decided row by row, stored set-wise."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import date, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import asyncpg

from app import clock, reach
from app.ciphers import Cipher
from app.crypto import Keyring
from app.database import copy, positional
from app.identity import Caller
from app.models.operations import RowOutcome
from app.models.rosters import RosterColumn
from app.services import data_keys, person_data
from app.services.roster_rows import Row

_STAGE = (
    "create temporary table staged (row_no integer, association_id uuid, name text,"
    ' employee_no text collate "C", consented_on date, id_index bytea, phone_index bytea,'
    " identity bytea, former_id_index bytea, former_phone_index bytea, former_identity bytea)"
    " on commit drop"
)
_STAGED = (
    "row_no", "association_id", "name", "employee_no", "consented_on", "id_index", "phone_index",
    "identity", "former_id_index", "former_phone_index", "former_identity",
)  # fmt: skip
# Others enrol under a shared lock of the association: they wait, and then see what was stored.
_LOCK = (
    "select id from associations where district_code = :district_code and id = any(:associations)"
    " order by id for no key update"
)
# Only rows that meet somebody are answered; all others are new.
_HITS = """
with namesakes as (
  select m.association_id, m.name,
    array_agg(m.id) filter (where m.employee_no is null and m.id_number_index is null) as bare
  from members m where m.district_code = :district_code and m.association_id = any(:associations)
    and m.status = 'active' group by m.association_id, m.name
), hits as (
  select s.*, coalesce(i.id, f.id) as by_id, e.id as by_no, e.id_number_index as holder_index,
    n.name is not null as has_namesakes, coalesce(cardinality(n.bare), 0) as bare_count,
    n.bare[1] as by_name, coalesce(k.member_id, g.member_id) as key_holder
  from staged s
  left join members i on i.district_code = :district_code and i.id_number_index = s.id_index
  left join members f on f.district_code = :district_code
    and f.id_number_index = s.former_id_index
  left join members e on e.district_code = :district_code
    and e.association_id = s.association_id and e.employee_no = s.employee_no
    and e.status = 'active'
  left join namesakes n on n.association_id = s.association_id and n.name = s.name
  left join person_keys k on k.identity_hash = s.identity
  left join person_keys g on g.identity_hash = s.former_identity
)
select h.row_no, h.by_id, h.by_no, h.by_name, h.has_namesakes, h.bare_count,
  h.key_holder is not null as is_claimed,
  h.by_no is not null and h.id_index is not null and h.holder_index is not null
    and h.holder_index <> h.id_index
    and h.holder_index is distinct from h.former_id_index as is_number_of_another,
  t.association_id is distinct from h.association_id as is_elsewhere,
  t.status = 'left' as has_left, {reach} as in_reach,
  t.name = h.name and coalesce(t.employee_no = h.employee_no, h.employee_no is null)
    and (h.consented_on is null or (t.consented_on is not distinct from h.consented_on
      and (h.id_index is null or t.id_number_index is not distinct from h.id_index
        or t.id_number_index = h.former_id_index)
      and (h.phone_index is null or t.phone_index is not distinct from h.phone_index
        or t.phone_index = h.former_phone_index))) as is_same
from hits h
left join members t on t.district_code = :district_code
  and t.id = coalesce(h.by_id, h.by_no, h.by_name)
where h.by_id is not null or h.by_no is not null or h.has_namesakes or h.key_holder is not null
"""
_CHANGES = (
    "create temporary table changes (member_id uuid, name text, employee_no text,"
    " consented_on date, id_number_sealed bytea, id_number_index bytea,"
    " phone_sealed bytea, phone_index bytea)"
    " on commit drop"
)
_CHANGED = (
    "member_id", "name", "employee_no", "consented_on", "id_number_sealed", "id_number_index",
    "phone_sealed", "phone_index",
)  # fmt: skip
# A blank in the file never clears what is stored.
_UPDATE = """
update members m set name = c.name, employee_no = coalesce(c.employee_no, m.employee_no),
  consented_on = coalesce(c.consented_on, m.consented_on),
  id_number_sealed = coalesce(c.id_number_sealed, m.id_number_sealed),
  id_number_index = coalesce(c.id_number_index, m.id_number_index),
  phone_sealed = coalesce(c.phone_sealed, m.phone_sealed),
  phone_index = coalesce(c.phone_index, m.phone_index),
  version = m.version + 1, updated_at = :now
from changes c where m.district_code = :district_code and m.id = c.member_id
  and m.erased_at is null
"""
# Held until the end, so that no key is destroyed between its reading and its use.
_HOLD = (
    "select id from members where district_code = :district_code and id = any(:ids)"
    " and erased_at is null order by id for no key update"
)
_MEMBER = (
    "district_code", "id", "version", "created_at", "updated_at", "association_id", "area_code",
    "status", "name", "employee_no", "first_joined_on", "consented_on", "id_number_sealed",
    "id_number_index", "phone_sealed", "phone_index",
)  # fmt: skip
_MEMBERSHIP = ("district_code", "member_id", "joined_on", "association_id")
_DATA_KEY = ("district_code", "member_id", "wrapped", "master_version")
_PERSON_KEY = ("identity_hash", "district_code", "member_id")
_ANSWER = ("district_code", "operation_id", "row_no", "outcome", "member_id", "notes")


_NO_FORMER = (None, None, None)


@dataclass(frozen=True)
class Stage:
    """The database connection of one import, and whose and when it is."""

    connection: asyncpg.Connection
    district_code: str
    now: datetime
    today: date

    async def run(self, sql: str, **params: Any) -> list[asyncpg.Record]:
        """Run a statement of this district with `:name` parameters."""
        query, names = positional(sql)
        given = {"district_code": self.district_code, "now": self.now, **params}
        rows: list[asyncpg.Record] = await self.connection.fetch(
            query, *(given[name] for name in names)
        )
        return rows

    async def copy(self, table: str, columns: Sequence[str], records: Sequence[Any]) -> None:
        """Append records to a temporary table by COPY."""
        if records:
            await self.connection.copy_records_to_table(table, columns=columns, records=records)

    async def store(self, table: str, columns: Sequence[str], records: Sequence[Any]) -> None:
        """Append records to a table behind the walls."""
        if records:
            await copy(self.connection, table, columns=columns, records=records)


async def match(stage: Stage, caller: Caller, rows: Sequence[Row]) -> None:
    """Give every row its outcome and, where there is one, its member."""
    good = [row for row in rows if not row.rejected]
    associations = list({row.place.id for row in good if row.place is not None})
    await stage.run(_LOCK, associations=associations)
    await stage.run(_STAGE)
    await stage.copy("staged", _STAGED, [_staged(row) for row in good])
    await stage.run("analyze staged")
    condition, params = reach.within(caller, area="t.area_code", association="t.association_id")
    hits = await stage.run(_HITS.format(reach=condition), associations=associations, **params)
    by_no = {hit["row_no"]: hit for hit in hits}
    _decide(good, by_no)
    for row in rows:
        if row.rejected:
            row.outcome = RowOutcome.REJECTED


def _staged(row: Row) -> tuple[Any, ...]:
    return (
        row.row_no,
        row.place and row.place.id,
        row.name,
        row.employee_no,
        row.consented_on,
        row.id_index,
        row.phone_index,
        row.identity,
        *(_NO_FORMER if row.former is None else astuple(row.former)),
    )


def _decide(rows: Sequence[Row], hits: dict[int, asyncpg.Record]) -> None:
    claims = Counter(hit["by_name"] for hit in hits.values() if _is_by_name(hit))
    taken: dict[UUID, int] = {}
    for row in rows:
        hit = hits.get(row.row_no)
        if hit is not None:
            _meet(row, hit, claims)
        if row.rejected:
            continue
        if row.member_id is None:
            row.outcome = RowOutcome.CREATED
        elif row.member_id in taken:
            row.reject(None, "duplicate_member", row=taken[row.member_id])
        else:
            taken[row.member_id] = row.row_no


def _is_by_name(hit: asyncpg.Record) -> bool:
    return hit["by_id"] is None and hit["by_no"] is None and hit["bare_count"] == 1


def _meet(row: Row, hit: asyncpg.Record, claims: Counter[UUID]) -> None:
    """Decide a row that meets a member: by ID number, else employee number, else name."""
    if hit["by_id"] is not None:
        _meet_by_id(row, hit)
    elif hit["is_claimed"]:
        row.reject(RosterColumn.ID_NUMBER, "already_enrolled_elsewhere")
    elif hit["is_number_of_another"]:
        row.reject(RosterColumn.EMPLOYEE_NO, "employee_no_taken")
    elif hit["by_no"] is not None:
        row.member_id = hit["by_no"]
    elif hit["has_namesakes"]:
        _meet_by_name(row, hit, claims)
    if row.member_id is not None and not row.rejected:
        row.outcome = RowOutcome.UNCHANGED if hit["is_same"] else RowOutcome.UPDATED


def _meet_by_id(row: Row, hit: asyncpg.Record) -> None:
    if not hit["in_reach"]:
        row.reject(RosterColumn.ID_NUMBER, "already_enrolled_elsewhere")
        return
    row.member_id = hit["by_id"]
    if hit["is_elsewhere"]:
        row.reject(RosterColumn.ASSOCIATION, "in_another_association")
    elif hit["has_left"]:
        row.reject(RosterColumn.JOINED_ON, "has_left")
    elif hit["by_no"] not in {None, hit["by_id"]}:
        row.reject(RosterColumn.EMPLOYEE_NO, "employee_no_taken")


def _meet_by_name(row: Row, hit: asyncpg.Record, claims: Counter[UUID]) -> None:
    """Take a namesake without numbers for the same person, if there is no doubt which."""
    has_number = row.employee_no is not None or row.id_index is not None
    if hit["bare_count"] == 0 and has_number:
        return
    if hit["bare_count"] != 1 or claims[hit["by_name"]] > 1:
        row.reject(RosterColumn.NAME, "name_ambiguous")
        return
    row.member_id = hit["by_name"]
    if has_number:
        row.note(RosterColumn.NAME, "matched_by_name")


def to_create(rows: Sequence[Row]) -> Iterator[Row]:
    """Give the rows of new people."""
    return (row for row in rows if row.outcome == RowOutcome.CREATED)


async def store_changes(stage: Stage, keyring: Keyring, rows: Sequence[Row]) -> None:
    """Write what differs to the members that the file updates."""
    changed = [row for row in rows if row.outcome == RowOutcome.UPDATED]
    if not changed:
        return
    ids = [row.member_id for row in changed]
    held = {record["id"] for record in await stage.run(_HOLD, ids=ids)}
    changed = [row for row in changed if row.member_id in held]
    await stage.run(_CHANGES)
    keys = await _keys_of(stage, keyring, changed)
    await stage.copy("changes", _CHANGED, [_change(keys, row) for row in changed])
    await stage.run(_UPDATE)
    await _claim(stage, changed)


async def _keys_of(
    stage: Stage, keyring: Keyring, rows: Sequence[Row]
) -> dict[UUID | None, Cipher]:
    """Give the data keys of members, made for those with something to seal and no key yet."""
    ids = [row.member_id for row in rows]
    found = await stage.run(data_keys.FIND, ids=ids)
    keys: dict[UUID | None, Cipher] = {
        record["member_id"]: data_keys.opened(keyring, record) for record in found
    }
    made = []
    for row in rows:
        if row.member_id not in keys and row.member_id and (row.id_number or row.phone):
            keys[row.member_id], wrapped = data_keys.make(keyring, row.member_id)
            made.append((stage.district_code, row.member_id, *wrapped))
    await stage.store("data_keys", _DATA_KEY, made)
    return keys


async def _claim(stage: Stage, rows: Sequence[Row]) -> None:
    """Store the nation's keys of members whose file says their ID number for the first time."""
    hashes = {each: row.member_id for row in rows for each in _identities(row)}
    held = await stage.run(
        "select identity_hash from person_keys where identity_hash = any(:hashes)"
        " and district_code = :district_code",
        hashes=list(hashes),
    )
    for record in held:
        del hashes[record["identity_hash"]]
    keys = [(each, stage.district_code, member_id) for each, member_id in hashes.items()]
    await stage.store("person_keys", _PERSON_KEY, keys)


def _identities(row: Row) -> Iterator[bytes]:
    """Give what is unique in the nation, under each version of the index key in use."""
    if row.id_number is None:
        return
    former = None if row.former is None else row.former.identity
    yield from (each for each in (row.identity, former) if each is not None)


def _change(keys: Mapping[UUID | None, Cipher], row: Row) -> tuple[Any, ...]:
    sealed = _sealed(keys.get(row.member_id), row)
    return (row.member_id, row.name, row.employee_no, row.consented_on, *sealed)


def _sealed(key: Cipher | None, row: Row) -> tuple[bytes | None, ...]:
    """Give ID number and phone encrypted for the row's member, each with its index."""
    member_id, number, phone = row.member_id, row.id_number, row.phone
    if member_id is None or key is None:
        return (None, None, None, None)
    return (
        person_data.seal_id_number(key, member_id, number) if number else None,
        row.id_index if number else None,
        person_data.seal_phone(key, member_id, phone) if phone else None,
        row.phone_index if phone else None,
    )


@dataclass(frozen=True)
class NewMembers:
    """Some new people as the records of four tables."""

    members: list[tuple[Any, ...]]
    memberships: list[tuple[Any, ...]]
    data_keys: list[tuple[Any, ...]]
    person_keys: list[tuple[Any, ...]]


def enrol(stage: Stage, keyring: Keyring, rows: Iterator[Row], limit: int) -> NewMembers:
    """Make the records of the next people; encrypts, so call it beside the event loop."""
    new = NewMembers([], [], [], [])
    district, now = stage.district_code, stage.now
    for row in islice(rows, limit):
        row.member_id = member_id = clock.new_id()
        joined_on = row.joined_on or stage.today
        place = row.place
        if place is None:
            continue
        facts = (row.name, row.employee_no, joined_on, row.consented_on)
        base = (district, member_id, 1, now, now, place.id, place.area_code, "active")
        key = None
        if row.id_number is not None or row.phone is not None:
            key, wrapped = data_keys.make(keyring, member_id)
            new.data_keys.append((district, member_id, *wrapped))
        new.members.append((*base, *facts, *_sealed(key, row)))
        new.memberships.append((district, member_id, joined_on, place.id))
        new.person_keys.extend((each, district, member_id) for each in _identities(row))
    return new


async def store_new(stage: Stage, new: NewMembers) -> None:
    """Write new members with their memberships and keys."""
    await stage.store("members", _MEMBER, new.members)
    await stage.store("memberships", _MEMBERSHIP, new.memberships)
    await stage.store("data_keys", _DATA_KEY, new.data_keys)
    await stage.store("person_keys", _PERSON_KEY, new.person_keys)


async def store_answers(stage: Stage, operation_id: UUID, rows: Sequence[Row]) -> None:
    """Write what became of each row, without anything that the row says."""
    none = json.dumps([])
    records = [
        (
            stage.district_code,
            operation_id,
            row.row_no,
            row.outcome,
            row.member_id,
            json.dumps(row.notes) if row.notes else none,
        )
        for row in rows
    ]
    await stage.store("import_rows", _ANSWER, records)
