"""Reveals: what is masked elsewhere shown in full, for a purpose, a few times a day."""

from datetime import date
from enum import StrEnum

from pydantic import ConfigDict
from sqlalchemy import CheckConstraint
from sqlmodel import Field

from app.models.shapes import Input, Output
from app.models.tables import WORDS, Tenant, Words


class RevealField(StrEnum):
    """What of a member is masked everywhere else."""

    ID_NUMBER = "id_number"
    PHONE = "phone"
    PAYOUT_ACCOUNT = "payout_account"


class RevealPurpose(StrEnum):
    """What somebody needs it for."""

    PAYOUT = "payout"
    IDENTITY_CHECK = "identity_check"
    CONTACT = "contact"
    CORRECTION = "correction"
    COPY_FOR_MEMBER = "copy_for_member"
    LEGAL_DUTY = "legal_duty"


class RevealCount(Tenant, table=True):
    """How many values a caller was shown in full on the last day that she was shown any."""

    __tablename__ = "reveal_counts"
    __table_args__ = (CheckConstraint("shown >= 0", name="shown"),)

    subject: Words = Field(primary_key=True, sa_type=WORDS)
    on_day: date
    shown: int


class RevealRequest(Input):
    """Which value is to be shown in full, and what for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"field": "phone", "purpose": "contact"}]}
    )

    field: RevealField
    purpose: RevealPurpose


class Revealed(Output):
    """The value in full; it is never kept for a repeated request."""

    never_kept = True
    person = ""

    field: RevealField
    value: str
