"""What all tables are made of: the base with its naming rules, and the column types."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    LargeBinary,
    MetaData,
    Text,
    Uuid,
)
from sqlmodel import Field, SQLModel

NAMES = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(constraint_name)s",
    "uq": "uq_%(table_name)s_%(constraint_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}

# Codes sort and compare by bytes, which also keeps them indexable under row-level security.
CODE = Text(collation="C")
WORDS = Text()
Code = Annotated[str, Field(sa_type=CODE)]
OptionalCode = Annotated[str | None, Field(sa_type=CODE)]
Words = Annotated[str, Field(sa_type=WORDS)]
OptionalWords = Annotated[str | None, Field(sa_type=WORDS)]
Instant = Annotated[datetime, Field(sa_type=DateTime(timezone=True))]
OptionalInstant = Annotated[datetime | None, Field(sa_type=DateTime(timezone=True))]
Long = Annotated[int, Field(sa_type=BigInteger)]
OptionalLong = Annotated[int | None, Field(sa_type=BigInteger)]
Sealed = Annotated[bytes, Field(sa_type=LargeBinary)]
Codes = Annotated[list[str], Field(sa_type=ARRAY(CODE))]
Ids = Annotated[list[UUID], Field(sa_type=ARRAY(Uuid()))]
Spells = Annotated[list[datetime] | None, Field(sa_type=ARRAY(DateTime(timezone=True)))]
"""Spells of the past in which something held that holds no longer: from, until before, from, …"""
OptionalSealed = Annotated[bytes | None, Field(sa_type=LargeBinary)]


class Table(SQLModel):
    """The base of every table."""

    metadata = MetaData(naming_convention=NAMES)


class Tenant(Table):
    """The base of every table of a district: its key begins with the district.

    A district is the tenant. Keys and foreign keys that begin with it keep one district's rows
    from pointing into another's, and let the tables be spread over machines by it.
    """

    district_code: Code = Field(primary_key=True, sa_type=CODE)


class Record(Tenant):
    """The base of tenant tables whose rows have an id, a version and a history."""

    id: UUID = Field(primary_key=True)
    version: int = 1
    created_at: Instant
    updated_at: Instant

    def change(self, now: datetime, **facts: object) -> None:
        """Set columns and make it the next version."""
        for name, value in facts.items():
            setattr(self, name, value)
        self.version += 1
        self.updated_at = now


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """Keep a text column to the values of an enumeration."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=column)
