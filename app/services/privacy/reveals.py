"""Reveals: the one way to an ID number, phone or account in full, counted by caller and day."""

from datetime import datetime, time, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import reach
from app.clock import CIVIL_ZONE, civil_date
from app.crypto import Keyring
from app.database import district_wide, named, note
from app.identity import Caller
from app.models.privacy.reveals import Revealed, RevealField, RevealPurpose, RevealRequest
from app.problems import NotFound, Problem
from app.services.privacy import data_keys, person_data
from app.services.privacy.person_data import PersonData

PER_DAY = 30
"""How many values one caller is shown in full on one day (Asia/Shanghai)."""

_MEMBER = (
    "select m.id as member_id, m.id_number_sealed, m.phone_sealed,"
    f" m.payout_account_sealed, {data_keys.COLUMNS}"
    f" from members m {data_keys.JOIN.format('m.id')}"
    " where m.district_code = :district_code and m.id = :id and {reach}"
)
_BEGIN = text(
    "insert into reveal_counts (district_code, subject, on_day, shown)"
    " values (:district_code, :subject, :today, 0) on conflict (district_code, subject) do nothing"
)
_SHOWN_TODAY = text(
    "select case when on_day = :today then shown else 0 end from reveal_counts"
    " where district_code = :district_code and subject = :subject for update"
)
_COUNT = text(
    "update reveal_counts set on_day = :today, shown = :shown"
    " where district_code = :district_code and subject = :subject"
)


class RevealLimitReached(Problem):
    """The caller was shown as many values today as anybody is; `Retry-After` says until when."""

    code, status = "reveal_limit_reached", 429


class NothingToReveal(Problem):
    """The member has no such value, or none that anybody can read any more."""

    code, status = "nothing_to_reveal", 409


async def reveal(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    member_id: UUID,
    body: RevealRequest,
    now: datetime,
) -> Revealed:
    """Show one value in full; raises NotFound, NothingToReveal or RevealLimitReached."""
    async with district_wide(session):
        data = await read(session, caller, keyring, member_id=member_id)
        value = values(data)[body.field]
        if value is None:
            raise NothingToReveal
        await account_for(
            session,
            caller,
            member_id=member_id,
            fields=(body.field,),
            purpose=body.purpose,
            now=now,
        )
    return Revealed(field=body.field, value=value)


async def read(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, member_id: UUID
) -> PersonData:
    """Decrypt what a member within reach has, district-wide; account for it before it is shown."""
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    params |= {"district_code": caller.district_code, "id": member_id}
    found = await session.execute(text(_MEMBER.format(reach=condition)), params)
    row = found.mappings().one_or_none()
    if row is None:
        raise NotFound
    key = data_keys.opened_or_none(keyring, row)
    sealed = (row["id_number_sealed"], row["phone_sealed"], row["payout_account_sealed"])
    return person_data.opened(key, member_id, *sealed)


def values(data: PersonData) -> dict[RevealField, str | None]:
    """Give each value as it is shown."""
    return {
        RevealField.ID_NUMBER: data.id_number,
        RevealField.PHONE: data.phone,
        RevealField.PAYOUT_ACCOUNT: None if data.account is None else str(data.account),
    }


async def account_for(
    session: AsyncSession,
    caller: Caller,
    *,
    member_id: UUID,
    fields: tuple[RevealField, ...],
    purpose: RevealPurpose,
    now: datetime,
) -> None:
    """Count and note what is about to be shown, district-wide; raises RevealLimitReached.

    All values shown in full pass here, in the transaction that shows them: the audit is told who
    saw which field of whom, and why.
    """
    today = civil_date(now)
    params = {"district_code": caller.district_code, "subject": caller.subject, "today": today}
    await session.execute(_BEGIN, params)
    shown = (await session.execute(_SHOWN_TODAY, params)).scalar_one() + len(fields)
    if shown > PER_DAY:
        tomorrow = datetime.combine(today + timedelta(days=1), time(), CIVIL_ZONE)
        seconds = int((tomorrow - now).total_seconds()) + 1
        raise RevealLimitReached(limit=PER_DAY, headers={"Retry-After": str(seconds)})
    await session.execute(_COUNT, {**params, "shown": shown})
    act = named(session.info.get("act"))
    act.fields = tuple(dict.fromkeys(field.value for field in fields))
    act.purpose = purpose.value
    note(session, [member_id])
