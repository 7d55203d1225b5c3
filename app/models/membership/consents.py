"""Consents: each given and each withdrawn, kept as it happened, never changed."""

from datetime import date
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlmodel import Field

from app.models import shapes
from app.models.privacy.privacy_notices import ConsentPurpose, DataCategory, Processing
from app.models.shapes import Day, Input, Output, Whole
from app.models.tables import CODE, Code, Instant, OptionalCode, Tenant, Words, one_of
from app.paging import AnyOf, Filters

SCHEMA_VERSION = "ISO/IEC TS 27560:2023"


class ConsentState(StrEnum):
    """What happened to a consent."""

    GIVEN = "given"
    WITHDRAWN = "withdrawn"


class ConsentMethod(StrEnum):
    """How a member said it."""

    APP = "app"
    """Herself, logged in."""
    PAPER = "paper"
    """Signed on paper, which an office keeps."""
    OFFICER = "officer"
    """To an officer, who entered it at once."""
    IMPORT = "import"
    """Signed on paper, which the personnel office that sent a roster keeps."""
    CARRIED_OVER = "carried_over"
    """Before consents were kept apart by purpose: all that is known is the date."""


class NoticeLanguage(StrEnum):
    """In which language a member read the notice."""

    ZH = "zh"
    EN = "en"


class Consent(Tenant, table=True):
    """One event: a consent that was given, or its withdrawal, which names what it withdraws.

    Without `notice_number` she consented before a notice was published here.
    """

    __tablename__ = "consents"
    __table_args__ = (
        one_of("purpose", ConsentPurpose),
        one_of("state", ConsentState),
        one_of("method", ConsentMethod),
        one_of("language", NoticeLanguage),
        CheckConstraint("(state = 'withdrawn') = (withdraws is not null)", name="withdraws"),
        CheckConstraint(
            "notice_number is not null or method <> 'app' or state = 'withdrawn'", name="notice"
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id"], ["members.district_code", "members.id"], name="member"
        ),
        ForeignKeyConstraint(
            ["district_code", "purpose", "notice_number"],
            [
                "privacy_notices.district_code",
                "privacy_notices.purpose",
                "privacy_notices.number",
            ],
            name="notice",
        ),
        ForeignKeyConstraint(
            ["district_code", "member_id", "purpose", "withdraws"],
            ["consents.district_code", "consents.member_id", "consents.purpose", "consents.id"],
            name="withdrawn",
        ),
        # A consent is withdrawn once.
        Index(
            "uq_consents_withdraws",
            "district_code",
            "member_id",
            "purpose",
            "withdraws",
            unique=True,
            postgresql_where=text("withdraws is not null"),
        ),
    )

    member_id: UUID = Field(primary_key=True)
    purpose: Code = Field(primary_key=True, sa_type=CODE)
    id: UUID = Field(primary_key=True)
    state: Code
    notice_number: int | None
    language: OptionalCode
    method: Code
    acted_on: date
    recorded_at: Instant
    recorded_by: Words
    withdraws: UUID | None


class ConsentFilters(Filters):
    """How a member's consents may be narrowed."""

    purpose: AnyOf[ConsentPurpose] | None = None


class ConsentGive(Input):
    """What a member consents to in the app, and which notice she was shown."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"purpose": "contact", "notice_number": 1, "language": "zh"}]
        }
    )

    purpose: ConsentPurpose
    notice_number: Whole = Described(ge=1, le=1_000_000, description="The version that holds now.")
    language: NoticeLanguage


class ConsentEnter(Input):
    """What a member consented to on paper or to an officer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"purpose": "thanks", "method": "paper", "given_on": "2026-01-05"}]
        }
    )

    purpose: ConsentPurpose
    method: Literal[ConsentMethod.PAPER, ConsentMethod.OFFICER]
    given_on: Day | None = Described(None, description="Today when left out; never later.")
    language: NoticeLanguage = NoticeLanguage.ZH


class ConsentWithdraw(Input):
    """What a member no longer consents to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"purpose": "contact"}]})

    purpose: ConsentPurpose


class ConsentRead(Output):
    """One event in the history of a member's consents."""

    person = ""

    id: UUID
    purpose: ConsentPurpose
    state: ConsentState
    notice_number: int | None = Described(
        description="Null for a consent from before a notice was published here."
    )
    language: NoticeLanguage | None
    method: ConsentMethod
    acted_on: date = Described(description="When she gave or withdrew it.")
    recorded_at: shapes.Instant
    withdraws: UUID | None = Described(description="Which consent this withdraws.")


class ReceiptNotice(Output):
    """The notice that the consent is about."""

    number: int
    language: NoticeLanguage | None
    text: str
    digest: str
    effective_on: date


class ReceiptEvent(Output):
    """What happened to the consent, and how it was collected."""

    id: UUID
    state: ConsentState
    method: ConsentMethod
    acted_on: date
    recorded_at: shapes.Instant


class ConsentReceipt(Output):
    """A consent as a record that its holder can keep (the fields of ISO/IEC TS 27560)."""

    person = "subject"

    record_id: UUID
    schema_version: str
    jurisdiction: str
    controller: str | None
    subject: UUID = Described(description="Her pseudonym: the id under which she is enrolled.")
    purpose: ConsentPurpose
    lawful_basis: str
    notice: ReceiptNotice | None = Described(description="Null for one from before any notice.")
    data_categories: list[DataCategory]
    sensitive: bool
    processing: list[Processing]
    storage: str
    retention: str
    recipients: list[str]
    events: list[ReceiptEvent] = Described(description="The oldest first.")
    withdrawal: str = Described(description="How it is withdrawn.")
