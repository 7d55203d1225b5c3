"""Attendance flags: events at which attendance looks forced or invented, for somebody to look."""

from enum import StrEnum
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint
from sqlmodel import Field

from app.models import shapes
from app.models.organisation.areas import Provenance
from app.models.shapes import AreaCode, Id, Output
from app.models.tables import CODE, Code, Instant, Tenant, one_of
from app.paging import AnyOf, Filters


class FlagRule(StrEnum):
    """What made an event's attendance look forced or invented."""

    WHOLE_ROSTER = "whole_roster"
    """Everyone on an association's roster came."""
    RUSH = "rush"
    """More check-ins a second than people can pass, for some time."""
    ONE_DEVICE_AT_ONCE = "one_device_at_once"
    """Many check-ins by one device at the same instant."""
    OUT_OF_HOURS = "out_of_hours"
    """Many check-ins long before or after the event's time."""


class AttendanceFlag(Tenant, table=True):
    """A rule that fired at an event; `about_id` is the association it is about, or the event.

    It holds counts and no person: who came is in the attendances, who did not is nowhere.
    """

    __tablename__ = "attendance_flags"
    __table_args__ = (
        one_of("rule", FlagRule),
        one_of("provenance", Provenance),
        CheckConstraint("observed >= threshold and threshold > 0", name="fired"),
        ForeignKeyConstraint(
            ["district_code", "event_id"],
            ["service_events.district_code", "service_events.id"],
            name="event",
        ),
    )

    event_id: UUID = Field(primary_key=True)
    rule: Code = Field(primary_key=True, sa_type=CODE)
    about_id: UUID = Field(primary_key=True)
    area_code: Code
    observed: int
    threshold: int
    provenance: Code
    computed_at: Instant


class FlagFilters(Filters):
    """How a list of flags may be narrowed."""

    event_id: Id | None = None
    rule: AnyOf[FlagRule] | None = None
    area: AreaCode | None = Described(None, description="The area and all below it.")


class FlagRead(Output):
    """A rule that fired: what was observed, and from how many on it fires."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0f1",
                    "rule": "whole_roster",
                    "about_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0aa",
                    "area_code": "440605124000",
                    "observed": 48,
                    "threshold": 20,
                    "provenance": "assumed",
                    "computed_at": "2026-02-10T09:00:00.000000Z",
                }
            ]
        }
    )

    event_id: UUID
    rule: FlagRule
    about_id: UUID = Described(description="The association that it is about, or the event.")
    area_code: AreaCode
    observed: int
    threshold: int
    provenance: Provenance
    computed_at: shapes.Instant
