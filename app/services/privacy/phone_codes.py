"""Phone codes: issued within limits, redeemed once by one conditional update, never stored."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, crypto
from app.crypto import Keyring
from app.database import Statements
from app.models.privacy.phone_codes import MAX_TRIES, CodePurpose, LimitKind, PhoneCode
from app.problems import Problem
from app.services.access.guesses import Guesses, retry_after
from app.services.privacy import person_data

LIFETIME = timedelta(minutes=5)
_HOUR, _DAY, _MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
_DIGEST_BYTES = 32

# Two requests at once stand in line at the row, and the second sees what the first left.
_TAKING = (
    "insert into code_limits as l (district_code, kind, key, window_started_at, last_at, taken)"
    " values (:district_code, :kind, :key, :now, :now, :units)"
    " on conflict (district_code, kind, key) do update set last_at = excluded.last_at,"
    " window_started_at = case when l.window_started_at <= :window_from"
    " then excluded.window_started_at else l.window_started_at end,"
    " taken = excluded.taken"
    " + case when l.window_started_at <= :window_from then 0 else l.taken end"
    " where l.last_at <= :last_until and (l.window_started_at <= :window_from or l.taken < :most)"
    " returning l.taken"
)
_TAKE = text(_TAKING)
_STANDING = (
    "select window_started_at, last_at, taken from code_limits"
    " where district_code = :district_code and kind = :kind and key = :key"
)
# The row's lock makes guesses at once one after the other, and each sees the tries before it.
_TRY = (
    "update phone_codes set tries = tries + 1,"
    " used_at = case when digest = :digest and (:phones::bytea[] is null"
    " or phone_index = any(:phones::bytea[])) then :now::timestamptz end"
    " where district_code = :district_code and id = :id and purpose = :purpose"
    f" and tries < {MAX_TRIES} and used_at is null and expires_at > :now"
    " and member_id is not distinct from :member_id::uuid"
    " returning used_at is not null as is_right, phone_index, former_index"
)


class TooManyCodes(Problem):
    """A code was asked for too soon, or too often; `Retry-After` says when one may be again."""

    code, status = "too_many_codes", 429


class CodesPaused(Problem):
    """Too many codes were sent or guessed wrong in the district; all must wait, or go in person."""

    code, status = "codes_paused", 503


class TooManyTries(Problem):
    """Too many wrong codes came from one network or member, who must wait; all others go on."""

    code, status = "too_many_tries", 429


class CodeRefused(Problem):
    """The code is wrong, or was used, has expired or has had its tries; it says no more."""

    code, status = "code_refused", 403
    was_counted = False
    """Whether it was a guess that counts against the limits, which is not said to the caller."""


@dataclass(frozen=True)
class Limit:
    """How often something may be done in a window, and how far apart."""

    kind: LimitKind
    most: int
    window: timedelta
    apart: timedelta = timedelta(0)
    refusal: type[Problem] = TooManyCodes


OF_PHONE = Limit(LimitKind.PHONE, 5, _DAY, apart=_MINUTE)
OF_MEMBER = Limit(LimitKind.MEMBER, 5, _DAY)
_NOTED = Limit(LimitKind.NOTED, 10, _MINUTE)
OF_ADDRESS = Limit(LimitKind.ADDRESS, 20, _HOUR)
MOST_WRONG_OF_ONE = 40
"""Wrong codes in an hour from one network: a factory's many phones share one."""


def sent_a_day(most: int) -> Limit:
    """Bound what a district sends, and so what it pays, in a day."""
    return Limit(LimitKind.SENT, most, _DAY, refusal=CodesPaused)


@dataclass(frozen=True)
class Count:
    """One thing to count against a limit; none of it still asks whether the limit is reached."""

    limit: Limit
    key: bytes = b""
    units: int = 1


@dataclass(frozen=True)
class PhoneHashes:
    """The hashes by which a phone is found: under the index key, and the one that it replaces."""

    index: bytes
    former: bytes | None

    @property
    def all(self) -> list[bytes]:
        """Give both, or the one."""
        return [each for each in (self.index, self.former) if each is not None]


def hashes_of(keyring: Keyring, phone: str) -> PhoneHashes:
    """Give the hashes of a phone."""
    former = keyring.former_index(phone, column=person_data.PHONE)
    return PhoneHashes(person_data.phone_index(keyring, phone), former)


@dataclass(frozen=True)
class Issued:
    """A code on its way, in clear for its message alone."""

    id: UUID
    code: str
    expires_at: datetime
    resend_at: datetime


def address_key(keyring: Keyring, address: str) -> bytes:
    """Give the keyed hash of a caller's address, of the network for IPv6."""
    return _place_key(keyring, address, bits=32)


def network_key(keyring: Keyring, address: str) -> bytes:
    """Give the keyed hash of the network of a caller's address: its /24, or for IPv6 its /64."""
    return _place_key(keyring, address, bits=24)


def _place_key(keyring: Keyring, address: str, *, bits: int) -> bytes:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return keyring.blind_index(address, column="address")
    if isinstance(parsed, ipaddress.IPv6Address):
        bits, parsed = (bits, parsed.ipv4_mapped) if parsed.ipv4_mapped else (64, parsed)
    place = str(ipaddress.ip_network((parsed, bits), strict=False)).removesuffix("/32")
    return keyring.blind_index(place, column="address")


async def issue(
    session: AsyncSession,
    keyring: Keyring,
    *,
    district_code: str,
    purpose: CodePurpose,
    phone: PhoneHashes,
    counts: Sequence[Count],
    now: datetime,
    member_id: UUID | None = None,
) -> Issued:
    """Make a code for a phone within all limits; raises TooManyCodes or CodesPaused."""
    for count in counts:
        await _take(session, count, district_code=district_code, now=now)
    code_id, code = clock.new_id(), crypto.six_digits()
    session.add(
        PhoneCode(
            district_code=district_code,
            id=code_id,
            purpose=purpose.value,
            member_id=member_id,
            phone_index=phone.index,
            former_index=phone.former,
            digest=_digest(keyring, district_code, code_id, code),
            tries=0,
            created_at=now,
            expires_at=now + LIFETIME,
            used_at=None,
            chosen_at=None,
        )
    )
    await session.flush()
    return Issued(code_id, code, now + LIFETIME, now + OF_PHONE.apart)


async def is_to_be_noted(
    statements: Statements, refusal: Problem, *, district_code: str, now: datetime
) -> bool:
    """Tell whether the audit is told of a refusal to somebody unknown: ten a minute are enough.

    A guess that was counted always is, as its own limits bound how many there are.
    """
    if isinstance(refusal, CodeRefused) and refusal.was_counted:
        return True
    params = _taking(Count(_NOTED), district_code=district_code, now=now)
    return await statements.fetch_row(_TAKING, params) is not None


def _taking(count: Count, *, district_code: str, now: datetime) -> dict[str, Any]:
    limit = count.limit
    return {
        "district_code": district_code,
        "kind": limit.kind.value,
        "key": count.key,
        "now": now,
        "units": count.units,
        "most": limit.most,
        "window_from": now - limit.window,
        # Without a distance to keep, requests that overtake each other are all right.
        "last_until": now - limit.apart if limit.apart else now + _DAY,
    }


async def _take(session: AsyncSession, count: Count, *, district_code: str, now: datetime) -> None:
    limit = count.limit
    params = _taking(count, district_code=district_code, now=now)
    if (await session.execute(_TAKE, params)).first() is not None:
        return
    standing = (await session.execute(text(_STANDING), params)).one()
    free_at = standing.last_at + limit.apart
    if standing.taken >= limit.most:
        free_at = max(free_at, standing.window_started_at + limit.window)
    raise limit.refusal(headers=retry_after(free_at - now))


async def redeem(
    statements: Statements,
    keyring: Keyring,
    *,
    district_code: str,
    code_id: UUID,
    code: str,
    purpose: CodePurpose,
    tried_by: bytes,
    most_wrong: int,
    now: datetime,
    member_id: UUID | None = None,
    phone: PhoneHashes | None = None,
) -> PhoneHashes:
    """Use a code up and give its phone's hashes; raises CodeRefused, TooManyTries or CodesPaused.

    Where a phone is given, a code that was sent to another one is a wrong try. Each statement is a
    transaction of its own, so that a refused try stays counted: against `tried_by`, a network or a
    member, and, while that is not stopped, against the district.
    """
    hers = Guesses(district_code, LimitKind.WRONG, tried_by, MOST_WRONG_OF_ONE, TooManyTries)
    all_of_them = Guesses(district_code, LimitKind.WRONG, b"", most_wrong, CodesPaused)
    for each in (hers, all_of_them):
        await each.require_calm(statements, now=now)
    params = {
        "district_code": district_code,
        "id": code_id,
        "purpose": purpose.value,
        "member_id": member_id,
        "digest": _digest(keyring, district_code, code_id, code),
        "phones": None if phone is None else phone.all,
        "now": now,
    }
    tried = await statements.fetch_row(_TRY, params)
    if tried is not None and tried["is_right"]:
        return PhoneHashes(tried["phone_index"], tried["former_index"])
    refusal = CodeRefused()
    if tried is not None:
        refusal.was_counted = await _counted(statements, hers, all_of_them, now=now)
    raise refusal


async def _counted(
    statements: Statements, hers: Guesses, all_of_them: Guesses, *, now: datetime
) -> bool:
    """Count a wrong try; however many she tries at once, she alone never stops the district."""
    if await hers.count(statements, now=now) <= MOST_WRONG_OF_ONE:
        await all_of_them.count(statements, now=now)
    return True


def _digest(keyring: Keyring, district_code: str, code_id: UUID, code: str) -> bytes:
    message = f"{district_code}/{code_id}/{code}".encode()
    return keyring.sign(message, purpose="phone-code", length=_DIGEST_BYTES)
