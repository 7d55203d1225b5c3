"""Winners of a draw and its reserves: by ticket, each rank and each prize once."""

from datetime import date
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from app.models import shapes
from app.models.lucky_draws.draws import DrawStatus, PrizeRead
from app.models.shapes import Input, Line, Output
from app.models.tables import (
    CODE,
    Code,
    OptionalInstant,
    OptionalWords,
    Tenant,
    one_of,
)
from app.paging import AnyOf, Filters


class WinnerStatus(StrEnum):
    """What became of a place in the ranking."""

    RESERVE = "reserve"
    """Moves up when somebody before her gives her prize up."""
    WINNING = "winning"
    """Has a prize to fetch."""
    HANDED_OUT = "handed_out"
    """Has her prize."""
    DECLINED = "declined"
    """Did not want it."""
    LAPSED = "lapsed"
    """Did not fetch it in time."""


class DrawWinner(Tenant, table=True):
    """A place in the ranking: a winner, or a reserve; of the frozen tickets, each at most once.

    `unit` numbers the single prizes; at any time one ticket at most has each.
    """

    __tablename__ = "draw_winners"
    __table_args__ = (
        one_of("status", WinnerStatus),
        CheckConstraint("rank >= 1 and unit >= 1", name="numbers"),
        CheckConstraint(
            "(status = 'reserve') = (unit is null) and (unit is null) = (won_at is null)"
            " and (unit is null) = (claim_until is null)",
            name="won",
        ),
        CheckConstraint(
            "(status = 'handed_out') = (handed_out_at is not null)"
            " and (handed_out_at is null) = (handed_out_by is null)",
            name="handed_out",
        ),
        CheckConstraint(
            "(status in ('declined', 'lapsed')) = (ended_at is not null)"
            " and (ended_at is null) = (ended_by is null)"
            " and (status = 'declined') = (end_reason is not null)",
            name="ended",
        ),
        ForeignKeyConstraint(
            ["district_code", "draw_id", "ticket"],
            ["draw_entries.district_code", "draw_entries.draw_id", "draw_entries.ticket"],
            name="entry",
        ),
        UniqueConstraint("district_code", "draw_id", "ticket", name="ticket"),
        Index(
            "uq_draw_winners_unit",
            "district_code",
            "draw_id",
            "unit",
            unique=True,
            postgresql_where=text("status in ('winning', 'handed_out')"),
        ),
    )

    draw_id: UUID = Field(primary_key=True)
    rank: int = Field(primary_key=True)
    ticket: Code = Field(sa_type=CODE)
    unit: int | None
    status: Code
    won_at: OptionalInstant
    claim_until: date | None
    handed_out_at: OptionalInstant
    handed_out_by: OptionalWords
    ended_at: OptionalInstant
    ended_by: OptionalWords
    end_reason: OptionalWords


MOVED = (
    "unit", "status", "won_at", "claim_until", "handed_out_at", "handed_out_by", "ended_at",
    "ended_by", "end_reason",
)  # fmt: skip
"""What becomes of a place; rank and ticket stay as they were drawn."""
Ticket = Annotated[str, Described(pattern="^[0-9a-f]{32}$", examples=["0" * 32])]


class WinnerFilters(Filters):
    """How the list of a draw's winners may be narrowed."""

    status: AnyOf[WinnerStatus] | None = None


class HandOut(Input):
    """The ticket that the winner shows."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ticket": "0" * 32}]})

    ticket: Ticket


class Decline(Input):
    """Why the winner does not take the prize."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "本人放弃"}]})

    reason: Line


class WinnerRead(Output):
    """A place in the ranking, and whose it is."""

    person = "member_id"

    rank: int
    ticket: str
    member_id: UUID
    status: WinnerStatus
    prize_number: int | None = Described(description="Null for reserves.")
    prize_name: str | None
    won_at: shapes.Instant | None
    claim_until: date | None
    handed_out_at: shapes.Instant | None
    handed_out_by: str | None
    ended_at: shapes.Instant | None
    end_reason: str | None


class WinningTicket(Output):
    """A place in the ranking, by its ticket alone."""

    rank: int
    ticket: str
    prize_number: int | None
    status: WinnerStatus


class DrawVerification(Output):
    """All that is needed to repeat a draw; no person is in it."""

    protocol: str
    steps: list[str]
    draw_id: UUID
    name: str
    status: DrawStatus
    status_reason: str | None
    prizes: list[PrizeRead]
    winner_count: int
    reserve_count: int
    closes_at: shapes.Instant
    beacon_name: str
    beacon_at: shapes.Instant
    commitment: str | None
    closed_at: shapes.Instant | None
    digest: str | None
    ticket_count: int | None
    tickets: list[str] = Described(description="All of them, once they are frozen.")
    beacon_value: str | None
    beacon_source: str | None
    seed: str | None
    drawn_at: shapes.Instant | None
    winners: list[WinningTicket] = Described(description="Winners and reserves, the best first.")
