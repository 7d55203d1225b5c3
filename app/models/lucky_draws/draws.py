"""Lucky draws: what is promised before tickets close, and what came out for anyone to repeat."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from app.models import shapes
from app.models.shapes import AreaCode, Id, Input, Line, Name, Output, Version, Whole
from app.models.tables import (
    CODE,
    Code,
    Instant,
    OptionalCode,
    OptionalInstant,
    OptionalSealed,
    OptionalWords,
    Record,
    Tenant,
    Words,
    one_of,
)
from app.paging import AnyOf, Filters

MAX_PRIZES = 50
MAX_RESERVES = 1_000


class DrawStatus(StrEnum):
    """The life of a draw."""

    DRAFT = "draft"
    """Not promised yet."""
    OPEN = "open"
    """The seed is fixed and its hash published; tickets come in."""
    CLOSED = "closed"
    """The tickets are fixed and their digest published; the beacon is awaited."""
    DRAWN = "drawn"
    """The seed is revealed; anyone can repeat the draw."""
    CANCELLED = "cancelled"
    """Given up, with a reason; a seed that was fixed is revealed."""


def _together(*columns: str) -> str:
    """Write that columns are filled all or none."""
    first, *others = columns
    return " and ".join(f"({first} is null) = ({other} is null)" for other in others)


class Draw(Record, table=True):
    """A draw of an area over an exam round; its terms never change once it is entered.

    That the revealed seed is the one committed to is a constraint, and so is that nobody confirms
    a beacon that she entered. `ticket_count` and `prize_count` bound the rows that refer to them.
    """

    __tablename__ = "draws"
    __table_args__ = (
        one_of("status", DrawStatus),
        CheckConstraint("substr(area_code, 1, 6) = substr(district_code, 1, 6)", name="area_range"),
        CheckConstraint("closes_at < beacon_at", name="beacon_after_closing"),
        CheckConstraint(
            f"prize_count between 1 and {MAX_PRIZES} and winner_count >= prize_count"
            f" and reserve_count between 0 and {MAX_RESERVES} and claim_days between 1 and 365",
            name="sizes",
        ),
        CheckConstraint(
            "(status <> 'draft' or opened_at is null)"
            " and (status not in ('open', 'closed', 'drawn') or opened_at is not null)"
            f" and {_together('opened_at', 'opened_by', 'commitment')}"
            " and (opened_at is null) = (wrapped_seed is null and seed is null)"
            " and opened_at < closes_at and commitment ~ '^[0-9a-f]{64}$'",
            name="opened",
        ),
        CheckConstraint(
            "(wrapped_seed is null or seed is null)"
            " and (seed is null) = (opened_at is null or status in ('open', 'closed'))",
            name="seed",
        ),
        CheckConstraint(
            "seed is null or commitment = encode(sha256(cast('jixie-draw-v1' as bytea)"
            " || cast(cast(id as text) as bytea) || seed), 'hex')",
            name="commitment",
        ),
        CheckConstraint(
            "(status not in ('draft', 'open') or closed_at is null)"
            " and (status not in ('closed', 'drawn') or closed_at is not null)"
            f" and {_together('closed_at', 'closed_by', 'digest', 'ticket_count')}"
            " and closed_at >= closes_at and closed_at < beacon_at and ticket_count >= 0"
            " and digest ~ '^[0-9a-f]{64}$'",
            name="closed",
        ),
        CheckConstraint(
            _together("ticket_count", "people_count")
            + " and people_count >= least(ticket_count, 1) and people_count <= ticket_count",
            name="people",
        ),
        CheckConstraint(
            "fewest_count >= least(ticket_count, 1) and fewest_count <= people_count",
            name="fewest",
        ),
        CheckConstraint(
            _together("beacon_value", "beacon_source", "beacon_entered_at", "beacon_entered_by")
            + " and (beacon_value is null or closed_at is not null)"
            " and beacon_entered_at >= beacon_at",
            name="beacon",
        ),
        CheckConstraint(
            f"(status = 'drawn') = (drawn_at is not null) and {_together('drawn_at', 'drawn_by')}"
            " and (drawn_at is null or beacon_value is not null)",
            name="drawn",
        ),
        CheckConstraint("drawn_by <> beacon_entered_by", name="maker_is_not_checker"),
        CheckConstraint("drawn_by <> opened_by", name="committer_is_not_checker"),
        CheckConstraint(
            "(status = 'cancelled') = (cancelled_at is not null)"
            f" and {_together('cancelled_at', 'cancelled_by', 'status_reason')}",
            name="cancelled",
        ),
        ForeignKeyConstraint(["area_code"], ["areas.code"], name="area"),
        ForeignKeyConstraint(
            ["district_code", "round_sequence"],
            ["exam_rounds.district_code", "exam_rounds.sequence"],
            name="round",
        ),
        ForeignKeyConstraint(
            ["district_code", "replaces_id"], ["draws.district_code", "draws.id"], name="replaces"
        ),
        UniqueConstraint("district_code", "id", "ticket_count", name="tickets"),
        UniqueConstraint("district_code", "id", "prize_count", name="prizes"),
        UniqueConstraint("district_code", "replaces_id", name="replaces"),
        Index(
            "uq_draws_open",
            "district_code",
            "round_sequence",
            "area_code",
            unique=True,
            postgresql_where=text("status = 'open'"),
        ),
    )

    name: Words
    area_code: Code
    round_sequence: int
    closes_at: Instant
    beacon_name: Words
    beacon_at: Instant
    prize_count: int
    winner_count: int
    reserve_count: int
    claim_days: int
    replaces_id: UUID | None
    status: Code
    status_reason: OptionalWords
    created_by: Words
    opened_at: OptionalInstant
    opened_by: OptionalWords
    commitment: OptionalCode
    wrapped_seed: OptionalSealed
    seed: OptionalSealed
    closed_at: OptionalInstant
    closed_by: OptionalWords
    digest: OptionalCode
    ticket_count: int | None
    people_count: int | None
    fewest_count: int | None
    beacon_value: OptionalWords
    beacon_source: OptionalWords
    beacon_entered_at: OptionalInstant
    beacon_entered_by: OptionalWords
    drawn_at: OptionalInstant
    drawn_by: OptionalWords
    cancelled_at: OptionalInstant
    cancelled_by: OptionalWords


STEPPED = (
    "version", "updated_at", "status", "status_reason", "opened_at", "opened_by", "commitment",
    "wrapped_seed", "seed", "closed_at", "closed_by", "digest", "ticket_count",
    "people_count", "fewest_count", "beacon_value", "beacon_source", "beacon_entered_at",
    "beacon_entered_by", "drawn_at", "drawn_by", "cancelled_at", "cancelled_by",
)  # fmt: skip
"""What the steps of a draw fill in; nobody has the right to change anything else of it."""


class DrawPrize(Tenant, table=True):
    """One kind of prize of a draw: the winners from `first_unit` on, `quantity` of them, get it."""

    __tablename__ = "draw_prizes"
    __table_args__ = (
        CheckConstraint("number between 1 and prize_count", name="number"),
        CheckConstraint("quantity >= 1 and first_unit >= number", name="units"),
        ForeignKeyConstraint(
            ["district_code", "draw_id", "prize_count"],
            ["draws.district_code", "draws.id", "draws.prize_count"],
            name="draw",
        ),
    )

    draw_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    prize_count: int
    name: Words
    quantity: int
    first_unit: int


class DrawEntry(Tenant, table=True):
    """A ticket in the frozen list of a draw; it tells of nobody.

    The entries are numbered from 1 to the count that the draw states, which they refer to. So
    once it is closed there is no number left for another, and nobody may change or delete one.
    """

    __tablename__ = "draw_entries"
    __table_args__ = (
        CheckConstraint("number between 1 and ticket_count", name="number"),
        ForeignKeyConstraint(
            ["district_code", "draw_id", "ticket_count"],
            ["draws.district_code", "draws.id", "draws.ticket_count"],
            name="draw",
        ),
        UniqueConstraint("district_code", "draw_id", "ticket", name="ticket"),
    )

    draw_id: UUID = Field(primary_key=True)
    number: int = Field(primary_key=True)
    ticket_count: int
    ticket: Code = Field(sa_type=CODE)


_EXAMPLE: dict[str, JsonValue] = {
    "name": "第三季度幸运抽奖",
    "area_code": "440605000000",
    "exam_round_id": "0195d5c1-6f00-7000-8000-00000000000a",
    "closes_at": "2026-11-01T10:00:00Z",
    "beacon_name": "中国福利彩票双色球 第2026123期 红球",
    "beacon_at": "2026-11-03T13:15:00Z",
    "prizes": [
        {"name": "电饭煲", "quantity": 1},
        {"name": "毛巾礼盒", "quantity": 5},
    ],
    "reserve_count": 10,
}
_BEACON: dict[str, JsonValue] = {"beacon_value": "03 08 14 21 27 33"}


class PrizeCreate(Input):
    """A prize in kind, and how many of it there are."""

    name: Name
    quantity: Whole = Described(1, ge=1, le=1000)


class DrawCreate(Input):
    """A draw to hold: what is promised before anybody has a ticket."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Name
    area_code: AreaCode = Described(
        description="Runs of policies of this area put their tickets in."
    )
    exam_round_id: Id = Described(description="Runs over this round put their tickets in.")
    closes_at: shapes.Instant = Described(description="From then on no ticket comes in.")
    beacon_name: Line = Described(
        description="A public value that nobody can foretell or choose, so named that everybody"
        " finds the same one."
    )
    beacon_at: shapes.Instant = Described(
        description="When that value is produced; after the tickets have closed."
    )
    prizes: Annotated[list[PrizeCreate], Described(min_length=1, max_length=MAX_PRIZES)] = (
        Described(description="In the order in which the winners get them.")
    )
    reserve_count: Whole = Described(10, ge=0, le=MAX_RESERVES)
    claim_days: Whole = Described(
        30, ge=1, le=365, description="How long a winner has until the next reserve moves up."
    )
    replaces_id: Id | None = Described(
        None, description="A cancelled draw of the same area and round, whose tickets this takes."
    )


class DrawFilters(Filters):
    """How a list of draws may be narrowed."""

    status: AnyOf[DrawStatus] | None = None
    exam_round_id: Id | None = None
    area: AreaCode | None = Described(None, description="Draws of this area and all below it.")


class DrawCancellation(Input):
    """Why a draw is given up."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "开奖推迟，另行抽取"}]})

    reason: Line


class BeaconEntry(Input):
    """The public value that was named beforehand, and where it can be read."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [_BEACON | {"beacon_source": "中国福彩网 2026-11-03 公告"}]}
    )

    beacon_value: Line
    beacon_source: Line


class BeaconConfirmation(Input):
    """The same value, as a second person has read it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_BEACON]})

    beacon_value: Line


class PrizeRead(Output):
    """A prize in kind, and how many of it there are."""

    number: int
    name: str
    quantity: int


class DrawRead(Output):
    """A draw: its terms, and what has been published of it so far."""

    id: UUID
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
    name: str
    area_code: AreaCode
    exam_round_id: UUID
    round_sequence: int
    closes_at: shapes.Instant
    beacon_name: str
    beacon_at: shapes.Instant
    prizes: list[PrizeRead]
    winner_count: int
    reserve_count: int
    claim_days: int
    replaces_id: UUID | None
    status: DrawStatus
    status_reason: str | None
    opened_at: shapes.Instant | None
    commitment: str | None = Described(description="The seed's hash, from the day it opened.")
    closed_at: shapes.Instant | None
    digest: str | None = Described(description="Of all tickets, from the moment they closed.")
    ticket_count: int | None = Described(
        description="Null, as is the digest, to whoever may not know whose they are, where they"
        " are of fewer than ten people, or any rule's are, or those that it has beyond a draw that"
        " it replaces."
    )
    beacon_value: str | None
    beacon_source: str | None
    drawn_at: shapes.Instant | None
    seed: str | None = Described(description="In hex, once it is drawn or cancelled.")
    cancelled_at: shapes.Instant | None
