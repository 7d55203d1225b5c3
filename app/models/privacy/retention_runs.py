"""Runs of retention: what was deleted or cleared in a district because its time was over."""

from datetime import date
from typing import Any
from uuid import UUID

from pydantic import Field as Described
from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from app.models.shapes import Instant, Output, Version
from app.models.tables import OptionalInstant, Record
from app.paging import Filters, YesNoParam


class RetentionRun(Record, table=True):
    """One run: a night's, or one that somebody asked for; `position` is the rule that it is at."""

    __tablename__ = "retention_runs"
    __table_args__ = (
        CheckConstraint("position >= 0", name="position"),
        Index(
            "uq_retention_runs_night",
            "district_code",
            "night_on",
            unique=True,
            postgresql_where=text("night_on is not null"),
        ),
        Index(
            "uq_retention_runs_asked_for",
            "district_code",
            unique=True,
            postgresql_where=text("night_on is null and finished_at is null"),
        ),
    )

    night_on: date | None
    position: int
    counts: list[dict[str, Any]] = Field(sa_type=JSONB)
    finished_at: OptionalInstant


class RetentionRunFilters(Filters):
    """How the list of runs may be narrowed."""

    finished: YesNoParam | None = None


class RetentionCount(Output):
    """How many rows of a table went, and how many lost columns."""

    table: str
    deleted: int
    cleared: int


class RetentionRunRead(Output):
    """What one run did; tables of which nothing went are left out."""

    id: UUID
    night_on: date | None = Described(description="Null: somebody asked for it.")
    counts: list[RetentionCount]
    created_at: Instant
    finished_at: Instant | None = Described(description="Null while it has more to do.")
    version: Version
