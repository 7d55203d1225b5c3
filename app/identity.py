"""Who calls: bearer tokens verified against a JWKS, roles, and the rights that each has."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, cast
from uuid import UUID

import httpx
import jwt
import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.identifiers import district_of
from app.problems import Forbidden, Unauthenticated, Unavailable
from app.scopes import Acting, Scope, require_enterable
from app.settings import Settings

_LEEWAY_SECONDS = 30
_JWKS_FRESH_SECONDS = 600
_JWKS_RETRY_SECONDS = 30
_CACHED_TOKENS = 4096
_log = structlog.get_logger()


class Role(StrEnum):
    """The offices that people and machines hold towards the service."""

    MEMBER = "member"
    EVENT_STAFF = "event_staff"
    SECRETARY = "association_secretary"
    GUIDE = "guide"
    TOWN_OFFICER = "town_officer"
    DISTRICT_OFFICER = "district_officer"
    FINANCE_CLERK = "finance_clerk"
    FINANCE_APPROVER = "finance_approver"
    AUDITOR = "auditor"
    DATA_PLATFORM = "data_platform"
    OPERATIONS = "operations"


class Right(StrEnum):
    """What may be done, as `resource:action`."""

    READ_AREAS = "areas:read"
    SET_AREAS = "areas:write"
    READ_ASSOCIATIONS = "associations:read"
    WRITE_ASSOCIATIONS = "associations:write"
    GOVERN_ASSOCIATIONS = "associations:govern"
    READ_MEMBERS = "members:read"
    WRITE_MEMBERS = "members:write"
    READ_EVENTS = "events:read"
    WRITE_EVENTS = "events:write"
    READ_ROUNDS = "rounds:read"
    WRITE_ROUNDS = "rounds:write"
    REGISTER = "registrations:write"
    READ_REGISTRATIONS = "registrations:read"
    READ_ATTENDANCES = "attendances:read"
    CHECK_IN = "attendances:write"
    CHECK_IN_SELF = "attendances:self"
    VOID_ATTENDANCES = "attendances:void"
    READ_POLICIES = "policies:read"
    WRITE_POLICIES = "policies:write"
    READ_ELIGIBILITY = "eligibility:read"
    READ_PAYOUTS = "payouts:read"
    PREPARE_PAYOUTS = "payouts:prepare"
    SUBMIT_PAYOUTS = "payouts:submit"
    APPROVE_PAYOUTS = "payouts:approve"
    DISBURSE_PAYOUTS = "payouts:disburse"
    READ_OPERATIONS = "operations:read"


_READ_PUBLIC = {Right.READ_AREAS, Right.READ_ASSOCIATIONS, Right.READ_EVENTS, Right.READ_ROUNDS}
_READ_ALL = _READ_PUBLIC | {
    Right.READ_MEMBERS,
    Right.READ_REGISTRATIONS,
    Right.READ_ATTENDANCES,
    Right.READ_POLICIES,
    Right.READ_ELIGIBILITY,
    Right.READ_PAYOUTS,
    Right.READ_OPERATIONS,
}
_OFFICER = _READ_ALL | {
    Right.WRITE_ASSOCIATIONS,
    Right.GOVERN_ASSOCIATIONS,
    Right.WRITE_MEMBERS,
    Right.WRITE_EVENTS,
    Right.WRITE_ROUNDS,
    Right.REGISTER,
    Right.CHECK_IN,
    Right.VOID_ATTENDANCES,
    Right.WRITE_POLICIES,
    Right.PREPARE_PAYOUTS,
    Right.SUBMIT_PAYOUTS,
}
RIGHTS: dict[Role, frozenset[Right]] = {
    Role.MEMBER: frozenset(
        _READ_PUBLIC
        | {
            Right.READ_MEMBERS,
            Right.REGISTER,
            Right.READ_ATTENDANCES,
            Right.CHECK_IN_SELF,
            Right.READ_ELIGIBILITY,
        }
    ),
    Role.EVENT_STAFF: frozenset(
        _READ_PUBLIC
        | {Right.REGISTER, Right.READ_REGISTRATIONS, Right.READ_ATTENDANCES, Right.CHECK_IN}
    ),
    Role.SECRETARY: frozenset(
        _READ_PUBLIC
        | {
            Right.WRITE_ASSOCIATIONS,
            Right.READ_MEMBERS,
            Right.WRITE_MEMBERS,
            Right.WRITE_EVENTS,
            Right.REGISTER,
            Right.READ_REGISTRATIONS,
            Right.READ_ATTENDANCES,
            Right.CHECK_IN,
            Right.READ_POLICIES,
            Right.READ_OPERATIONS,
        }
    ),
    Role.GUIDE: frozenset(_READ_PUBLIC),
    Role.TOWN_OFFICER: frozenset(_OFFICER),
    Role.DISTRICT_OFFICER: frozenset(_OFFICER | {Right.SET_AREAS}),
    Role.FINANCE_CLERK: frozenset(
        _READ_ALL | {Right.PREPARE_PAYOUTS, Right.SUBMIT_PAYOUTS, Right.DISBURSE_PAYOUTS}
    ),
    Role.FINANCE_APPROVER: frozenset(_READ_ALL | {Right.APPROVE_PAYOUTS}),
    Role.AUDITOR: frozenset(_READ_ALL),
    Role.DATA_PLATFORM: frozenset(_READ_PUBLIC),
    Role.OPERATIONS: frozenset(),
}

_ACTING = {Role.MEMBER: Acting.MEMBER, Role.DATA_PLATFORM: Acting.PLATFORM}
"""The database roles of those who hold no office."""
_WITHOUT_AREAS = {Role.MEMBER, Role.SECRETARY}


@dataclass(frozen=True)
class Caller:
    """Who calls, in which role, and how far the role reaches.

    `areas` are 12-digit codes; `association_ids`, `event_ids` and `member_id` narrow the roles
    that are bound to an association, an event or a person.
    """

    subject: str
    role: Role
    district_code: str
    areas: tuple[str, ...] = ()
    association_ids: tuple[UUID, ...] = ()
    event_ids: tuple[UUID, ...] = ()
    member_id: UUID | None = None
    scopes: frozenset[str] | None = None

    @property
    def scope(self) -> Scope:
        """Give how far a transaction of the caller sees; raises ValueError for no area's code."""
        return Scope(
            acting=_ACTING.get(self.role, Acting.STAFF),
            district_code=self.district_code,
            subject=self.subject,
            areas=() if self.role in _WITHOUT_AREAS else self.areas,
            associations=self.association_ids,
            events=self.event_ids,
            member=self.member_id,
        )

    @property
    def blind_to_health_checks(self) -> bool:
        """Whether this is the employer's side, which never sees who was at a health check."""
        return self.role in {Role.SECRETARY, Role.GUIDE, Role.DATA_PLATFORM}

    def may(self, right: Right) -> bool:
        """Tell whether the role has a right and the token was issued for it."""
        return right in RIGHTS[self.role] and (self.scopes is None or right in self.scopes)

    def require(self, right: Right) -> None:
        """Raise Forbidden unless the caller has a right."""
        if not self.may(right):
            raise Forbidden


def caller_of(claims: dict[str, Any]) -> Caller:
    """Read role and reach from verified claims: the one place that trusts them.

    Raises Unauthenticated when they are missing or make no sense together.
    """
    try:
        role = Role(claims["role"])
        areas = tuple(str(code) for code in claims.get("areas", ()))
        scope = claims.get("scope")
        caller = Caller(
            subject=str(claims["sub"]),
            role=role,
            district_code=str(claims.get("district_code") or district_of(areas[0])),
            areas=areas,
            association_ids=tuple(UUID(value) for value in claims.get("associations", ())),
            event_ids=tuple(UUID(value) for value in claims.get("events", ())),
            member_id=UUID(claims["member_id"]) if claims.get("member_id") else None,
            scopes=None if scope is None else frozenset(str(scope).split()),
        )
        require_enterable(caller.scope)
    except (KeyError, ValueError, IndexError, TypeError):
        raise Unauthenticated("claims") from None
    if role is Role.MEMBER and caller.member_id is None:
        raise Unauthenticated("claims")
    return caller


class TokenVerifier:
    """Checks access tokens (RFC 9068) and remembers those it has checked until they expire."""

    def __init__(self, settings: Settings, keys: jwt.PyJWKSet | None = None) -> None:
        """Verify against given keys, or those that the issuer publishes over HTTP."""
        self._settings = settings
        self._keys = keys
        self._fetched_at = 0.0
        self._tried_at = 0.0
        self._seen: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def verify(self, token: str) -> Caller:
        """Give the caller; raises Unauthenticated."""
        fingerprint = hashlib.sha256(token.encode()).digest()
        known = self._seen.get(fingerprint)
        if known is not None and known[0] > time.time():
            return known[1]
        claims = await self._claims(token)
        caller = caller_of(claims)
        self._seen[fingerprint] = (float(claims["exp"]), caller)
        if len(self._seen) > _CACHED_TOKENS:
            self._seen.popitem(last=False)
        return caller

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._settings.oidc_algorithms:
                raise Unauthenticated("algorithm")
            if header.get("typ", "").lower().removeprefix("application/") != "at+jwt":
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
        except (jwt.PyJWTError, ValueError, TypeError):
            raise Unauthenticated("signature") from None

    async def _key(self, kid: str) -> jwt.PyJWK:
        moment = time.monotonic()
        stale = moment - self._fetched_at > _JWKS_FRESH_SECONDS or not self._has(kid)
        may_fetch = moment - self._tried_at > _JWKS_RETRY_SECONDS or self._keys is None
        if self._settings.oidc_jwks_url is not None and stale and may_fetch:
            await self._fetch(self._settings.oidc_jwks_url)
        if self._keys is None:
            raise Unavailable(headers={"Retry-After": "5"})
        for key in self._keys.keys:
            if key.key_id == kid:
                return key
        raise Unauthenticated("key")

    def _has(self, kid: str) -> bool:
        return self._keys is not None and any(key.key_id == kid for key in self._keys.keys)

    async def _fetch(self, url: str) -> None:
        self._tried_at = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=5) as client:
                answer = await client.get(url)
                answer.raise_for_status()
            self._keys = jwt.PyJWKSet.from_dict(answer.json())
            self._fetched_at = self._tried_at
        except (httpx.HTTPError, jwt.PyJWTError, ValueError) as error:
            _log.warning("jwks_unavailable", error=type(error).__name__)


ReachOf = Callable[[Caller], Awaitable[Caller]]
"""Completes how far a caller reaches by what Jixie itself knows."""

_bearer = HTTPBearer(
    auto_error=False, description="An OIDC access token (JWT).", bearerFormat="JWT"
)


async def _identify(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    if credentials is None:
        raise Unauthenticated
    verifier = cast("TokenVerifier", request.app.state.verifier)
    caller = await verifier.verify(credentials.credentials)
    return await cast("ReachOf", request.app.state.reach_of)(caller)


AnyCaller = Annotated[Caller, Depends(_identify)]


def allowed(right: Right) -> Callable[[Caller], Coroutine[Any, Any, Caller]]:
    """Make the dependency that refuses callers without a right."""

    async def check(caller: AnyCaller) -> Caller:
        caller.require(right)
        return caller

    check.right = right  # type: ignore[attr-defined]  # read by the test that every route has one
    return check
