"""Keys that sign access tokens (RFC 9068), and how their public halves are published."""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.crypto import digest


class SigningKey:
    """An Ed25519 key that one of our issuers signs with."""

    def __init__(self, seed: bytes) -> None:
        """Take 32 secret bytes; the same ones give the same key."""
        self.private = Ed25519PrivateKey.from_private_bytes(seed)
        self.kid = digest(self.private.public_key().public_bytes_raw())[:16]

    def jwks(self) -> jwt.PyJWKSet:
        """Give the public key as a JWKS."""
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.private.public_key()))
        return jwt.PyJWKSet.from_dict(
            {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "EdDSA"}]}
        )

    def sign(self, claims: dict[str, Any]) -> str:
        """Sign the claims of an access token."""
        return jwt.encode(
            claims, self.private, algorithm="EdDSA", headers={"kid": self.kid, "typ": "at+jwt"}
        )
