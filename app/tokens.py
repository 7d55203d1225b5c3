"""Access tokens (RFC 9068): checked against the issuer's keys, wherever these are right now."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import structlog

from app.problems import Unauthenticated, Unavailable
from app.scopes import Acting, Scope, require_enterable
from app.settings import Settings

MAX_TOKEN_LENGTH = 8192
_LEEWAY_SECONDS = 30
_FRESH_SECONDS = 600
_STALE_SECONDS = 24 * 3600
_RETRY_SECONDS = 30
_FIRST_RETRY_SECONDS = 1
_FETCH_SECONDS = 5
_CACHED_TOKENS = 4096
_log = structlog.get_logger()


@dataclass(frozen=True)
class AccessToken:
    """What a verified token says: who calls, for which kinds of action, and how she signed in.

    `signed_in_at` is in seconds of the Unix clock; `scopes` of None limit nothing.
    """

    subject: str
    scopes: frozenset[str] | None = None
    signed_in_at: float | None = None
    acr: str | None = None


def read(claims: dict[str, Any]) -> AccessToken:
    """Read verified claims: the one place that trusts them; raises Unauthenticated."""
    subject, scope, at, acr = (claims.get(name) for name in ("sub", "scope", "auth_time", "acr"))
    is_number = isinstance(at, int | float) and not isinstance(at, bool)
    try:
        require_enterable(Scope(Acting.QUEUE, subject=str(subject)))
    except ValueError:
        raise Unauthenticated("claims") from None
    if not subject or (scope is not None and not isinstance(scope, str)):
        raise Unauthenticated("claims")
    return AccessToken(
        subject=str(subject),
        scopes=None if scope is None else frozenset(scope.split()),
        signed_in_at=at if is_number else None,
        acr=acr if isinstance(acr, str) else None,
    )


class TokenVerifier:
    """Checks access tokens and remembers those it has checked until they expire."""

    def __init__(
        self,
        settings: Settings,
        keys: jwt.PyJWKSet | None = None,
        *,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Verify against given keys, or those that the issuer publishes over HTTP."""
        self._settings = settings
        self._keys = keys
        self._seconds = seconds
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._seen: OrderedDict[bytes, tuple[float, AccessToken]] = OrderedDict()

    async def verify(self, token: str) -> AccessToken:
        """Give what a genuine token says; raises Unauthenticated, or Unavailable without keys."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthenticated("size")
        fingerprint = hashlib.sha256(token.encode()).digest()
        known = self._seen.get(fingerprint)
        if known is not None and known[0] > time.time():
            return known[1]
        claims = await self._claims(token)
        said = read(claims)
        self._seen[fingerprint] = (float(claims["exp"]), said)
        if len(self._seen) > _CACHED_TOKENS:
            self._seen.popitem(last=False)
        return said

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._settings.oidc_algorithms:
                raise Unauthenticated("algorithm")
            if str(header.get("typ")).lower().removeprefix("application/") != "at+jwt":
                raise Unauthenticated("type")
            key = await self._key(str(header.get("kid")))
            return jwt.decode(
                token,
                key,
                algorithms=self._settings.oidc_algorithms,
                audience=self._settings.oidc_audience,
                issuer=self._settings.oidc_issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthenticated("signature") from None

    async def _key(self, kid: str) -> jwt.PyJWK:
        url = self._settings.oidc_jwks_url
        # A known key serves on while another request asks for its successors.
        if (
            url is not None
            and self._wants(kid)
            and not (self._fetching.locked() and self._find(kid))
        ):
            async with self._fetching:
                if self._wants(kid):
                    await self._fetch(url)
        key = self._find(kid)
        if key is not None:
            return key
        if self._keys is None or self._is_older_than(_STALE_SECONDS):
            raise Unavailable(headers={"Retry-After": "5"})
        raise Unauthenticated("key")

    def _wants(self, kid: str) -> bool:
        """Whether to ask the issuer: for new keys or an unknown one, but not all the time."""
        rest = _FIRST_RETRY_SECONDS if self._keys is None else _RETRY_SECONDS
        has_rested = self._seconds() - self._tried_at >= rest
        return has_rested and (self._is_older_than(_FRESH_SECONDS) or self._find(kid) is None)

    def _is_older_than(self, seconds: float) -> bool:
        is_remote = self._settings.oidc_jwks_url is not None
        return is_remote and self._seconds() - self._fetched_at > seconds

    def _find(self, kid: str) -> jwt.PyJWK | None:
        if self._keys is None or self._is_older_than(_STALE_SECONDS):
            return None
        return next((key for key in self._keys.keys if key.key_id == kid), None)

    async def _fetch(self, url: str) -> None:
        asked_at = self._seconds()
        try:
            async with httpx.AsyncClient(timeout=_FETCH_SECONDS) as client:
                answer = await client.get(url)
                answer.raise_for_status()
            self._keys = jwt.PyJWKSet.from_dict(answer.json())
            self._fetched_at = asked_at
        except (httpx.HTTPError, jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            _log.warning("jwks_unavailable", error=type(error).__name__)
        finally:
            # Until now, others who want the same wait for this answer.
            self._tried_at = self._seconds()
