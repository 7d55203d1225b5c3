"""The development issuer: signs access tokens with a key made on this machine."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.crypto import digest, machine_secret
from app.settings import Settings

_LIFETIME_SECONDS = 12 * 3600


class Refused(Exception):
    """There is no development issuer in production."""


class DevelopmentIssuer:
    """An OIDC issuer for one machine; the service verifies its tokens like any other's."""

    def __init__(self, settings: Settings) -> None:
        """Load or make the key; raises Refused in production."""
        if settings.mode == "production":
            raise Refused
        self._settings = settings
        secret = machine_secret(Path(settings.data_dir) / "keys" / "issuer.key")
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
        self._kid = digest(self._key.public_key().public_bytes_raw())[:16]

    def keys(self) -> jwt.PyJWKSet:
        """Give the public key as a JWKS."""
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self._key.public_key()))
        return jwt.PyJWKSet.from_dict(
            {"keys": [{**public, "kid": self._kid, "use": "sig", "alg": "EdDSA"}]}
        )

    def token(
        self, subject: str, role: str, *, lifetime: int = _LIFETIME_SECONDS, **claims: Any
    ) -> str:
        """Sign an access token (RFC 9068) for a subject in a role, valid for `lifetime` seconds."""
        issued = int(time.time())
        payload = {
            "iss": self._settings.oidc_issuer,
            "aud": self._settings.oidc_audience,
            "sub": subject,
            "iat": issued,
            "exp": issued + lifetime,
            "role": role,
            **claims,
        }
        return jwt.encode(
            payload, self._key, algorithm="EdDSA", headers={"kid": self._kid, "typ": "at+jwt"}
        )
