"""Operations: work that outlasts its request, with progress, result and the rows it answered."""

from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from app.models.shapes import Instant as ShownInstant
from app.models.shapes import Output, Version
from app.models.tables import (
    CODE,
    WORDS,
    Code,
    Ids,
    Instant,
    OptionalInstant,
    Record,
    Sealed,
    Tenant,
    Words,
    one_of,
)
from app.paging import AnyOf, Filters


class OperationKind(StrEnum):
    """What is worked on."""

    IMPORT_MEMBERS = "import_members"


class OperationStatus(StrEnum):
    """The life of an operation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RowOutcome(StrEnum):
    """What an import did, or on a dry run would do, with a row."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"


class Operation(Record, table=True):
    """A piece of work; the table is also its queue, worked under leases."""

    __tablename__ = "operations"
    __table_args__ = (
        one_of("kind", OperationKind),
        one_of("status", OperationStatus),
        CheckConstraint("(status = 'running') = (lease_until is not null)", name="lease"),
        CheckConstraint("done >= 0 and total >= done", name="progress"),
        Index(
            "ix_operations_ready",
            "district_code",
            "created_at",
            postgresql_where=text("status in ('queued', 'running')"),
        ),
    )

    kind: Code
    status: Code
    requested_by: Words
    arguments: dict[str, Any] = Field(sa_type=JSONB)
    done: int = 0
    total: int | None
    result: dict[str, Any] | None = Field(sa_type=JSONB)
    problem: dict[str, Any] | None = Field(sa_type=JSONB)
    attempts: int = 0
    lease_token: UUID | None
    lease_until: OptionalInstant
    cancel_requested: bool = False
    finished_at: OptionalInstant


def _of_operation() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["district_code", "operation_id"],
        ["operations.district_code", "operations.id"],
        name="operation",
        ondelete="CASCADE",
    )


class OperationFile(Tenant, table=True):
    """The uploaded file of an operation, encrypted."""

    __tablename__ = "operation_files"
    __table_args__ = (_of_operation(),)

    operation_id: UUID = Field(primary_key=True)
    name: Words
    sealed: Sealed


class ImportRow(Tenant, table=True):
    """The answer to one row of an imported file; it holds no value of the row."""

    __tablename__ = "import_rows"
    __table_args__ = (one_of("outcome", RowOutcome), _of_operation())

    operation_id: UUID = Field(primary_key=True)
    row_no: int = Field(primary_key=True)
    outcome: Code
    member_id: UUID | None
    notes: list[dict[str, Any]] = Field(sa_type=JSONB)


class IdempotencyKey(Tenant, table=True):
    """The first answer to a POST, given again when its key comes again."""

    __tablename__ = "idempotency_keys"

    subject: Words = Field(primary_key=True, sa_type=WORDS)
    key: Code = Field(primary_key=True, sa_type=CODE)
    fingerprint: Sealed
    status: int
    headers: Words
    body: Sealed
    created_at: Instant
    persons: Ids


class OperationFilters(Filters):
    """How a list of operations may be narrowed."""

    kind: AnyOf[OperationKind] | None = None
    status: AnyOf[OperationStatus] | None = None


class Progress(Output):
    """How far the work is; `total` is null until it is known."""

    done: int
    total: int | None


MAX_IGNORED = 20


class ImportResult(Output):
    """What became of a file's rows; with `stored` false, what would become of them."""

    dry_run: bool
    stored: bool
    created: int
    updated: int
    unchanged: int
    rejected: int
    ignored_columns: list[str] = Described(
        max_length=MAX_IGNORED,
        description=f"The first {MAX_IGNORED} headers that no property belongs to, each cut short.",
    )
    ignored_column_count: int = Described(description="How many such headers the file has.")


class OperationProblem(Output):
    """Why the work failed, and what to do."""

    code: str
    status: int
    title: str
    detail: str


class OperationRead(Output):
    """A piece of work and where it stands."""

    id: UUID
    kind: OperationKind
    status: OperationStatus
    requested_by: str
    progress: Progress
    result: ImportResult | None
    problem: OperationProblem | None
    cancel_requested: bool
    version: Version
    created_at: ShownInstant
    updated_at: ShownInstant
    finished_at: ShownInstant | None
