"""Attendances: that a member was at an event, and nothing else."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models import shapes
from app.models.events.service_events import EventKind
from app.models.shapes import Id, Input, Name, Output, Version
from app.models.tables import (
    Code,
    Instant,
    OptionalInstant,
    OptionalWords,
    Spells,
    Tenant,
    Words,
    one_of,
)
from app.paging import AnyOf, Filters, YesNoParam
from app.problems import LineProblem


class Method(StrEnum):
    """How a member was checked in."""

    STAFF = "staff"
    CODE = "code"
    BATCH = "batch"


class Attendance(Tenant, table=True):
    """A member at an event; `association_id` is where she was a member on that day.

    A health exam's attendance also carries its round: in force once per member and round,
    wherever it took place. A wrong one is voided with a reason, never deleted; `was_void` are the
    spells after which it was restored.
    """

    __tablename__ = "attendances"
    __table_args__ = (
        one_of("method", Method),
        CheckConstraint(
            "(voided_at is null) = (void_reason is null)"
            " and (voided_at is null) = (voided_by is null)",
            name="void",
        ),
        ForeignKeyConstraint(
            ["district_code", "event_id"],
            ["service_events.district_code", "service_events.id"],
            name="event",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        # Streaks are read from this index alone, in its order.
        Index(
            "uq_attendances_round",
            "district_code",
            "member_id",
            "round_sequence",
            unique=True,
            postgresql_include=["association_id"],
            postgresql_where=text("round_sequence is not null and voided_at is null"),
        ),
        Index("ix_attendances_member", "district_code", "member_id", "event_id"),
    )

    event_id: UUID = Field(primary_key=True)
    member_id: UUID = Field(primary_key=True)
    association_id: UUID
    round_sequence: int | None
    occurred_at: Instant
    recorded_at: Instant
    recorded_by: Words
    method: Code
    device_id: OptionalWords
    device_ref: OptionalWords
    voided_at: OptionalInstant
    voided_by: OptionalWords
    void_reason: OptionalWords
    was_void: Spells = None
    version: int = 1


DeviceName = Annotated[str, Described(min_length=1, max_length=64), shapes.PLAIN]
_IDS: dict[str, JsonValue] = {
    "event_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0f1",
    "member_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c001",
}
_AT = "2026-02-10T01:12:00.000000Z"
_ATTENDANCE: dict[str, JsonValue] = {
    **_IDS,
    "association_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0aa",
    "round_sequence": 9,
    "occurred_at": _AT,
    "recorded_at": _AT,
    "recorded_by": "event_staff-1",
    "method": "staff",
    "device_id": "tablet-7",
    "device_ref": "000123",
    "voided_at": None,
    "voided_by": None,
    "void_reason": None,
    "version": 1,
}


class BatchLineStatus(StrEnum):
    """What became of one line of a batch."""

    CREATED = "created"
    REPEATED = "repeated"
    REJECTED = "rejected"


class AttendanceFilters(Filters):
    """How the attendances of an event may be narrowed."""

    association_id: Id | None = None
    method: AnyOf[Method] | None = None
    voided: YesNoParam | None = Described(
        None, description="Only the voided, or only those in force."
    )


class MemberAttendanceFilters(Filters):
    """How the attendances of a member may be narrowed."""

    kind: AnyOf[EventKind] | None = None
    voided: YesNoParam | None = Described(
        None, description="Only the voided, or only those in force."
    )


class CheckIn(Input):
    """When a member came, and by which device it was noted."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"occurred_at": _AT, "device_id": "tablet-7", "device_ref": "000123"}]
        }
    )

    occurred_at: shapes.Instant | None = Described(
        None,
        description="Now unless given; at most five minutes ahead. A closed event needs it.",
    )
    device_id: DeviceName | None = None
    device_ref: DeviceName | None = None


class CodeCheckIn(Input):
    """The code that the event shows at this moment."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"code": "AzPjTN2w1Jq9s0nTtBvK3A"}]})

    code: Annotated[str, Described(min_length=1, max_length=100), shapes.PLAIN]


class BatchLine(Input):
    """One check-in that a device noted while it was offline."""

    ref: DeviceName = Described(description="The device's own id of the line.")
    member_id: Id
    occurred_at: shapes.Instant


class Batch(Input):
    """What a device noted while it was offline; sending it again changes nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "device_id": "tablet-7",
                    "lines": [
                        {"ref": "000123", "member_id": _IDS["member_id"], "occurred_at": _AT}
                    ],
                }
            ]
        }
    )

    device_id: DeviceName
    lines: list[BatchLine] = Described(min_length=1, max_length=1000)


class AttendanceVoid(Input):
    """Why an attendance was wrong; nothing about anybody's health."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "误扫他人的码"}]})

    reason: Name


class AttendanceRead(Output):
    """An attendance of a member at an event."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ATTENDANCE]})
    person = "member_id"

    event_id: UUID
    member_id: UUID
    association_id: UUID
    round_sequence: int | None
    occurred_at: shapes.Instant
    recorded_at: shapes.Instant
    recorded_by: str
    method: Method
    device_id: str | None
    device_ref: str | None
    voided_at: shapes.Instant | None
    voided_by: str | None
    void_reason: str | None
    version: Version


class CheckInRead(AttendanceRead):
    """An attendance, and whether it was there before this request."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_ATTENDANCE, "repeated": False}]})

    repeated: bool


class MemberAttendanceRead(AttendanceRead):
    """An attendance with what the event was."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{**_ATTENDANCE, "event_kind": "lecture", "event_title": "春季讲座"}]
        }
    )

    event_kind: EventKind
    event_title: str


class BatchAttendance(Output):
    """The attendance that a line of a batch repeated: since when it is known, and by whom."""

    person = "member_id"

    event_id: UUID
    member_id: UUID
    occurred_at: shapes.Instant
    recorded_at: shapes.Instant
    recorded_by: str


class BatchLineRead(Output):
    """What became of one line."""

    ref: str
    status: BatchLineStatus
    resource: BatchAttendance | None = Described(
        description="What was there before; null for a line that was created or rejected."
    )
    problem: LineProblem | None


class BatchRead(Output):
    """What became of each line, in the order of the batch."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "created": 0,
                    "repeated": 1,
                    "rejected": 0,
                    "items": [
                        {
                            "ref": "000123",
                            "status": "repeated",
                            "resource": {
                                "event_id": _IDS["event_id"],
                                "member_id": _IDS["member_id"],
                                "occurred_at": _AT,
                                "recorded_at": _AT,
                                "recorded_by": "event_staff-1",
                            },
                            "problem": None,
                        }
                    ],
                }
            ]
        }
    )

    created: int
    repeated: int
    rejected: int
    items: list[BatchLineRead]


class CheckInCodeRead(Output):
    """The code to show at the event now; ask again when it has rotated."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "AzPjTN2w1Jq9s0nTtBvK3A",
                    "expires_at": "2026-02-10T01:13:00.000000Z",
                    "rotates_every_seconds": 30,
                }
            ]
        }
    )

    code: str
    expires_at: shapes.Instant
    rotates_every_seconds: int
