"""Rosters: the columns of a personnel office's file, and the answers to its rows."""

from enum import StrEnum
from uuid import UUID

from app.models.operations import RowOutcome
from app.models.shapes import Output
from app.paging import AnyOf, Filters


class RosterColumn(StrEnum):
    """What a roster says about a person."""

    NAME = "name"
    ID_NUMBER = "id_number"
    PHONE = "phone"
    EMPLOYEE_NO = "employee_no"
    JOINED_ON = "joined_on"
    CONSENTED_ON = "consented_on"
    CONSENTED_TO = "consented_to"
    ASSOCIATION = "association"


class OnError(StrEnum):
    """What becomes of the good rows when there are bad ones."""

    SKIP = "skip"
    ABORT = "abort"


class RowFilters(Filters):
    """How the answers to a file's rows may be narrowed."""

    outcome: AnyOf[RowOutcome] | None = None


class RowNote(Output):
    """Something to know about a row, or why it was rejected and what to do."""

    column: RosterColumn | None
    code: str
    detail: str


class ImportRowRead(Output):
    """The answer to one row; `row_no` counts the file's lines from 1."""

    person = "member_id"

    row_no: int
    outcome: RowOutcome
    member_id: UUID | None
    notes: list[RowNote]
