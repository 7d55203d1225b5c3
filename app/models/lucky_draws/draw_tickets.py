"""Draw tickets: whose each is, which nobody but herself is shown before it wins."""

from uuid import UUID

from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

from app.models import shapes
from app.models.lucky_draws.draw_winners import WinnerStatus
from app.models.lucky_draws.draws import DrawStatus
from app.models.shapes import Day, Id, Output
from app.models.tables import CODE, Code, Instant, Tenant
from app.paging import Filters


class DrawTicket(Tenant, table=True):
    """A chance in a draw, granted by a line of a run; its number is random and tells nothing.

    Each line's tickets are issued once, whatever is repeated.
    """

    __tablename__ = "draw_tickets"
    __table_args__ = (
        CheckConstraint("ticket ~ '^[0-9a-f]{32}$'", name="ticket"),
        CheckConstraint("copy_no >= 1", name="copy_no"),
        ForeignKeyConstraint(
            ["district_code", "draw_id"], ["draws.district_code", "draws.id"], name="draw"
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        UniqueConstraint("district_code", "run_id", "line_no", "copy_no", name="line"),
        Index("ix_draw_tickets_draw", "district_code", "draw_id"),
        Index("ix_draw_tickets_member", "district_code", "member_id"),
    )

    ticket: Code = Field(primary_key=True, sa_type=CODE)
    draw_id: UUID
    member_id: UUID
    run_id: UUID
    line_no: int
    copy_no: int
    issued_at: Instant


class MyTicketFilters(Filters):
    """How the list of the member's tickets may be narrowed."""

    draw_id: Id | None = None


class MyTicket(Output):
    """A chance of the calling member's, and whether it won."""

    person = ""

    ticket: str = Described(description="Stands in the draw's list once tickets have closed.")
    issued_at: shapes.Instant
    draw_id: UUID
    draw_name: str
    draw_status: DrawStatus
    rank: int | None = Described(description="Among winners and reserves; null for all others.")
    prize: str | None
    winner_status: WinnerStatus | None
    claim_until: Day | None
