"""Encryption of personal fields, blind indexes and signatures, from one root key."""

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Depends, Request

from app.settings import Settings

_VERSION = b"\x01"
_NONCE_BYTES = 12


class Unreadable(Exception):
    """The ciphertext was made under another key, for another place, or was changed."""


class Keyring:
    """The keys of one deployment, each derived from the root for one purpose."""

    def __init__(self, root: bytes) -> None:
        """Take 32 random bytes as the root."""
        self._root = root
        self._field = AESGCM(self.derive("field"))
        self._index_keys: dict[str, bytes] = {}

    def derive(self, purpose: str) -> bytes:
        """Give the 32-byte key of a purpose (HKDF-SHA-256)."""
        info = f"jixie/{purpose}/1".encode()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._root)

    def encrypt(self, plain: str, *, place: str) -> bytes:
        """Encrypt a field (AES-256-GCM), bound to its place: `table.column:row id`."""
        return self.encrypt_bytes(plain.encode(), place=place)

    def decrypt(self, sealed: bytes, *, place: str) -> str:
        """Read a field back; raises Unreadable when it was moved or changed."""
        return self.decrypt_bytes(sealed, place=place).decode()

    def encrypt_bytes(self, plain: bytes, *, place: str) -> bytes:
        """Encrypt bytes bound to their place."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._field.encrypt(nonce, plain, place.encode())

    def decrypt_bytes(self, sealed: bytes, *, place: str) -> bytes:
        """Read bytes back; raises Unreadable when they were moved or changed."""
        if sealed[:1] != _VERSION:
            raise Unreadable
        body = sealed[1:]
        try:
            return self._field.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], place.encode())
        except InvalidTag:
            raise Unreadable from None

    def blind_index(self, value: str, *, column: str) -> bytes:
        """Give the keyed hash (HMAC-SHA-256) by which equal values of a column are found."""
        key = self._index_keys.get(column)
        if key is None:
            key = self._index_keys.setdefault(column, self.derive(f"index/{column}"))
        return hmac.digest(key, value.encode(), "sha256")

    def sign(self, message: bytes, *, purpose: str, length: int = 16) -> bytes:
        """Sign a short-lived token of ours; `length` bytes of HMAC-SHA-256."""
        return hmac.digest(_signing_key(self, purpose), message, "sha256")[:length]


@lru_cache(maxsize=32)
def _signing_key(keyring: Keyring, purpose: str) -> bytes:
    return keyring.derive(f"sign/{purpose}")


def same(left: bytes, right: bytes) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(left, right)


def digest(content: bytes) -> str:
    """Give the SHA-256 of content in hex."""
    return hashlib.sha256(content).hexdigest()


def encode(raw: bytes) -> str:
    """Write bytes as URL-safe text."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Read bytes from URL-safe text; raises ValueError when it is none."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


async def _keyring(request: Request) -> Keyring:
    return cast("Keyring", request.app.state.keyring)


Keys = Annotated[Keyring, Depends(_keyring)]


def load_keyring(settings: Settings) -> Keyring:
    """Make the keyring from the settings, or from a key generated on this machine."""
    if settings.secret_key is not None:
        return Keyring(bytes.fromhex(settings.secret_key.get_secret_value()))
    return Keyring(bytes.fromhex(machine_secret(settings.data_dir / "keys" / "root.key")))


def machine_secret(path: Path) -> str:
    """Read a secret of this machine, made at first use with owner-only access."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()
