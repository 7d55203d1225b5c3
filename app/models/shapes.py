"""What all shapes are made of: the bases, and the types of the domain's plain values."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)
from pydantic_core import PydanticCustomError

from app.identifiers import AREA_CODE_LENGTH

MAX_FEN = 2**53 - 1


class Input(BaseModel):
    """The base of what callers send: unknown properties are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Output(BaseModel):
    """The base of what callers get: every property is always there."""

    model_config = ConfigDict(from_attributes=True)


def _refuse_control_characters(value: str) -> str:
    if any(unicodedata.category(char) in {"Cc", "Cs", "Co", "Cn"} for char in value):
        raise PydanticCustomError("control_character", "control character")
    return unicodedata.normalize("NFC", value)


def _refuse_numbers(value: object) -> object:
    """Refuse what pydantic would take for Unix seconds: time is given as text."""
    if isinstance(value, int | float) or (
        isinstance(value, str) and re.fullmatch(r"[-+.\d]+", value)
    ):
        raise PydanticCustomError("datetime_parsing", "not RFC 3339")
    return value


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("datetime_parsing", "out of range") from None


def _rfc3339(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Words = Annotated[str, AfterValidator(_refuse_control_characters)]
Name = Annotated[Words, Field(min_length=1, max_length=100)]
Line = Annotated[Words, Field(min_length=1, max_length=200)]
AreaCode = Annotated[
    str, Field(pattern=rf"^[1-9][0-9]{{{AREA_CODE_LENGTH - 1}}}$", examples=["440605124000"])
]
Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_refuse_numbers),
    AfterValidator(_to_utc),
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
]
Fen = Annotated[int, Field(ge=0, le=MAX_FEN, json_schema_extra={"format": "int64"})]
Version = Annotated[int, Field(ge=1, description="Rises with each change; the ETag.")]


def _body_text(value: str) -> str:
    if any(unicodedata.category(c) in {"Cc", "Cs", "Co", "Cn"} and c not in "\n\t" for c in value):
        raise PydanticCustomError("control_character", "control character")
    return unicodedata.normalize("NFC", value)


LongText = Annotated[str, AfterValidator(_body_text), Field(min_length=1, max_length=20_000)]
