"""What a member's phone shows her: herself, what is near, what she did and what she gets."""

from datetime import date
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described

from app.models.disbursement.payouts import PayoutStatus
from app.models.events.registrations import PlaceInLine, RegistrationStatus
from app.models.events.service_events import EXAMPLE, EventItem, EventKind, EventStatus
from app.models.incentives.eligibility import Standing
from app.models.incentives.incentive_policies import Reward
from app.models.membership.members import MemberStatus
from app.models.privacy.privacy_notices import ConsentPurpose
from app.models.shapes import AreaCode, Fen, Instant, Output, Version
from app.paging import DIGITS, AnyOf, Filters


class MyAssociation(Output):
    """The member's association, or her last one."""

    id: UUID
    name: str
    area_code: AreaCode
    area_name: str


class MeRead(Output):
    """Who the calling member is."""

    beyond_version = True
    person = "member_id"

    member_id: UUID
    name: str
    status: MemberStatus
    association: MyAssociation
    first_joined_on: date
    consents: list[ConsentPurpose]
    id_number_masked: str | None
    phone_masked: str | None
    version: Version


class MyMembershipFilters(Filters):
    """How the list of the member's ties is paged."""


class MyMembership(Output):
    """A tie to one association, from `joined_on` until before `left_on`."""

    person = ""

    association_id: UUID
    association_name: str
    joined_on: date
    left_on: date | None


class MyEventFilters(Filters):
    """How far ahead to look, and for what."""

    weeks: Annotated[
        int, Described(ge=1, le=12, description="How many weeks from now."), DIGITS
    ] = 4
    kind: AnyOf[EventKind] | None = None


class MyEvent(EventItem):
    """An event near the member, and whether she is registered."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**EXAMPLE, "registration_status": "registered"}]}
    )
    person = ""

    registration_status: RegistrationStatus | None


class MyRegistrationFilters(Filters):
    """How the list of the member's registrations may be narrowed."""

    status: AnyOf[RegistrationStatus] | None = None


class MyRegistration(Output):
    """The member's place at an event."""

    person = ""

    event_id: UUID
    event_kind: EventKind
    event_title: str
    venue: str
    starts_at: Instant
    ends_at: Instant
    event_status: EventStatus
    event_status_reason: str | None = Described(description="Why it was cancelled.")
    position: PlaceInLine
    status: RegistrationStatus
    registered_at: Instant
    version: Version


class MyPayoutFilters(Filters):
    """How the list of the member's payouts may be narrowed."""

    status: AnyOf[PayoutStatus] | None = None


class MyPayout(Output):
    """What the member gets or got; the statement never names what it is for."""

    person = ""

    id: UUID
    round_sequence: int
    rule_id: UUID
    reward: Reward
    amount_fen: Fen
    gift_item: str | None
    quantity: int
    status: PayoutStatus
    failure_reason: str | None
    settled_at: Instant | None
    statement: str


class NextStep(Output):
    """A rule that the member will meet when she has attended so many rounds more."""

    rule_code: str
    rule_name: str
    reward: Reward
    amount_fen: Fen | None
    gift_item: str | None
    quantity: int | None
    at_streak: int
    rounds_missing: int


class StreakRound(Output):
    """The round under way, or the latest; `standing` is null while it can still be attended."""

    id: UUID
    sequence: int
    name: str
    starts_on: date
    ends_on: date
    standing: Standing | None


class StreakRead(Output):
    """The rounds attended without a break up to now, and what comes next."""

    person = ""

    streak: int
    round: StreakRound | None
    next_steps: list[NextStep] = Described(description="The nearest first.")
