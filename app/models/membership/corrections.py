"""Corrections: what a member says is wrong about her, and the office's answer, which has a date."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text

from app.models.shapes import PLAIN, AreaCode, Day, Id, Input, Instant, Note, Output, Version
from app.models.tables import Code, OptionalInstant, OptionalSealed, OptionalWords, Record, one_of
from app.paging import AnyOf, Filters, YesNoParam


class CorrectionSubject(StrEnum):
    """Which of her data is wrong; a phone is changed at `/v1/me/phone`."""

    NAME = "name"
    EMPLOYEE_NO = "employee_no"
    ID_NUMBER = "id_number"
    MEMBERSHIP = "membership"
    ATTENDANCE = "attendance"
    EXCUSE = "excuse"
    OTHER = "other"


VALUED = frozenset(
    {CorrectionSubject.NAME, CorrectionSubject.EMPLOYEE_NO, CorrectionSubject.ID_NUMBER}
)
"""Subjects with one right value, which accepting puts in the wrong one's place."""
PLAIN_SUBJECTS = VALUED | {CorrectionSubject.MEMBERSHIP}
"""Subjects that say nothing of health checks, so that the employer's side may answer them."""


class CorrectionStatus(StrEnum):
    """What became of a correction."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Correction(Record, table=True):
    """What a member says is wrong, answered once, by `due_on`.

    What she wrote and what she was answered are sealed under her key: people write anything there.
    """

    __tablename__ = "corrections"
    __table_args__ = (
        one_of("subject", CorrectionSubject),
        one_of("status", CorrectionStatus),
        CheckConstraint("(status = 'open') = (closed_at is null)", name="closed"),
        CheckConstraint(
            "(status in ('accepted', 'refused')) = (answered_by is not null)", name="answered"
        ),
        CheckConstraint("not applied or status = 'accepted'", name="applied"),
        CheckConstraint("status <> 'open' or said_sealed is not null", name="said"),
        CheckConstraint(
            "answer_sealed is null or status in ('accepted', 'refused')", name="answer"
        ),
        CheckConstraint(
            "(event_id is null or subject = 'attendance')"
            " and (round_id is null or subject = 'excuse')",
            name="about",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        ForeignKeyConstraint(
            ["district_code", "event_id"],
            ["service_events.district_code", "service_events.id"],
            name="event",
        ),
        ForeignKeyConstraint(
            ["district_code", "round_id"],
            ["exam_rounds.district_code", "exam_rounds.id"],
            name="round",
        ),
        # One open correction of one thing: a second click is answered, not stored.
        Index(
            "uq_corrections_open",
            "district_code",
            "member_id",
            "subject",
            "event_id",
            "round_id",
            unique=True,
            postgresql_where=text("status = 'open'"),
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_corrections_member", "district_code", "member_id", "id"),
        Index("ix_corrections_due", "district_code", "due_on", "id"),
        Index(
            "ix_corrections_closed",
            "district_code",
            "closed_at",
            postgresql_where=text("closed_at is not null"),
        ),
    )

    member_id: UUID
    subject: Code
    event_id: UUID | None
    round_id: UUID | None
    said_sealed: OptionalSealed
    status: Code
    due_on: date
    answer_sealed: OptionalSealed
    applied: bool
    answered_by: OptionalWords
    closed_at: OptionalInstant


class CorrectionCreate(Input):
    """What is wrong, and what would be right."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"subject": "name", "value": "张小样", "note": "错一字"}]}
    )

    subject: CorrectionSubject = Described(
        description="`attendance`, `excuse` and `other` are read by government offices alone."
    )
    # It is kept sealed, and may be an ID number.
    value: Annotated[str, Described(min_length=1, max_length=100), PLAIN] | None = Described(
        default=None,
        description="The right name, employee number or ID number; else say it in `note`.",
    )
    event_id: Id | None = Described(
        default=None, description="With `attendance`: at which event, if you know."
    )
    round_id: Id | None = Described(default=None, description="With `excuse`: for which round.")
    note: Note | None = Described(
        default=None, description="In your own words. Write nothing about anybody's health."
    )


class CorrectionAnswer(Input):
    """What was done about it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"answer": "已按身份证更正"}]})

    answer: Note | None = Described(
        default=None, description="What was changed; needed where accepting itself changes nothing."
    )


class CorrectionRefusal(Input):
    """Why what is stored is right."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "与身份证一致"}]})

    reason: Note


class MyCorrectionFilters(Filters):
    """How the list of the member's corrections may be narrowed."""

    status: AnyOf[CorrectionStatus] | None = None


class CorrectionFilters(Filters):
    """How the list of corrections may be narrowed."""

    status: AnyOf[CorrectionStatus] | None = None
    subject: AnyOf[CorrectionSubject] | None = None
    overdue: YesNoParam | None = Described(default=None, description="Open after its due date.")
    due_on_gte: Day | None = None
    due_on_lt: Day | None = None
    member_id: Id | None = None
    association_id: Id | None = Described(default=None, description="Where she is a member now.")
    area: AreaCode | None = Described(default=None, description="The area and all below it.")


class MyCorrectionItem(Output):
    """A correction as its member sees it, without what was written."""

    person = ""

    beyond_version = True

    id: UUID
    subject: CorrectionSubject
    event_id: UUID | None
    round_id: UUID | None
    status: CorrectionStatus
    due_on: date = Described(description="Until when it is answered.")
    is_overdue: bool
    applied: bool = Described(description="Whether accepting it put `value` in place.")
    closed_at: Instant | None
    created_at: Instant
    version: Version


class CorrectionItem(MyCorrectionItem):
    """A correction as its office sees it, without what was written."""

    person = "member_id"

    member_id: UUID
    answered_by: str | None


class _Written(Output):
    value: str | None = Described(description="What would be right; an ID number is masked.")
    note: str | None
    answer: str | None = Described(description="What was done, or why not.")


class MyCorrectionRead(MyCorrectionItem, _Written):
    """A correction as its member sees it; what was written is erased with her data, or in time."""


class CorrectionRead(CorrectionItem, _Written):
    """A correction as its office sees it; what was written is erased with her data, or in time."""
