"""Gifts: the district's catalogue of what a rule may give."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, JsonValue
from pydantic import Field as Described
from sqlalchemy import CheckConstraint, UniqueConstraint

from app.models import shapes
from app.models.shapes import NEUTRAL, Input, Name, Output, Patch, Version
from app.models.tables import Code, Record, Words, one_of
from app.paging import Filters


class GiftStatus(StrEnum):
    """Whether new rules may still give it."""

    ACTIVE = "active"
    RETIRED = "retired"


class Gift(Record, table=True):
    """An article of the catalogue; rules name it by its code, which stays."""

    __tablename__ = "gifts"
    __table_args__ = (
        one_of("status", GiftStatus),
        CheckConstraint("code ~ '^[a-z][a-z0-9_]{0,39}$'", name="code_form"),
        UniqueConstraint("district_code", "code", name="code"),
    )

    code: Code
    name: Words
    unit: Words
    status: Code
    created_by: Words


GiftCode = Annotated[
    str, Described(pattern="^[a-z][a-z0-9_]{0,39}$", examples=["hand_cream"]), NEUTRAL
]
Unit = Annotated[Name, Described(max_length=10, examples=["支"])]
_EXAMPLE: dict[str, JsonValue] = {"code": "hand_cream", "name": "护手霜", "unit": "支"}


class GiftFilters(Filters):
    """How the catalogue may be narrowed."""

    status: GiftStatus | None = None
    code: GiftCode | None = None


class GiftCreate(Input):
    """An article to add to the catalogue."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    code: GiftCode = Described(description="What rules name it by; it stays.")
    name: Name
    unit: Unit = Described(description="In what it is counted.")


class GiftUpdate(Patch):
    """What of an article may be changed; rules keep the name that they were made with."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "护手霜（50 克）"}]})

    name: Name | None = None
    unit: Unit | None = None
    status: GiftStatus | None = Described(None, description="No new rule gives a retired one.")


class GiftRead(Output):
    """An article of the catalogue."""

    id: UUID
    version: Version
    created_at: shapes.Instant
    updated_at: shapes.Instant
    code: str
    name: str
    unit: str
    status: GiftStatus
    created_by: str
