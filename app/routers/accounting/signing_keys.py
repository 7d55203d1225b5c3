"""`/v1/signing-keys`: what files signed by the service are verified with."""

from app import concurrency
from app.crypto import Keys
from app.models.accounting.month_closes import SigningKeysRead
from app.rights import MayReadFunds
from app.services.accounting import signing_keys

router = concurrency.router("/signing-keys", "month-closes")


@router.get("", summary="List the public keys of signed files")
async def list_signing_keys(keyring: Keys, caller: MayReadFunds) -> SigningKeysRead:
    """Give the public keys; keep them apart from the files, so that both are not forged at once."""
    return signing_keys.published(keyring)
