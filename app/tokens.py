"""Access tokens (RFC 9068): checked against the issuer's keys, wherever these are right now."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.calls import CallFailed, Peer
from app.problems import Unauthenticated, Unavailable
from app.scopes import Acting, Scope, require_enterable
from app.settings import Settings

MAX_TOKEN_LENGTH = 8192
_LEEWAY_SECONDS = 30
_FRESH_SECONDS = 600
_STALE_SECONDS = 24 * 3600
_RETRY_SECONDS = 30
_FIRST_RETRY_SECONDS = 1
_CACHED_TOKENS = 4096
OF_MEMBERS = "member:"
"""How a subject begins that is a member who logged in by phone."""
_log = structlog.get_logger()


def subject_of(member_id: UUID) -> str:
    """Name a member who logged in by phone, as no subject of the other issuer is named."""
    return f"{OF_MEMBERS}{member_id}"


def member_of(subject: str) -> UUID | None:
    """Give the member who logs in by phone as a subject; None for all other subjects."""
    with suppress(ValueError):
        member_id = UUID(subject.removeprefix(OF_MEMBERS))
        return member_id if subject == subject_of(member_id) else None
    return None


@dataclass(frozen=True)
class AccessToken:
    """What a verified token says: who calls, for which kinds of action, and how she signed in.

    `signed_in_at` and `issued_at` are in seconds of the Unix clock; `scopes` of None limit nothing.
    `member_id` is that of a member who logged in by phone, who acts as herself and nothing else.
    """

    subject: str
    scopes: frozenset[str] | None = None
    signed_in_at: float | None = None
    acr: str | None = None
    member_id: UUID | None = None
    issued_at: float | None = None


@dataclass(frozen=True)
class MemberKeys:
    """Whose tokens are accepted besides the issuer's, for members alone."""

    issuer: str
    keys: jwt.PyJWKSet

    def key(self, kid: str) -> jwt.PyJWK | None:
        """Give the key of an id, if it is one of these."""
        return next((key for key in self.keys.keys if key.key_id == kid), None)


def read(claims: dict[str, Any]) -> AccessToken:
    """Read verified claims: the one place that trusts them; raises Unauthenticated."""
    subject, scope, at, acr = (claims.get(name) for name in ("sub", "scope", "auth_time", "acr"))
    is_number = isinstance(at, int | float) and not isinstance(at, bool)
    try:
        require_enterable(Scope(Acting.QUEUE, subject=str(subject)))
    except ValueError:
        raise Unauthenticated("claims") from None
    if str(subject).startswith(OF_MEMBERS):
        # Only a login by phone says so.
        raise Unauthenticated("claims")
    if not subject or (scope is not None and not isinstance(scope, str)):
        raise Unauthenticated("claims")
    return AccessToken(
        subject=str(subject),
        scopes=None if scope is None else frozenset(scope.split()),
        signed_in_at=at if is_number else None,
        acr=acr if isinstance(acr, str) else None,
        issued_at=float(claims["iat"]),
    )


def read_of_member(claims: dict[str, Any]) -> AccessToken:
    """Read the verified claims of a login by phone: who she is; raises Unauthenticated."""
    member_id = member_of(str(claims["sub"]))
    if member_id is None:
        raise Unauthenticated("claims")
    return AccessToken(
        subject=subject_of(member_id), member_id=member_id, issued_at=float(claims["iat"])
    )


def _ids(keys: jwt.PyJWKSet) -> set[str | None]:
    return {key.key_id for key in keys.keys}


class TokenVerifier:
    """Checks access tokens and remembers those it has checked, no longer than a key is fresh."""

    def __init__(
        self,
        settings: Settings,
        keys: jwt.PyJWKSet | None = None,
        members: MemberKeys | None = None,
        *,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Verify against given keys, or those that the issuer publishes over HTTP.

        What is signed by a key of `members` says who a member is.
        """
        self._settings = settings
        self._members = members
        self._keys = keys
        self._seconds = seconds
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._seen: OrderedDict[bytes, tuple[float, float, AccessToken]] = OrderedDict()

    async def verify(self, token: str) -> AccessToken:
        """Give what a genuine token says; raises Unauthenticated, or Unavailable without keys."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise Unauthenticated("size")
        fingerprint = hashlib.sha256(token.encode()).digest()
        known = self._seen.get(fingerprint)
        if known is not None:
            expires_at, checked_at, said = known
            if expires_at > time.time() and self._seconds() - checked_at <= _FRESH_SECONDS:
                return said
        expires_at, said = await self._said(token)
        is_strong = said.acr in self._settings.oidc_step_up_acr
        _log.info("token_accepted", of_member=said.member_id is not None, is_strong=is_strong)
        self._seen[fingerprint] = (expires_at, self._seconds(), said)
        if len(self._seen) > _CACHED_TOKENS:
            self._seen.popitem(last=False)
        return said

    async def _said(self, token: str) -> tuple[float, AccessToken]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._settings.oidc_algorithms:
                raise Unauthenticated("algorithm")
            if str(header.get("typ")).lower().removeprefix("application/") != "at+jwt":
                raise Unauthenticated("type")
            kid = str(header.get("kid"))
            of_members = None if self._members is None else self._members.key(kid)
            if self._members is not None and of_members is not None:
                claims = self._decoded(token, of_members, self._members.issuer)
                return float(claims["exp"]), read_of_member(claims)
            claims = self._decoded(token, await self._key(kid), self._settings.oidc_issuer)
            return float(claims["exp"]), read(claims)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise Unauthenticated("signature") from None

    def _decoded(self, token: str, key: jwt.PyJWK, issuer: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=self._settings.oidc_algorithms,
            audience=self._settings.oidc_audience,
            issuer=issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
        )

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
            self._require_length(key)
            return key
        if self._keys is None or self._is_older_than(_STALE_SECONDS):
            raise Unavailable(headers={"Retry-After": "5"})
        raise Unauthenticated("key")

    def _require_length(self, key: jwt.PyJWK) -> None:
        bits = key.key.key_size if isinstance(key.key, RSAPublicKey) else None
        if bits is not None and bits < self._settings.oidc_rsa_bits:
            _log.warning("issuer_key_too_short", bits=bits, least=self._settings.oidc_rsa_bits)
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
            async with Peer(url, name="issuer") as issuer:
                keys = jwt.PyJWKSet.from_dict(await issuer.get())
            if self._keys is not None and _ids(keys) != _ids(self._keys):
                # What a withdrawn key had signed is checked again, and refused.
                self._seen.clear()
            self._keys = keys
            self._fetched_at = asked_at
        except CallFailed as failure:
            _log.warning("jwks_unavailable", why=failure.why, status=failure.status)
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            _log.warning("jwks_unavailable", why=type(error).__name__)
        finally:
            # Until now, others who want the same wait for this answer.
            self._tried_at = self._seconds()
