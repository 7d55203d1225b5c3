"""Registrations: a member's place at an event, or on its waiting list."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

from app.models import shapes
from app.models.shapes import Id, Input, Output, Version
from app.models.tables import Code, Instant, Tenant, one_of
from app.paging import AnyOf, Filters


class RegistrationStatus(StrEnum):
    """Whether a registered member has a seat."""

    REGISTERED = "registered"
    WAITING = "waiting"
    CANCELLED = "cancelled"


class Registration(Tenant, table=True):
    """A member's place at an event, or on its waiting list; `position` is the order of asking."""

    __tablename__ = "registrations"
    __table_args__ = (
        one_of("status", RegistrationStatus),
        ForeignKeyConstraint(
            ["district_code", "event_id"],
            ["service_events.district_code", "service_events.id"],
            name="event",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        UniqueConstraint("district_code", "event_id", "position", name="position"),
        Index("ix_registrations_member", "district_code", "member_id"),
    )

    event_id: UUID = Field(primary_key=True)
    member_id: UUID = Field(primary_key=True)
    position: int
    status: Code
    registered_at: Instant
    version: int = 1


PlaceInLine = Annotated[
    int | None,
    Described(
        description="Her place among those who wait, 1 being the next; null if she does not."
    ),
]


class RegistrationFilters(Filters):
    """How a list of registrations may be narrowed."""

    status: AnyOf[RegistrationStatus] | None = None


class RegistrationCreate(Input):
    """Who is to come."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"member_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c001"}]}
    )

    member_id: Id | None = Described(None, description="The calling member unless given.")


class RegistrationRead(Output):
    """A place at an event; seats free up for the waiting in order of `position`.

    Others change it by coming and going, which makes no new version of hers.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0f1",
                    "member_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c001",
                    "position": 3,
                    "status": "waiting",
                    "registered_at": "2026-02-01T02:00:00.000000Z",
                    "version": 1,
                }
            ]
        }
    )
    person = "member_id"
    beyond_version = True

    event_id: UUID
    member_id: UUID
    position: PlaceInLine
    status: RegistrationStatus
    registered_at: shapes.Instant
    version: Version


class RegistrationMade(RegistrationRead):
    """The answer to registering.

    Were it kept, it would tell of her place when the event is over, to which she did not come.
    """

    found_anew = True
