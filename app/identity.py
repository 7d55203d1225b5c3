"""Who calls: the roles, the rights that each has, and how fresh a sign-in some of them need."""

import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app import clock
from app.acts import Act
from app.problems import Forbidden, InsufficientAuthentication, Unauthenticated
from app.scopes import Acting, Scope
from app.settings import Settings
from app.tokens import AccessToken, TokenVerifier

STEP_UP_SECONDS = 300
"""How old a sign-in may be for what needs a fresh one."""
_SKEW_SECONDS = 30
PHONE_LOGIN = "phone-login"
"""The subject of what is done for a caller before it is known who she is."""


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
    REVEAL_MEMBERS = "members:reveal"
    ERASE_MEMBERS = "members:erase"
    EXPORT_MEMBERS = "members:export"
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
    ANSWER_DISPUTES = "disputes:answer"
    READ_FUNDS = "funds:read"
    WRITE_FUNDS = "funds:write"
    READ_DRAWS = "draws:read"
    WRITE_DRAWS = "draws:write"
    CONFIRM_DRAWS = "draws:confirm"
    READ_STATIONS = "stations:read"
    WRITE_STATIONS = "stations:write"
    REDEEM_VOUCHERS = "vouchers:redeem"
    READ_GIFTS = "gifts:read"
    WRITE_GIFTS = "gifts:write"
    HAND_OUT_GIFTS = "gifts:hand_out"
    MOVE_STOCK = "stock:write"
    CONFIRM_STOCK = "stock:confirm"
    READ_FORECASTS = "forecasts:read"
    READ_OPERATIONS = "operations:read"
    READ_GRANTS = "grants:read"
    WRITE_GRANTS = "grants:write"
    READ_CORRECTIONS = "corrections:read"
    ANSWER_CORRECTIONS = "corrections:answer"
    READ_RETENTION = "retention:read"
    READ_NOTICES = "notices:read"
    PUBLISH_NOTICES = "notices:write"
    READ_OWN = "me:read"
    WRITE_OWN = "me:write"
    READ_AUDIT = "audit:read"
    READ_SIGHTINGS = "sightings:read"
    READ_FLAGS = "flags:read"
    COMPUTE_FLAGS = "flags:compute"


_READ_PUBLIC = {
    Right.READ_AREAS,
    Right.READ_ASSOCIATIONS,
    Right.READ_EVENTS,
    Right.READ_ROUNDS,
    Right.READ_NOTICES,
    Right.READ_DRAWS,
    Right.READ_STATIONS,
}
_READ_ALL = _READ_PUBLIC | {
    Right.READ_MEMBERS,
    Right.READ_REGISTRATIONS,
    Right.READ_ATTENDANCES,
    Right.READ_POLICIES,
    Right.READ_ELIGIBILITY,
    Right.READ_PAYOUTS,
    Right.READ_FUNDS,
    Right.READ_GIFTS,
    Right.READ_FORECASTS,
    Right.READ_OPERATIONS,
}
_OF_FINANCE = _READ_ALL - {Right.READ_REGISTRATIONS}
"""Money follows who came: who meant to come is none of its business."""
_OFFICER = _READ_ALL | {
    Right.WRITE_ASSOCIATIONS,
    Right.GOVERN_ASSOCIATIONS,
    Right.WRITE_MEMBERS,
    Right.REVEAL_MEMBERS,
    Right.ERASE_MEMBERS,
    Right.EXPORT_MEMBERS,
    Right.WRITE_EVENTS,
    Right.WRITE_ROUNDS,
    Right.REGISTER,
    Right.CHECK_IN,
    Right.VOID_ATTENDANCES,
    Right.WRITE_POLICIES,
    Right.PREPARE_PAYOUTS,
    Right.SUBMIT_PAYOUTS,
    Right.WRITE_DRAWS,
    Right.ANSWER_DISPUTES,
    Right.WRITE_STATIONS,
    Right.HAND_OUT_GIFTS,
    Right.READ_GRANTS,
    Right.WRITE_GRANTS,
    Right.READ_SIGHTINGS,
    Right.READ_CORRECTIONS,
    Right.ANSWER_CORRECTIONS,
}
RIGHTS: dict[Role, frozenset[Right]] = {
    Role.MEMBER: frozenset(
        _READ_PUBLIC
        | {
            Right.READ_MEMBERS,
            Right.ERASE_MEMBERS,
            Right.EXPORT_MEMBERS,
            Right.REGISTER,
            Right.READ_REGISTRATIONS,
            Right.READ_ATTENDANCES,
            Right.CHECK_IN_SELF,
            Right.READ_ELIGIBILITY,
            Right.READ_OWN,
            Right.WRITE_OWN,
        }
    ),
    Role.EVENT_STAFF: frozenset(
        _READ_PUBLIC
        | {
            Right.REGISTER,
            Right.READ_REGISTRATIONS,
            Right.READ_ATTENDANCES,
            Right.CHECK_IN,
            Right.HAND_OUT_GIFTS,
        }
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
            Right.HAND_OUT_GIFTS,
            Right.READ_POLICIES,
            Right.READ_OPERATIONS,
            Right.READ_CORRECTIONS,
            Right.ANSWER_CORRECTIONS,
        }
    ),
    # Who keeps a station's desk grants, pays and settles nothing, and reads of no member.
    Role.GUIDE: frozenset(_READ_PUBLIC | {Right.REDEEM_VOUCHERS}),
    Role.TOWN_OFFICER: frozenset(_OFFICER),
    Role.DISTRICT_OFFICER: frozenset(
        _OFFICER
        | {
            Right.SET_AREAS,
            Right.WRITE_GIFTS,
            Right.PUBLISH_NOTICES,
            Right.READ_RETENTION,
            Right.READ_FLAGS,
            Right.COMPUTE_FLAGS,
        }
    ),
    Role.FINANCE_CLERK: frozenset(
        _OF_FINANCE
        | {
            Right.REVEAL_MEMBERS,
            Right.PREPARE_PAYOUTS,
            Right.SUBMIT_PAYOUTS,
            Right.DISBURSE_PAYOUTS,
            Right.ANSWER_DISPUTES,
            Right.WRITE_FUNDS,
            Right.MOVE_STOCK,
            Right.HAND_OUT_GIFTS,
        }
    ),
    Role.FINANCE_APPROVER: frozenset(
        _OF_FINANCE
        | {
            Right.APPROVE_PAYOUTS,
            Right.CONFIRM_DRAWS,
            Right.ANSWER_DISPUTES,
            Right.CONFIRM_STOCK,
        }
    ),
    Role.AUDITOR: frozenset(
        _READ_ALL
        | {
            Right.READ_GRANTS,
            Right.READ_CORRECTIONS,
            Right.READ_RETENTION,
            Right.READ_AUDIT,
            Right.READ_SIGHTINGS,
            Right.READ_FLAGS,
        }
    ),
    Role.DATA_PLATFORM: frozenset(_READ_PUBLIC | {Right.READ_FORECASTS}),
    Role.OPERATIONS: frozenset(),
}

_ACTING = {Role.MEMBER: Acting.MEMBER, Role.DATA_PLATFORM: Acting.PLATFORM}
"""The database roles of those who hold no office."""
_WITHOUT_AREAS = {Role.MEMBER, Role.SECRETARY}
_BLIND_ROLES = {Role.SECRETARY, Role.GUIDE, Role.DATA_PLATFORM}
_NOT_FOR_EMPLOYERS = {
    Right.READ_ELIGIBILITY,
    Right.READ_PAYOUTS,
    Right.PREPARE_PAYOUTS,
    Right.SUBMIT_PAYOUTS,
    Right.APPROVE_PAYOUTS,
    Right.DISBURSE_PAYOUTS,
    Right.ANSWER_DISPUTES,
    Right.READ_FUNDS,
    Right.WRITE_FUNDS,
    Right.REDEEM_VOUCHERS,
    Right.READ_GIFTS,
    Right.WRITE_GIFTS,
    Right.MOVE_STOCK,
    Right.CONFIRM_STOCK,
    Right.READ_AUDIT,
    Right.READ_SIGHTINGS,
    Right.READ_FLAGS,
    Right.COMPUTE_FLAGS,
}
"""Rights whose answers say, person by person or of all at once, who was at a health check."""


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
        if self.employer_linked and right in _NOT_FOR_EMPLOYERS:
            return False
        scopes = None if self.token is None else self.token.scopes
        return right in RIGHTS[self.role] and (scopes is None or right in scopes)

    def require(self, right: Right) -> None:
        """Raise Forbidden unless the caller has a right."""
        if not self.may(right):
            raise Forbidden

    def require_step_up(self, settings: Settings, *, at: float) -> None:
        """Raise InsufficientAuthentication unless she has just signed in, and strongly enough.

        `at` is in seconds of the Unix clock (RFC 9470). It is asked of offices, for the sake of
        others: a member reaches nobody but herself.
        """
        if self.role is Role.MEMBER:
            return
        signed_in_at = None if self.token is None else self.token.signed_in_at
        if self.token is not None and signed_in_at is not None:
            is_fresh = -_SKEW_SECONDS <= at - signed_in_at <= STEP_UP_SECONDS
            if is_fresh and self.token.acr in settings.oidc_step_up_acr:
                return
        raise InsufficientAuthentication(
            acr_values=settings.oidc_step_up_acr, max_age=STEP_UP_SECONDS
        )


Admit = Callable[[AccessToken, str | None], Awaitable[Caller]]
"""Finds what Jixie granted to whom a token names, by the id of one grant if she has several."""

_bearer = HTTPBearer(
    auto_error=False, description="An OIDC access token (JWT).", bearerFormat="JWT"
)


async def _identify(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    grant: Annotated[
        str | None,
        Header(alias="Jixie-Grant", description="Which grant you act under, if you have several."),
    ] = None,
) -> Caller:
    if credentials is None:
        raise Unauthenticated
    verifier = cast("TokenVerifier", request.app.state.verifier)
    token = await verifier.verify(credentials.credentials)
    caller = await cast("Admit", request.app.state.admit)(token, grant)
    request.state.caller = caller
    return caller


AnyCaller = Annotated[Caller, Depends(_identify)]


def allowed(
    right: Right, *, step_up: bool = False
) -> Callable[[Request, Caller], Coroutine[Any, Any, Caller]]:
    """Make the dependency that refuses callers without a right, or without a fresh sign-in."""

    async def check(request: Request, caller: AnyCaller) -> Caller:
        caller.require(right)
        if step_up:
            caller.require_step_up(request.app.state.settings, at=time.time())
        return caller

    check.right = right  # type: ignore[attr-defined]  # read by the test that every route has one
    check.step_up = step_up  # type: ignore[attr-defined]  # and by the one of fresh sign-ins
    return check
