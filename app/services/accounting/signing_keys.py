"""The keys that the service signs files with, and their public halves for who verifies them."""

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.crypto import Keyring
from app.models.accounting.month_closes import SigningKeyRead, SigningKeysRead
from app.signing import SigningKey


def of_months(keyring: Keyring) -> SigningKey:
    """Give the key of month files: derived, so every process of a deployment has the same."""
    return SigningKey(keyring.derive("files/months"))


def published(keyring: Keyring) -> SigningKeysRead:
    """Give the public keys, to keep apart from the files that they verify."""
    key = of_months(keyring)
    pem = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    shown = SigningKeyRead(
        key_id=key.kid,
        algorithm="Ed25519",
        purpose="month_closes",
        public_key_pem=pem.decode(),
    )
    return SigningKeysRead(items=[shown])
