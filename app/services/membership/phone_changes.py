"""A member's change of phone: proven by a code, told to the old phone, in force after 72 hours."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import identifiers
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.membership.members import Member
from app.models.membership.phone_changes import (
    MyPhone,
    PendingPhone,
    PhoneCodeCreate,
    PhoneCodeRead,
    PhoneUpdate,
)
from app.models.privacy.held_changes import HeldField
from app.models.privacy.phone_codes import CodePurpose
from app.problems import NotFound, Problem
from app.services.membership import consents, members
from app.services.privacy import data_keys, held_changes, person_data, phone_codes
from app.services.privacy.phone_codes import OF_MEMBER, OF_PHONE, Count
from app.settings import Settings
from app.sms import Message
from app.wording import Language, say

_FIELD = HeldField.PHONE


class NoPhoneChange(Problem):
    """No change of phone is waiting."""

    code, status = "no_phone_change", 409


class ConsentMissing(Problem):
    """A phone is stored only with consent, which the member has not given or has withdrawn."""

    code, status = "phone_needs_consent", 409


async def find(statements: Statements, caller: Caller, keyring: Keyring) -> MyPhone:
    """Give the member's phone and the one that is to follow, or refuse with NotFound."""
    return _shown(await held_changes.find(statements, caller, field=_FIELD), keyring)


def _shown(row: Mapping[Any, Any], keyring: Keyring) -> MyPhone:
    key = data_keys.opened_or_none(keyring, row)
    pending = None
    if row["id"] is not None and key is not None:
        phone = held_changes.opened(key, _FIELD, row["id"], row["new_sealed"]).decode()
        pending = PendingPhone(
            phone_masked=identifiers.mask_phone(phone),
            requested_at=row["requested_at"],
            in_force_at=row["in_force_at"],
            noticed_at=row["noticed_at"],
        )
    data = person_data.opened(key, row["member_id"], None, row["phone_sealed"])
    shown = person_data.masked(data)
    return MyPhone(phone_masked=shown["phone_masked"], pending=pending, version=row["version"])


async def ask_code(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    settings: Settings,
    *,
    body: PhoneCodeCreate,
    language: Language,
    now: datetime,
) -> tuple[PhoneCodeRead, Message]:
    """Send a code to a new phone, soon after a login by the old one.

    Raises held_changes.LoginTooOld and NoPhoneOnFile, TooManyCodes, CodesPaused or ConsentMissing.
    """
    held_changes.require_recent_login(caller, now)
    phone = person_data.normal_phone(body.phone)
    member = await _member(session, caller)
    _require_changeable(member)
    hashes = phone_codes.hashes_of(keyring, phone)
    async with district_wide(session):
        issued = await phone_codes.issue(
            session,
            keyring,
            district_code=caller.district_code,
            purpose=CodePurpose.NEW_PHONE,
            member_id=member.id,
            phone=hashes,
            counts=[
                Count(OF_MEMBER, member.id.bytes),
                Count(OF_PHONE, hashes.index),
                Count(phone_codes.sent_a_day(settings.sms_daily_limit)),
            ],
            now=now,
        )
    words = say(
        language, "messages", "new_phone_code", digits=issued.code, signature=settings.sms_signature
    )
    answer = PhoneCodeRead(id=issued.id, expires_at=issued.expires_at, resend_at=issued.resend_at)
    return answer, Message(phone, words, str(issued.id))


def _require_changeable(member: Member) -> None:
    """Raise ConsentMissing, or NoPhoneOnFile where nobody could be told."""
    if not held_changes.may_hold(member, _FIELD):
        raise ConsentMissing
    held_changes.require_phone(member)


async def _member(session: AsyncSession, caller: Caller) -> Member:
    member = await session.scalar(
        select(Member).where(
            col(Member.district_code) == caller.district_code, col(Member.id) == caller.member_id
        )
    )
    if member is None:
        raise NotFound
    return member


async def request(
    session: AsyncSession,
    statements: Statements,
    caller: Caller,
    keyring: Keyring,
    settings: Settings,
    *,
    version: int,
    body: PhoneUpdate,
    now: datetime,
) -> MyPhone:
    """Hold a new phone whose code is right until it takes the old one's place.

    It replaces a change that waits. Raises CodeRefused, CodesPaused, ConsentMissing,
    held_changes.NoPhoneOnFile, Stale or TooManyTries.
    """
    phone = person_data.normal_phone(body.phone)
    async with district_wide(session):
        member = await members.locked(
            session, caller, member_id=consents.own(caller), version=version
        )
        _require_changeable(member)
        # A transaction of its own: a wrong try stays counted when this one is rolled back.
        await phone_codes.redeem(
            statements.district_wide(),
            keyring,
            district_code=caller.district_code,
            code_id=body.code_id,
            code=body.code,
            purpose=CodePurpose.NEW_PHONE,
            member_id=member.id,
            phone=phone_codes.hashes_of(keyring, phone),
            tried_by=member.id.bytes,
            most_wrong=settings.wrong_codes_hourly_limit,
            now=now,
        )
        await held_changes.begin(
            session, keyring, member=member, field=_FIELD, value=phone.encode(), now=now
        )
    return await read(session, caller, keyring)


async def read(session: AsyncSession, caller: Caller, keyring: Keyring) -> MyPhone:
    """Give the member's phone within this transaction."""
    return _shown(await held_changes.standing(session, caller, field=_FIELD), keyring)


async def cancel(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, version: int, now: datetime
) -> MyPhone:
    """Give up a change that waits; raises NoPhoneChange when none does."""
    async with district_wide(session):
        member = await members.locked(
            session, caller, member_id=consents.own(caller), version=version
        )
        if not await held_changes.give_up(session, member, field=_FIELD, now=now):
            raise NoPhoneChange
    return await read(session, caller, keyring)
