"""Payout accounts: hers to name and to give up, masked to others, changed with hold and notice."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app import identifiers, reach
from app.crypto import Keyring
from app.database import Statements, district_wide
from app.identity import Caller
from app.models.membership.payout_accounts import (
    AccountKind,
    MemberPayoutAccount,
    MyPayoutAccount,
    PayoutAccountRead,
    PayoutAccountUpdate,
    PendingAccount,
)
from app.models.privacy.held_changes import HeldField
from app.problems import Invalid, NotFound, Problem
from app.services.membership import consents, members
from app.services.privacy import data_keys, held_changes, person_data
from app.services.privacy.person_data import PayoutAccount

_FIELD = HeldField.PAYOUT_ACCOUNT
_OF_MEMBER = (
    f"select m.id as member_id, m.payout_account_sealed, {data_keys.COLUMNS}"
    f" from members m {data_keys.JOIN.format('m.id')}"
    " where m.district_code = :district_code and m.id = :id and {reach}"
)


class AccountNeedsConsent(Problem):
    """A payout account is stored only with consent, which the member has not given."""

    code, status = "account_needs_consent", 409


class NoAccountChange(Problem):
    """No change of the payout account is waiting."""

    code, status = "no_account_change", 409


async def find(statements: Statements, caller: Caller, keyring: Keyring) -> MyPayoutAccount:
    """Give the member's account and the one that is to follow, or refuse with NotFound."""
    return _shown(await held_changes.find(statements, caller, field=_FIELD), keyring)


def _shown(row: Mapping[Any, Any], keyring: Keyring) -> MyPayoutAccount:
    key = data_keys.opened_or_none(keyring, row)
    pending = None
    if row["id"] is not None and key is not None:
        value = held_changes.opened(key, _FIELD, row["id"], row["new_sealed"])
        pending = PendingAccount(
            **_masked(person_data.decode_account(value)),
            requested_at=row["requested_at"],
            in_force_at=row["in_force_at"],
            noticed_at=row["noticed_at"],
        )
    account = _read(row, keyring)
    return MyPayoutAccount(account=account, pending=pending, version=row["version"])


def _read(row: Mapping[Any, Any], keyring: Keyring) -> PayoutAccountRead | None:
    key = data_keys.opened_or_none(keyring, row)
    sealed = row["payout_account_sealed"]
    data = person_data.opened(key, row["member_id"], None, None, sealed)
    return None if data.account is None else PayoutAccountRead(**_masked(data.account))


def _masked(account: PayoutAccount) -> dict[str, Any]:
    hidden = account.masked
    return {
        "kind": AccountKind(account.kind),
        "number_masked": hidden.number,
        "issuer": hidden.issuer,
        "holder_masked": hidden.holder,
    }


async def find_of(
    statements: Statements, caller: Caller, keyring: Keyring, *, member_id: UUID
) -> MemberPayoutAccount:
    """Give the account in force of a member within reach, masked; raises NotFound."""
    condition, params = reach.within(
        caller, area="m.area_code", association="m.association_id", member="m.id"
    )
    params |= {"district_code": caller.district_code, "id": member_id}
    shown = statements.showing(member_id)
    row = await shown.fetch_row(_OF_MEMBER.format(reach=condition), params, about="member_id")
    if row is None:
        raise NotFound
    return MemberPayoutAccount(account=_read(row, keyring))


async def request(
    session: AsyncSession,
    caller: Caller,
    keyring: Keyring,
    *,
    version: int,
    body: PayoutAccountUpdate,
    now: datetime,
) -> MyPayoutAccount:
    """Hold a new account until it takes the other's place; it replaces a change that waits.

    The account in force is not changed to itself. Raises held_changes.LoginTooOld,
    NoPhoneOnFile, AccountNeedsConsent, Invalid or Stale.
    """
    held_changes.require_recent_login(caller, now)
    account = _checked(body)
    async with district_wide(session):
        member = await members.locked(
            session, caller, member_id=consents.own(caller), version=version
        )
        if not held_changes.may_hold(member, _FIELD):
            raise AccountNeedsConsent
        key = await data_keys.find_of(session, keyring, member)
        sealed = member.payout_account_sealed
        held = person_data.opened(key, member.id, None, None, sealed).account
        if held != account:
            value = person_data.encode_account(account)
            await held_changes.begin(
                session, keyring, member=member, field=_FIELD, value=value, now=now
            )
    return await _standing(session, caller, keyring)


def _checked(body: PayoutAccountUpdate) -> PayoutAccount:
    number = body.number
    if body.kind is AccountKind.BANK_CARD:
        try:
            number = identifiers.bank_card(number)
        except ValueError as error:
            raise Invalid.at("/number", str(error)) from None
    return PayoutAccount(body.kind.value, number, body.issuer, body.holder)


async def _standing(session: AsyncSession, caller: Caller, keyring: Keyring) -> MyPayoutAccount:
    return _shown(await held_changes.standing(session, caller, field=_FIELD), keyring)


async def cancel(
    session: AsyncSession, caller: Caller, keyring: Keyring, *, version: int, now: datetime
) -> MyPayoutAccount:
    """Give up a change that waits; raises NoAccountChange when none does."""
    async with district_wide(session):
        member = await members.locked(
            session, caller, member_id=consents.own(caller), version=version
        )
        if not await held_changes.give_up(session, member, field=_FIELD, now=now):
            raise NoAccountChange
    return await _standing(session, caller, keyring)
