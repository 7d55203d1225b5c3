"""A member's change of phone: proven by a code, told to the old phone, in force after 72 hours."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app import clock, crypto, identifiers
from app.ciphers import Cipher
from app.clock import CIVIL_ZONE
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.members import Member
from app.models.phone_changes import (
    MyPhone,
    PendingPhone,
    PhoneChange,
    PhoneCodeCreate,
    PhoneCodeRead,
    PhoneUpdate,
)
from app.models.phone_codes import CodePurpose
from app.problems import NotFound, Problem
from app.services import data_keys, grants, members, person_data, phone_codes
from app.services.phone_codes import OF_MEMBER, OF_PHONE, CodeRefused, Count
from app.settings import Settings
from app.sms import Message
from app.tokens import subject_of
from app.wording import Language, say

HOLD = timedelta(hours=72)
RECENT = timedelta(minutes=15)
_STANDING = (
    "select m.id as member_id, m.phone_sealed, m.version, c.id, c.phone_sealed as new_sealed,"
    f" c.requested_at, c.in_force_at, c.noticed_at, {data_keys.COLUMNS} from members m"
    f" {data_keys.JOIN.format('m.id')}"
    " left join phone_changes c on c.district_code = m.district_code and c.member_id = m.id"
    " and c.applied_at is null and c.cancelled_at is null"
    " where m.district_code = :district_code and m.id = :member_id"
)
_OPEN = (
    f"select c.id, c.member_id, m.phone_sealed, c.in_force_at, c.noticed_at, {data_keys.COLUMNS}"
    " from phone_changes c join members m on m.district_code = c.district_code"
    f" and m.id = c.member_id {data_keys.JOIN.format('c.member_id')}"
    " where c.district_code = :district_code and c.applied_at is null and c.cancelled_at is null"
    " and (c.noticed_at is null or c.in_force_at <= :now) order by c.in_force_at limit 200"
)
# The hold counts from when the old phone was told.
_NOTICED = (
    "update phone_changes set noticed_at = :now, in_force_at = greatest(in_force_at, :in_force_at)"
    " where district_code = :district_code and id = :id and noticed_at is null"
)


class NoPhoneChange(Problem):
    """No change of phone is waiting."""

    code, status = "no_phone_change", 409


class ConsentMissing(Problem):
    """A phone is stored only with consent, which the member has not given or has withdrawn."""

    code, status = "phone_needs_consent", 409


class LoginTooOld(Problem):
    """A phone is changed soon after a login by the old one; log in again first."""

    code, status = "login_too_old", 401


async def find(statements: Statements, caller: Caller, keyring: Keyring) -> MyPhone:
    """Give the member's phone and the one that is to follow, or refuse with NotFound."""
    params = {"district_code": caller.district_code, "member_id": caller.member_id}
    row = await statements.fetch_row(_STANDING, params, about="member_id")
    if row is None:
        raise NotFound
    return _shown(row, keyring)


def _shown(row: Mapping[Any, Any], keyring: Keyring) -> MyPhone:
    key = data_keys.opened_or_none(keyring, row)
    pending = None
    if row["id"] is not None and key is not None:
        phone = _opened(key, row["id"], row["new_sealed"])
        pending = PendingPhone(
            phone_masked=identifiers.mask_phone(phone),
            requested_at=row["requested_at"],
            in_force_at=row["in_force_at"],
            noticed_at=row["noticed_at"],
        )
    data = person_data.opened(key, row["member_id"], None, row["phone_sealed"])
    shown = person_data.masked(data)
    return MyPhone(phone_masked=shown["phone_masked"], pending=pending, version=row["version"])


def _place(change_id: UUID) -> str:
    return f"phone_changes.phone:{change_id}"


def _opened(key: Cipher, change_id: UUID, sealed: bytes) -> str:
    return key.open(sealed, place=_place(change_id)).decode()


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

    Raises LoginTooOld, TooManyCodes, CodesPaused or ConsentMissing.
    """
    _require_recent_login(caller, now)
    phone = person_data.normal_phone(body.phone)
    member = await _member(session, caller)
    if member.consented_on is None:
        raise ConsentMissing
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


def _require_recent_login(caller: Caller, now: datetime) -> None:
    """Who came by the issuer proved more than that she holds a phone."""
    token = caller.token
    if token is None or token.member_id is None or token.issued_at is None:
        return
    if now.timestamp() - token.issued_at > RECENT.total_seconds():
        challenge = (
            'Bearer error="insufficient_user_authentication",'
            f' error_description="log in again", max_age="{RECENT.total_seconds():.0f}"'
        )
        raise LoginTooOld(
            headers={"WWW-Authenticate": challenge}, minutes=RECENT // timedelta(minutes=1)
        )


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

    It replaces a change that waits. Raises CodeRefused, CodesPaused, ConsentMissing or Stale.
    """
    phone = person_data.normal_phone(body.phone)
    async with district_wide(session):
        member = await members.locked(
            session, caller, member_id=_member_id(caller), version=version
        )
        if member.consented_on is None:
            raise ConsentMissing
        # A transaction of its own: a wrong try stays counted when this one is rolled back.
        sent_to = await phone_codes.redeem(
            statements.district_wide(),
            keyring,
            district_code=caller.district_code,
            code_id=body.code_id,
            code=body.code,
            purpose=CodePurpose.NEW_PHONE,
            member_id=member.id,
            most_wrong=settings.wrong_codes_hourly_limit,
            now=now,
        )
        hashes = phone_codes.hashes_of(keyring, phone).all
        if not any(crypto.same(sent_to.index, each) for each in hashes):
            raise CodeRefused
        await _replace(session, keyring, member=member, phone=phone, now=now)
    return await read(session, caller, keyring)


def _member_id(caller: Caller) -> UUID:
    if caller.member_id is None:
        raise NotFound
    return caller.member_id


async def _replace(
    session: AsyncSession, keyring: Keyring, *, member: Member, phone: str, now: datetime
) -> None:
    await data_keys.give_up_waiting(session, member, now=now)
    change_id = clock.new_id()
    data_key = await data_keys.find_or_make(session, keyring, member)
    session.add(
        PhoneChange(
            district_code=member.district_code,
            id=change_id,
            member_id=member.id,
            phone_sealed=data_key.seal(phone.encode(), place=_place(change_id)),
            requested_at=now,
            in_force_at=now + HOLD,
            noticed_at=None,
            applied_at=None,
            cancelled_at=None,
        )
    )
    members.touch(member, now)
    await session.flush()


async def read(session: AsyncSession, caller: Caller, keyring: Keyring) -> MyPhone:
    """Give the member's phone within this transaction."""
    params = {"district_code": caller.district_code, "member_id": caller.member_id}
    return _shown((await session.execute(text(_STANDING), params)).mappings().one(), keyring)


async def cancel(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, version: int, now: datetime
) -> MyPhone:
    """Give up a change that waits; raises NoPhoneChange when none does."""
    async with district_wide(session):
        member = await members.locked(
            session, caller, member_id=_member_id(caller), version=version
        )
        if not await data_keys.give_up_waiting(session, member, now=now):
            raise NoPhoneChange
        members.touch(member, now)
        await session.flush()
    return await read(session, caller, keyring)


async def open_changes(
    statements: Statements, *, district_code: str, now: datetime
) -> list[Mapping[str, Any]]:
    """Give the changes of a district whose notice is owed or whose hold is over."""
    return list(await statements.fetch(_OPEN, {"district_code": district_code, "now": now}))


def notice_of(
    change: Mapping[str, Any], keyring: Keyring, settings: Settings, *, now: datetime
) -> Message | None:
    """Write the notice to the old phone; none where there is no old phone."""
    key = data_keys.opened_or_none(keyring, change)
    if key is None or change["phone_sealed"] is None:
        return None
    phone = person_data.open_phone(key, change["member_id"], change["phone_sealed"])
    at = max(change["in_force_at"], now + HOLD).astimezone(CIVIL_ZONE)
    words = say(
        "zh",
        "messages",
        "phone_change_notice",
        signature=settings.sms_signature,
        at=f"{at:%Y-%m-%d %H:%M}",
    )
    return Message(phone, words, f"notice-{change['id']}")


async def note_notice(
    statements: Statements,
    *,
    district_code: str,
    change_id: UUID,
    member_id: UUID,
    now: datetime,
) -> None:
    """Note that the old phone was told; the hold counts from then."""
    params = {
        "district_code": district_code,
        "id": change_id,
        "now": now,
        "in_force_at": now + HOLD,
    }
    await statements.fetch(_NOTICED, params, about=[member_id])


async def put_in_force(
    session: AsyncSession, keyring: Keyring, *, district_code: str, change_id: UUID, now: datetime
) -> bool:
    """Make the new phone the member's if its time has come; False when it has not, or was given up.

    Without consent by now the change is given up, and without the key that sealed it.
    """
    key = (district_code, change_id)
    change = await session.get(PhoneChange, key)
    if change is None:
        return False
    # The member first, as whoever gives a change up does.
    member = await session.get(Member, (district_code, change.member_id), with_for_update=True)
    await session.refresh(change, with_for_update=True)
    if change.phone_sealed is None or change.noticed_at is None or change.in_force_at > now:
        return False
    data_key = None if member is None else await data_keys.find_of(session, keyring, member)
    sealed, change.phone_sealed = change.phone_sealed, None
    if member is None or member.consented_on is None or data_key is None:
        change.cancelled_at = now
        await session.flush()
        return False
    change.applied_at = now
    phone = _opened(data_key, change.id, sealed)
    member.phone_sealed = person_data.seal_phone(data_key, member.id, phone)
    member.phone_index = person_data.phone_index(keyring, phone)
    members.touch(member, now)
    # Whoever holds the old phone may hold what was logged in by it.
    await grants.end_tokens(
        session,
        district_code=district_code,
        member_id=member.id,
        now=now,
        subject=subject_of(member.id),
    )
    await session.flush()
    return True
