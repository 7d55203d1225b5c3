"""Tokens for members who logged in by phone: Jixie is their issuer, under a key of its root."""

from datetime import datetime, timedelta
from uuid import UUID

import jwt

from app.crypto import Keyring
from app.settings import Settings
from app.signing import SigningKey
from app.tokens import subject_of


class MemberIssuer:
    """Signs short-lived access tokens (RFC 9068) that say which member calls, and nothing else.

    What she may do is granted, like everybody's, and can be taken back while they last.

    Every process of a deployment derives the same key, in production from `JIXIE_SECRET_KEY`.
    """

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        """Derive the key."""
        self.name = settings.member_issuer
        self.lifetime = timedelta(minutes=settings.member_token_minutes)
        self._audience = settings.oidc_audience
        self._key = SigningKey(keyring.derive("issuer/members"))

    def keys(self) -> jwt.PyJWKSet:
        """Give the public key as a JWKS."""
        return self._key.jwks()

    def token(self, *, member_id: UUID, now: datetime) -> str:
        """Sign an access token for a member."""
        claims = {
            "iss": self.name,
            "aud": self._audience,
            "sub": subject_of(member_id),
            "iat": now.timestamp(),
            "exp": int((now + self.lifetime).timestamp()),
        }
        return self._key.sign(claims)
