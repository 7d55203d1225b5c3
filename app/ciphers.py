"""Authenticated encryption and keyed hashes in two profiles: AES and SHA-256, or SM4 and SM3."""

import hmac
import os
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import ciphers
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SM3
from cryptography.hazmat.primitives.hmac import HMAC

_AES, _SM4 = b"\x01", b"\x02"
_NONCE, _TAG = 12, 16
_SM4_KEY_BYTES = 16


class Unreadable(Exception):
    """The ciphertext was made under another key, for another place, or was changed."""


class Profile(StrEnum):
    """Which algorithms new ciphertexts and hashes are made by; what exists says its own."""

    INTERNATIONAL = "international"
    """AES-256-GCM, HMAC-SHA-256."""
    GUOMI = "guomi"
    """国密: SM4-GCM (GB/T 32907), HMAC-SM3 (GB/T 32905)."""


class Cipher:
    """One 32-byte key: seals by its profile, and opens what either profile sealed.

    A sealed value is a byte that names the profile, 12 random bytes, the ciphertext and its tag,
    bound to its place: `table.column:row id`.
    """

    __slots__ = ("_aes", "_key", "_profile")

    def __init__(self, key: bytes, profile: Profile) -> None:
        """Take 32 random bytes."""
        self._aes = AESGCM(key)
        self._key = key
        self._profile = profile

    def seal(self, plain: bytes, *, place: str) -> bytes:
        """Encrypt bytes for one place."""
        nonce = os.urandom(_NONCE)
        if self._profile is Profile.INTERNATIONAL:
            return _AES + nonce + self._aes.encrypt(nonce, plain, place.encode())
        encryptor = ciphers.Cipher(self._sm4(), GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(place.encode())
        body = encryptor.update(plain) + encryptor.finalize()
        return _SM4 + nonce + body + encryptor.tag

    def open(self, sealed: bytes, *, place: str) -> bytes:
        """Read bytes back; raises Unreadable when they were moved or changed."""
        mark, nonce, body = sealed[:1], sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        if len(body) < _TAG:
            raise Unreadable
        try:
            if mark == _AES:
                return self._aes.decrypt(nonce, body, place.encode())
            if mark == _SM4:
                return self._open_sm4(nonce, body, place)
        except InvalidTag:
            raise Unreadable from None
        raise Unreadable

    def _open_sm4(self, nonce: bytes, body: bytes, place: str) -> bytes:
        decryptor = ciphers.Cipher(self._sm4(), GCM(nonce, body[-_TAG:])).decryptor()
        decryptor.authenticate_additional_data(place.encode())
        return decryptor.update(body[:-_TAG]) + decryptor.finalize()

    def _sm4(self) -> SM4:
        """Give the key of SM4, half as long and of no use for AES."""
        return SM4(keyed_hash(self._key, b"jixie/sm4", Profile.GUOMI)[:_SM4_KEY_BYTES])


def keyed_hash(key: bytes, message: bytes, profile: Profile) -> bytes:
    """Give 32 bytes of HMAC-SHA-256 or HMAC-SM3."""
    if profile is Profile.INTERNATIONAL:
        return hmac.digest(key, message, "sha256")
    hashed = HMAC(key, SM3())
    hashed.update(message)
    return hashed.finalize()
