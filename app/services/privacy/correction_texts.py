"""What a member and her office write in corrections: sealed under her key, and ended with it."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import identifiers
from app.ciphers import Cipher
from app.crypto import Keyring
from app.database import district_wide
from app.models.membership.corrections import CorrectionSubject
from app.models.membership.members import Member
from app.services.privacy import data_keys

COLUMNS = f"c.id as correction_id, c.subject, c.said_sealed, c.answer_sealed, {data_keys.COLUMNS}"
"""What a statement reads of a correction `c` beside its `member_id`, for `written`."""
_OF_MEMBER = (
    f"select c.member_id, {COLUMNS} from corrections c {data_keys.JOIN.format('c.member_id')}"
    " where c.district_code = :district_code and c.member_id = :member_id"
)
_WITHDRAW_ID_NUMBERS = text(
    "update corrections set said_sealed = null, version = version + 1, updated_at = :now,"
    " status = case when status = 'open' then 'withdrawn' else status end,"
    " closed_at = coalesce(closed_at, :now)"
    " where district_code = :district_code and member_id = :member_id"
    " and subject = 'id_number' and said_sealed is not null"
)
_FORGET = text(
    "update corrections set said_sealed = null, answer_sealed = null, version = version + 1,"
    " status = case when status = 'open' then 'withdrawn' else status end,"
    " closed_at = coalesce(closed_at, :now), updated_at = :now"
    " where district_code = :district_code and member_id = :member_id"
    " and (status = 'open' or coalesce(said_sealed, answer_sealed) is not null)"
)
_RESEAL = text(
    "update corrections set said_sealed = :said, answer_sealed = :answer"
    " where district_code = :district_code and id = :id"
)


class Said(NamedTuple):
    """What would be right, if it is one value, and what she wrote beside it."""

    value: str | None
    note: str | None


def _place(name: str, correction_id: UUID) -> str:
    return f"corrections.{name}:{correction_id}"


def seal_said(key: Cipher, correction_id: UUID, said: Said) -> bytes:
    """Seal what a member wrote."""
    return key.seal(json.dumps(said).encode(), place=_place("said", correction_id))


def open_said(key: Cipher, correction_id: UUID, sealed: bytes) -> Said:
    """Read what a member wrote."""
    return Said(*json.loads(key.open(sealed, place=_place("said", correction_id))))


def seal_answer(key: Cipher, correction_id: UUID, answer: str) -> bytes:
    """Seal what an office answered."""
    return key.seal(answer.encode(), place=_place("answer", correction_id))


def written(key: Cipher | None, row: Mapping[Any, Any]) -> dict[str, str | None]:
    """Give what was written as an answer shows it; without her key nothing can be read."""
    said, answer, correction_id = row["said_sealed"], row["answer_sealed"], row["correction_id"]
    value = note = shown = None
    if key is not None and said is not None:
        value, note = open_said(key, correction_id, said)
    if key is not None and answer is not None:
        shown = key.open(answer, place=_place("answer", correction_id)).decode()
    if value is not None and row["subject"] == CorrectionSubject.ID_NUMBER:
        value = identifiers.mask_resident_id(value)
    return {"value": value, "note": note, "answer": shown}


async def of_member(
    session: AsyncSession, keyring: Keyring, *, district_code: str, member_id: UUID
) -> dict[str, dict[str, str | None]]:
    """Give what was written in each correction of a member, by its id, district-wide."""
    params = {"district_code": district_code, "member_id": member_id}
    rows = (await session.execute(text(_OF_MEMBER), params)).mappings()
    return {
        str(row["correction_id"]): written(data_keys.opened_or_none(keyring, row), row)
        for row in rows
    }


async def end_id_number(session: AsyncSession, member: Member, *, now: datetime) -> None:
    """End a correction of her ID number, district-wide: it goes with her consent to hold one."""
    await session.execute(_WITHDRAW_ID_NUMBERS, member.key | {"now": now})


async def outlast_key(
    session: AsyncSession, keyring: Keyring, member: Member, key: Cipher, *, now: datetime
) -> None:
    """Destroy a member's key, with her numbers in backups; her corrections get a new one."""
    async with district_wide(session):
        sealed = f"{_OF_MEMBER} and coalesce(c.said_sealed, c.answer_sealed) is not null"
        found = await session.execute(text(f"{sealed} for update of c"), member.key)
        rows = found.mappings().all()
        await data_keys.destroy(session, member, now=now)
        if not rows:
            return
        fresh = await data_keys.find_or_make(session, keyring, member)
        for row in rows:
            await session.execute(_RESEAL, _resealed(key, fresh, row, member.district_code))


def _resealed(old: Cipher, new: Cipher, row: Mapping[Any, Any], district: str) -> dict[str, Any]:
    correction_id = row["correction_id"]
    params: dict[str, Any] = {"district_code": district, "id": correction_id}
    for name in ("said", "answer"):
        sealed, place = row[f"{name}_sealed"], _place(name, correction_id)
        plain = None if sealed is None else old.open(sealed, place=place)
        params[name] = None if plain is None else new.seal(plain, place=place)
    return params


async def forget(session: AsyncSession, member: Member, *, now: datetime) -> None:
    """Erase all that was written about a member, and end what waits, district-wide."""
    await session.execute(_FORGET, member.key | {"now": now})
