"""Held changes: a new phone or account, told to the phone on file, in force after 72 hours."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.ciphers import Cipher
from app.clock import CIVIL_ZONE
from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.membership.members import Member
from app.models.privacy.held_changes import HeldChange, HeldField
from app.models.privacy.privacy_notices import ConsentPurpose
from app.problems import NotFound, Problem
from app.services.access import grants
from app.services.privacy import consenting, data_keys, person_data, person_storage
from app.settings import Settings
from app.sms import Message
from app.tokens import subject_of
from app.wording import say

HOLD = timedelta(hours=72)
RECENT = timedelta(minutes=15)
_STANDING = (
    "select m.id as member_id, m.{field}_sealed, m.version, c.id, c.value_sealed as new_sealed,"
    f" c.requested_at, c.in_force_at, c.noticed_at, {data_keys.COLUMNS} from members m"
    f" {data_keys.JOIN.format('m.id')}"
    " left join held_changes c on c.district_code = m.district_code and c.member_id = m.id"
    " and c.field = '{field}' and c.applied_at is null and c.cancelled_at is null"
    " where m.district_code = :district_code and m.id = :member_id"
)
# A phone that follows one that was taken away waits until that one was told.
_OPEN = (
    "select c.id, c.member_id, c.field, c.value_sealed, c.in_force_at, c.noticed_at,"
    " case when m.phone_unconfirmed_since is null then m.phone_sealed end as phone_sealed,"
    f" {data_keys.COLUMNS} from held_changes c join members m"
    " on m.district_code = c.district_code and m.id = c.member_id"
    f" {data_keys.JOIN.format('c.member_id')}"
    " where c.district_code = :district_code and c.applied_at is null and c.cancelled_at is null"
    " and (c.noticed_at is null or c.in_force_at <= :now) and not (c.field = 'phone'"
    " and c.noticed_at is null and exists (select from held_changes w"
    " where w.district_code = :district_code and w.member_id = c.member_id"
    " and w.field = 'cleared_phone' and w.applied_at is null and w.cancelled_at is null))"
    " order by c.in_force_at limit 200"
)
# The hold counts from when the phone on file was told.
_NOTICED = (
    "update held_changes set noticed_at = :now, in_force_at = greatest(in_force_at, :in_force_at)"
    " where district_code = :district_code and id = :id and noticed_at is null"
)
_CONSENT_OF = {
    HeldField.PHONE: ConsentPurpose.CONTACT,
    HeldField.PAYOUT_ACCOUNT: ConsentPurpose.PAYMENT,
}
# A phone is bound to the name that the table had when only phones were held.
_PLACES = {
    HeldField.PHONE: "phone_changes.phone",
    HeldField.PAYOUT_ACCOUNT: "held_changes.payout_account",
    HeldField.CLEARED_PHONE: "held_changes.cleared_phone",
}


class LoginTooOld(Problem):
    """A phone or account is changed, a full copy given, soon after a login; log in again first."""

    code, status = "login_too_old", 401


class NoPhoneOnFile(Problem):
    """A change is told to the phone on file; the member has none, or none that is confirmed."""

    code, status = "no_phone_on_file", 409


def require_recent_login(caller: Caller, now: datetime) -> None:
    """Raise LoginTooOld; who came by the issuer proved more than that she holds a phone."""
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


async def find(statements: Statements, caller: Caller, *, field: HeldField) -> Mapping[Any, Any]:
    """Give the member's value of a field and the change of it that waits; raises NotFound."""
    row: Mapping[Any, Any] | None = await statements.fetch_row(
        _STANDING.format(field=field), _key(caller), about="member_id"
    )
    if row is None:
        raise NotFound
    return row


async def standing(session: AsyncSession, caller: Caller, *, field: HeldField) -> Mapping[Any, Any]:
    """Give the same within a transaction that has found the member."""
    sql = text(_STANDING.format(field=field))
    return (await session.execute(sql, _key(caller))).mappings().one()


def _key(caller: Caller) -> dict[str, Any]:
    return {"district_code": caller.district_code, "member_id": caller.member_id}


def require_phone(member: Member) -> None:
    """Raise NoPhoneOnFile where nobody could be told of a change."""
    if not is_reachable(member):
        raise NoPhoneOnFile


def is_reachable(member: Member) -> bool:
    """Tell whether a phone is on file that is hers, as an office that is not her employer's says.

    What only the employer's side entered may be the phone of whoever entered it.
    """
    return member.phone_sealed is not None and member.phone_unconfirmed_since is None


def may_hold(member: Member, field: HeldField) -> bool:
    """Tell whether a member consents to what a field holds."""
    return consenting.given_on(member, _CONSENT_OF[field]) is not None


def opened(key: Cipher, field: HeldField, change_id: UUID, sealed: bytes) -> bytes:
    """Decrypt the value that waits."""
    return key.open(sealed, place=f"{_PLACES[field]}:{change_id}")


async def begin(
    session: AsyncSession,
    keyring: Keyring,
    *,
    member: Member,
    field: HeldField,
    value: bytes,
    now: datetime,
) -> None:
    """Hold a new value of a member who is locked, in place of one that waits, district-wide.

    Raises NoPhoneOnFile.
    """
    require_phone(member)
    until = now + HOLD
    await hold(session, keyring, member=member, field=field, value=value, now=now, until=until)


async def hold(
    session: AsyncSession,
    keyring: Keyring,
    *,
    member: Member,
    field: HeldField,
    value: bytes,
    now: datetime,
    until: datetime,
    noticed_at: datetime | None = None,
) -> None:
    """Seal a value of a member who is locked, in place of one that waits, district-wide."""
    await data_keys.give_up_waiting(session, member, field, now=now)
    change_id = clock.new_id()
    data_key = await data_keys.find_or_make(session, keyring, member)
    session.add(
        HeldChange(
            district_code=member.district_code,
            id=change_id,
            member_id=member.id,
            field=field.value,
            value_sealed=data_key.seal(value, place=f"{_PLACES[field]}:{change_id}"),
            requested_at=now,
            in_force_at=until,
            noticed_at=noticed_at,
            applied_at=None,
            cancelled_at=None,
        )
    )
    person_storage.touch(member, now)
    await session.flush()


async def give_up(
    session: AsyncSession, member: Member, *, field: HeldField, now: datetime
) -> bool:
    """Give up the change that waits, district-wide; False when none does."""
    if not await data_keys.give_up_waiting(session, member, field, now=now):
        return False
    person_storage.touch(member, now)
    await session.flush()
    return True


async def open_changes(
    statements: Statements, *, district_code: str, now: datetime
) -> list[Mapping[str, Any]]:
    """Give the changes of a district whose notice is owed or whose hold is over."""
    return list(await statements.fetch(_OPEN, {"district_code": district_code, "now": now}))


def notice_of(
    change: Mapping[str, Any], keyring: Keyring, settings: Settings, *, now: datetime
) -> Message | None:
    """Write the notice to the phone on file, or to the one that was; none where there is none."""
    key = data_keys.opened_or_none(keyring, change)
    if key is None:
        return None
    if change["field"] == HeldField.CLEARED_PHONE:
        field = HeldField.CLEARED_PHONE
        phone = opened(key, field, change["id"], change["value_sealed"]).decode()
    elif change["phone_sealed"] is not None:
        phone = person_data.open_phone(key, change["member_id"], change["phone_sealed"])
    else:
        return None
    at = max(change["in_force_at"], now + HOLD)
    words = words_of(change["field"], settings, at=at)
    return Message(phone, words, f"notice-{change['id']}")


def words_of(field: str, settings: Settings, *, at: datetime) -> str:
    """Write what a phone is told of a change."""
    return say(
        "zh",
        "messages",
        f"{field}_change_notice",
        signature=settings.sms_signature,
        at=f"{at.astimezone(CIVIL_ZONE):%Y-%m-%d %H:%M}",
    )


async def note_notice(
    statements: Statements,
    *,
    district_code: str,
    change_id: UUID,
    member_id: UUID,
    now: datetime,
) -> None:
    """Note that the phone on file was told; the hold counts from then."""
    params = {
        "district_code": district_code,
        "id": change_id,
        "now": now,
        "in_force_at": now + HOLD,
    }
    await statements.fetch(_NOTICED, params, about=[member_id])


async def put_in_force(
    session: AsyncSession,
    keyring: Keyring,
    *,
    district_code: str,
    change_id: UUID,
    now: datetime,
    untold: bool = False,
) -> bool:
    """Put a new value in force if its time has come; False when it has not, or was given up.

    It needs no notice if `untold`, where nothing is sent. Without consent the change is given up,
    an account without a phone to be told by, and either without the key that sealed it.
    """
    key = (district_code, change_id)
    change = await session.get(HeldChange, key)
    if change is None:
        return False
    # The member first, as whoever gives a change up does.
    member = await session.get(Member, (district_code, change.member_id), with_for_update=True)
    await session.refresh(change, with_for_update=True)
    is_due = change.in_force_at <= now and (untold or change.noticed_at is not None)
    if change.value_sealed is None or not is_due:
        return False
    change.noticed_at = change.noticed_at or now
    field = HeldField(change.field)
    data_key = None if member is None else await data_keys.find_of(session, keyring, member)
    sealed, change.value_sealed = change.value_sealed, None
    if member is None or data_key is None or not _may_follow(member, field):
        change.cancelled_at = now
        await session.flush()
        return False
    change.applied_at = now
    value = opened(data_key, field, change.id, sealed)
    _apply(keyring, data_key, member, field, value)
    person_storage.touch(member, now)
    if field is HeldField.PHONE:
        await _sign_out(session, member)
    await session.flush()
    return True


async def _sign_out(session: AsyncSession, member: Member) -> None:
    """End what was logged in by the old phone, which whoever holds it may hold."""
    # By the clock, as a login that this transaction had to wait for began after the errand.
    await grants.end_tokens(
        session,
        district_code=member.district_code,
        member_id=member.id,
        now=clock.now(),
        subject=subject_of(member.id),
    )


def _may_follow(member: Member, field: HeldField) -> bool:
    """Tell whether a value may be hers: of an account she was told, of a phone it was seen to."""
    return may_hold(member, field) and (field is HeldField.PHONE or is_reachable(member))


async def give_up_untold(
    session: AsyncSession, *, district_code: str, change_id: UUID, now: datetime
) -> bool:
    """Give up a change whose notice reaches nobody; False when it is told or ended by now."""
    change = await session.get(HeldChange, (district_code, change_id))
    if change is None:
        return False
    key = (district_code, change.member_id)
    member = await session.get(Member, key, with_for_update=True)
    await session.refresh(change, with_for_update=True)
    if member is None or change.value_sealed is None or change.noticed_at is not None:
        return False
    return await give_up(session, member, field=HeldField(change.field), now=now)


def _apply(keyring: Keyring, key: Cipher, member: Member, field: HeldField, value: bytes) -> None:
    if field is HeldField.PHONE:
        phone = value.decode()
        member.phone_sealed = person_data.seal_phone(key, member.id, phone)
        member.phone_index = person_data.phone_index(keyring, phone)
        member.phone_unconfirmed_since = None
    else:
        account = person_data.decode_account(value)
        member.payout_account_sealed = person_data.seal_account(key, member.id, account)
        member.payout_account_index = person_data.account_index(keyring, account)
