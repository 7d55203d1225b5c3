"""The keys of a deployment: what seals files, wraps data keys, indexes and signs."""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, NamedTuple, cast

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fastapi import Depends, Request
from pydantic import SecretStr

from app.ciphers import Cipher, Profile, Unreadable, keyed_hash
from app.settings import Settings

_KEY_BYTES = 32


class MasterKeyMissing(Unreadable):
    """A data key is wrapped by a version of the master key that the settings do not hold."""


class Wrapped(NamedTuple):
    """A data key as it is stored: sealed by a version of the master key."""

    sealed: bytes
    master_version: int


@dataclass(frozen=True)
class IndexKey:
    """A version of the key of all blind indexes, and the hash that it is used with."""

    version: int
    key: bytes
    profile: Profile


class Keyring:
    """The keys of one deployment.

    Of the versions of a key the first makes what is new; the others only read what they made.
    """

    def __init__(
        self,
        root: bytes,
        *,
        masters: Mapping[int, bytes] | None = None,
        indexes: Sequence[IndexKey] = (),
        profile: Profile = Profile.INTERNATIONAL,
    ) -> None:
        """Take 32 random bytes as the root; keys that are not given are derived from it."""
        self._root = root
        self._profile = profile
        self._file = Cipher(self.derive("field"), profile)
        masters = masters or {1: self.derive("master")}
        self._masters = {version: Cipher(key, profile) for version, key in masters.items()}
        self.master_version = next(iter(masters))
        self._indexes = tuple(indexes) or (IndexKey(1, self.derive("index"), profile),)
        self._column_keys: dict[tuple[int, str], bytes] = {}

    def derive(self, purpose: str) -> bytes:
        """Give the 32-byte key of a purpose (HKDF-SHA-256)."""
        info = f"jixie/{purpose}/1".encode()
        return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(self._root)

    def encrypt_bytes(self, plain: bytes, *, place: str) -> bytes:
        """Encrypt what belongs to no one person, bound to its place: `table.column:row id`."""
        return self._file.seal(plain, place=place)

    def decrypt_bytes(self, sealed: bytes, *, place: str) -> bytes:
        """Read bytes back; raises Unreadable when they were moved or changed."""
        return self._file.open(sealed, place=place)

    def new_key(self, *, place: str) -> tuple[Cipher, Wrapped]:
        """Make a data key, to use now and to store; `place` binds the stored one."""
        key = os.urandom(_KEY_BYTES)
        return Cipher(key, self._profile), self._wrap(key, place)

    def open_key(self, wrapped: Wrapped, *, place: str) -> Cipher:
        """Unwrap a data key; raises Unreadable, MasterKeyMissing where its version is gone."""
        return Cipher(self._unwrap(wrapped, place), self._profile)

    def rewrap(self, wrapped: Wrapped, *, place: str) -> Wrapped:
        """Wrap a data key by the first version of the master key; no ciphertext changes by it."""
        return self._wrap(self._unwrap(wrapped, place), place)

    def _wrap(self, key: bytes, place: str) -> Wrapped:
        version = self.master_version
        return Wrapped(self._masters[version].seal(key, place=place), version)

    def _unwrap(self, wrapped: Wrapped, place: str) -> bytes:
        master = self._masters.get(wrapped.master_version)
        if master is None:
            raise MasterKeyMissing(wrapped.master_version)
        return master.open(wrapped.sealed, place=place)

    @property
    def index_versions(self) -> tuple[int, ...]:
        """The versions under which equal values may be found, the one for new values first."""
        return tuple(index.version for index in self._indexes)

    def blind_index(self, value: str, *, column: str) -> bytes:
        """Give the keyed hash by which equal values of a column are found, its version first."""
        return self._index(self._indexes[0], value, column)

    def blind_indexes(self, value: str, *, column: str) -> list[bytes]:
        """Give the hash under every version, the one for new values first."""
        return [self._index(index, value, column) for index in self._indexes]

    def former_index(self, value: str, *, column: str) -> bytes | None:
        """Give the hash under the version that is being replaced; None when none is."""
        return self._index(self._indexes[1], value, column) if len(self._indexes) > 1 else None

    def _index(self, index: IndexKey, value: str, column: str) -> bytes:
        key = self._column_keys.get((index.version, column))
        if key is None:
            key = keyed_hash(index.key, f"jixie/index/{column}".encode(), index.profile)
            self._column_keys[index.version, column] = key
        return bytes((index.version,)) + keyed_hash(key, value.encode(), index.profile)

    def sign(self, message: bytes, *, purpose: str, length: int = 16) -> bytes:
        """Sign a short-lived token of ours; `length` bytes of HMAC-SHA-256."""
        return hmac.digest(_signing_key(self, purpose), message, "sha256")[:length]


@lru_cache(maxsize=32)
def _signing_key(keyring: Keyring, purpose: str) -> bytes:
    return keyring.derive(f"sign/{purpose}")


def six_digits() -> str:
    """Make a code of six digits that nobody can foretell."""
    return f"{secrets.randbelow(10**6):06}"


def new_seed(length: int) -> bytes:
    """Make bytes that nobody can foretell."""
    return secrets.token_bytes(length)


def five_bits(count: int) -> list[int]:
    """Give numbers below 32 that nobody can foretell."""
    return [byte % 32 for byte in secrets.token_bytes(count)]


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
    """Make the keyring from the settings, or from keys generated on this machine."""
    profile = Profile(settings.crypto_profile)
    indexes = [
        IndexKey(version, key, Profile(named) if named else profile)
        for version, key, named in _versions(settings, settings.index_keys, "index")
    ]
    masters = _versions(settings, settings.master_keys, "master")
    return Keyring(
        bytes.fromhex(_secret(settings, settings.secret_key, "root")),
        masters={version: key for version, key, _ in masters},
        indexes=indexes,
        profile=profile,
    )


def _secret(settings: Settings, given: SecretStr | None, name: str) -> str:
    if given is not None:
        return given.get_secret_value()
    return machine_secret(settings.data_dir / "keys" / f"{name}.key")


def _versions(
    settings: Settings, given: SecretStr | None, name: str
) -> list[tuple[int, bytes, str]]:
    """Read `2:key,1:key:profile`; a key generated on this machine is version 1."""
    listed = _secret(settings, given, name)
    parts = [
        (entry if ":" in entry else f"1:{entry}").strip().split(":") for entry in listed.split(",")
    ]
    return [(int(version), bytes.fromhex(key), "".join(named)) for version, key, *named in parts]


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
