"""Copies of all that is stored about a member: every table in which she has rows."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import identifiers, numbered_ids
from app.ciphers import Cipher
from app.crypto import Keyring
from app.database import district_wide
from app.identity import Caller
from app.models.disbursement.payouts import payout_id
from app.models.privacy.held_changes import HeldField
from app.models.privacy.reveals import RevealField, RevealPurpose
from app.models.self_service.member_exports import MemberExport
from app.problems import Forbidden
from app.roles import Role
from app.services.audit.audit_entries import OF_PLACES
from app.services.disbursement import voucher_codes, voucher_issuing
from app.services.events import registrations
from app.services.privacy import correction_texts, data_keys, held_changes, person_data, reveals
from app.services.privacy.person_data import PayoutAccount, PersonData
from app.services.self_service import copied_rows

_Rows = dict[str, list[dict[str, Any]]]


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
        rows = await _rows(session, caller, keyring, member_id=member_id, data=data, now=now)
    return _export(member_id, now, _shown(rows, masked=True), person_data.mask(data))


async def hand_out(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, member_id: UUID, now: datetime
) -> MemberExport:
    """Give a copy in full, which counts as revealing what it shows.

    Raises NotFound, reveals.RevealLimitReached or held_changes.LoginTooOld.
    """
    _refuse_the_blind(caller)
    held_changes.require_recent_login(caller, now)
    async with district_wide(session):
        data = await reveals.read(session, caller, keyring, member_id=member_id)
        rows = await _rows(session, caller, keyring, member_id=member_id, data=data, now=now)
        fields = reveals.values(data)
        on_file = tuple(field for field, value in fields.items() if value is not None)
        await reveals.account_for(
            session,
            caller,
            member_id=member_id,
            fields=(*on_file, *_waiting(rows)),
            purpose=RevealPurpose.COPY_FOR_MEMBER,
            now=now,
        )
    return _export(member_id, now, _shown(rows, masked=False), data)


def _waiting(rows: _Rows) -> tuple[RevealField, ...]:
    """Tell what waits to be hers and is shown."""
    held = [row for row in rows["held_changes"] if row["value"] is not None]
    return tuple(RevealField(row["field"]) for row in held)


def _export(member_id: UUID, now: datetime, rows: _Rows, data: PersonData) -> MemberExport:
    return MemberExport(
        member_id=member_id,
        made_at=now,
        id_number=data.id_number,
        phone=data.phone,
        payout_account=None if data.account is None else str(data.account),
        tables=rows,
    )


async def _rows(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    data: PersonData,
    now: datetime,
) -> _Rows:
    number = data.id_number
    held = [] if number is None else person_data.identities(keyring, number)
    district = caller.district_code
    params = {"district_code": district, "id": member_id, "identities": held}
    found = await copied_rows.read(session, params=params)
    written = await correction_texts.of_member(
        session, keyring, district_code=district, member_id=member_id
    )
    found["corrections"] = [row | written[row["id"]] for row in found["corrections"]]
    keys = await data_keys.find(session, keyring, district_code=district, ids=[member_id])
    key = keys.get(member_id)
    for row in found["held_changes"]:
        row["value"] = _waiting_value(key, row)
    is_herself = caller.role is Role.MEMBER
    if not is_herself:
        missed = await registrations.missed(
            session, district_code=district, member_id=member_id, now=now
        )
        found["registrations"] = [
            row for row in found["registrations"] if UUID(row["event_id"]) not in missed
        ]
        found["audit_sightings"] = [
            row for row in found["audit_sightings"] if row["object_kind"] != OF_PLACES
        ]
    for row in found["vouchers"]:
        row["code"] = _code(key if is_herself else None, row)
    return {name: [_without_counts(keyring, row) for row in each] for name, each in found.items()}


def _without_counts(keyring: Keyring, row: dict[str, Any]) -> dict[str, Any]:
    """Put a payout's id in place of its line, and leave out other numbers that count her.

    Those are of an entry in its posting, and of who asked for a place at an event: from two copies
    it would follow how many lie between.
    """
    counts = {name: row.pop(name) for name in copied_rows.COUNTED if name in row}
    if "line_no" in counts:
        line = payout_id(UUID(row["run_id"]), counts["line_no"])
        row["payout_id"] = str(numbered_ids.shown(keyring, line))
    return row


def _waiting_value(key: Cipher | None, row: dict[str, Any]) -> PayoutAccount | str | None:
    """Open what waits to be hers; a phone that was taken away may be another's."""
    sealed, field = row.pop("value_sealed"), HeldField(row["field"])
    if key is None or sealed is None or field is HeldField.CLEARED_PHONE:
        return None
    value = held_changes.opened(key, field, UUID(row["id"]), bytes.fromhex(sealed))
    return value.decode() if field is HeldField.PHONE else person_data.decode_account(value)


def _code(key: Cipher | None, row: dict[str, Any]) -> str | None:
    """Open the code of a voucher, which no office reads."""
    sealed = row.pop("code_sealed")
    if key is None or sealed is None:
        return None
    place = voucher_issuing.place(UUID(row["run_id"]), row["line_no"])
    return voucher_codes.written(key.open(bytes.fromhex(sealed), place=place).decode())


def _shown(rows: _Rows, *, masked: bool) -> _Rows:
    """Write what waits to be hers, masked or in full."""
    for row in rows["held_changes"]:
        value = row["value"]
        if isinstance(value, PayoutAccount):
            row["value"] = str(value.masked if masked else value)
        elif value is not None:
            row["value"] = identifiers.mask_phone(value) if masked else value
    return rows
