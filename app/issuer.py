"""The development issuer: signs access tokens with a key made on this machine."""

import time
from pathlib import Path
from typing import Any

import jwt

from app.crypto import machine_secret
from app.database_urls import is_of_this_machine
from app.settings import Settings
from app.signing import SigningKey

_LIFETIME_SECONDS = 12 * 3600


class Refused(Exception):
    """There is no development issuer but for the embedded database, or made-up data here."""


def signs_here(settings: Settings) -> bool:
    """Tell whether tokens are signed here: never where the data could be real."""
    if settings.mode == "production" or settings.oidc_jwks_url is not None:
        return False
    if settings.database_url is None:
        return True
    addresses = (settings.database_url, settings.owner_url)
    return settings.development_issuer and all(
        is_of_this_machine(each.get_secret_value()) for each in addresses if each is not None
    )


class DevelopmentIssuer:
    """An OIDC issuer for one machine; the service verifies its tokens like any other's."""

    def __init__(self, settings: Settings) -> None:
        """Load or make the key; raises Refused where a real issuer must be asked."""
        if not signs_here(settings):
            raise Refused
        self._settings = settings
        secret = machine_secret(Path(settings.data_dir) / "keys" / "issuer.key")
        self._key = SigningKey(bytes.fromhex(secret))

    def keys(self) -> jwt.PyJWKSet:
        """Give the public key as a JWKS."""
        return self._key.jwks()

    def token(
        self,
        subject: str,
        *,
        lifetime: int = _LIFETIME_SECONDS,
        step_up: bool = False,
        **claims: Any,
    ) -> str:
        """Sign an access token (RFC 9068) for a subject, valid for `lifetime` seconds.

        With `step_up` it tells of a sign-in just now that is strong enough for everything.
        """
        issued = int(time.time())
        payload = {
            "iss": self._settings.oidc_issuer,
            "aud": self._settings.oidc_audience,
            "sub": subject,
            "iat": issued,
            "exp": issued + lifetime,
            **claims,
        }
        if step_up:
            payload |= {"auth_time": issued, "acr": self._settings.oidc_step_up_acr[0]}
        return self._key.sign(payload)
