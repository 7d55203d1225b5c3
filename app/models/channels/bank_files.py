"""Bank files: payouts given to a bank in one message, and what the bank's files said of them."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import ARRAY, CheckConstraint, ForeignKeyConstraint, Integer, UniqueConstraint
from sqlmodel import Field

from app.models import shapes
from app.models.disbursement.payouts import PayoutStatus, ResultStatus, SettledPayout
from app.models.shapes import AnyName, Day, Fen, Input, Output, Whole
from app.models.tables import (
    CODE,
    Code,
    Instant,
    Long,
    OptionalInstant,
    OptionalSealed,
    OptionalWords,
    Tenant,
    Words,
    one_of,
)
from app.paging import Filters
from app.problems import LineProblem

MAX_LINES = 10_000
"""How many payouts one file pays."""


class BankFormat(StrEnum):
    """How a file for the bank is written."""

    PAIN_001 = "pain.001"
    """ISO 20022 CustomerCreditTransferInitiation, pain.001.001.09."""
    CSV = "csv"
    """Our own table, as docs/operations.md describes it."""


class BankResultFormat(StrEnum):
    """How a bank's file says what became of payouts."""

    PAIN_002 = "pain.002"
    CAMT_053 = "camt.053"
    CAMT_054 = "camt.054"
    CSV = "csv"


class BankFile(Tenant, table=True):
    """A file for the bank; its id is the message's, and `lines` are the run's that it pays.

    The lines stand in one array: a million payouts are a hundred rows. The content holds account
    numbers: it is sealed, and gone with the first answer of the bank, or as soon as somebody in it
    takes her account back. Until it was given out at `given_at` no bank can have it.
    """

    __tablename__ = "bank_files"
    __table_args__ = (
        one_of("format", BankFormat),
        CheckConstraint("number > 0", name="number"),
        CheckConstraint(f"cardinality(lines) between 1 and {MAX_LINES}", name="lines"),
        CheckConstraint("amount_fen > 0", name="amount"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        CheckConstraint("answered_at is null or content_sealed is null", name="content"),
        CheckConstraint("discarded_at is null or content_sealed is null", name="discarded"),
        CheckConstraint(
            "(rejected_at is null) = (status_reason is null)"
            " and (rejected_at is null or answered_at is not null)",
            name="rejected",
        ),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
        UniqueConstraint("district_code", "run_id", "number", name="number"),
    )

    id: UUID = Field(primary_key=True)
    run_id: UUID
    number: int
    format: Code
    execution_on: date
    debtor_name: Words
    debtor_account_masked: Words
    debtor_bank_code: Code
    lines: list[int] = Field(sa_type=ARRAY(Integer))
    amount_fen: Long
    sha256: Code
    content_sealed: OptionalSealed
    created_at: Instant
    created_by: Words
    answered_at: OptionalInstant
    rejected_at: OptionalInstant
    status_reason: OptionalWords
    given_at: OptionalInstant
    discarded_at: OptionalInstant


class BankResult(Tenant, table=True):
    """A bank's file that was taken in for a run, by its hash: a second time it changes nothing."""

    __tablename__ = "bank_results"
    __table_args__ = (
        one_of("format", BankResultFormat),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
    )

    run_id: UUID = Field(primary_key=True)
    sha256: Code = Field(primary_key=True, sa_type=CODE)
    format: Code
    recorded: int
    taken_at: Instant
    taken_by: Words


class BankFileCreate(Input):
    """By whom, when and how the next payouts of a run are to be paid."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "execution_on": "2026-12-01",
                    "debtor_name": "南海区计划生育协会",
                    "debtor_account": "80020000001234567",
                    "debtor_bank_code": "105588000018",
                }
            ]
        }
    )

    format: BankFormat = BankFormat.PAIN_001
    execution_on: Day = Described(description="When the bank is to pay; today or later.")
    debtor_name: AnyName = Described(description="Who pays, as the bank knows it.")
    debtor_account: Annotated[str, Described(pattern=r"^[0-9A-Za-z][0-9A-Za-z-]{3,33}$")] = (
        Described(description="The account of who pays; it is stored masked.")
    )
    debtor_bank_code: Annotated[str, Described(pattern=r"^[0-9]{12}$")] = Described(
        description="The number of its bank in CNAPS (联行号)."
    )
    max_lines: Whole = Described(
        MAX_LINES, ge=1, le=MAX_LINES, description="How many payouts are looked at, in their order."
    )


class BankFileFilters(Filters):
    """The parameters of the list of a run's bank files."""


class BankFileRead(Output):
    """A file for the bank with its control totals, without its content."""

    id: UUID = Described(description="Its message id too, written without dashes.")
    run_id: UUID
    number: int
    format: BankFormat
    execution_on: date
    debtor_name: str
    debtor_account_masked: str
    debtor_bank_code: str
    line_count: int
    amount_fen: Fen
    sha256: str = Described(description="Of its content.")
    created_at: shapes.Instant
    created_by: str
    answered_at: shapes.Instant | None = Described(
        description="When the bank's first answer came; since then the content is gone."
    )
    rejected_at: shapes.Instant | None = Described(
        description="When the bank rejected it whole; its payouts wait for another file."
    )
    status_reason: str | None
    given_at: shapes.Instant | None = Described(
        description="When its content was first given out; before that no bank can have it."
    )
    discarded_at: shapes.Instant | None = Described(
        description="When its content was discarded, as an account in it may be used no more, or"
        " as it was not fetched within 30 days. If it was never given out, its payouts wait for"
        " another file; else for the bank's answer."
    )


class BankFileMade(Output):
    """What became of the payouts that were looked at: in the file, or failed."""

    file: BankFileRead | None = Described(description="Null if none of them has a bank account.")
    without_account_count: int = Described(
        description="How many failed, as their members have no bank account; another run may pay"
        " them in cash."
    )


class BankResultRead(Output):
    """What a bank's file says of one payout, and how it was taken."""

    ref: int | None = Described(
        description="Which payment of the file it is, or which row of the table; null if the file"
        " says it of all its payments at once."
    )
    line_no: int | None = Described(description="The line; null if it is none of this run.")
    outcome: PayoutStatus = Described(
        description="What the file says: `sending` if the bank has not decided yet, `pending` if it"
        " did nothing, `unknown` if its word is not one that says what became of it."
    )
    status: ResultStatus
    resource: SettledPayout | None = Described(
        description="The payout; null for what was rejected."
    )
    problem: LineProblem | None


class BankResultsRead(Output):
    """How a bank's file was taken, payment by payment."""

    format: BankResultFormat
    repeated: bool = Described(description="Whether this very file was taken in before.")
    ignored: int = Described(description="How many entries of a statement are no payouts of ours.")
    items: list[BankResultRead]
