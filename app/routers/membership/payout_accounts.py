"""`/v1/members/{id}/payout-account`: to which account a member is paid, masked."""

from typing import Annotated

from fastapi import Path

from app import concurrency
from app.crypto import Keys
from app.models.membership.payout_accounts import MemberPayoutAccount
from app.models.shapes import Id
from app.rights import MayReadPayouts
from app.services.membership import payout_accounts
from app.transactions import OneStatement

router = concurrency.router("/members/{member_id}/payout-account", "members")


@router.get("", summary="Get a member's payout account")
async def get_member_payout_account(
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadPayouts,
    member_id: Annotated[Id, Path(description="The member's id.")],
) -> MemberPayoutAccount:
    """Give the account in force, masked, to those who account for payouts; see `/reveal`."""
    return await payout_accounts.find_of(statements, caller, keyring, member_id=member_id)
