"""What all shapes are made of: the bases, and the types of the domain's plain values."""

import re
import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from app.identifiers import AREA_CODE_LENGTH, holds_personal_number
from app.problems import Invalid, field_error
from app.telling import tells

MAX_FEN = 2**53 - 1
_FIRST_YEAR, _LAST_YEAR = 1900, 2200
_UNIX_SECONDS = re.compile(r"[-+.0-9]+")
_CANONICAL = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_CIVIL_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Input(BaseModel):
    """The base of what callers send: unknown properties are refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Patch(Input):
    """The base of JSON merge patches (RFC 7396): what is absent stays, null clears."""

    clearable: ClassVar[frozenset[str]] = frozenset()
    """The properties that may be empty."""

    def changes(self) -> dict[str, Any]:
        """Give what was sent; raises Invalid at a property that cannot be cleared."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        emptied = sorted(
            name for name, value in given.items() if value is None and name not in self.clearable
        )
        if emptied:
            raise Invalid(errors=[field_error(f"/{name}", "not_null") for name in emptied])
        return given


class Output(BaseModel):
    """The base of what callers get: every property is always there."""

    model_config = ConfigDict(from_attributes=True)
    beyond_version: ClassVar[bool] = False
    """Whether it shows what changes without a new version, so that it is sent every time."""
    never_kept: ClassVar[bool] = False
    """Whether it is too sensitive to be kept for a request that comes again."""
    found_anew: ClassVar[bool] = False
    """Whether a request that comes again is answered as things are then, as it may tell less."""
    person: ClassVar[str | None] = None
    """The property that is the id of whom it is about, empty when the path names her."""
    numbered: ClassVar[tuple[str, ...]] = ()
    """The properties whose ids have a number, which must tell nobody anything."""


def _refuse_control_characters(value: str) -> str:
    if value.isascii() and value.isprintable():
        return value
    if any(unicodedata.category(char) in {"Cc", "Cs", "Co", "Cn"} for char in value):
        raise PydanticCustomError("control_character", "control character")
    return unicodedata.normalize("NFC", value)


def _refuse_personal_numbers(value: str) -> str:
    if holds_personal_number(value):
        raise PydanticCustomError("personal_number", "personal number")
    return value


def _refuse_telling_words(value: str) -> str:
    if tells(value):
        raise PydanticCustomError("telling_words", "telling words")
    return value


def _refuse_numbers(value: object) -> object:
    """Refuse what pydantic would take for Unix seconds: time is given as text."""
    is_number = _UNIX_SECONDS.fullmatch(value) if isinstance(value, str) else None
    if is_number or isinstance(value, (int, float)):
        raise PydanticCustomError("datetime_parsing", "not RFC 3339")
    return value


def _only_civil_dates(value: object) -> object:
    """Refuse what pydantic would take for midnight of a day: numbers and instants."""
    if isinstance(value, str):
        if not _CIVIL_DATE.fullmatch(value):
            raise PydanticCustomError("date_parsing", "not YYYY-MM-DD")
    elif not isinstance(value, date) or isinstance(value, datetime):
        raise PydanticCustomError("date_type", "not a civil date")
    return value


def _only_canonical(value: object) -> object:
    """Refuse the other forms that pydantic takes: of one record there is one address."""
    if isinstance(value, str) and not _CANONICAL.fullmatch(value):
        raise PydanticCustomError("uuid_parsing", "not in its canonical form")
    return value


def _to_utc(value: datetime) -> datetime:
    # Far from any year of ours, every later step in another zone could overflow.
    if not _FIRST_YEAR <= value.year <= _LAST_YEAR:
        raise PydanticCustomError("datetime_parsing", "out of range")
    return value.astimezone(UTC)


def rfc3339(value: datetime) -> str:
    """Write an instant as the API does: in UTC, with `Z`."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# A limit comes before PLAIN: it then counts characters and is part of the schema.
PLAIN = AfterValidator(_refuse_control_characters)
Words = Annotated[str, PLAIN]
# What is written in clear is no place for what is only ever kept sealed.
IMPERSONAL = AfterValidator(_refuse_personal_numbers)
# What a health check found, or did, has no place: each free text says so of itself.
NEUTRAL = AfterValidator(_refuse_telling_words)
AnyName = Annotated[str, Field(min_length=1, max_length=100), PLAIN, IMPERSONAL]
"""As `Name`, for what is called so elsewhere: a house test lists each such field and why."""
AnyLine = Annotated[str, Field(min_length=1, max_length=200), PLAIN, IMPERSONAL]
"""As `Line`, likewise."""
Name = Annotated[AnyName, NEUTRAL]
Line = Annotated[AnyLine, NEUTRAL]
AreaCode = Annotated[
    str, Field(pattern=rf"^[1-9][0-9]{{{AREA_CODE_LENGTH - 1}}}$", examples=["440605124000"])
]
Id = Annotated[UUID, BeforeValidator(_only_canonical)]
"""A UUID as callers send it: hyphenated, without braces or a prefix."""
Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_refuse_numbers),
    AfterValidator(_to_utc),
    PlainSerializer(rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Day = Annotated[
    date,
    Field(ge=date(_FIRST_YEAR, 1, 1), le=date(_LAST_YEAR, 12, 31)),
    BeforeValidator(_only_civil_dates),
]
# The bases cannot be strict as a whole: ids, codes and times come as text.
Whole = Annotated[int, Strict()]
"""A whole number of a body, which is neither text nor a truth value nor `1.0`."""
YesNo = Annotated[bool, Strict()]
"""`true` or `false` of a body, and nothing that only reads like it."""
Fen = Annotated[int, Field(ge=0, le=MAX_FEN, json_schema_extra={"format": "int64"})]
Version = Annotated[int, Field(ge=1, description="Rises with each change; the ETag.")]


def _body_text(value: str) -> str:
    if any(unicodedata.category(c) in {"Cc", "Cs", "Co", "Cn"} and c not in "\n\t" for c in value):
        raise PydanticCustomError("control_character", "control character")
    return unicodedata.normalize("NFC", value)


LongText = Annotated[
    str, Field(min_length=1, max_length=20_000), AfterValidator(_body_text), IMPERSONAL
]
Note = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_body_text), NEUTRAL]
