"""What a roster changes: members updated set-wise with what they consented to, rows answered."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.ciphers import Cipher
from app.crypto import Keyring
from app.database import copy, positional
from app.identity import Caller
from app.models.membership.members import Member
from app.models.operations import RowOutcome
from app.models.privacy.privacy_notices import ConsentPurpose
from app.services.membership.roster_persons import Row
from app.services.privacy import (
    cleared_phones,
    consenting,
    data_keys,
    office_phones,
    person_data,
    privacy_notices,
)

_CHANGES = (
    "create temporary table changes (member_id uuid, name text, employee_no text,"
    " consent_ids uuid[], identity_on date, contact_on date, payment_on date, thanks_on date,"
    " id_number_sealed bytea, id_number_index bytea,"
    " phone_sealed bytea, phone_index bytea, former_phone_index bytea)"
    " on commit drop"
)
_CHANGED = (
    "member_id", "name", "employee_no", "consent_ids", "identity_on", "contact_on", "payment_on",
    "thanks_on", "id_number_sealed", "id_number_index", "phone_sealed", "phone_index",
    "former_phone_index",
)  # fmt: skip
# A blank in the file never clears what is stored, and no file changes by what a member logs in; it
# says of the phone on file whether somebody else than the employer vouches for it.
_UPDATE = """
update members m set name = c.name, employee_no = coalesce(c.employee_no, m.employee_no),
  identity_consented_on = coalesce(c.identity_on, m.identity_consented_on),
  contact_consented_on = coalesce(c.contact_on, m.contact_consented_on),
  payment_consented_on = coalesce(c.payment_on, m.payment_consented_on),
  thanks_consented_on = coalesce(c.thanks_on, m.thanks_consented_on),
  thanks_withdrawn_on = case when c.thanks_on is null then m.thanks_withdrawn_on end,
  id_number_sealed = coalesce(c.id_number_sealed, m.id_number_sealed),
  id_number_index = coalesce(c.id_number_index, m.id_number_index),
  phone_sealed = coalesce(m.phone_sealed, c.phone_sealed),
  phone_index = coalesce(m.phone_index, c.phone_index),
  phone_unconfirmed_since = case when c.phone_index is null then m.phone_unconfirmed_since
    when m.phone_index is null
      or :unconfirmed_since::timestamptz is null
        and m.phone_index in (c.phone_index, c.former_phone_index)
      then :unconfirmed_since::timestamptz
    else m.phone_unconfirmed_since end,
  version = m.version + 1, updated_at = :now
from changes c where m.district_code = :district_code and m.id = c.member_id
  and m.erased_at is null
"""
# Each consent that the file tells of for the first time, in the statement before the row's own.
_CONSENT = f"""
insert into consents (district_code, member_id, purpose, id, state, notice_number, language,
  method, acted_on, recorded_at, recorded_by, withdraws)
select m.district_code, m.id, p.purpose, c.consent_ids[p.place], 'given',
  {privacy_notices.IN_FORCE.format(purpose="p.purpose", on="p.given_on")}, null, 'import',
  p.given_on, {consenting.LATER.format(at=":now", member="m.id")}, :by, null
from changes c join members m on m.district_code = :district_code and m.id = c.member_id
cross join lateral (values
  ('identity', 1, c.identity_on, m.identity_consented_on),
  ('contact', 2, c.contact_on, m.contact_consented_on),
  ('payment', 3, c.payment_on, m.payment_consented_on),
  ('thanks', 4, c.thanks_on, m.thanks_consented_on)) p(purpose, place, given_on, held_on)
where m.district_code = :district_code and m.erased_at is null
  and p.given_on is distinct from p.held_on and p.given_on is not null
"""
# A file gives nothing again that she withdrew herself, nor the employer's side what was ever
# withdrawn, whatever day it says.
WITHDRAWN = (
    "select c.member_id, c.purpose, max(case when :is_employers::boolean"
    f" or {consenting.BY_HERSELF} then 'infinity' else c.acted_on end) as acted_on"
    " from consents c where c.district_code = :district_code and c.withdraws is not null{}"
    " group by c.member_id, c.purpose"
)
"""Until when each purpose was withdrawn: a consent of a later day is taken from a file."""
_WITHDRAWN = WITHDRAWN.format(" and c.member_id = any(:ids)")
_CLEARED = (
    "select m.id as member_id from members m where m.district_code = :district_code"
    " and m.id = any(:ids) and m.phone_index is null and exists (select from held_changes c"
    f" where {cleared_phones.IN_QUESTION} and c.member_id = m.id)"
)
# Held until the end, so that no key is destroyed between its reading and its use.
_HOLD = (
    "select id from members where district_code = :district_code and id = any(:ids)"
    " and erased_at is null order by id for no key update"
)
_DATA_KEY = ("district_code", "member_id", "wrapped", "master_version")
_PERSON_KEY = ("identity_hash", "district_code", "member_id")
_ANSWER = ("district_code", "operation_id", "row_no", "outcome", "member_id", "notes")


@dataclass(frozen=True)
class Stage:
    """The database connection of one import, and whose and when it is."""

    connection: asyncpg.Connection
    district_code: str
    now: datetime
    today: date
    caller: Caller
    notices: Mapping[ConsentPurpose, Sequence[tuple[int, date]]]

    @property
    def by(self) -> str:
        """Give who sent the file."""
        return self.caller.subject

    @property
    def unconfirmed_since(self) -> datetime | None:
        """Give since when nobody vouches for what the file says, where it is the employer's."""
        return self.now if self.caller.employer_linked else None

    async def run(self, sql: str, **params: Any) -> list[asyncpg.Record]:
        """Run a statement of this district with `:name` parameters."""
        query, values = self._given(sql, params)
        rows: list[asyncpg.Record] = await self.connection.fetch(query, *values)
        return rows

    async def run_afresh(self, sql: str, **params: Any) -> list[asyncpg.Record]:
        """Run a statement planned anew: a plan kept from when a table was small reads all of it."""
        query, values = self._given(sql, params)
        statement = await self.connection.prepare(query)
        rows: list[asyncpg.Record] = await statement.fetch(*values)
        return rows

    def _given(self, sql: str, params: Mapping[str, Any]) -> tuple[str, list[Any]]:
        query, names = positional(sql)
        given = {"district_code": self.district_code, "now": self.now, **params}
        return query, [given[name] for name in names]

    async def copy(self, table: str, columns: Sequence[str], records: Sequence[Any]) -> None:
        """Append records to a temporary table by COPY."""
        if records:
            await self.connection.copy_records_to_table(table, columns=columns, records=records)

    async def store(self, table: str, columns: Sequence[str], records: Sequence[Any]) -> None:
        """Append records to a table behind the walls."""
        if records:
            await copy(self.connection, table, columns=columns, records=records)


async def store_changes(
    session: AsyncSession, stage: Stage, keyring: Keyring, rows: Sequence[Row]
) -> None:
    """Write what differs to the members that the file updates; some phones wait."""
    changed = [row for row in rows if row.outcome == RowOutcome.UPDATED]
    if not changed:
        return
    ids = [row.member_id for row in changed]
    held = {record["id"] for record in await stage.run(_HOLD, ids=ids)}
    changed = [row for row in changed if row.member_id in held]
    await _leave_out(stage, changed, ids)
    await _hold_phones(stage, changed, ids)
    await stage.run(_CHANGES)
    keys = await _keys_of(stage, keyring, changed)
    await stage.copy("changes", _CHANGED, [_change(keys, row) for row in changed])
    await stage.run(_CONSENT, by=stage.by)
    await stage.run(_UPDATE, unconfirmed_since=stage.unconfirmed_since)
    await _claim(stage, changed)
    await _let_phones_wait(session, stage, keyring, changed)


async def _leave_out(stage: Stage, rows: Sequence[Row], ids: Sequence[UUID | None]) -> None:
    """Look once more, now that nobody else can, for what was withdrawn while the file was read."""
    since: dict[UUID, dict[ConsentPurpose, date]] = {}
    withdrawals = await stage.run(_WITHDRAWN, ids=ids, is_employers=stage.caller.employer_linked)
    for record in withdrawals:
        withdrawn = since.setdefault(record["member_id"], {})
        withdrawn[ConsentPurpose(record["purpose"])] = record["acted_on"]
    for row in rows:
        if row.member_id in since and row.consented_on is not None:
            taken = since[row.member_id]
            row.leave_out(frozenset(each for each in taken if taken[each] >= row.consented_on))


async def _hold_phones(stage: Stage, rows: Sequence[Row], ids: Sequence[UUID | None]) -> None:
    """Look once more for phones that were taken away while the file was read."""
    cleared = {record["member_id"] for record in await stage.run(_CLEARED, ids=ids)}
    for row in rows:
        if row.member_id in cleared and stage.caller.employer_linked:
            row.leave_phone(office_phones.KEPT)
        elif row.member_id in cleared:
            row.hold_phone(office_phones.WAITS)


async def _let_phones_wait(
    session: AsyncSession, stage: Stage, keyring: Keyring, rows: Sequence[Row]
) -> None:
    for row in rows:
        if row.waiting_phone is not None:
            member = await session.get_one(Member, (stage.district_code, row.member_id))
            await cleared_phones.follow(
                session, keyring, member=member, phone=row.waiting_phone, now=stage.now
            )


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
    hashes = {each: row.member_id for row in rows for each in identities(row)}
    held = await stage.run(
        "select identity_hash from person_keys where identity_hash = any(:hashes)"
        " and district_code = :district_code",
        hashes=list(hashes),
    )
    for record in held:
        del hashes[record["identity_hash"]]
    keys = [(each, stage.district_code, member_id) for each, member_id in hashes.items()]
    await stage.store("person_keys", _PERSON_KEY, keys)


def identities(row: Row) -> Iterator[bytes]:
    """Give what is unique in the nation, under each version of the index key in use."""
    if row.id_number is None:
        return
    former = None if row.former is None else row.former.identity
    yield from (each for each in (row.identity, former) if each is not None)


def _change(keys: Mapping[UUID | None, Cipher], row: Row) -> tuple[Any, ...]:
    sealed = _sealed(keys.get(row.member_id), row)
    ids = [clock.new_id() for _ in ConsentPurpose]
    dates = map(row.given_on, ConsentPurpose)
    former = row.former and row.former.phone_index
    return (row.member_id, row.name, row.employee_no, ids, *dates, *sealed, former)


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


async def store_answers(stage: Stage, operation_id: UUID, rows: Sequence[Row]) -> None:
    """Write what became of each row, without anything that the row says."""
    records = [
        (
            stage.district_code,
            operation_id,
            row.row_no,
            row.outcome,
            row.member_id,
            json.dumps(row.notes) if row.notes else "[]",
        )
        for row in rows
    ]
    await stage.store("import_rows", _ANSWER, records)
