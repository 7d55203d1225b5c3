"""Copies of all that is stored about a member: every table in which she has rows."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, LargeBinary, Table, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.crypto import Keyring
from app.database import district_wide
from app.identity import Caller
from app.models.member_exports import MemberExport
from app.models.registry import metadata
from app.models.reveals import RevealPurpose
from app.paging import instant
from app.problems import Forbidden
from app.services import correction_texts, person_data, reveals
from app.services.person_data import PersonData

# Where her rows are found by an index only together with something else that is hers.
_NARROWED = {
    "payouts": " and t.round_sequence in"
    " (select sequence from exam_rounds where district_code = :district_code)",
    "person_keys": " and t.identity_hash = any(:identities)",
}
# An entry may name others besides her: what it says of itself stands beside where she is named.
_BESIDE = {
    "audit_sightings": (
        " join audit_entries e on e.district_code = t.district_code and e.id = t.entry_id",
        (instant("e.at"), "e.role", "e.act", "e.object_kind", "e.fields", "e.purpose", "e.refusal"),
    ),
}


def tables() -> Iterator[tuple[str, str]]:
    """Give each table that holds rows of members, and the column that says whose they are."""
    for name, table in sorted(metadata.tables.items()):
        if name == "members":
            yield name, "id"
        for column in ("member_id", "person_id"):
            if column in table.columns:
                yield name, column


def _refuse_the_blind(caller: Caller) -> None:
    """Raise Forbidden for the employer's side: a copy says which health checks she came to."""
    if caller.blind_to_health_checks:
        raise Forbidden


async def show(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, member_id: UUID, now: datetime
) -> MemberExport:
    """Give a copy with ID number, phone and payout account masked; raises NotFound."""
    _refuse_the_blind(caller)
    async with district_wide(session):
        data = await reveals.read(session, caller, keyring, member_id=member_id)
        rows = await _rows(session, caller, keyring, member_id=member_id, data=data)
    return _export(member_id, now, rows, person_data.mask(data))


async def hand_out(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, member_id: UUID, now: datetime
) -> MemberExport:
    """Give a copy in full, which counts as revealing what it shows.

    Raises NotFound or reveals.RevealLimitReached.
    """
    _refuse_the_blind(caller)
    async with district_wide(session):
        data = await reveals.read(session, caller, keyring, member_id=member_id)
        fields = reveals.values(data)
        await reveals.account_for(
            session,
            caller,
            member_id=member_id,
            fields=tuple(field for field, value in fields.items() if value is not None),
            purpose=RevealPurpose.COPY_FOR_MEMBER,
            now=now,
        )
        rows = await _rows(session, caller, keyring, member_id=member_id, data=data)
    return _export(member_id, now, rows, data)


def _export(
    member_id: UUID, now: datetime, rows: dict[str, list[dict[str, Any]]], data: PersonData
) -> MemberExport:
    return MemberExport(
        member_id=member_id,
        made_at=now,
        id_number=data.id_number,
        phone=data.phone,
        payout_account=None if data.account is None else str(data.account),
        tables=rows,
    )


async def _rows(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, member_id: UUID, data: PersonData
) -> dict[str, list[dict[str, Any]]]:
    number = data.id_number
    held = [] if number is None else person_data.identities(keyring, number)
    params = {"district_code": caller.district_code, "id": member_id, "identities": held}
    found = {
        name: await _hers(session, metadata.tables[name], column, params)
        for name, column in tables()
    }
    written = await correction_texts.of_member(
        session, keyring, district_code=caller.district_code, member_id=member_id
    )
    found["corrections"] = [row | written[row["id"]] for row in found["corrections"]]
    return found


async def _hers(
    session: AsyncSession, table: Table, column: str, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    narrowed = _NARROWED.get(table.name, "")
    joined, beside = _BESIDE.get(table.name, ("", ()))
    keys = ", ".join(f"t.{key.name}" for key in table.primary_key.columns)
    sql = (
        f"select row_to_json(item) from (select {', '.join((*_shown(table), *beside))}"
        f" from {table.name} t{joined} where t.district_code = :district_code"
        f" and t.{column} = :id{narrowed} order by {keys}) item"
    )
    wanted = {name: value for name, value in params.items() if f":{name}" in sql}
    return list((await session.execute(text(sql), wanted)).scalars())


def _shown(table: Table) -> Iterator[str]:
    """Give the columns that say something: no keys, hashes and ciphertexts."""
    for column in table.columns:
        if isinstance(column.type, DateTime):
            yield instant(f"t.{column.name}")
        elif not isinstance(column.type, LargeBinary):
            yield f"t.{column.name}"
