"""Transfers: the ledger, in double entry; each moves fen between two accounts, for good."""

from datetime import date
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models import shapes
from app.models.shapes import Fen, Id, Output
from app.models.tables import Code, Instant, Long, OptionalWords, Tenant, Words, one_of
from app.paging import Filters


class Account(StrEnum):
    """The accounts of a fund; `outside` is its source, beyond the books."""

    OUTSIDE = "outside"
    AVAILABLE = "available"
    RESERVED = "reserved"
    SPENT = "spent"


class TransferKind(StrEnum):
    """Why money moves. A reservation is pending; it is paid (posted) or released (voided)."""

    RECEIVE = "receive"
    WITHDRAW = "withdraw"
    ALLOCATE = "allocate"
    RESERVE = "reserve"
    PAY = "pay"
    RELEASE = "release"
    RETURN = "return"


class _Sides(NamedTuple):
    debit: Account
    credit: Account


SIDES = {
    TransferKind.RECEIVE: _Sides(Account.AVAILABLE, Account.OUTSIDE),
    TransferKind.WITHDRAW: _Sides(Account.OUTSIDE, Account.AVAILABLE),
    TransferKind.ALLOCATE: _Sides(Account.AVAILABLE, Account.AVAILABLE),
    TransferKind.RESERVE: _Sides(Account.RESERVED, Account.AVAILABLE),
    TransferKind.PAY: _Sides(Account.SPENT, Account.RESERVED),
    TransferKind.RELEASE: _Sides(Account.AVAILABLE, Account.RESERVED),
    TransferKind.RETURN: _Sides(Account.AVAILABLE, Account.SPENT),
}
"""Which account each kind debits and credits; of one fund, but for an allocation."""

_BY_DOCUMENT = "('receive', 'withdraw', 'allocate')"
_OF_A_PAYOUT = "('pay', 'return')"


class Transfer(Tenant, table=True):
    """One movement of money, never changed nor deleted; those of one act share a posting.

    `fund_id` is debited. The credited fund is the same, but for an allocation's.
    """

    __tablename__ = "transfers"
    __table_args__ = (
        one_of("kind", TransferKind),
        CheckConstraint(
            " or ".join(
                f"kind = '{kind}' and debit = '{sides.debit}' and credit = '{sides.credit}'"
                for kind, sides in SIDES.items()
            ),
            name="sides",
        ),
        CheckConstraint("amount_fen > 0", name="amount"),
        CheckConstraint("(kind = 'allocate') = (fund_id <> credit_fund_id)", name="funds"),
        CheckConstraint(f"(kind in {_BY_DOCUMENT}) = (document_no is not null)", name="document"),
        CheckConstraint(f"(kind in {_BY_DOCUMENT}) = (run_id is null)", name="run"),
        CheckConstraint(f"(kind in {_OF_A_PAYOUT}) = (line_no is not null)", name="payout"),
        ForeignKeyConstraint(
            ["district_code", "fund_id"], ["funds.district_code", "funds.id"], name="fund"
        ),
        ForeignKeyConstraint(
            ["district_code", "credit_fund_id"],
            ["funds.district_code", "funds.id"],
            name="credit_fund",
        ),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
        # What a payout takes from a fund it takes once, and gives back once.
        Index(
            "uq_transfers_payout",
            "district_code",
            "run_id",
            "line_no",
            "fund_id",
            "kind",
            unique=True,
            postgresql_where=text("line_no is not null"),
        ),
        Index(
            "uq_transfers_run",
            "district_code",
            "run_id",
            "fund_id",
            "kind",
            unique=True,
            postgresql_where=text("run_id is not null and line_no is null"),
        ),
        Index(
            "uq_transfers_document",
            "district_code",
            "credit_fund_id",
            "kind",
            "document_no",
            "fund_id",
            unique=True,
            postgresql_where=text("document_no is not null"),
        ),
        Index("ix_transfers_fund", "district_code", "fund_id", "posting_id", "number"),
    )

    posting_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    kind: Code
    fund_id: UUID
    credit_fund_id: UUID
    debit: Code
    credit: Code
    amount_fen: Long
    run_id: UUID | None
    line_no: int | None
    document_no: OptionalWords
    note: OptionalWords
    occurred_on: date
    recorded_at: Instant
    recorded_by: Words


class RunShare(Tenant, table=True):
    """Which fund pays which part of a rule's amount for an association's members, in one run.

    It is fixed when the run is approved. Of an amount, the fund pays what lies between the two
    points of it: each rounded down to the fen, so that the parts are the amount exactly.
    """

    __tablename__ = "run_shares"
    __table_args__ = (
        CheckConstraint("from_bp >= 0 and to_bp > from_bp and to_bp <= 10000", name="points"),
        ForeignKeyConstraint(
            ["district_code", "fund_id"], ["funds.district_code", "funds.id"], name="fund"
        ),
        ForeignKeyConstraint(
            ["district_code", "run_id"],
            ["payout_runs.district_code", "payout_runs.id"],
            name="payout_run",
        ),
    )

    run_id: UUID = Field(primary_key=True)
    rule_id: UUID = Field(primary_key=True)
    association_id: UUID = Field(primary_key=True)
    from_bp: int = Field(primary_key=True)
    to_bp: int
    fund_id: UUID


class EntryFilters(Filters):
    """How the list of a fund's entries is narrowed."""

    run_id: Id | None = None


class EntryRead(Output):
    """A transfer as the books show it: what is debited, what is credited."""

    person = "member_id"
    numbered = ("payout_id",)

    posting_id: UUID
    number: int
    kind: TransferKind
    fund_id: UUID = Described(description="The fund that is debited.")
    debit: Account
    credit_fund_id: UUID
    credit: Account
    amount_fen: Fen
    run_id: UUID | None
    payout_id: UUID | None
    member_id: UUID | None = Described(description="Whose payout it is.")
    document_no: str | None
    note: str | None
    occurred_on: date
    recorded_at: shapes.Instant
    recorded_by: str


class EntriesRead(Output):
    """The entries of one payout, and the reservation of its run in each fund that pays it."""

    items: list[EntryRead]
