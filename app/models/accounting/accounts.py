"""Published accounts: what an association's members received in a month, and whose money it was."""

from datetime import date
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint
from sqlmodel import Field

from app.models import shapes
from app.models.accounting.month_closes import Month
from app.models.events.service_events import EventKind
from app.models.finance.funds import FundSource
from app.models.shapes import Fen, Input, Line, Output
from app.models.tables import Instant, OptionalWords, Tenant, Words
from app.paging import Filters


class PublishedAccounts(Tenant, table=True):
    """One edition of an association's accounts of a month; a correction is another one."""

    __tablename__ = "published_accounts"
    __table_args__ = (
        CheckConstraint("number >= 1", name="number"),
        CheckConstraint("(number = 1) = (correction is null)", name="correction"),
        CheckConstraint("extract(day from month) = 1", name="month"),
        ForeignKeyConstraint(
            ["district_code", "association_id"],
            ["associations.district_code", "associations.id"],
            name="association",
        ),
        ForeignKeyConstraint(
            ["district_code", "close_id"],
            ["month_closes.district_code", "month_closes.id"],
            name="close",
        ),
    )

    association_id: UUID = Field(primary_key=True)
    month: date = Field(primary_key=True)
    number: int = Field(primary_key=True)
    close_id: UUID
    figures: Words
    correction: OptionalWords
    published_at: Instant
    published_by: Words


class AccountsFilters(Filters):
    """How a list of published accounts is narrowed."""

    month: Month | None = None


class AccountsPublish(Input):
    """Which month to publish, and why anew if it was published before."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"month": "2026-03", "correction": None}]}
    )

    month: Month
    correction: Line | None = Described(
        None, description="What is put right; required once the month was published."
    )


class Received(Output):
    """How many people received how much; nulls where that would tell of fewer than ten.

    Who may not read the records reads whole tens of people and what whole tens received of each
    price, and of a month in which any group has fewer than ten, or nobody received anything,
    neither an amount nor for what and from whom. Where fewer than ten members received nothing,
    not even how many did is told.
    """

    people: int | None
    amount_fen: Fen | None


class ReceivedOfKind(Received):
    """What members received for one kind of event."""

    event_kind: EventKind


class ReceivedFrom(Received):
    """What members received from the funds of one source."""

    source: FundSource


class Figures(Output):
    """The accounts of a month in numbers."""

    event_count: int = Described(description="The association's events that began in the month.")
    total: Received
    by_kind: list[ReceivedOfKind]
    by_source: list[ReceivedFrom] = Described(
        description="What the enterprise added is that of source `enterprise`."
    )


_TEN: dict[str, JsonValue] = {"people": 12, "amount_fen": 12000}


class AccountsRead(Figures):
    """An edition of an association's accounts of a month."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "association_id": "01993a2f-7c10-7c4e-9d55-2f1a60b3c0aa",
                    "month": "2026-03",
                    "number": 1,
                    "correction": None,
                    "published_at": "2026-04-08T02:00:00.000000Z",
                    "file_sha256": "9f86d081884c7d65" * 4,
                    "event_count": 3,
                    "total": _TEN,
                    "by_kind": [{**_TEN, "event_kind": "health_exam"}],
                    "by_source": [{**_TEN, "source": "town"}],
                }
            ]
        }
    )

    association_id: UUID
    month: Month
    number: int = Described(description="The edition; the highest holds.")
    correction: str | None = Described(description="What this edition puts right.")
    published_at: shapes.Instant
    file_sha256: str = Described(description="Of the closed month that it was published from.")


class MyAccounts(AccountsRead):
    """What the calling member's association has published."""

    person = ""
