"""New people of a roster enrolled: sealed part by part, stored set-wise from one staged table."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from app import clock
from app.crypto import Keyring
from app.models.privacy.privacy_notices import ConsentPurpose
from app.services.membership.roster_persons import Row
from app.services.membership.roster_storing import Stage, identities
from app.services.privacy import data_keys, person_data

# What is the same for all of them, so that the statements below need no parameters.
_BEGIN = "create temporary table enrolment on commit drop as select {facts}"
_FACTS = (
    ":district_code::text as district_code, :operation_id::uuid as operation_id,"
    " :now::timestamptz as recorded_at, :by::text as recorded_by,"
    " :master_version::integer as master_version,"
    " :unconfirmed_since::timestamptz as unconfirmed_since"
)
_PURPOSE_COLUMNS = ", ".join(f"{each}_event uuid, {each}_notice integer" for each in ConsentPurpose)
_STAGE = (
    "create temporary table enrolled (row_no integer, id uuid, association_id uuid, area_code text,"
    " name text, employee_no text, joined_on date, consented_on date, id_number_sealed bytea,"
    " id_number_index bytea, phone_sealed bytea, phone_index bytea, wrapped bytea, identity bytea,"
    f" former_identity bytea, notes text, {_PURPOSE_COLUMNS}) on commit drop"
)
_COLUMNS = (
    "row_no", "id", "association_id", "area_code", "name", "employee_no", "joined_on",
    "consented_on", "id_number_sealed", "id_number_index", "phone_sealed", "phone_index",
    "wrapped", "identity", "former_identity", "notes",
    *(f"{purpose}_{what}" for purpose in ConsentPurpose for what in ("event", "notice")),
)  # fmt: skip
_GIVEN = "case when e.{0}_event is not null then e.consented_on end"
_EVENTS = ", ".join(
    f"('{purpose}', e.{purpose}_event, e.{purpose}_notice)" for purpose in ConsentPurpose
)
# One round trip stores a part; what each statement points to is stored by the ones before.
_STORE = f"""
insert into members (district_code, id, version, created_at, updated_at, association_id, area_code,
  status, name, employee_no, first_joined_on, identity_consented_on, contact_consented_on,
  payment_consented_on, thanks_consented_on, id_number_sealed, id_number_index, phone_sealed,
  phone_index, phone_unconfirmed_since)
select f.district_code, e.id, 1, f.recorded_at, f.recorded_at, e.association_id, e.area_code,
  'active', e.name, e.employee_no, e.joined_on,
  {", ".join(_GIVEN.format(purpose) for purpose in ConsentPurpose)},
  e.id_number_sealed, e.id_number_index, e.phone_sealed, e.phone_index,
  case when e.phone_sealed is not null then f.unconfirmed_since end
from enrolled e cross join enrolment f;
insert into memberships (district_code, member_id, joined_on, association_id, recorded_at)
select f.district_code, e.id, e.joined_on, e.association_id, f.recorded_at
from enrolled e cross join enrolment f;
insert into consents (district_code, member_id, purpose, id, state, notice_number, method, acted_on,
  recorded_at, recorded_by)
select f.district_code, e.id, p.purpose, p.id, 'given', p.notice_number, 'import', e.consented_on,
  f.recorded_at, f.recorded_by
from enrolled e cross join enrolment f
cross join lateral (values {_EVENTS}) p(purpose, id, notice_number)
where p.id is not null;
insert into data_keys (district_code, member_id, wrapped, master_version)
select f.district_code, e.id, e.wrapped, f.master_version
from enrolled e cross join enrolment f where e.wrapped is not null;
insert into person_keys (identity_hash, district_code, member_id)
select i.hash, f.district_code, e.id from enrolled e cross join enrolment f
cross join lateral (values (e.identity), (e.former_identity)) i(hash) where i.hash is not null;
insert into import_rows (district_code, operation_id, row_no, outcome, member_id, notes)
select f.district_code, f.operation_id, e.row_no, 'created', e.id, coalesce(e.notes, '[]')::jsonb
from enrolled e cross join enrolment f;
truncate enrolled
"""

_Terms = Sequence[tuple[bool, int | None]]
"""For each purpose whether it was consented to, and under which version of the notice."""


class Enrolment:
    """Enrols the new people of one import; a part is sealed while the one before is stored."""

    def __init__(self, stage: Stage, keyring: Keyring, operation_id: UUID) -> None:
        """Take whose roster it is; `begin` comes first."""
        self._stage = stage
        self._keyring = keyring
        self._operation_id = operation_id
        self._sealed: list[tuple[Any, ...]] = []

    async def begin(self) -> None:
        """Make the tables from which all is stored."""
        facts = {"operation_id": self._operation_id, "by": self._stage.by}
        facts["master_version"] = self._keyring.master_version
        facts["unconfirmed_since"] = self._stage.unconfirmed_since
        await self._stage.run(_BEGIN.format(facts=_FACTS), **facts)
        await self._stage.run(_STAGE)

    async def add(self, rows: Sequence[Row]) -> None:
        """Seal a part beside the event loop, and meanwhile store the one that was added before."""
        sealing = asyncio.to_thread(_seal, self._stage, self._keyring, rows)
        self._sealed, _ = await asyncio.gather(sealing, self._store(self._sealed))

    async def finish(self) -> None:
        """Store the last part."""
        await self._store(self._sealed)
        self._sealed = []

    async def _store(self, records: Sequence[tuple[Any, ...]]) -> None:
        if records:
            await self._stage.copy("enrolled", _COLUMNS, records)
            await self._stage.connection.execute(_STORE)


def _seal(stage: Stage, keyring: Keyring, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Make the records of new people, each sealed under a key of her own."""
    terms: dict[tuple[frozenset[ConsentPurpose], date | None], _Terms] = {}
    records = []
    for row in rows:
        said = (row.consents, row.consented_on)
        if said not in terms:
            terms[said] = _terms(stage.notices, *said)
        records.append(_record(stage, keyring, row, terms[said]))
    return records


def _terms(
    notices: Mapping[ConsentPurpose, Sequence[tuple[int, date]]],
    consents: frozenset[ConsentPurpose],
    consented_on: date | None,
) -> _Terms:
    def number(purpose: ConsentPurpose) -> int | None:
        known = [
            number
            for number, effective_on in notices.get(purpose, ())
            if consented_on is not None and effective_on <= consented_on
        ]
        return max(known, default=None)

    return [(purpose in consents, number(purpose)) for purpose in ConsentPurpose]


def _record(stage: Stage, keyring: Keyring, row: Row, terms: _Terms) -> tuple[Any, ...]:
    member_id = clock.new_name()
    id_sealed = phone_sealed = key = wrapped = None
    if row.id_number is not None or row.phone is not None:
        key, (wrapped, _) = data_keys.make(keyring, member_id)
        if row.id_number is not None:
            id_sealed = person_data.seal_id_number(key, member_id, row.id_number)
        if row.phone is not None:
            phone_sealed = person_data.seal_phone(key, member_id, row.phone)
    identity, former = _two(identities(row))
    return (
        row.row_no, member_id, row.place and row.place.id, row.place and row.place.area_code,
        row.name, row.employee_no, row.joined_on or stage.today, row.consented_on,
        id_sealed, id_sealed and row.id_index, phone_sealed, phone_sealed and row.phone_index,
        wrapped, identity, former, json.dumps(row.notes) if row.notes else None,
        *_events(terms),
    )  # fmt: skip


def _two(hashes: Iterator[bytes]) -> tuple[bytes | None, bytes | None]:
    return next(hashes, None), next(hashes, None)


def _events(terms: _Terms) -> list[str | int | None]:
    events: list[str | int | None] = []
    for is_given, number in terms:
        events += (clock.new_name(), number) if is_given else (None, None)
    return events
