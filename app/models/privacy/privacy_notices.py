"""Privacy notices: what a member is told before she consents, in versions that never change."""

from datetime import date
from enum import StrEnum

from pydantic import ConfigDict
from pydantic import Field as Described
from sqlalchemy import ARRAY, CheckConstraint
from sqlmodel import Field

from app.models import shapes
from app.models.shapes import AnyLine, AnyName, Day, Input, LongText, Output
from app.models.tables import CODE, Code, Codes, Instant, Tenant, Words, one_of
from app.paging import AnyOf, Filters

JURISDICTION = "CN"
RETENTION = "until_withdrawal"


class ConsentPurpose(StrEnum):
    """What a member consents to; each apart from the others (PIPL art. 14 and 29)."""

    IDENTITY = "identity"
    """Her resident ID number, so that nobody is enrolled twice."""
    CONTACT = "contact"
    """Her phone, by which she is reached and logs in."""
    PAYMENT = "payment"
    """Her payout account, to which thanks are paid."""
    THANKS = "thanks"
    """That she was at an event, used to decide what she is thanked with."""


class DataCategory(StrEnum):
    """What kind of personal data a consent is about."""

    RESIDENT_ID_NUMBER = "resident_id_number"
    PHONE_NUMBER = "phone_number"
    FINANCIAL_ACCOUNT = "financial_account"
    ATTENDANCE = "attendance"


class Processing(StrEnum):
    """What is done with personal data."""

    COLLECT = "collect"
    STORE = "store"
    MATCH = "match"
    CONTACT = "contact"
    CALCULATE = "calculate"
    PAY = "pay"


DATA_OF = {
    ConsentPurpose.IDENTITY: DataCategory.RESIDENT_ID_NUMBER,
    ConsentPurpose.CONTACT: DataCategory.PHONE_NUMBER,
    ConsentPurpose.PAYMENT: DataCategory.FINANCIAL_ACCOUNT,
    ConsentPurpose.THANKS: DataCategory.ATTENDANCE,
}
PROCESSING_OF = {
    ConsentPurpose.IDENTITY: (Processing.COLLECT, Processing.STORE, Processing.MATCH),
    ConsentPurpose.CONTACT: (Processing.COLLECT, Processing.STORE, Processing.CONTACT),
    ConsentPurpose.PAYMENT: (Processing.COLLECT, Processing.STORE, Processing.PAY),
    ConsentPurpose.THANKS: (Processing.CALCULATE,),
}


class PrivacyNotice(Tenant, table=True):
    """One version of the notice for one purpose; it holds from `effective_on` until the next."""

    __tablename__ = "privacy_notices"
    __table_args__ = (
        one_of("purpose", ConsentPurpose),
        CheckConstraint("number >= 1", name="number"),
        CheckConstraint("text_zh <> '' and text_en <> '' and controller <> ''", name="words"),
        CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name="digest"),
    )

    purpose: Code = Field(primary_key=True, sa_type=CODE)
    number: int = Field(primary_key=True)
    effective_on: date
    controller: Words
    text_zh: Words
    text_en: Words
    digest: Code
    data_categories: Codes
    processing: Codes
    recipients: list[str] = Field(sa_type=ARRAY(CODE))
    retention: Code
    jurisdiction: Code
    published_by: Words
    published_at: Instant


class PrivacyNoticeFilters(Filters):
    """How the list of notices may be narrowed."""

    purpose: AnyOf[ConsentPurpose] | None = None
    on: Day | None = Described(None, description="Only those that hold on this day.")


class PrivacyNoticeCreate(Input):
    """The next version of the notice for a purpose."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "purpose": "contact",
                    "effective_on": "2027-01-01",
                    "controller": "佛山市南海区计划生育协会",
                    "text_zh": "我们保存您的手机号，用于联系您和供您登录。您可以随时撤回同意。",
                    "text_en": "We keep your phone number to reach you and let you log in."
                    " You may withdraw your consent at any time.",
                    "recipients": ["短信服务商"],
                }
            ]
        }
    )

    purpose: ConsentPurpose
    effective_on: Day = Described(
        description="From when; not before today, nor before the version that it follows."
    )
    controller: AnyName = Described(description="Who answers for what is done with the data.")
    text_zh: LongText
    text_en: LongText
    recipients: list[AnyLine] = Described(
        default=[], max_length=20, description="Who receives the data besides the controller."
    )


class PrivacyNoticeRead(Output):
    """One version of the notice for one purpose, as members were told."""

    purpose: ConsentPurpose
    number: int = Described(ge=1, description="Counts the versions for the purpose.")
    effective_on: date
    controller: str
    text_zh: str
    text_en: str
    digest: str = Described(description="SHA-256 of the Chinese text, a line feed, the English.")
    data_categories: list[DataCategory]
    processing: list[Processing]
    recipients: list[str]
    retention: str
    jurisdiction: str
    published_at: shapes.Instant
