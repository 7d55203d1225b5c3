"""Who calls, in which role, and how fresh a sign-in some rights need."""

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, cast
from uuid import UUID

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param

from app import clock
from app.acts import Act
from app.problems import Forbidden, InsufficientAuthentication, Unauthenticated
from app.roles import NOT_FOR_EMPLOYERS, RIGHTS, Right, Role
from app.scopes import Acting, Scope
from app.settings import Settings
from app.tokens import OF_MEMBERS, AccessToken, TokenVerifier

STEP_UP_SECONDS = 300
"""How old a sign-in may be for what needs a fresh one."""
_SKEW_SECONDS = 30
GRANT_HEADER = "Jixie-Grant"
"""Which of several grants the caller acts under, by its id."""
PHONE_LOGIN = "phone-login"
"""The subject of what is done for a caller before it is known who she is."""
CLOCK = "clock"
"""The subject of what is done when it is due."""
SHELL = "shell"
"""The subject of what those who run the service do from its shell."""
WORKER = "worker"
"""The subject of who takes operations from the queue."""
KEYS = "keys"
"""The subject of who replaces the keys of a deployment."""
GATEWAY = "gateway"
"""Who pays over the gateway, in the books and to the audit."""
FIRST_NOTICES = "first-notices"
"""Who published the notices that a new district begins with."""
DEMO = "demo"
"""Who wrote what the demo is loaded with."""
_OURS = frozenset({PHONE_LOGIN, CLOCK, SHELL, WORKER, KEYS, GATEWAY, FIRST_NOTICES, DEMO})
"""Under these the service itself acts, and under no other: a house test looks for them."""


_ACTING = {Role.MEMBER: Acting.MEMBER, Role.DATA_PLATFORM: Acting.PLATFORM}
"""The database roles of those who hold no office."""
_WITHOUT_AREAS = {Role.MEMBER, Role.SECRETARY}
_BLIND_ROLES = {Role.SECRETARY, Role.GUIDE, Role.DATA_PLATFORM}


@dataclass(frozen=True)
class Caller:
    """Who calls, in which role, and how far the role reaches.

    `areas` are 12-digit codes; `association_ids`, `event_ids` and `member_id` narrow the roles
    that are bound to an association, an event or a person. All of these are facts of one grant;
    `token` is what she called with, which a rule at work in her name does without.
    """

    subject: str
    role: Role
    district_code: str
    areas: tuple[str, ...] = ()
    association_ids: tuple[UUID, ...] = ()
    event_ids: tuple[UUID, ...] = ()
    member_id: UUID | None = None
    employer_linked: bool = False
    grant_id: UUID | None = None
    token: AccessToken | None = None

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

    def act(self, name: str, *, kind: str, ids: Iterable[object] = (), request_id: str) -> Act:
        """Begin an act of the caller, on records of a kind, as the audit will know it."""
        return Act(
            district_code=self.district_code,
            subject=self.subject,
            role=self.role.value,
            area_code=self.areas[0] if self.areas else self.district_code,
            name=name,
            object_kind=kind,
            object_ids=tuple(map(str, ids)),
            request_id=request_id,
            at=clock.now(),
            new_id=clock.new_name,
        )

    @property
    def blind_to_health_checks(self) -> bool:
        """Whether this is the employer's side, which never sees who was at a health check."""
        return self.employer_linked or self.role in _BLIND_ROLES

    def may(self, right: Right) -> bool:
        """Tell whether the grant gives a right and the token was issued for it."""
        if self.employer_linked and right in NOT_FOR_EMPLOYERS:
            return False
        scopes = None if self.token is None else self.token.scopes
        return right in RIGHTS[self.role] and (scopes is None or right in scopes)

    def require(self, right: Right) -> None:
        """Raise Forbidden unless the caller has a right."""
        if not self.may(right):
            raise Forbidden

    def require_step_up(self, settings: Settings, *, at: float, of_members: bool = False) -> None:
        """Raise InsufficientAuthentication unless she has just signed in, and strongly enough.

        `at` is in seconds of the Unix clock (RFC 9470). It is asked of offices, for the sake of
        others: a member reaches nobody but herself. With `of_members` it is asked of her too, but
        for a login by phone, which tells neither when nor how she signed in.
        """
        is_by_phone = self.token is not None and self.token.member_id is not None
        if self.role is Role.MEMBER and (is_by_phone or not of_members):
            return
        signed_in_at = None if self.token is None else self.token.signed_in_at
        if self.token is not None and signed_in_at is not None:
            is_fresh = -_SKEW_SECONDS <= at - signed_in_at <= STEP_UP_SECONDS
            if is_fresh and self.token.acr in settings.oidc_step_up_acr:
                return
        raise InsufficientAuthentication(
            acr_values=settings.oidc_step_up_acr, max_age=STEP_UP_SECONDS
        )


def is_reserved(subject: str) -> bool:
    """Tell whether a subject is the service's own, or a member's who logs in by phone."""
    return subject in _OURS or subject.startswith(OF_MEMBERS)


Admit = Callable[[AccessToken, str | None], Awaitable[Caller]]
"""Finds what Jixie granted to whom a token names, by the id of one grant if she has several."""


class Identification(SecurityBase):
    """Tells who calls, from the access token and the grant that a request names.

    It asks for nothing but the request, and once for all who ask in it.
    """

    scheme_name = "HTTPBearer"
    model = HTTPBearerModel(description="An OIDC access token (JWT).", bearerFormat="JWT")

    async def __call__(self, request: Request) -> Caller:
        """Give the caller; raises Unauthenticated, GrantMissing or GrantAmbiguous."""
        state = request.scope["state"]
        if (known := state.get("caller")) is not None:
            return cast("Caller", known)
        scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated
        verifier = cast("TokenVerifier", request.app.state.verifier)
        said = await verifier.verify(token)
        admit = cast("Admit", request.app.state.admit)
        state["caller"] = caller = await admit(said, request.headers.get(GRANT_HEADER))
        return caller


AnyCaller = Annotated[Caller, Depends(Identification())]


class Allowed(Identification):
    """Tells who calls, and refuses who lacks a right, or a sign-in that is fresh enough for it."""

    def __init__(self, right: Right, *, step_up: bool = False, of_members: bool = False) -> None:
        """Ask for a right; for a fresh sign-in of offices alone, or of members as well."""
        self.right = right
        self.step_up = step_up
        self.of_members = of_members

    async def __call__(self, request: Request) -> Caller:
        """Give the caller; raises Forbidden and InsufficientAuthentication as well."""
        caller = await super().__call__(request)
        caller.require(self.right)
        if self.step_up:
            settings, at = request.app.state.settings, time.time()
            caller.require_step_up(settings, at=at, of_members=self.of_members)
        return caller
